"""Numbers of the alignment study: intervals, paired differences, what is intact."""

from typing import Any

import numpy as np

from experiments.engine.comparison import statistics
from experiments.engine.reporting import curves
from experiments.engine.studies import alignment_arms
from experiments.engine.studies.alignment_cells import Result

CONTROLS = ("clip", "four")

# Metrics that are tested against the controls, with their names in tables.
HEADLINES = {
  "shared_image/z/linear": "s from z",
  "specific_image/z/linear": "u_V from z",
  "specific_image/own/linear": "u_V from z^i",
  "specific_image/both/linear": "u_V from [z, z^i]",
  "specific_image/h/linear": "u_V from h",
  "specific_text/both/linear": "u_T from [z, z^i]",
  "specific_image/both/linear@0.5": "u_V from [z, z^i], noise .5",
  "mixed/pair/linear": "(u_V, u_T) from z's",
  "mixed/all/linear": "(u_V, u_T) from all",
  "few_shot/both": "5-shot [z, z^i]",
  "zero_shot": "zero-shot s",
  "recall@1": "R@1",
}


def choose(results: list[Result], config) -> dict[str, float]:
  """The best number of each arm of a stage, by the mean criterion over its seeds.

  Of equal scores the smaller number is taken.
  """
  best: dict[str, tuple[float, float]] = {}
  for result in results:
    arm = arm_of(result)
    candidate = (tuning_score(result, config), -float(result.cell.place or 0))
    best[arm] = max(best.get(arm, candidate), candidate)
  return {arm: -number for arm, (_, number) in best.items()}


def arm_of(result: Result) -> str:
  """Arm of a tuning cell."""
  return result.cell.name.rpartition("_")[0]


def tuning_score(result: Result, config) -> float:
  """Mean over seeds of the criterion of a tuning cell."""
  gallery = config["values"] ** config.shared
  count = len(result.cell.seeds)
  scores = [
    alignment_arms.score(
      {name: values[i] for name, values in result.metrics.items()},
      config["values"],
      gallery,
    )
    for i in range(count)
  ]
  return float(np.mean(scores))


def summarise(
  exact: dict[str, Any],
  tuning: list[Result],
  chosen: dict[str, float],
  results: list[Result],
  config,
) -> dict[str, Any]:
  """Contents of summary.json.

  Args:
    exact: numbers of the exact part.
    tuning: cells of the tuning.
    chosen: number of each arm.
    results: cells of the report; the controls are among those of "main".
    config: the study's.
  """
  controls = {
    name: result.metrics
    for result in results
    for name in CONTROLS
    if (result.cell.group, result.cell.name) == ("main", name)
  }
  groups: dict[str, dict] = {}
  for result in results:
    entry = _entry(result)
    entry["intact"] = intact(result.metrics, controls["four"], config.intact)
    groups.setdefault(result.cell.group, {})[result.cell.name] = entry
  for group in groups:
    own = [result for result in results if result.cell.group == group]
    for control in CONTROLS:
      _add_differences(groups[group], own, control, controls[control])
  return {
    "exact": exact,
    "seeds": list(config.seeds),
    "tuning_seeds": list(config.tuning_seeds) if tuning else [],
    "chosen": {name: float(value) for name, value in sorted(chosen.items())},
    "tuning": _tuning(tuning, config),
    "floor_nats": float(np.log(config["values"])),
    "groups": groups,
  }


def intact(metrics, control, share: float) -> bool:
  """Whether shared probe and retrieval are as good as that share of the control's.

  Strong alignment collapses the features; what is lost then says nothing of alignment.
  """
  return all(
    metrics[name].mean() >= share * control[name].mean()
    for name in ("shared_image/z/linear", "recall@1")
  )


def _entry(result: Result) -> dict[str, Any]:
  cell = result.cell
  return {
    "label": cell.label,
    "place": cell.place,
    "knobs": cell.knobs._asdict(),
    "seeds": list(cell.seeds),
    "metrics": {
      name: curves.interval(values)._asdict() | {"runs": [float(v) for v in values]}
      for name, values in result.metrics.items()
    },
    "differences": {},
  }


def _add_differences(entries, results: list[Result], control: str, usual) -> None:
  """Paired differences to a control, p-values corrected over all of the table's tests.

  With destructive augmentation, the control is the same arm at the same `keep`.
  """
  same = {
    result.cell.place: result.metrics
    for result in results
    if result.cell.group == "destructive"
    and result.cell.name.startswith(f"{control}_k")
  }
  tests: list[tuple[str, str, dict]] = []
  for result in results:
    base = same.get(result.cell.place, usual)
    if result.metrics is base:
      continue
    for name in HEADLINES:
      if name not in result.metrics:
        continue
      pair = result.metrics[name], base[name]
      difference = curves.paired_difference(*pair)._asdict()
      difference["wins"] = int(np.sum(pair[0] > pair[1]))
      difference["p"] = curves.paired_p_value(*pair)
      tests.append((result.cell.name, name, difference))
  corrected = statistics.holm([difference["p"] for *_, difference in tests])
  for (cell, name, difference), p in zip(tests, corrected, strict=True):
    difference["p_holm"] = p
    entries[cell]["differences"].setdefault(control, {})[name] = difference


def _tuning(results: list[Result], config) -> dict[str, dict[str, float]]:
  """Arm -> number -> score."""
  scores: dict[str, dict[str, float]] = {}
  for result in results:
    own = scores.setdefault(arm_of(result), {})
    own[f"{result.cell.place:g}"] = tuning_score(result, config)
  return scores
