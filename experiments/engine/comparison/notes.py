"""What a comparison left out or should be read with, one sentence each."""

import math
from collections.abc import Sequence

from experiments.engine.comparison import groups as grouping
from experiments.engine.comparison import runs as records
from experiments.engine.comparison import statistics


def remarks(comparison: statistics.Comparison) -> list[str]:
  """Sentences on every omission and on what makes the runs less comparable."""
  runs = [run for group in comparison.grouping.groups for run in group.runs]
  return [
    *_unfinished(comparison, runs),
    *_late(comparison),
    *(line for m in comparison.metrics for line in _without(runs, m)),
    *(line for t in comparison.arrivals for line in _no_curve(runs, t)),
    *_repeated(comparison.grouping),
    *_broken(runs),
    *(_lengths(comparison.grouping.groups) if comparison.step is None else []),
    *_seeds(comparison),
    *_configs(comparison.grouping),
    *_circumstances(runs),
  ]


def count(number: int, noun: str) -> str:
  """`1 run`, `3 runs`."""
  return f"{number} {noun}{'s' * (number != 1)}"


def differing_circumstances(
  runs: Sequence[records.Run],
) -> dict[str, dict[str, list[str]]]:
  """Field of run.json (versions, devices, ...) -> value -> runs, where runs differ."""
  fields = dict.fromkeys(key for run in runs for key in run.circumstances)
  found: dict[str, dict[str, list[str]]] = {field: {} for field in fields}
  for run in runs:
    for field, values in found.items():
      values.setdefault(said(run.circumstances.get(field)), []).append(run.path)
  return {field: values for field, values in found.items() if len(values) > 1}


def said(value: object) -> str:
  """A value of run.json as text."""
  if isinstance(value, list):
    return ", ".join(map(str, value))
  return "not recorded" if value is None else str(value)


def _unfinished(
  comparison: statistics.Comparison, runs: list[records.Run]
) -> list[str]:
  found = [run for run in runs if not run.finished]
  if not found:
    return []
  said = [
    run.path
    + (" (no step yet)" if run.last_step is None else f" (step {run.last_step})")
    for run in found
  ]
  notes = [
    "* in progress or stopped, counted with the last value so far: "
    f"{count(len(found), 'run')}: {records.few(said)}; --at_step=common compares at "
    "equal steps"
  ]
  pairs = [d.unequal for found in comparison.differences.values() for d in found]
  if any(pairs):
    notes.append(
      f"left out of the differences: up to {count(max(pairs), 'pair')} a row, of a run "
      "in progress with one that is at another step"
    )
  return notes


def _late(comparison: statistics.Comparison) -> list[str]:
  late = [run.path for run in comparison.late]
  if not late:
    return []
  return [
    f"left out: {count(len(late), 'run')} short of step {comparison.step}: "
    f"{records.few(late)}"
  ]


def _without(runs: list[records.Run], metric: str) -> list[str]:
  values = {run.path: records.final_value(run, metric) for run in runs}
  absent = [path for path, value in values.items() if value is None]
  infinite = [p for p, v in values.items() if v is not None and math.isnan(v)]
  notes = []
  if absent:
    notes.append(
      f"left out: {count(len(absent), 'run')} without {metric}: {records.few(absent)}"
    )
  if infinite:
    notes.append(
      f"left out: {count(len(infinite), 'run')} whose {metric} is not a finite number "
      f"(diverged?): {records.few(infinite)}"
    )
  return notes


def _no_curve(runs: list[records.Run], threshold: statistics.Threshold) -> list[str]:
  bare = [r.path for r in runs if records.curve_of(r, threshold.metric) is None]
  if not bare:
    return []
  return [
    f"left out of the steps to {threshold}: {count(len(bare), 'run')} without "
    f"{threshold.metric} in metrics.jsonl: {records.few(bare)}"
  ]


def _repeated(grouped: grouping.Grouping) -> list[str]:
  pairs = [f"{left.path} (as {kept.path})" for left, kept in grouped.repeated]
  if not pairs:
    return []
  return [
    f"left out: {count(len(pairs), 'run')} with the config and seed of another: "
    f"{records.few(pairs)}"
  ]


def _broken(runs: list[records.Run]) -> list[str]:
  found = [f"{run.path} ({run.broken_lines})" for run in runs if run.broken_lines]
  if not found:
    return []
  return [f"left out: torn or broken lines of metrics.jsonl in {records.few(found)}"]


def _lengths(groups: list[grouping.Group]) -> list[str]:
  notes = []
  for group in groups:
    ends = {r.last_step for r in group.runs if r.finished and r.last_step is not None}
    if len(ends) > 1:
      notes.append(
        f"finished runs of different lengths in {group.name}: {min(ends)} to "
        f"{max(ends)} steps"
      )
  return notes if len(notes) < 4 else [*notes[:3], f"and in {len(notes) - 3} more"]


def _seeds(comparison: statistics.Comparison) -> list[str]:
  groups = comparison.grouping.groups
  notes = []
  bare = [run.path for group in groups for run in group.runs if run.seed is None]
  if bare:
    notes.append(f"without a seed, so in no pair: {records.few(bare)}")
  single = [g.name for g in groups if len({run.replicate for run in g.runs}) == 1]
  if single:
    notes.append(f"one seed only, so no interval: {records.few(single)}")
  own = {run.replicate for run in comparison.baseline.runs}
  other = [
    group.name for group in groups if {run.replicate for run in group.runs} != own
  ]
  if other:
    notes.append(
      "other seeds than the baseline's, so differences use the common ones: "
      f"{records.few(other)}"
    )
  return notes


def _configs(grouped: grouping.Grouping) -> list[str]:
  notes = []
  if grouped.mixed:
    notes.append(
      f"groups hold runs that differ in {records.few(grouped.mixed)}: values of one "
      "seed are averaged, and pairs agree in these keys"
    )
  names = " ".join(group.name for group in grouped.groups)
  unnamed = [key for key in grouped.differing if f"{key}=" not in names]
  if unnamed:
    notes.append(f"groups also differ in {records.few(unnamed)} (all in compare.html)")
  return notes


def _circumstances(runs: list[records.Run]) -> list[str]:
  found = [
    f"{field} ({records.few(list(values), 3)})"
    for field, values in differing_circumstances(runs).items()
  ]
  return [f"runs were made with different {records.few(found)}"] if found else []
