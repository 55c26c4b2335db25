"""What does alignment cost, and which latent structures pay it back?

  python -m experiments.alignment_study --config=configs/alignment_study.py:quick

Two parts. On random finite alphabets, exactly: the information gap, the price of exact
alignment, the theorem's bound against every aligned pair of encoders. And learned: two
towers on two modalities with shared and specific attributes, trained with plain
alignment and with each latent structure, on paired seeds. Leaves run.json,
metrics.jsonl (a line for each cell), cells/ (by which a killed study goes on),
summary.json, tables as CSV, figures as PNG and SVG, and report.html.
"""

from typing import Any

import ml_collections
import numpy as np

from experiments.engine import cli, record
from experiments.engine.errors import UsageError, unknown
from experiments.engine.studies import (
  alignment_arms,
  alignment_cells,
  alignment_exact,
  alignment_readings,
  alignment_report,
  alignment_summary,
  alignment_training,
)
from multimodal import paired_factors


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs the study, goes on with it, or returns the summary of a complete one.

  Args:
    config: see configs/alignment_study.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json.

  Raises:
    UsageError: a name or number in the config that makes no sense.
  """
  check(config)
  done = record.finished(workdir, config)
  if done is not None:
    print(f"complete: see {workdir}/report.html; delete the folder to run again")
    return done
  with record.Recorder(workdir, config) as recorder:
    recorder.drop_after(-1)  # cells are read again from their files
    exact = alignment_exact.measure(
      joints=config.joints,
      symbols=config.symbols,
      classes=config.classes,
      pairs=config.encoder_pairs,
      seed=config.seed,
    )
    print(alignment_exact.text(exact), flush=True)

    def note(number, result):
      cell = result.cell
      means = {name: values.mean() for name, values in result.metrics.items()}
      recorder.write(number, cell=f"{cell.group}/{cell.name}", **means)

    tuning, chosen, results = learned(config, workdir, note)
    summary = alignment_summary.summarise(
      alignment_exact.numbers(exact), tuning, chosen, results, config
    )
    alignment_report.write(workdir, exact, summary, config)
    recorder.summary(summary)
  print(alignment_report.text(summary))
  print(f"report: {workdir}/report.html")
  return summary


def learned(config, workdir: str, note) -> tuple[list, dict[str, float], list]:
  """The learned part: results of the tuning, numbers chosen, results of the report."""
  runner = alignment_cells.Runner(
    workdir,
    plan_of(config),
    seed=config.seed,
    workers=config.workers,
    total=count_cells(config),
    note=note,
  )
  chosen = dict(config.chosen)
  tuning: list[alignment_cells.Result] = []
  if config.tune:
    exam = examination_of(config, tuning=True)
    for stage in (1, 2, 3):
      cells = alignment_arms.tuning_cells(config, stage, chosen)
      found = runner.run(cells, exam)
      chosen |= alignment_summary.choose(found, config)
      tuning += found
    print(f"chosen: {chosen}", flush=True)
  cells = alignment_arms.report_cells(config, chosen)
  return tuning, chosen, runner.run(cells, examination_of(config))


def plan_of(config) -> alignment_training.Plan:
  """What all trainings of a study have in common."""
  return alignment_training.Plan(
    sizes=paired_factors.Sizes(
      shared=config.shared,
      specific=config.specific,
      values=config["values"],
      nuisances=config.nuisances,
      hidden=config.mixer,
      width=config.inputs,
      strength=config.strength,
      gain=config.gain,
      noise=config.noise,
    ),
    widths=tuple(config.widths),
    width=config.width,
    batch=config.batch,
    steps=config.steps,
    warmup=config.warmup,
    weight_decay=config.weight_decay,
    clip=config.clip,
    temperature=config.temperature,
  )


def examination_of(config, tuning: bool = False) -> alignment_readings.Examination:
  """The evaluation; tuning needs only the noise-free linear probes."""
  return alignment_readings.Examination(
    train=config.probe_train,
    test=config.probe_test,
    noise=(0.0,) if tuning else tuple(config.feature_noise),
    inverse_penalty=config.inverse_penalty,
    mlp_hidden=0 if tuning else config.mlp_hidden,
    mlp_steps=config.mlp_steps,
    draws=1 if tuning else config.draws,
    galleries=config.galleries,
    prompts=config.prompts,
  )


def count_cells(config) -> int:
  """Number of cells of the whole study."""
  numbers = dict.fromkeys(alignment_arms.ARMS, 1.0)
  stages = (1, 2, 3) if config.tune else ()
  tuning = [alignment_arms.tuning_cells(config, stage, numbers) for stage in stages]
  return sum(map(len, tuning)) + len(alignment_arms.report_cells(config, numbers))


def check(config) -> None:
  """Refuses a config that makes no sense.

  Raises:
    UsageError: naming the value and the cure.
  """
  for name in (
    "workers", "joints", "symbols", "classes", "encoder_pairs", "shared", "specific",
    "nuisances", "mixer", "inputs", "width", "steps", "draws", "galleries", "prompts",
  ):  # fmt: skip
    if config[name] < 1:
      raise UsageError(f"{name} must be at least 1, not {config[name]}")
  for name in (
    "strength", "gain", "temperature", "clip", "inverse_penalty", "intact",
  ):  # fmt: skip
    if config[name] <= 0:
      raise UsageError(f"{name} must be positive, not {config[name]}")
  for name in ("noise", "weight_decay", "warmup", "mlp_hidden"):
    if config[name] < 0:
      raise UsageError(f"{name} must be at least 0, not {config[name]}")
  if config["values"] < 2:
    raise UsageError(f"values must be at least 2, not {config['values']}")
  if config.batch < 2:
    raise UsageError(f"batch={config.batch}: contrast needs at least 2 pairs a step")
  if config.symbols > 5:
    raise UsageError(
      f"symbols={config.symbols} have too many encoders to try all; take at most 5"
    )
  if not config.widths or min(config.widths) < 1:
    raise UsageError("widths are those of the encoder's layers, each at least 1")
  _check_seeds(config)
  _check_cells(config)
  _check_probes(config)


def _check_seeds(config) -> None:
  for name in ("seeds", "tuning_seeds"):
    if not config[name] or len(set(config[name])) < len(config[name]):
      raise UsageError(f"{name} must be distinct and at least one, not {config[name]}")
  shared = sorted(set(config.seeds) & set(config.tuning_seeds))
  if config.tune and shared:
    raise UsageError(f"seeds {shared} are in tuning_seeds too; tune on others")


def _check_cells(config) -> None:
  if len({len(grid) for grid in config.grids.values()}) > 1:
    raise UsageError("grids must have equally many values: arms get as many trials")
  for name, values in config.grids.items():
    if not values or min(values) <= 0:
      raise UsageError(f"grids.{name} must hold positive numbers, not {values}")
  for name in ("doses", "geometry_weights"):
    if any(value <= 0 for value in config[name]):
      raise UsageError(f"{name} must be positive, not {tuple(config[name])}")
  if any(not 0 < keep < 1 for keep in config.keeps):
    raise UsageError(f"keeps must lie between 0 and 1, not {tuple(config.keeps)}")
  if any(time > 1 for time in config.times):
    raise UsageError(
      f"times must be in [0, 1], or negative for sampled ones, not {config.times}"
    )
  if not config.arms:
    raise UsageError(f"no arm chosen; known: {', '.join(alignment_arms.ARMS)}")
  for arm, number in config.chosen.items():
    if arm not in alignment_arms.ARMS:
      raise unknown("arm", arm, alignment_arms.ARMS)
    if number <= 0:
      raise UsageError(f"chosen.{arm} must be positive, not {number}")
  count_cells(config)  # unknown names of arms and ablations


def _check_probes(config) -> None:
  noise = tuple(config.feature_noise)
  if not noise or noise[0] != 0 or min(noise) < 0:
    raise UsageError(f"feature_noise must begin with 0 and have no less, not {noise}")
  classes = config["values"] ** 2
  if config.probe_train < 16 * classes:
    raise UsageError(
      f"probe_train={config.probe_train} is too few for five shots of {classes} "
      f"classes; take at least {16 * classes}"
    )
  if config.probe_test < 2:
    raise UsageError(f"probe_test must be at least 2, not {config.probe_test}")
  if config.mlp_steps < 1:
    raise UsageError(f"mlp_steps must be at least 1, not {config.mlp_steps}")
  if not np.all(np.isfinite(noise)):
    raise UsageError(f"feature_noise must be finite, not {noise}")


if __name__ == "__main__":
  cli.launch(run, default_config="configs/alignment_study.py")
