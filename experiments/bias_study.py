"""How biased is each objective's minibatch gradient, and how noisy?

  python -m experiments.bias_study --config=configs/bias_study.py

At frozen parameters the gradient of the generalised loss, over all negatives, is known
exactly: of an encoder of clustered data by enumeration, of a Gaussian critic in closed
form. The study measures how far the mean minibatch gradient of each objective is from
it, over batch sizes, temperatures, Gamma shapes and visits, and adds replicates until
the Monte-Carlo error is small enough to tell. Leaves run.json, metrics.jsonl (a line
for each cell), summary.json, bias_study.png and .svg, and report.html.
"""

import concurrent.futures
import time
from typing import Any, NamedTuple

import jax
import ml_collections

from contrastive import bias, normalizer
from experiments.engine import cli, record
from experiments.engine.errors import UsageError, unknown
from experiments.engine.studies import (
  bias_problems,
  bias_report,
  bias_summary,
  bias_trials,
)

FAMILIES = {"clusters": bias_problems.CLUSTERS, "gaussian": bias_problems.GAUSSIAN}
SCHEDULES = ("constant", "decreasing")
VARIED = ("batch", "temperature", "shape", "visits")


class Task(NamedTuple):
  """One cell to measure: a place on a sweep's grid, on one problem."""

  sweep: str
  problem_seed: int
  batch: int
  temperature: float
  visits: int
  objectives: dict[str, bias.Objective]


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs the study, or returns the summary of a complete one in the folder.

  Args:
    config: see configs/bias_study.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json.

  Raises:
    UsageError: a name or number in the config that makes no sense.
  """
  objectives = objectives_of(config)
  _check(config, objectives)
  done = record.finished(workdir, config)
  if done is not None:
    print(f"complete: see {workdir}/report.html; delete the folder to run again")
    return done
  with record.Recorder(workdir, config) as recorder:
    recorder.drop_after(-1)  # of a study that was interrupted
    rows = _measure_all(config, tasks_of(config, objectives), recorder)
    summary = bias_summary.summarise(rows, config)
    bias_report.write(workdir, summary, config)
    recorder.summary(summary)
  print(bias_report.text(summary))
  print(f"report: {workdir}/report.html")
  return summary


def objectives_of(config) -> dict[str, bias.Objective]:
  """The config's objectives by name.

  Raises:
    UsageError: an unknown form, rate or schedule, or a number out of its range.
  """
  # One schedule for all: jit compiles again for each new function.
  decreasing = normalizer.decreasing()
  made = {}
  for name, spec in config.objectives.items():
    if spec.schedule not in SCHEDULES:
      raise unknown("schedule", spec.schedule, SCHEDULES)
    objective = bias.Objective(
      form=spec.form,
      rate=spec.rate,
      shape=spec.shape,
      smoothing=decreasing if spec.schedule == "decreasing" else spec.smoothing,
      boost=spec.boost,
      coupled=spec.coupled,
    )
    try:
      bias.check_objective(objective)
    except ValueError as error:
      raise UsageError(f"objective '{name}': {error}") from error
    made[name] = objective
  return made


def tasks_of(config, objectives: dict[str, bias.Objective]) -> list[Task]:
  """All cells, problem by problem, so that neighbours differ in their programs."""
  tasks = []
  for sweep in config.run:
    spec = config.sweeps[sweep]
    chosen = {name: objectives[name] for name in spec.objectives}
    places = [{spec.vary: value} for value in spec.grid]
    if spec.vary == "shape":
      chosen, places = with_shapes(chosen, spec.grid), [{}]
    for problem_seed in range(config.problem_seeds):
      for place in places:
        task = Task(
          sweep, problem_seed, config.batch, config.temperature, config.visits, chosen
        )
        tasks.append(task._replace(**place))
  return tasks


def with_shapes(
  objectives: dict[str, bias.Objective], shapes
) -> dict[str, bias.Objective]:
  """Each augmented objective at each shape, named `name@shape`; others as they are."""
  made = {}
  for name, objective in objectives.items():
    if objective.form != "augmented":
      made[name] = objective
      continue
    for shape in shapes:
      made[f"{name}@{shape:g}"] = objective._replace(shape=shape)
  return made


def make_problem(config, task: Task) -> bias_problems.Problem:
  """The frozen problem of a task; the same for all tasks of its kind and seed."""
  spec = config.sweeps[task.sweep]
  kind = list(FAMILIES).index(spec.problem)
  key = jax.random.fold_in(jax.random.key(config.seed), kind)
  key = jax.random.fold_in(key, task.problem_seed)
  if spec.problem == "gaussian":
    return bias_problems.gaussian_problem(key, **config.gaussian)
  problem = bias_problems.cluster_problem(
    key,
    anchors=config.anchors,
    width=config.width,
    embedding=config.embedding,
    components=config.clusters,
    concentration=config.concentration,
    separation=config.separation,
    spread=config.spread,
    view_noise=config.view_noise,
    temperature=task.temperature,
  )
  if spec.trained:
    problem = bias_problems.train(problem, config.train_steps, config.learning_rate)
  return problem


def _measure_all(config, tasks: list[Task], recorder) -> list[dict[str, Any]]:
  """Measures all tasks, several at a time; records rows in the order of the tasks."""
  limits = bias_trials.Limits(
    chains=config.chains,
    max_gradients=config.max_gradients,
    max_pairs=config.max_pairs,
    fraction=config.fraction,
    negligible=config.negligible,
    floor=bias_summary.FLOOR,
  )
  start = time.perf_counter()
  rows = []
  distinct = {_problem_name(config, task): task for task in tasks}
  with concurrent.futures.ThreadPoolExecutor(config.workers) as pool:
    made = pool.map(lambda task: make_problem(config, task), distinct.values())
    problems = dict(zip(distinct, made, strict=True))
    jobs = [
      pool.submit(
        _measure, config, i, task, problems[_problem_name(config, task)], limits
      )
      for i, task in enumerate(tasks)
    ]
    try:
      for i, job in enumerate(jobs):
        found = job.result()
        rows += found
        for row in found:
          recorder.write(i, **row)
        seconds = time.perf_counter() - start
        said = bias_summary.task_line(tasks[i], found)
        print(f"[{i + 1}/{len(jobs)}] {said}  ({seconds:.0f} s)", flush=True)
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return rows


def _problem_name(config, task: Task) -> tuple:
  """What tells frozen problems apart."""
  spec = config.sweeps[task.sweep]
  return spec.problem, spec.trained, task.problem_seed, task.temperature


def _measure(config, number, task: Task, problem, limits) -> list[dict[str, Any]]:
  """The rows of one task: one for each objective."""
  spec = config.sweeps[task.sweep]
  family = FAMILIES[spec.problem]
  key = jax.random.fold_in(jax.random.key(config.seed), len(FAMILIES))
  cells = bias_trials.measure(
    family,
    problem,
    task.objectives,
    task.batch,
    key=jax.random.fold_in(key, number),
    visits=task.visits,
    limits=limits,
  )
  predicted = bias_summary.prediction(family, problem, task.batch)
  place = task._asdict()
  del place["objectives"]
  return [
    bias_summary.row(place, spec.vary, name, cell, predicted)
    for name, cell in cells.items()
  ]


def _check(config, objectives) -> None:
  for name in (
    "problem_seeds", "workers", "anchors", "width", "embedding", "clusters",
    "train_steps", "visits", "max_gradients", "max_pairs",
  ):  # fmt: skip
    if config[name] < 1:
      raise UsageError(f"{name} must be at least 1, not {config[name]}")
  if config.chains < 4:
    raise UsageError(f"chains={config.chains}: errors need at least 4 chains")
  for name in (
    "temperature", "concentration", "separation", "spread", "fraction", "negligible",
    "learning_rate",
  ):  # fmt: skip
    if config[name] <= 0:
      raise UsageError(f"{name} must be positive, not {config[name]}")
  if not config.run:
    raise UsageError(f"no sweep chosen; known: {', '.join(config.sweeps)}")
  for name in config.run:
    if name not in config.sweeps:
      raise unknown("sweep", name, config.sweeps)
    _check_sweep(config, name, objectives)


def _check_sweep(config, name: str, objectives) -> None:
  spec = config.sweeps[name]
  for kind, value, known in (
    ("problem", spec.problem, FAMILIES),
    ("varied number", spec.vary, VARIED),
    *(("objective", objective, objectives) for objective in spec.objectives),
  ):
    if value not in known:
      raise unknown(kind, value, known)
  if not spec.objectives or not spec.grid:
    raise UsageError(f"sweep '{name}' needs objectives and a grid of values")
  if min(spec.grid) <= 0:
    raise UsageError(
      f"sweep '{name}': {spec.vary} must be positive, not {min(spec.grid):g}"
    )
  sizes = spec.grid if spec.vary == "batch" else (config.batch,)
  if min(sizes) < 4:
    raise UsageError(f"sweep '{name}': a batch needs at least 4 anchors")
  if spec.problem == "clusters" and max(sizes) > config.anchors:
    raise UsageError(
      f"sweep '{name}': batch {max(sizes)} is larger than the {config.anchors} "
      "anchors; lower it or raise config.anchors"
    )
  if spec.problem == "gaussian" and (spec.vary == "temperature" or spec.trained):
    raise UsageError(
      f"sweep '{name}': the Gaussian critic has no temperature and is not trained; "
      "use problem 'clusters'"
    )


if __name__ == "__main__":
  cli.launch(run, default_config="configs/bias_study.py")
