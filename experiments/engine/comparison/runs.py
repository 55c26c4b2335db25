"""Finds run folders and reads their records, of finished and of unfinished runs."""

import json
import math
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.engine import errors, record

# Fields of run.json that are not circumstances (versions, devices, state of the code).
_NOT_CIRCUMSTANCES = ("command", "config", "seed")
# Names of a line that are no metric.
_STEP = "step"


class Curve(NamedTuple):
  """One metric of one run: steps [t], rising, and values [t]; NaN where it had none."""

  steps: np.ndarray
  values: np.ndarray


class Run(NamedTuple):
  """What a run folder says.

  `config` and `circumstances` are flat (`{"objective.name": ...}`). `final` holds the
  numbers of summary.json, NaN for those that were not finite, and is empty for a run
  in progress. `broken_lines` counts the lines of metrics.jsonl that are not JSON.
  """

  path: str
  seed: int | None
  command: str
  config: dict[str, Any]
  circumstances: dict[str, Any]
  final: dict[str, float]
  curves: dict[str, Curve]
  finished: bool
  broken_lines: int

  @property
  def replicate(self) -> int | str:
    """The seed; for a run without one its path, since it repeats no other."""
    return self.path if self.seed is None else self.seed

  @property
  def last_step(self) -> int | None:
    """The last recorded step, or None."""
    ends = [curve.steps[-1] for curve in self.curves.values()]
    return int(max(ends)) if ends else None


def find_runs(paths: Sequence[str]) -> list[str]:
  """Folders with a run.json: the given ones, or else those below them.

  What lies inside a run folder belongs to that run and is not searched. A folder that
  is reached twice counts once.

  Args:
    paths: run folders, or folders that hold some at any depth.

  Returns:
    The folders, in the order given, within a folder sorted (2 before 10).

  Raises:
    UsageError: no path was given.
    UserError: a path does not exist, is a file, or holds no run.
  """
  if not paths:
    raise errors.UsageError(
      "which runs? give their folders: python -m experiments.compare runs/a runs/b"
    )
  found: dict[str, str] = {}
  for path in paths:
    if not os.path.exists(path):
      raise errors.UserError(f"{path} does not exist; give the --workdir of a run")
    if not os.path.isdir(path):
      raise errors.UserError(f"{path} is a file; give the folder of a run")
    folders = sorted(_run_folders(path), key=_natural)
    if not folders:
      raise errors.UserError(
        f"no run in {path}: neither it nor a folder in it holds a run.json"
      )
    for folder in folders:
      found.setdefault(os.path.realpath(folder), folder)
  return list(found.values())


def _run_folders(path: str) -> Iterator[str]:
  seen = set()  # links may lead round in a circle
  for folder, below, files in os.walk(path, followlinks=True):
    place = os.path.realpath(folder)
    if place in seen or "run.json" in files:
      below.clear()
    if place not in seen and "run.json" in files:
      yield os.path.normpath(folder)
    seen.add(place)


def _natural(path: str) -> list:
  parts = re.split(r"(\d+)", path)
  return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def read_run(path: str) -> Run:
  """Reads the records of a run folder.

  Raises:
    UserError: run.json or summary.json cannot be read, or is no run's.
  """
  folder = pathlib.Path(path)
  about = _read_object(folder / "run.json")
  config = about.get("config")
  if not isinstance(config, dict):
    raise errors.UserError(
      f"{folder / 'run.json'} has no config; is this the folder of a run?"
    )
  finished = (folder / "summary.json").exists()
  summary = _read_object(folder / "summary.json") if finished else {}
  lines, broken = _read_lines(folder / "metrics.jsonl")
  seed = about.get("seed", config.get("seed"))
  return Run(
    path=path,
    seed=seed if isinstance(seed, int) else None,
    command=str(about.get("command") or ""),
    config=record.flatten(config),
    circumstances=record.flatten(
      {k: v for k, v in about.items() if k not in _NOT_CIRCUMSTANCES}
    ),
    final=_numbers(record.flatten(summary)),
    curves=_curves(lines),
    finished=finished,
    broken_lines=broken,
  )


