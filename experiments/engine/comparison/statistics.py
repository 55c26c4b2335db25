"""Numbers of a comparison: means over seeds, paired differences, steps to a threshold.

Intervals are Student's t intervals, everywhere: in the tables, in the figures' bands
and in the differences, where they exclude 0 just when the paired t test has p < 0.05.
Measured share (%) of 95 % intervals that hold the true mean, for n seeds of a law, over
10,000 sets for t (two standard errors: 0.4 where it is 95) and 4,000 for the bootstraps
of 999 resamples (0.7); accuracies are those on 128 images, the log-normal's sigma is 1:

| law         | t: n=3 | n=5  | n=10 | bootstrap-t: 5 | 10   | percentile: 5 | 10   |
|-------------|--------|------|------|----------------|------|---------------|------|
| normal      |   94.8 | 94.9 | 94.9 |           94.8 | 94.5 |          83.3 | 90.0 |
| accuracy .8 |   95.1 | 95.0 | 94.7 |           95.6 | 95.6 |          85.8 | 91.1 |
| ... .97     |   93.6 | 94.4 | 94.4 |           95.3 | 95.1 |          83.2 | 89.8 |
| exponential |   88.2 | 88.4 | 90.0 |           92.4 | 94.3 |          77.7 | 86.6 |
| log-normal  |   83.7 | 82.1 | 84.3 |           89.1 | 91.2 |          72.7 | 80.2 |

The studentised bootstrap holds a strongly skewed mean more often, at this price: with
n = 3 it has no bounds; with n = 5 it has none for 4 to 18 % of the accuracies (values
tie), it is 1.3 times as wide as t in the median and over 2.3 times in a tenth of the
cases, for the same coverage under the normal law. Seeds are few, so t it is; it is too
narrow for a metric with a long tail.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from experiments.engine import errors
from experiments.engine.comparison import groups as grouping
from experiments.engine.comparison import runs as records
from experiments.engine.reporting import curves

_LEVEL, _POWER = 0.05, 0.8
_MOST_SEEDS = 10_000
# Words in the name of a metric that is better when it is lower.
_LOWER = re.compile(r"loss|error|nll|perplexity|entropy|cost|regret")


class Cell(NamedTuple):
  """A metric over the seeds of a group.

  `values` maps a seed to its value, the mean over its runs if the group mixes configs.
  """

  values: dict[Any, float]
  interval: curves.Interval


class Difference(NamedTuple):
  """A group's metric minus the baseline's, over the seeds that both have.

  `p_value` is that of the paired t test, `p_holm` the one corrected for the number of
  groups, `needed` the seeds for power 0.8 (inf above 10,000); all NaN where unknown.
  `remark` says in words why there is no interval. `unequal` counts pairs left out
  because one of the two runs is in progress, not at the other's step.
  """

  group: grouping.Group
  interval: curves.Interval
  p_value: float
  p_holm: float
  needed: float
  remark: str
  unequal: int


class Threshold(NamedTuple):
  """A value to reach: from above if `falling`, else from below."""

  metric: str
  value: float
  falling: bool

  def __str__(self) -> str:
    return f"{self.metric} {'<=' if self.falling else '>='} {self.value:g}"


class Arrival(NamedTuple):
  """When the runs of a group reach a threshold.

  `steps` holds a step per run that does, `missed` the runs that do not (or not yet),
  `median` counts these as infinitely late.
  """

  group: grouping.Group
  steps: dict[str, int]
  missed: list[records.Run]
  median: float


def summarise(group: grouping.Group, metric: str) -> Cell:
  """Mean of a metric over a group's seeds and its 95 % interval."""
  by_seed: dict[Any, list[float]] = {}
  for run in group.runs:
    value = records.final_value(run, metric)
    if value is not None and math.isfinite(value):
      by_seed.setdefault(run.replicate, []).append(value)
  values = {seed: float(np.mean(found)) for seed, found in by_seed.items()}
  return Cell(values, curves.interval(list(values.values())))


