"""Tables, figure and page of the bias study."""

import pathlib
from typing import Any

import numpy as np

from experiments.engine import record
from experiments.engine.reporting import curves, report
from experiments.engine.studies import bias_summary, bias_trials

_AXES = {
  "batch": "batch size B",
  "temperature": "temperature",
  "shape": "Gamma shape",
  "visits": "visits to each anchor",
}
# In figures, in the order of their colours: solid up to the seventh, then dashed, so
# that the draw from the minibatch is seen on top of the decoupled loss.
_BIAS_LINES = (
  "info_nce",
  "running",
  "decoupled",
  "sogclr",
  "sogclr_half",
  "boosted",
  "decreasing",
  "info_nce_own",
  "minibatch_1",
)
_SD_LINES = ("info_nce", "running", "decoupled", "minibatch_1", "exact", "exact_1")

# A standard deviation below this is rounding.
_NOISELESS = 1e-3


def table(sweep: dict[str, Any], quantity: str) -> tuple[list[str], list[list[Any]]]:
  """Headers and rows of one sweep: objectives down, the grid across.

  Args:
    sweep: of `bias_summary.summarise`.
    quantity: "bias", "ratio" (over the decoupled loss's bias), "sd" or "cosine".
  """
  head = {"batch": "B = {:g}", "temperature": "τ = {:g}", "visits": "{:g} visits"}
  form = head.get(sweep["vary"], sweep["vary"] + " {:g}")
  headers = ["objective", *(form.format(value) for value in sweep["grid"])]
  write_cell = {
    "bias": _bias_text,
    "ratio": _ratio_text,
    "sd": _sd_text,
    "cosine": _cosine_text,
  }[quantity]
  rows = [
    [objective["label"], *(write_cell(place) for place in objective["places"])]
    for name, objective in sweep["objectives"].items()
    if quantity != "ratio" or name != "decoupled"
  ]
  if quantity == "bias":
    predicted = [f"{value:.3g}" for value in sweep["predicted"]]
    rows.append(["theory for decoupled, leading order", *predicted])
  return headers, rows


def _bias_text(place: dict[str, Any]) -> str:
  if place["limit"] <= bias_trials.ROUNDING:
    return "0"
  star = "*" if "budget" in place["settled"] else ""
  if place["zero"]:
    return f"0 (< {place['limit']:.2g}){star}"
  mean, low, high, count = place["bias"].values()
  error = f"mc {place['error']:.1g}" if place["error"] > 1e-6 else "exact"
  if count < 2:
    return f"{mean:.3g} ({error}){star}"
  return f"{mean:.3g} ± {_brief((high - low) / 2)} ({error}){star}"


def _ratio_text(place: dict[str, Any]) -> str:
  if "ratio" not in place:
    return "–"
  if place["zero"]:
    return f"0 (< {place['ratio_limit']:.2g})"
  mean, low, high, count = place["ratio"].values()
  return f"{mean:.2g}" if count < 2 else f"{mean:.2g} ± {_brief((high - low) / 2)}"


def _brief(value: float) -> str:
  """One significant digit, without an exponent: `30`, `0.004`."""
  return f"{float(f'{value:.1g}'):g}"


def _sd_text(place: dict[str, Any]) -> str:
  value = place["sd"]["mean"]
  return f"{value:.3g}" if value > _NOISELESS else "0"


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
  """Bias and noise over batch sizes; bias beside the decoupled loss's over the rest."""
  by_batch, others = [], []
  for name, sweep in summary["sweeps"].items():
    if sweep["vary"] == "batch" and name != "controls":
      by_batch.append(sweep)
    elif name != "controls":
      others.append(sweep)
  panels = [_bias_panel(sweep) for sweep in by_batch]
  panels += [_sd_panel(sweep) for sweep in by_batch]
  panels += [_ratio_panel(sweep) for sweep in others]
  return curves.figure(panels, columns=columns)


