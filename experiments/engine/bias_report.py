"""Numbers, tables, figure and page of the bias study."""

import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine import bias_problems, bias_trials, curves, record, report

_TITLES = {
  "random": "Random encoder",
  "trained": "Trained encoder",
  "closed_form": "Closed-form Gaussian critic",
  "temperature": "Random encoder, over temperatures",
  "shape": "Random encoder, over Gamma shapes",
  "visits": "Random encoder, over visits",
  "controls": "Random encoder, u independent of the batch's negatives",
}
_AXES = {
  "batch": "batch size B",
  "temperature": "temperature",
  "shape": "Gamma shape",
  "visits": "visits to each anchor",
}
_UNIT = "units of the attractive gradient"

# In figures, in the order of their colours.
_BIAS_LINES = (
  "info_nce",
  "info_nce_own",
  "decoupled",
  "minibatch",
  "sogclr",
  "sogclr_half",
  "running",
  "boosted",
  "decreasing",
)
_SD_LINES = ("info_nce", "decoupled", "minibatch_1", "running", "exact", "exact_1")

# A squared bias below so many of the standard errors that it would have without bias is
# called consistent with zero.
_ERRORS = 3.0
# A standard deviation below this is rounding.
_NOISELESS = 1e-3


@functools.partial(jax.jit, static_argnames=("family", "size"))
def _prediction(family, problem, size):
  predicted = bias_problems.predicted_bias(family, problem, size)
  variation = jnp.mean(family.variation(problem, problem.params))
  return jnp.linalg.norm(predicted) / bias_problems.attraction(
    family, problem
  ), variation


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
    predicted = [
      [r["predicted"] for r in own if r["value"] in (value, None)] for value in grid
    ]
    sweeps[name] = {
      "title": _TITLES.get(name, name),
      "vary": spec.vary,
      "grid": grid,
      "predicted": [float(np.mean(p)) for p in predicted],
      "cv2": float(np.mean([r["cv2"] for r in own])),
      "objectives": objectives,
    }
  summary = {
    "problem_seeds": config.problem_seeds,
    "unit": _UNIT,
    "sweeps": sweeps,
  }
  return {**summary, "conclusions": conclusions(summary)}


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


def conclusions(summary: dict[str, Any]) -> list[str]:
  """Plain sentences: whose bias is consistent with zero, and how large the others'."""
  cells, labels = _beside_decoupled(summary)
  zero, rest = [], []
  for name, pairs in cells.items():
    if name == "decoupled" or not pairs:
      continue
    ratios = [place["bias"]["mean"] / y["bias"]["mean"] for place, y in pairs]
    zeros = sum(place["zero"] for place, _ in pairs)
    if zeros == len(pairs):
      limits = [place["limit"] / y["bias"]["mean"] for place, y in pairs]
      zero.append(
        f"{labels[name]} (95 % upper limit: {min(limits):.2g} to {max(limits):.2g} of "
        f"the decoupled loss's bias, median {np.median(limits):.2g}, {zeros} cells)"
      )
    else:
      also = f"; consistent with zero in {zeros}" if zeros else ""
      rest.append(
        f"{labels[name]}: {min(ratios):.2g} to {max(ratios):.2g} of the decoupled "
        f"loss's bias, median {np.median(ratios):.2g}, {len(pairs)} cells{also}."
      )
  nobody = "no objective of this study"
  said = [f"Bias consistent with zero in all cells: {'; '.join(zero) or nobody}."]
  return said + rest + _null_comparison(cells, labels)


def _beside_decoupled(summary):
  """Places of each objective beside the decoupled loss's, where that one is known."""
  cells: dict[str, list[tuple[dict, dict]]] = {}
  labels = {}
  for sweep in summary["sweeps"].values():
    yardsticks = sweep["objectives"].get("decoupled", {"places": []})["places"]
    for name, objective in sweep["objectives"].items():
      labels[name] = objective["label"]
      cells.setdefault(name, []).extend(
        (place, yardstick)
        for place, yardstick in zip(objective["places"], yardsticks, strict=False)
        if not yardstick["zero"]
        and yardstick["error"] < 0.2 * yardstick["bias"]["mean"]
      )
  return cells, labels


