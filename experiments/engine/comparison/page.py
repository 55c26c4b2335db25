"""The comparison as one HTML page."""

import pathlib
import textwrap
from typing import Any

import numpy as np

from experiments.engine.comparison import groups as grouping
from experiments.engine.comparison import notes, statistics, tables
from experiments.engine.comparison import runs as records
from experiments.engine.reporting import curves, report

# More curves in one figure cannot be told apart.
_DRAWN_GROUPS = 12
# More thin lines than these hide the bands.
_DRAWN_RUNS = 60


def write_page(comparison: statistics.Comparison, path: pathlib.Path) -> None:
  """Writes the page: tables, curves, configs, commands, versions.

  Raises:
    UserError: the file cannot be written, or matplotlib is missing.
  """
  runs = [run for group in comparison.grouping.groups for run in group.runs]
  page = report.Report("Comparison of runs")
  page.text(
    f"{notes.count(len(runs), 'run')} in "
    f"{notes.count(len(comparison.grouping.groups), 'group')}. Means of the "
    f"{tables.values_text(comparison)} over seeds with Student's t intervals (95 %)."
  )
  _final_values(page, comparison)
  _differences(page, comparison)
  _arrivals(page, comparison)
  page.heading("Notes")
  for line in tables.foot_lines(comparison):
    page.text(line)
  _curves(page, comparison)
  _configs(page, comparison.grouping)
  _commands(page, comparison)
  _circumstances(page, runs)
  page.write(path)


def _final_values(page: report.Report, comparison: statistics.Comparison) -> None:
  what = tables.values_text(comparison).capitalize()
  page.heading(what)
  groups = comparison.grouping.groups
  panels = []
  for metric in comparison.metrics:
    cells = {group.name: comparison.cells[metric, group.name] for group in groups}
    values = {
      textwrap.fill(name, 34, break_long_words=False): list(cell.values.values())
      for name, cell in cells.items()
    }
    panels.append(curves.PointPanel(metric, values, xlabel=metric))
  page.figure(
    curves.figure(panels, columns=1),
    f"{what}: mean, 95 % interval and a dot per seed.",
  )
  rows = []
  for metric in comparison.metrics:
    found = [comparison.cells[metric, group.name].interval for group in groups]
    number = tables.formatter(found)
    for group, value in zip(groups, found, strict=True):
      name = tables.label(comparison, group)
      seeds = tables.seeds_text(group, comparison.cells[metric, group.name])
      interval = tables.bounds(value, number)
      rows.append([metric, name, seeds, number(value.mean), interval])
  headers = ["metric", "group", "seeds", "mean", "95 % interval"]
  page.table(headers, rows, f"{what}: mean over seeds.")


def _differences(page: report.Report, comparison: statistics.Comparison) -> None:
  if not comparison.differences:
    return
  page.heading("Differences")
  several = len(comparison.grouping.groups) > 2
  headers = ["group", "pairs", "difference", "95 % interval", "p"]
  headers += [*(["Holm"] if several else []), "needed"]
  for metric, found in comparison.differences.items():
    number = tables.formatter([d.interval for d in found], sign=True)
    rows = []
    for d in found:
      cells = [number(d.interval.mean), d.remark or tables.bounds(d.interval, number)]
      p_values = [d.p_value, d.p_holm] if several else [d.p_value]
      cells += [*map(tables.p_text, p_values), tables.needed_text(d.needed)]
      rows.append([d.group.name, d.interval.n, *cells])
    page.table(
      headers, rows, f"{metric}: group minus {comparison.baseline.name}, common seeds."
    )


def _arrivals(page: report.Report, comparison: statistics.Comparison) -> None:
  if not comparison.arrivals:
    return
  page.heading("Steps to a threshold")
  rows = [
    [str(t), row.group.name, *map(_number, tables.arrival_cells(row))]
    for t, found in comparison.arrivals.items()
    for row in found
  ]
  headers = ["threshold", "group", "runs", "reached", "earliest to latest", "median"]
  page.table(headers, rows, "First step at which a run reaches the threshold.")
  for threshold, found in comparison.arrivals.items():
    for row in found:
      if row.missed:
        page.text(f"{threshold}, {row.group.name}: {tables.missed_text(row)}.")


def _number(text: str) -> str | int:
  return int(text) if text.isdigit() else text