def differences(
  baseline: grouping.Group,
  others: Sequence[grouping.Group],
  metric: str,
  mixed: Sequence[str] = (),
) -> list[Difference]:
  """Compares groups with a baseline over common seeds.

  Args:
    baseline: what is subtracted.
    others: the groups.
    metric: name of the metric.
    mixed: config keys that vary within groups; only runs that agree in them, too, are
      pairs, and the pairs of one seed are averaged.

  Returns:
    A difference per group, with p-values corrected by Holm over these groups.
  """
  found = []
  base = _units(baseline, metric, mixed)
  for group in others:
    units = _units(group, metric, mixed)
    by_seed: dict[int, list[float]] = {}
    unequal = 0
    for unit in sorted(base.keys() & units.keys()):
      (ours, stage), (theirs, other_stage) = units[unit], base[unit]
      if stage == other_stage:
        by_seed.setdefault(unit[0], []).append(ours - theirs)
      else:
        unequal += 1
    means = [float(np.mean(found)) for found in by_seed.values()]
    found.append(_difference(group, means, unequal, mixed))
  corrected = holm([d.p_value for d in found])
  return [d._replace(p_holm=p) for d, p in zip(found, corrected, strict=True)]


def _units(
  group: grouping.Group, metric: str, mixed: Sequence[str]
) -> dict[tuple[int, tuple[str, ...]], tuple[float, int | None]]:
  """(seed, mixed keys) -> (value, step or None for the end), where there is a value."""
  units = {}
  for run in group.runs:
    value = records.final_value(run, metric)
    if run.seed is not None and value is not None and math.isfinite(value):
      stage = None if run.finished else run.last_step
      units[run.seed, grouping.config_of(run, mixed)] = value, stage
  return units