def _null_comparison(cells, labels) -> list[str]:
  """Whether drawing u from the minibatch changes the decoupled loss's bias."""
  pairs = cells.get("minibatch_1")
  if not pairs:
    return []
  apart = [
    abs(p["bias"]["mean"] - y["bias"]["mean"]) / np.hypot(p["error"], y["error"])
    for p, y in pairs
  ]
  return [
    f"{labels['minibatch_1']} and {labels['decoupled']}: their biases differ by at "
    f"most {max(apart):.1f} Monte-Carlo errors in {len(apart)} cells. Drawing u from "
    "the minibatch removes no bias."
  ]


def table(sweep: dict[str, Any], quantity: str) -> tuple[list[str], list[list[Any]]]:
  """Headers and rows of one sweep: objectives down, the grid across.

  Args:
    sweep: of `summarise`.
    quantity: "bias", "sd" or "cosine".
  """
  head = {"batch": "B = {:g}", "temperature": "τ = {:g}", "visits": "{:g} visits"}
  form = head.get(sweep["vary"], sweep["vary"] + " {:g}")
  headers = ["objective", *(form.format(value) for value in sweep["grid"])]
  write_cell = {"bias": _bias_text, "sd": _sd_text, "cosine": _cosine_text}[quantity]
  rows = [
    [objective["label"], *(write_cell(place) for place in objective["places"])]
    for objective in sweep["objectives"].values()
  ]
  return headers, rows


def _bias_text(place: dict[str, Any]) -> str:
  if place["limit"] <= bias_trials.ROUNDING:
    return "0"
  if place["zero"]:
    return f"0 (< {place['limit']:.2g})"
  mean, low, high, count = place["bias"].values()
  error = f"mc {place['error']:.1g}"
  if count < 2:
    return f"{mean:.3g} ({error})"
  return f"{mean:.3g} ± {(high - low) / 2:.1g} ({error})"


def _sd_text(place: dict[str, Any]) -> str:
  return f"{place['sd']['mean']:.3g}"


def _cosine_text(place: dict[str, Any]) -> str:
  mean = place["cosine"]["mean"]
  return f"{mean:.3f}" if np.isfinite(mean) else "–"


def text(summary: dict[str, Any]) -> str:
  """Tables and conclusions as Markdown, for the terminal and the documentation."""
  parts = []
  for sweep in summary["sweeps"].values():
    parts.append(f"\n{sweep['title']}: bias ({summary['unit']})\n")
    parts.append(report.markdown_table(*table(sweep, "bias")))
    parts.append(f"{sweep['title']}: standard deviation of one gradient\n")
    parts.append(report.markdown_table(*table(sweep, "sd")))
  lines = [f"- {line}" for line in summary["conclusions"]]
  return "\n".join([*parts, *lines])


def make_figure(summary: dict[str, Any], columns: int = 3) -> Any:
  """Bias over batch sizes, standard deviation over batch sizes, the other sweeps."""
  by_batch, others = [], []
  for name, sweep in summary["sweeps"].items():
    if sweep["vary"] == "batch" and name != "controls":
      by_batch.append(sweep)
    elif name != "controls":
      others.append(sweep)
  panels = [_bias_panel(sweep) for sweep in by_batch]
  panels += [_sd_panel(sweep) for sweep in by_batch]
  panels += [_bias_panel(sweep) for sweep in others]
  return curves.figure(panels, columns=columns)


def _bias_panel(sweep: dict[str, Any]) -> curves.Panel:
  names = [name for name in _BIAS_LINES if name in sweep["objectives"]]
  return curves.Panel(
    f"{sweep['title']}: bias",
    [_series(sweep, name, "bias_runs") for name in names],
    xlabel=_AXES[sweep["vary"]],
    ylabel="bias",
    log_x=True,
    log_y=True,
    guides=_guides(sweep),
    show_runs=False,
  )


def _sd_panel(sweep: dict[str, Any]) -> curves.Panel:
  names = [name for name in _SD_LINES if name in sweep["objectives"]]
  return curves.Panel(
    f"{sweep['title']}: noise",
    [_series(sweep, name, "sd_runs") for name in names],
    xlabel=_AXES[sweep["vary"]],
    ylabel="standard deviation",
    log_x=True,
    log_y=True,
    show_runs=False,
  )