def _curves(page: report.Report, comparison: statistics.Comparison) -> None:
  page.heading("Curves")
  groups = comparison.grouping.groups
  drawn = groups[:_DRAWN_GROUPS]
  if len(drawn) < len(groups):
    page.text(
      f"The figures show the first {len(drawn)} of {len(groups)} groups; give fewer "
      "runs, or --group_by fewer keys, to see others."
    )
  metrics = _curve_metrics(comparison)
  if not metrics:
    page.text("No run has recorded a metric over the steps.")
    return
  panels = []
  for metric in metrics:
    panels += curve_panels(drawn, metric)
  wide, narrow = (_curve_figure(panels, columns) for columns in (2, 1))
  page.figure(
    wide,
    "Mean over runs and its 95 % band at each step, on linear axes (left) and on "
    "logarithmic ones (right); a run that ends early counts as far as it goes.",
    narrow=narrow,
  )


def _curve_figure(panels: list[curves.Panel], columns: int) -> Any:
  """A figure whose remarks on missing values fit the width of a panel."""
  figure = curves.figure(panels, columns)
  for text in [text for ax in figure.axes for text in ax.texts]:
    text.set_text(textwrap.shorten(text.get_text(), 72, placeholder=" ..."))
  return figure


def _curve_metrics(comparison: statistics.Comparison) -> list[str]:
  """Names in metrics.jsonl of the metrics, of the thresholds, and of the loss."""
  runs = [run for group in comparison.grouping.groups for run in group.runs]
  asked = [*comparison.metrics, *(t.metric for t in comparison.arrivals), "loss"]
  known = {name for run in runs for name in run.curves}
  names = [name if name in known else name.removeprefix("train/") for name in asked]
  return [name for name in dict.fromkeys(names) if name in known]


def curve_panels(groups: list[grouping.Group], metric: str) -> list[curves.Panel]:
  """Two panels of a metric over the steps, with linear and with logarithmic axes.

  A metric with values at or below zero has no logarithm: its second panel has
  logarithmic steps only.
  """
  series = []
  for group in groups:
    found = [run.curves[metric] for run in group.runs if metric in run.curves]
    if found:
      series.append(curves.Series(group.name, *statistics.aligned(found)))
  values = np.concatenate([np.ravel(s.runs) for s in series] or [np.empty(0)])
  positive = bool((values[np.isfinite(values)] > 0).all())
  shown = sum(len(s.runs) for s in series) <= _DRAWN_RUNS
  panel = curves.Panel(metric, series, "step", metric, show_runs=shown)
  title = f"{metric}, logarithmic axes" if positive else f"{metric}, logarithmic steps"
  return [panel, panel._replace(title=title, log_x=True, log_y=positive)]


def _configs(page: report.Report, grouped: grouping.Grouping) -> None:
  page.heading("Configs")
  keys = list(dict.fromkeys([*grouped.differing, *grouped.mixed]))
  if not keys:
    page.text("The configs are equal apart from the seed.")
    return
  rows = [
    [group.name, *(grouping.group_values(group, key) for key in keys)]
    for group in grouped.groups
  ]
  headers = ["group", *keys]
  if len(rows) < len(keys):  # long tables are easier to read than wide ones
    headers, *rows = [list(row) for row in zip(headers, *rows, strict=True)]
    headers[0] = "key"
  page.table(headers, rows, "Config keys in which runs differ; the others are equal.")


def _commands(page: report.Report, comparison: statistics.Comparison) -> None:
  page.heading("Runs")
  rows = [
    [run.path, group.name, run.seed, _state(run, comparison.step)]
    for group in comparison.grouping.groups
    for run in group.runs
  ]
  page.table(["run", "group", "seed", "state"], rows, "What was compared.")
  page.text("How to run each again:")
  groups = comparison.grouping.groups
  page.command("\n".join(run.command for group in groups for run in group.runs))


def _state(run: records.Run, compared_at: int | None) -> str:
  if compared_at is not None:
    return f"at step {compared_at}"
  step = "" if run.last_step is None else f", step {run.last_step}"
  return ("finished" if run.finished else "in progress or stopped") + step


def _circumstances(page: report.Report, runs: list[records.Run]) -> None:
  page.heading("Versions and machines")
  differing = notes.differing_circumstances(runs)
  if differing:
    page.text("The runs were not made under equal circumstances:")
    rows = [
      [field, value, records.few(paths)]
      for field, found in differing.items()
      for value, paths in found.items()
    ]
    page.table(["field of run.json", "value", "runs"], rows, "Where run.json differs.")
  else:
    page.text("All runs were made with these versions, on such a machine.")
  rows = [
    [field, notes.said(value)]
    for field, value in runs[0].circumstances.items()
    if field not in differing
  ]
  page.table(["field of run.json", "value"], rows, "What is equal in all runs.")