def _read_object(path: pathlib.Path) -> dict:
  try:
    content = record.read_json(path)
  except (OSError, UnicodeDecodeError) as error:
    reason = getattr(error, "strerror", None) or "it is not text"
    raise errors.UserError(f"cannot read {path} ({reason})") from error
  if not isinstance(content, dict):
    raise errors.UserError(f"{path} is no JSON object; is this the folder of a run?")
  return content


def _read_lines(path: pathlib.Path) -> tuple[list[dict], int]:
  """Lines of a metrics.jsonl and the count of those that are broken."""
  try:
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
  except FileNotFoundError:
    return [], 0
  except OSError as error:
    raise errors.UserError(f"cannot read {path} ({error.strerror})") from error
  texts = [text for text in texts if text.strip()]
  lines = []
  for text in texts:
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      continue
    if isinstance(line, dict) and isinstance(line.get(_STEP), int):
      lines.append(line)
  return lines, len(texts) - len(lines)


def _curves(lines: list[dict]) -> dict[str, Curve]:
  """Metric -> its curve; of a step that was written twice the later line counts."""
  values: dict[str, dict[int, float]] = {}
  for line in lines:
    for name, number in _numbers(line).items():
      values.setdefault(name, {})[line[_STEP]] = number
  values.pop(_STEP, None)
  curves = {}
  for name, points in values.items():
    steps = np.array(sorted(points))
    curves[name] = Curve(steps, np.array([points[step] for step in steps.tolist()]))
  return curves


def _numbers(values: dict[str, Any]) -> dict[str, float]:
  """The numbers among the values; null stands for one that was not finite."""
  numbers = {}
  for name, value in values.items():
    if value is None:
      numbers[name] = math.nan
    elif isinstance(value, int | float) and not isinstance(value, bool):
      numbers[name] = float(value) if math.isfinite(value) else math.nan
  return numbers


def cut_runs(runs: Sequence[Run], step: int | None) -> tuple[list[Run], list[Run], int]:
  """Turns the clock back, so that runs are compared after equally many steps.

  A run that is cut so counts as finished: it has done what is compared.

  Args:
    runs: the runs.
    step: the step; None for the last one that all runs with a step have reached.

  Returns:
    The runs as they were at that step, without summary.json; those that have not got so
    far; the step.

  Raises:
    UserError: no run has got so far.
  """
  ends = [run.last_step for run in runs if run.last_step is not None]
  if step is None:
    step = min(ends, default=0)
  if not ends or max(ends) < step:
    raise errors.UserError(
      f"no run has reached step {step}; the last step of any is {max(ends, default=0)}"
    )
  late = [run for run in runs if run.last_step is None or run.last_step < step]
  paths = {run.path for run in late}
  return [_cut(run, step) for run in runs if run.path not in paths], late, step


def _cut(run: Run, step: int) -> Run:
  curves = {}
  for name, curve in run.curves.items():
    count = int(np.searchsorted(curve.steps, step, side="right"))
    if count:
      curves[name] = Curve(curve.steps[:count], curve.values[:count])
  return run._replace(final={}, curves=curves, finished=True)


def final_value(run: Run, metric: str) -> float | None:
  """Value of a metric at the end of a run, or its last one so far.

  The value of summary.json, else the last one of metrics.jsonl. summary.json's
  `train/loss` is the `loss` of metrics.jsonl.

  Returns:
    The value; NaN if it was not finite; None if the run has no such metric.
  """
  if metric in run.final:
    return run.final[metric]
  curve = curve_of(run, metric)
  return None if curve is None else float(curve.values[-1])


def curve_of(run: Run, metric: str) -> Curve | None:
  """The curve of a metric, `train/loss` being `loss`; None if the run has none."""
  return run.curves.get(metric) or run.curves.get(metric.removeprefix("train/"))


def metric_names(runs: Sequence[Run]) -> list[str]:
  """All metrics that some run has, sorted."""
  return sorted({name for run in runs for name in (*run.final, *run.curves)})


def few(names: Sequence[str], most: int = 4) -> str:
  """`a, b, c, d and 3 more`."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more
