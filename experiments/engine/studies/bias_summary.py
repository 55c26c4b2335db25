"""Numbers of the bias study: rows of metrics.jsonl, summary.json, plain conclusions."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine.reporting import curves
from experiments.engine.studies import bias_problems, bias_trials

# What a sweep of the default config is called in tables and figures.
TITLES = {
  "random": "Random encoder",
  "trained": "Trained encoder",
  "closed_form": "Closed-form Gaussian critic",
  "temperature": "Random encoder, over temperatures",
  "shape": "Random encoder, over Gamma shapes",
  "visits": "Random encoder, over visits",
  "controls": "Random encoder, u independent of the batch's negatives",
}
UNIT = "units of the attractive gradient"

# Biases below this, in units of the attraction, are negligible by themselves.
FLOOR = 1e-3
# A squared bias below so many of the standard errors that it would have without bias is
# called consistent with zero.
_ERRORS = 3.0


@functools.partial(jax.jit, static_argnames=("family", "size"))
def _prediction(family, problem, size):
  predicted = bias_problems.predicted_bias(family, problem, size)
  variation = jnp.mean(family.variation(problem, problem.params))
  unit = bias_problems.attraction(family, problem)
  return jnp.linalg.norm(predicted) / unit, variation


def prediction(family, problem, size: int) -> dict[str, float]:
  """Leading-order bias of the decoupled loss, and mean CV^2 of e^n."""
  predicted, variation = _prediction(family, problem, size)
  return {"predicted": float(predicted), "cv2": float(variation)}


def row(
  place: dict[str, Any], vary: str, name: str, cell, predicted: dict[str, float]
) -> dict[str, Any]:
  """One line of metrics.jsonl: an objective at a place of a sweep on one problem.

  Args:
    place: sweep, problem_seed, batch, temperature, visits.
    vary: which number the sweep varies.
    name: objective, `name@shape` in a sweep over shapes.
    cell: `bias_trials.Cell`.
    predicted: of `prediction`.
  """
  base, _, shape = name.partition("@")
  return {
    **place,
    "vary": vary,
    "value": float(shape) if shape else place.get(vary),
    "objective": base,
    **predicted,
    **cell.bias._asdict(),
    **{f"plain_{k}": v for k, v in cell.plain._asdict().items()},
    **{f"paired_{k}": v for k, v in cell.paired._asdict().items()},
    "sd": cell.sd,
    "cosine": cell.cosine,
    "exact_norm": cell.exact_norm,
    "gradients": cell.gradients,
    "settled": cell.settled,
  }


def task_line(task, rows: list[dict[str, Any]]) -> str:
  """One line about a task for the terminal."""
  done = [r["settled"] for r in rows]
  reached = ", ".join(f"{done.count(k)} {k}" for k in dict.fromkeys(done))
  return (
    f"{task.sweep}, problem {task.problem_seed}, B = {task.batch}, temperature "
    f"{task.temperature:g}, {task.visits} visits: {reached}"
  )


def summarise(rows: list[dict[str, Any]], config) -> dict[str, Any]:
  """Contents of summary.json: sweep -> objective -> numbers over its grid.

  Args:
    rows: of all tasks.
    config: the study's config.
  """
  sweeps: dict[str, Any] = {}
  for name in config.run:
    spec = config.sweeps[name]
    own = [r for r in rows if r["sweep"] == name]
    grid = [float(value) for value in spec.grid]
    objectives = {}
    for objective in spec.objectives:
      places = [
        # An objective without a shape is the same at all shapes.
        [r for r in own if r["objective"] == objective and r["value"] in (value, None)]
        for value in grid
      ]
      objectives[objective] = {
        "label": config.objectives[objective].label,
        "places": [_pooled(place) for place in places],
      }
    _add_ratios(objectives)
    predicted = [
      [r["predicted"] for r in own if r["value"] in (value, None)] for value in grid
    ]
    sweeps[name] = {
      "title": TITLES.get(name, name),
      "vary": spec.vary,
      "grid": grid,
      "predicted": [float(np.mean(p)) for p in predicted],
      "cv2": float(np.mean([r["cv2"] for r in own])),
      "objectives": objectives,
    }
  summary = {"problem_seeds": config.problem_seeds, "unit": UNIT, "sweeps": sweeps}
  return {**summary, "conclusions": [*conclusions(summary), _settled(rows, config)]}


def _pooled(rows: list[dict[str, Any]]) -> dict[str, Any]:
  """One objective at one place: mean over problems, with both kinds of error."""
  count = len(rows)
  column = lambda name: np.array([r[name] for r in rows], np.float64)
  squared = float(column("squared").mean())
  squared_error = float(np.sqrt(np.mean(column("squared_error") ** 2) / count))
  null_error = float(np.sqrt(np.mean(column("null_error") ** 2) / count))
  limit = float(np.sqrt(max(squared, 0.0) + 2 * squared_error))
  settled = [r["settled"] for r in rows]
  return {
    "bias": curves.interval(column("bias"))._asdict(),
    "bias_runs": [r["bias"] for r in rows],
    "error": float(np.sqrt(np.mean(column("error") ** 2) / count)),
    "squared": squared,
    "squared_error": squared_error,
    "null_error": null_error,
    "zero": bool(squared <= _ERRORS * null_error or limit <= bias_trials.ROUNDING),
    "limit": limit,
    "plain": float(np.sqrt(max(column("plain_squared").mean(), 0.0))),
    "plain_error": float(np.sqrt(np.mean(column("plain_error") ** 2) / count)),
    "sd": curves.interval(column("sd"))._asdict(),
    "sd_runs": [r["sd"] for r in rows],
    "cosine": curves.interval(column("cosine"))._asdict(),
    "gradients": int(column("gradients").sum()),
    "settled": {k: settled.count(k) for k in dict.fromkeys(settled)},
  }


def _add_ratios(objectives: dict[str, Any]) -> None:
  """Bias over the decoupled loss's on the same problem, where that one is known."""
  for objective in objectives.values():
    yardsticks = objectives.get("decoupled", {}).get("places", [])
    for place, yardstick in zip(objective["places"], yardsticks, strict=False):
      if known(yardstick):
        ratio = np.array(place["bias_runs"]) / np.array(yardstick["bias_runs"])
        place["ratio_runs"] = ratio.tolist()
        place["ratio"] = curves.interval(ratio)._asdict()
        place["ratio_limit"] = place["limit"] / yardstick["bias"]["mean"]


