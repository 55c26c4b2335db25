"""Numbers, tables and figures of the noise study."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.engine import record
from experiments.engine.reporting import curves, report
from experiments.engine.studies import noise_trials

_LEVELS = {0.0: "none", 0.75: "low", 1.5: "heavy", 2.0: "extreme"}
_SETUPS = {"gaussian": "Gaussian negatives", "heavy_tails": "Heavy-tailed negatives"}


class Cell(NamedTuple):
  """All runs of one objective at one noise level of one set-up.

  Attributes:
    setup: name of the set-up.
    sd: standard deviation of the injected error.
    objective: name of the objective.
    learning_rate: of Adam, at the start.
    smoothing: the objective's tuned number.
    records: name -> [runs, records + 1], see `synthetic.recovery`.
  """

  setup: str
  sd: float
  objective: str
  learning_rate: float
  smoothing: float
  records: dict[str, np.ndarray]


def level_name(sd: float) -> str:
  """`heavy (sd 1.5)`, or `sd 2.5` for a level without a name."""
  name = _LEVELS.get(float(sd))
  return f"{name} (sd {sd:g})" if name else f"sd {sd:g}"


def summarise(cells: list[Cell], theory: dict, config) -> dict[str, Any]:
  """Contents of summary.json: set-up -> level -> objective -> numbers.

  Args:
    cells: results.
    theory: set-up -> sd -> predicted x of the decoupled loss.
    config: the study's config.

  Returns:
    Nested dict, levels named by their sd.
  """
  setups: dict[str, dict] = {}
  for cell in cells:
    level = setups.setdefault(cell.setup, {}).setdefault(
      f"{cell.sd:g}", {"name": level_name(cell.sd), "objectives": {}}
    )
    if cell.setup in theory:
      level["theory_decoupled_x"] = theory[cell.setup][cell.sd]
    level["objectives"][cell.objective] = _numbers(cell, config)
  return {
    "tolerance": config.tolerance,
    "runs": config.runs,
    "steps": config.steps,
    "setups": setups,
  }


def _numbers(cell: Cell, config) -> dict[str, Any]:
  x = cell.records["x"]
  step = config.steps // config.records
  mean_steps = settled(x.mean(axis=0), step, config.tolerance)
  # A run that never settles counts as later than all others in the median.
  each = [settled(row, step, config.tolerance) for row in x]
  median = float(np.median([np.inf if s is None else s for s in each]))
  final = {name: values[:, -1] for name, values in cell.records.items()}
  return {
    "label": noise_trials.OBJECTIVES[cell.objective].label,
    "x": curves.interval(final["x"])._asdict(),
    "x_runs": [float(value) for value in final["x"]],
    "within": within(final["x"], config.tolerance),
    "of": len(x),
    "relative_error": curves.interval(final["relative_error"])._asdict(),
    "alignment": float(final["alignment"].mean()),
    "loss_gap": curves.interval(final["loss_gap"])._asdict(),
    "steps_of_mean": mean_steps,
    "steps_of_median_run": median if np.isfinite(median) else None,
    "learning_rate": cell.learning_rate,
    "smoothing": (
      cell.smoothing if noise_trials.OBJECTIVES[cell.objective].smoothing else None
    ),
  }


def within(x: np.ndarray, tolerance: float) -> int:
  """How many of the final values are within the tolerance of the optimum 1."""
  return int(np.sum(np.abs(x - 1) <= tolerance))


def settled(x: np.ndarray, step: int, tolerance: float) -> int | None:
  """First recorded step from which on x stays within the tolerance of 1.

  Merely passing through does not count: a biased objective passes the optimum on its
  way.

  Args:
    x: [records + 1] trajectory.
    step: steps between records.
    tolerance: of |x - 1|.
  """
  outside = np.flatnonzero(~(np.abs(x - 1) <= tolerance))
  first = outside[-1] + 1 if len(outside) else 0
  return int(first * step) if first < len(x) else None


def cell_line(cell: Cell, tolerance: float) -> str:
  """One line about a cell for the terminal."""
  x = cell.records["x"][:, -1]
  label = noise_trials.OBJECTIVES[cell.objective].label
  return (
    f"{cell.setup}, {level_name(cell.sd)}, {label}: "
    f"x = {curves.format_interval(curves.interval(x))}, "
    f"within {tolerance:.0%}: {within(x, tolerance)}/{len(x)}"
  )


def table(levels: dict[str, dict]) -> tuple[list[str], list[list[Any]]]:
  """Headers and rows of one set-up's table."""
  headers = [
    "noise", "objective", "x", "within", "relative error", "alignment", "loss gap",
    "steps to stay within",
  ]  # fmt: skip
  rows = []
  for level in levels.values():
    for numbers in level["objectives"].values():
      interval = curves.Interval(**numbers["x"])
      rows.append(
        [
          level["name"],
          numbers["label"],
          curves.format_interval(interval),
          f"{numbers['within']}/{numbers['of']}",
          f"{numbers['relative_error']['mean']:.3f}",
          f"{numbers['alignment']:.4f}",
          f"{numbers['loss_gap']['mean']:.4f}",
          numbers["steps_of_mean"],
        ]
      )
    if "theory_decoupled_x" in level:
      point = f"{level['theory_decoupled_x']:.3f}"
      rows.append([level["name"], "theory for DCL", point, *[None] * 5])
  return headers, rows


