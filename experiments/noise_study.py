"""Which objectives reach a known optimum when noise is injected into similarities?

  python -m experiments.noise_study --config=configs/noise_study.py:quick

Each objective trains a bilinear critic from several initialisations at several noise
levels, on problems whose optimum is known exactly and is the same at every level
(`contrastive.synthetic`). Leaves run.json, metrics.jsonl (trajectories), summary.json,
one figure a set-up, report.html and, where it tuned, tuned.json.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from contrastive import fixed_points, synthetic
from experiments.engine import cli, errors, record
from experiments.engine.studies import noise_report, noise_trials, noise_tuning


def _gaussian(key, config):
  return synthetic.gaussian_problem(
    key,
    anchors=config.anchors,
    width=config.width,
    radius=config.radius,
    view_noise=config.view_noise,
  )


def _heavy_tails(key, config):
  return synthetic.heavy_tailed_problem(
    key,
    anchors=config.anchors,
    radius=config.radius,
    view_noise=config.view_noise,
    tails=config.tails,
  )


SETUPS = {"gaussian": _gaussian, "heavy_tails": _heavy_tails}


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs the study, or returns the summary of a complete one in the folder.

  Args:
    config: see configs/noise_study.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json.

  Raises:
    UsageError: a name or number in the config that makes no sense.
  """
  _check(config)
  done = record.finished(workdir, config)
  if done is not None:
    print(f"complete: see {workdir}/report.html; delete the folder to run again")
    return done
  with record.Recorder(workdir, config) as recorder:
    recorder.drop_after(-1)  # of a study that was interrupted
    tables = _tune(config, workdir) if config.tune else _tables(config)
    cells = _run_cells(config, tables, recorder)
    theory = _theory(config)
    summary = noise_report.summarise(cells, theory, config)
    noise_report.write(workdir, cells, summary, theory, config)
    recorder.summary(summary)
  print(noise_report.text_table(summary))
  print(f"report: {workdir}/report.html")
  return summary


def problem_of(config: ml_collections.ConfigDict, setup: str) -> synthetic.Problem:
  """The problem of a set-up that all runs of the study share."""
  return SETUPS[setup](jax.random.fold_in(jax.random.key(config.seed), 0), config)


def _run_cells(config, tables, recorder) -> list[noise_report.Cell]:
  """Runs every objective at every level of every set-up; prints and records each."""
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  keys = jax.random.split(key, config.runs)
  chosen = _objectives(config)
  train = noise_trials.make_train(list(chosen.values()), _sizes(config))
  program = jax.jit(jax.vmap(train, in_axes=(None, 0, None, None, None)))
  cells: list[noise_report.Cell] = []
  levels = [(setup, sd) for setup in config.setups for sd in config.noise]
  for number, (setup, sd) in enumerate(levels, start=1):
    start = time.perf_counter()
    values = [
      tuned_at(config, objective, tables[setup][name], sd)
      for name, objective in chosen.items()
    ]
    rates, smoothings = jnp.asarray(values, jnp.float32).T
    records = program(problem_of(config, setup), keys, sd, rates, smoothings)
    records = {k: np.asarray(v, np.float64) for k, v in records.items()}
    for o, name in enumerate(chosen):
      own = {k: v[:, o] for k, v in records.items()}
      cell = noise_report.Cell(setup, sd, name, *values[o], own)
      cells.append(cell)
      _record(recorder, cell, config)
      print(noise_report.cell_line(cell, config.tolerance), flush=True)
    seconds = time.perf_counter() - start
    print(f"[{number}/{len(levels)}] {seconds:.1f} s", flush=True)
  return cells


def _objectives(config) -> dict[str, noise_trials.Objective]:
  return {name: noise_trials.OBJECTIVES[name] for name in config.objectives}