def known(place: dict[str, Any]) -> bool:
  """Whether a bias is told from zero on every problem, and to 10 % on average."""
  enough = place["error"] < 0.1 * place["bias"]["mean"] and min(place["bias_runs"]) > 0
  return bool(enough and not place["zero"])


def conclusions(summary: dict[str, Any]) -> list[str]:
  """Plain sentences: whose bias is consistent with zero, and how large the others'."""
  places, labels = _comparable(summary)
  zero, rest = [], []
  for name, own in places.items():
    zeros = sum(place["zero"] for place in own)
    if zeros == len(own):
      limits = [place["ratio_limit"] for place in own]
      zero.append(
        f"{labels[name]} (95 % upper limit: {min(limits):.2g} to {max(limits):.2g} of "
        f"the decoupled loss's bias, median {np.median(limits):.2g}, {zeros} cells)"
      )
    elif name != "decoupled":
      ratios = [place["ratio"]["mean"] for place in own]
      also = f"; consistent with zero in {zeros}" if zeros else ""
      rest.append(
        f"{labels[name]}: {min(ratios):.2g} to {max(ratios):.2g} of the decoupled "
        f"loss's bias, median {np.median(ratios):.2g}, {len(own)} cells{also}."
      )
  nobody = "no objective of this study"
  said = [f"Bias consistent with zero in all cells: {'; '.join(zero) or nobody}."]
  return said + rest + _null_comparison(summary)


def _comparable(summary) -> tuple[dict[str, list[dict]], dict[str, str]]:
  """Places of each objective where the decoupled loss's bias is known; labels."""
  places: dict[str, list[dict]] = {}
  labels = {}
  for sweep in summary["sweeps"].values():
    for name, objective in sweep["objectives"].items():
      labels[name] = objective["label"]
      own = [place for place in objective["places"] if "ratio" in place]
      if own:
        places.setdefault(name, []).extend(own)
  return places, labels


def _null_comparison(summary) -> list[str]:
  """Whether drawing u from the minibatch changes the decoupled loss's bias."""
  apart = []
  for sweep in summary["sweeps"].values():
    both = [sweep["objectives"].get(name) for name in ("minibatch_1", "decoupled")]
    if None in both:
      continue
    for null, plain in zip(*(o["places"] for o in both), strict=True):
      if known(plain):
        difference = null["bias"]["mean"] - plain["bias"]["mean"]
        apart.append(abs(difference) / np.hypot(null["error"], plain["error"]))
  if not apart:
    return []
  return [
    "With u drawn from the minibatch (shape 1) and with the decoupled loss, biases "
    f"differ by at most {max(apart):.1f} Monte-Carlo errors in {len(apart)} cells: "
    "that draw removes no bias."
  ]


def _settled(rows: list[dict[str, Any]], config) -> str:
  """How many measurements reached their precision."""
  done = [r["settled"] for r in rows]
  return (
    f"Of {len(done)} measurements, {done.count('known')} reached an error below "
    f"{config.fraction:.0%} of the bias, {done.count('negligible')} an upper limit "
    f"below {config.negligible:.0%} of the decoupled loss's bias (or {FLOOR:g}), and "
    f"{done.count('budget')} ended with their budget."
  )