def _series(sweep, name, runs) -> curves.Series:
  """An objective's line, without points that a logarithmic axis cannot show."""
  objective = sweep["objectives"][name]
  shown = [
    (x, place[runs])
    for x, place in zip(sweep["grid"], objective["places"], strict=True)
    if not (place["zero"] if runs == "bias_runs" else min(place[runs]) < _NOISELESS)
  ]
  x = np.array([x for x, _ in shown])
  values = np.array([values for _, values in shown], np.float64)
  return curves.Series(objective["label"], x, values.reshape(len(x), -1).T)


def _guides(sweep) -> list[tuple[str, Any, Any]]:
  """Slope 1 / B, and below what the exact u's bias is known to be."""
  x, guides = np.array(sweep["grid"]), []
  exact = sweep["objectives"].get("exact")
  if exact is not None:
    limits = np.array([place["limit"] for place in exact["places"]])
    keep = limits > bias_trials.ROUNDING
    guides.append(("exact u is below", x[keep], limits[keep]))
  decoupled = sweep["objectives"].get("decoupled")
  if sweep["vary"] == "batch" and decoupled is not None and len(x) > 1:
    height = 2.5 * decoupled["places"][1]["bias"]["mean"]
    near = x <= 16 * x[1]
    guides.append(("slope 1/B", x[near], height * x[1] / x[near]))
  return guides


def write(workdir: str, summary: dict[str, Any], config) -> None:
  """Writes the figure and report.html."""
  folder = pathlib.Path(workdir)
  fig = make_figure(summary)
  curves.save(fig, folder / "bias_study")
  page = report.Report("Bias study: how wrong is a minibatch's gradient on average?")
  page.text(_PURPOSE)
  page.heading("What was found")
  for line in summary["conclusions"]:
    page.text(line)
  caption = (
    f"Bias and standard deviation of one minibatch gradient, in {_UNIT}: mean over "
    f"{config.problem_seeds} problems with its 95 % interval. Dotted: the slope 1/B, "
    "and the 95 % upper limit of the exact u's bias, which is consistent with zero. A "
    "line has no point where the bias is consistent with zero."
  )
  page.figure(fig, caption, narrow=make_figure(summary, columns=1))
  for sweep in summary["sweeps"].values():
    page.heading(sweep["title"])
    page.text(f"Mean squared coefficient of variation of e^n: {sweep['cv2']:.2g}.")
    page.table(*table(sweep, "bias"), caption=_CAPTION)
    page.table(*table(sweep, "sd"), caption="Standard deviation of one gradient.")
    page.table(
      *table(sweep, "cosine"),
      caption="Cosine between the mean minibatch gradient and the exact gradient.",
    )
  page.heading("How it was made")
  page.text(_MAKING)
  page.environment(record.read_json(folder / "run.json"))
  page.write(folder / "report.html")


_CAPTION = (
  "Bias in units of the attractive gradient's norm: mean over problems ± half of its "
  "95 % interval over problems (mc: Monte-Carlo error of that mean). `0 (< x)`: "
  "consistent with zero, 95 % upper limit x. `0`: zero up to rounding."
)

_PURPOSE = """
A minibatch's contrastive gradient is not that of the loss over all negatives, not even
on average. Here the parameters are frozen, so that the exact gradient is known and
nothing is stale, and each objective of the library is compared with it. The target is
the loss with infinitely many negatives (a = 0); InfoNCE has a target of its own as well
(a = 1, b = K), so that its bias is told apart from its being another loss.
"""

_MAKING = """
The bias is the square root of an unbiased estimate of the squared distance between mean
minibatch gradient and exact gradient: the product of independent halves, averaged over
all splits. For all objectives but the exact u there are two such estimates: the plain
one, and one from which the exact-u gradient of the same batch and the same Gamma draw
is subtracted as a control variate, whose mean is the exact gradient. The one with the
smaller error is shown; metrics.jsonl has both. Running normalisers have seen each
anchor the stated number of times at the frozen parameters, and then this batch.
"""