def _record(recorder, cell, config):
  """Writes a cell's trajectories: mean and single runs at each record."""
  prefix = f"{cell.setup}/sd_{cell.sd:g}/{cell.objective}"
  for i in range(config.records + 1):
    x = cell.records["x"][:, i]
    values = {f"{prefix}/{k}": v[:, i].mean() for k, v in cell.records.items()}
    values[f"{prefix}/x_runs"] = [round(float(v), 5) for v in x]
    recorder.write(i * config.steps // config.records, **values)


def _tune(config, workdir) -> dict:
  """Tunes every objective; writes and prints what belongs in the config."""
  tables: dict[str, dict[str, list]] = {}
  sizes, tuning = _sizes(config), config.tuning
  for setup in config.setups:
    key = jax.random.key(tuning.seed)
    problems = [
      SETUPS[setup](jax.random.fold_in(key, i), config) for i in range(tuning.problems)
    ]
    tables[setup] = noise_tuning.tune(
      _objectives(config),
      sizes,
      problems,
      key,
      config.noise,
      tuning.trials,
      tuning.rates,
    )
    for name, best in tables[setup].items():
      found = ", ".join(str((b.sd, b.learning_rate, b.smoothing)) for b in best)
      print(f'tuned {setup}: "{name}": ({found}),', flush=True)
  plain = {
    setup: {name: [b._asdict() for b in best] for name, best in table.items()}
    for setup, table in tables.items()
  }
  record.write_json(pathlib.Path(workdir) / "tuned.json", plain)
  return tables


def _tables(config) -> dict:
  return {setup: config.tuned[setup] for setup in config.setups}


def tuned_at(config, objective, rows, sd) -> tuple[float, float]:
  """Learning rate and smoothing: the config's own, or the nearest tuned level's."""
  _, rate, smoothing = min(rows, key=lambda row: abs(row[0] - sd))[:3]
  if config.learning_rate is not None:
    rate = config.learning_rate
  if config.smoothing is not None and objective.smoothing:
    smoothing = config.smoothing
  return float(rate), float(smoothing)


def _theory(config) -> dict[str, dict[float, float]]:
  """Predicted x of the decoupled loss, by set-up and noise level."""
  if "gaussian" not in config.setups:
    return {}
  problem = problem_of(config, "gaussian")
  predicted = {}
  for sd in config.noise:
    critic = fixed_points.decoupled_fixed_point(problem, config.negatives, sd)
    predicted[sd] = float(synthetic.recovery(problem, critic)["x"])
  return {"gaussian": predicted}


def _sizes(config) -> noise_trials.Sizes:
  return noise_trials.Sizes(
    steps=config.steps,
    records=config.records,
    batch=config.batch,
    negatives=config.negatives,
    init_scale=config.init_scale,
    extra_negatives=config.extra_negatives,
  )


def _check(config) -> None:
  for kind, names, known in (
    ("objective", config.objectives, noise_trials.OBJECTIVES),
    ("set-up", config.setups, SETUPS),
  ):
    if not names:
      raise errors.UsageError(f"no {kind} chosen; known: {', '.join(known)}")
    for name in names:
      if name not in known:
        raise errors.unknown(kind, name, known)
  for name in ("runs", "steps", "records", "batch", "negatives"):
    if config[name] < 1:
      raise errors.UsageError(f"{name} must be at least 1, not {config[name]}")
  if not config.noise or min(config.noise) < 0:
    raise errors.UsageError(
      f"noise lists standard deviations of at least 0, not {tuple(config.noise)}"
    )
  if config.extra_negatives < 0:
    raise errors.UsageError(
      f"extra_negatives must be at least 0, not {config.extra_negatives}"
    )
  if config.steps % config.records:
    raise errors.UsageError(
      f"steps={config.steps} is not a multiple of records={config.records}; try "
      f"steps={config.records * max(1, config.steps // config.records)}"
    )
  if config.anchors < 1 or config.anchors % config.batch:
    raise errors.UsageError(
      f"anchors={config.anchors} is not a multiple of batch={config.batch}; try "
      f"anchors={config.batch * max(1, config.anchors // config.batch)}"
    )
  for name in ("radius", "init_scale", "tolerance"):
    if config[name] <= 0:
      raise errors.UsageError(f"{name} must be positive, not {config[name]}")
  if config.view_noise < 0:
    raise errors.UsageError(f"view_noise must be at least 0, not {config.view_noise}")
  if config.learning_rate is not None and config.learning_rate <= 0:
    raise errors.UsageError(
      f"learning_rate must be positive, not {config.learning_rate}"
    )
  _check_smoothing(config)


def _check_smoothing(config) -> None:
  value = config.smoothing
  if value is None:
    return
  if value <= 0 or (value > 1 and "sogclr_tuned" in config.objectives):
    raise errors.UsageError(
      f"smoothing={value} must be positive, and at most 1 for sogclr_tuned, where it "
      "is the weight of the new estimate; leave that objective out or lower it"
    )


if __name__ == "__main__":
  cli.launch(run, default_config="configs/noise_study.py")