def _bias_panel(sweep: dict[str, Any]) -> curves.Panel:
  return _panel(sweep, "bias", "bias", _BIAS_LINES, "bias_runs", guides=_guides(sweep))


def _sd_panel(sweep: dict[str, Any]) -> curves.Panel:
  return _panel(sweep, "noise", "standard deviation", _SD_LINES, "sd_runs")


def _ratio_panel(sweep: dict[str, Any]) -> curves.Panel:
  lines = {"decoupled": 1.0}
  guides = _limit_guide(sweep, "ratio_limit")
  label = "bias / bias of the decoupled loss"
  names = [name for name in _BIAS_LINES if name != "decoupled"]
  if "minibatch_1" not in sweep["objectives"]:
    names.append("minibatch")
  return _panel(sweep, "", label, names, "ratio_runs", lines=lines, guides=guides)


def _panel(sweep, subject, ylabel, names, runs, **marks) -> curves.Panel:
  lines = [_series(sweep, name, runs) for name in names if name in sweep["objectives"]]
  return curves.Panel(
    f"{sweep['title']}: {subject}" if subject else sweep["title"],
    [line for line in lines if len(line.x)],
    xlabel=_AXES[sweep["vary"]],
    ylabel=ylabel,
    log_x=True,
    log_y=True,
    show_runs=False,
    **marks,
  )


def _series(sweep, name, runs) -> curves.Series:
  """An objective's line, without points that a logarithmic axis cannot show."""
  objective = sweep["objectives"][name]
  shown = [
    (x, place[runs])
    for x, place in zip(sweep["grid"], objective["places"], strict=True)
    if runs in place
    and not (min(place[runs]) < _NOISELESS if runs == "sd_runs" else place["zero"])
  ]
  x = np.array([x for x, _ in shown])
  values = np.array([values for _, values in shown], np.float64)
  return curves.Series(objective["label"], x, values.T)


def _guides(sweep) -> list[tuple[str, Any, Any]]:
  """Slope 1 / B through a point above the decoupled loss, and the exact u's limit."""
  guides = _limit_guide(sweep, "limit")
  decoupled = sweep["objectives"].get("decoupled")
  if decoupled is not None and len(sweep["grid"]) > 2:
    x, height = sweep["grid"][2], decoupled["places"][2]["bias"]["mean"]
    ends = np.array([x / 2, x * 4])
    guides.append(("slope 1/B", ends, 2 * height * x / ends))
  return guides


def _limit_guide(sweep, quantity) -> list[tuple[str, Any, Any]]:
  """Below what the exact u's bias is known to be."""
  exact = sweep["objectives"].get("exact")
  if exact is None:
    return []
  limits = np.array([place.get(quantity, 0.0) for place in exact["places"]])
  keep = limits > bias_trials.ROUNDING
  if not keep.any():
    return []
  return [("exact u is below", np.array(sweep["grid"])[keep], limits[keep])]


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
    f"Bias and standard deviation of one minibatch gradient, in {bias_summary.UNIT}, "
    "and bias relative to the decoupled loss's on the same problem: mean over "
    f"{config.problem_seeds} problems with its 95 % interval. Dotted: slope 1/B, and "
    "the 95 % upper limit of the exact u's bias, which is consistent with zero. A line "
    "has no point where the bias is consistent with zero."
  )
  page.figure(fig, caption, narrow=make_figure(summary, columns=1))
  for sweep in summary["sweeps"].values():
    page.heading(sweep["title"])
    page.text(f"Mean squared coefficient of variation of e^n: {sweep['cv2']:.2g}.")
    page.table(*table(sweep, "bias"), caption=_CAPTION)
    page.table(
      *table(sweep, "ratio"),
      caption="Bias over that of the decoupled loss on the same problem, ± half of the "
      "95 % interval over problems; – where the decoupled loss's is not known.",
    )
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
  "consistent with zero, 95 % upper limit x. `0`: zero up to rounding. A star: the "
  "budget ended before an error of the wanted size on one problem or more."
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