def text_table(summary: dict[str, Any]) -> str:
  """The tables as Markdown, for the terminal and the documentation."""
  parts = []
  for setup, levels in summary["setups"].items():
    parts += [f"\n{_SETUPS[setup]}\n", report.markdown_table(*table(levels))]
  return "\n".join(parts)


def make_figure(
  cells: list[Cell], theory: dict, setup: str, config, columns: int = 2
) -> Any:
  """Trajectories of x: a panel for each noise level, a line for each run."""
  steps = np.arange(config.records + 1) * (config.steps // config.records)
  own = [cell for cell in cells if cell.setup == setup]
  limits, panels = _limits(own), []
  for sd in dict.fromkeys(cell.sd for cell in own):
    here = [cell for cell in own if cell.sd == sd]
    lines = {"optimum": 1.0}
    if setup in theory and np.isfinite(theory[setup][sd]):
      lines["theory for DCL"] = theory[setup][sd]
    series = [
      curves.Series(
        noise_trials.OBJECTIVES[cell.objective].label,
        steps,
        cell.records["x"],
      )
      for cell in here
    ]
    panels.append(
      curves.Panel(
        f"noise: {level_name(sd)}",
        series,
        xlabel="step",
        ylabel="x (share of the optimum)",
        lines=lines,
        ylim=limits,
      )
    )
  return curves.figure(panels, columns=columns, title=_SETUPS[setup])


def _limits(cells: list[Cell]) -> tuple[float, float]:
  """Limits for all panels alike; they show where runs end, not how they start."""
  late = np.concatenate([cell.records["x"][:, 2:].ravel() for cell in cells])
  late = late[np.isfinite(late)]
  top = max(1.25, float(np.percentile(late, 99.5)) * 1.08) if len(late) else 2.0
  return 0.0, min(top, 3.0)


def write(
  workdir: str, cells: list[Cell], summary: dict[str, Any], theory: dict, config
) -> None:
  """Writes a figure for each set-up and report.html."""
  folder = pathlib.Path(workdir)
  page = report.Report("Noise study: which objectives reach the known optimum?")
  page.text(_PURPOSE)
  for setup, levels in summary["setups"].items():
    page.heading(_SETUPS[setup])
    page.text(_MEANING[setup])
    fig = make_figure(cells, theory, setup, config)
    curves.save(fig, folder / setup)
    caption = (
      f"x against steps, {config.runs} initialisations each: thin lines are runs, "
      "thick lines means with their 95 % interval; dashed at 1: the optimum."
    )
    page.figure(
      fig, caption, narrow=make_figure(cells, theory, setup, config, columns=1)
    )
    note = (
      f"After {config.steps} steps. x: mean and 95 % interval over runs; within: runs "
      f"with |x - 1| <= {config.tolerance:g}; steps: since when the mean stays there."
    )
    page.table(*table(levels), caption=note)
  page.heading("How it was made")
  page.text(_MAKING)
  page.environment(record.read_json(folder / "run.json"))
  page.write(folder / "report.html")


_PURPOSE = """
A critic `x' A y` is trained from random starts on minibatches with few negatives. Noise
is added to every similarity. It leaves the optimum of the loss with all negatives where
it is, so that what an objective finds instead shows the bias of its minibatch gradient.
`x = <A, A*> / |A*|^2` is 1 at the optimum; the relative error is `|A - A*| / |A*|`, the
alignment is `cos(A, A*)`, the loss gap is the exact loss above its minimum in nats.
"""

_MEANING = {
  "gaussian": """
The optimum and the loss with all negatives are known in closed form. The law is
isotropic, so the bias is in the scale: the alignment hides it. The dashed line "theory
for DCL" is the wrong fixed point that is predicted for the decoupled loss, and for the
augmented loss whose auxiliary variable is drawn from the minibatch.
""",
  "heavy_tails": """
The features of the negatives have unequal tails (kurtosis 2, 8, 32 by default). The
optimum and the loss with all negatives follow by enumeration. A minibatch misses the
rare large negatives, so the direction is wrong too, without any injected noise.
""",
}

_MAKING = """
The objectives are the library's own. Learning rate and smoothing were tuned for each
objective at each noise level with the same number of trials, on problems that are not
used here, by the relative error of the last critic. The exact-u row is an oracle: it
knows the normaliser over all negatives.
"""