def _difference(
  group: grouping.Group, values: list[float], unequal: int, mixed: Sequence[str]
) -> Difference:
  zeros = np.zeros(len(values))
  interval = curves.paired_difference(values, zeros)
  p_value = curves.paired_p_value(values, zeros)
  needed, remark = math.nan, ""
  if not values:
    remark = f"no common seed{' with equal ' + mixed[0] if mixed else ''}"
    if unequal:
      remark = "no pair at equal steps"
  elif len(values) == 1:
    remark = "one pair only: no interval, no test"
  else:
    spread = float(np.std(values, ddof=1))
    needed = seeds_needed(interval.mean, spread)
  return Difference(group, interval, p_value, math.nan, needed, remark, unequal)


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's step-down correction; NaN stays NaN and counts for nothing.

  The k-th smallest of m p-values is multiplied by m - k + 1, made rising, cut at 1
  (Holm 1979).
  """
  known = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
  corrected = [math.nan] * len(p_values)
  largest = 0.0
  for rank, (p, i) in enumerate(known):
    largest = max(largest, min(1.0, (len(known) - rank) * p))
    corrected[i] = largest
  return corrected


def seeds_needed(mean: float, spread: float) -> float:
  """Pairs with which a paired t test at 5 % finds a difference with power 0.8.

  Args:
    mean: true mean difference.
    spread: its true standard deviation over seeds.

  Returns:
    The smallest sufficient number, at least 2; inf above 10,000 or for no difference.
  """
  if mean == 0 or not math.isfinite(mean):
    return math.inf
  if spread == 0:
    return 2
  effect = abs(mean) / spread
  # The normal law's number is a lower bound, at most a few seeds below the exact one.
  normal = (-special.ndtri(_LEVEL / 2) + special.ndtri(_POWER)) / effect
  start = max(2, math.floor(normal**2)) if normal**2 < _MOST_SEEDS else _MOST_SEEDS
  for n in range(start, _MOST_SEEDS + 1):
    if power(n, effect) >= _POWER:
      return n
  return math.inf


def power(n: int, effect: float) -> float:
  """Power of the two-sided paired t test at 5 % with n pairs.

  Args:
    n: pairs, at least 2.
    effect: mean difference in units of its standard deviation.
  """
  limit = special.stdtrit(n - 1, 1 - _LEVEL / 2)
  shift = abs(effect) * math.sqrt(n)
  # Beyond this the integrals of the non-central t lose their digits, and power is 1.
  if shift > limit + 37:
    return 1.0
  below = special.nctdtr(n - 1, shift, limit)
  return float(1 - below + special.nctdtr(n - 1, shift, -limit))


def parse_thresholds(text: str, known: Iterable[str]) -> list[Threshold]:
  """Reads `loss=1.0,knn/top1=0.5`, each METRIC=VALUE or METRIC=VALUE:falling (:rising).

  Without a direction, metrics whose name says loss, error, perplexity and the like
  fall to the value and the others rise to it.

  Raises:
    UsageError: another form, or a metric that no run has a curve of.
  """
  known = list(known)
  found = []
  for part in filter(None, (part.strip() for part in text.split(","))):
    match = re.fullmatch(r"([^=<>]+)=([^:=]+)(?::(falling|rising))?", part)
    try:
      value = float(match[2]) if match else math.nan
    except ValueError:
      value = math.nan
    if not match or not math.isfinite(value):
      raise errors.UsageError(
        f"threshold '{part}' is not METRIC=VALUE, such as loss=1.0, or "
        "METRIC=VALUE:falling, METRIC=VALUE:rising"
      )
    metric = match[1].strip()
    if metric not in known and metric.removeprefix("train/") not in known:
      raise errors.unknown("metric in metrics.jsonl", metric, known)
    falling = match[3] == "falling" if match[3] else bool(_LOWER.search(metric))
    found.append(Threshold(metric, value, falling))
  return found


def arrival(group: grouping.Group, threshold: Threshold) -> Arrival:
  """First step at which each run of a group reaches a threshold."""
  steps: dict[str, int] = {}
  missed = []
  for run in group.runs:
    curve = records.curve_of(run, threshold.metric)
    if curve is None:
      continue  # named among the omissions
    sign = 1 if threshold.falling else -1
    reached = sign * curve.values <= sign * threshold.value  # NaN does not
    if reached.any():
      steps[run.path] = int(curve.steps[np.argmax(reached)])
    else:
      missed.append(run)
  late = [float(step) for step in steps.values()] + [math.inf] * len(missed)
  median = float(np.median(late)) if late else math.nan
  return Arrival(group, steps, missed, median)


def aligned(runs: Sequence[records.Curve]) -> tuple[np.ndarray, np.ndarray]:
  """Curves on the union of their steps.

  Between two steps of its own a run is interpolated linearly; before its first and
  after its last it is NaN, and so it is next to its own NaNs.

  Returns:
    (steps [t], values [runs, t]).
  """
  grid = np.unique(np.concatenate([curve.steps for curve in runs]))
  values = np.empty((len(runs), grid.size))
  for row, curve in zip(values, runs, strict=True):
    row[:] = np.interp(grid, curve.steps, curve.values, left=np.nan, right=np.nan)
    row[np.searchsorted(grid, curve.steps)] = curve.values
  return grid, values


class Comparison(NamedTuple):
  """All that the tables and the page show.

  `cells` maps (metric, group name), `differences` a metric, `arrivals` a threshold.
  `step` is the step at which all runs are compared, None for their ends; `late` are the
  runs that have not reached it.
  """

  grouping: grouping.Grouping
  baseline: grouping.Group
  metrics: list[str]
  cells: Mapping[tuple[str, str], Cell]
  differences: Mapping[str, list[Difference]]
  arrivals: Mapping[Threshold, list[Arrival]]
  step: int | None = None
  late: Sequence[records.Run] = ()


def compare_groups(
  grouped: grouping.Grouping,
  baseline: grouping.Group,
  metrics: Sequence[str],
  thresholds: Sequence[Threshold] = (),
) -> Comparison:
  """Computes everything about groups and metrics."""
  others = [group for group in grouped.groups if group is not baseline]
  return Comparison(
    grouped,
    baseline,
    list(metrics),
    {(m, g.name): summarise(g, m) for m in metrics for g in grouped.groups},
    {m: differences(baseline, others, m, grouped.mixed) for m in metrics if others},
    {t: [arrival(group, t) for group in grouped.groups] for t in thresholds},
  )
