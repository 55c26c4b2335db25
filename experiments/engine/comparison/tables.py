"""The comparison as text for a terminal and as CSV."""

import csv
import io
import math
import pathlib
import textwrap

from experiments.engine import files
from experiments.engine.comparison import groups as grouping
from experiments.engine.comparison import notes, statistics
from experiments.engine.comparison import runs as records
from experiments.engine.reporting import curves

_WIDTH = 100
_NAME = 38
_COLUMNS = (6, 10, 22, 8, 8, 8)
_DASH = "–"

NEEDED = (
  "needed: seeds with which a paired t test (5 %, two-sided) finds the difference with "
  "power 80 %, if the true difference and its spread are those seen here"
)


def text_tables(comparison: statistics.Comparison) -> str:
  """The tables with their foot, at most 100 columns wide but for long names."""
  groups = comparison.grouping.groups
  runs = sum(len(group.runs) for group in groups)
  blocks = [
    f"{notes.count(runs, 'run')} in {notes.count(len(groups), 'group')}; mean of the "
    f"{values_text(comparison)} over seeds, 95 % interval"
  ]
  blocks += [_metric_block(comparison, metric) for metric in comparison.metrics]
  blocks += [_arrival_block(t, rows) for t, rows in comparison.arrivals.items()]
  foot = foot_lines(comparison)
  if foot:
    blocks.append("\n".join(_wrapped(line) for line in foot))
  return "\n\n".join(blocks)


def values_text(comparison: statistics.Comparison) -> str:
  """What is compared: `final values` or `values at step 100`."""
  step = comparison.step
  return "final values" if step is None else f"values at step {step}"


def foot_lines(comparison: statistics.Comparison) -> list[str]:
  """What stands below the tables: how to read them, and every omission."""
  lines = []
  if any(comparison.differences.values()):
    lines.append(NEEDED)
    lines.append(
      "p: paired t test"
      + (
        "; Holm: corrected for the number of groups"
        if len(comparison.grouping.groups) > 2
        else ""
      )
    )
  return lines + notes.remarks(comparison)


def _wrapped(line: str) -> str:
  indent = line[: len(line) - len(line.lstrip())] + "  "
  return textwrap.fill(
    line,
    _WIDTH,
    subsequent_indent=indent,
    break_long_words=False,
    break_on_hyphens=False,
  )


def _metric_block(comparison: statistics.Comparison, metric: str) -> str:
  groups = comparison.grouping.groups
  cells = [comparison.cells[metric, group.name] for group in groups]
  number = formatter([cell.interval for cell in cells])
  lines = [_line(metric, "seeds", "mean", "95 % interval")]
  for group, cell in zip(groups, cells, strict=True):
    lines.append(
      _line(
        "  " + label(comparison, group),
        seeds_text(group, cell),
        number(cell.interval.mean),
        bounds(cell.interval, number),
      )
    )
  found = comparison.differences.get(metric, [])
  if found:
    several = len(found) > 1
    lines.append(
      _line(
        "  minus the baseline",
        *("pairs", "mean", "95 % interval", "p", "Holm" * several, "needed"),
      )
    )
    number = formatter([difference.interval for difference in found], sign=True)
    lines += [_difference_line(d, number, several) for d in found]
  return "\n".join(lines)


def _difference_line(d: statistics.Difference, number, several: bool) -> str:
  name = "  " + d.group.name
  if d.interval.n < 2:
    mean = number(d.interval.mean)
    line = _line(name, str(d.interval.n), mean if d.interval.n else _DASH)
    return f"{line}  {d.remark}"
  holm = p_text(d.p_holm) if several else ""
  found = [number(d.interval.mean), bounds(d.interval, number)]
  return _line(
    name, str(d.interval.n), *found, p_text(d.p_value), holm, needed_text(d.needed)
  )


def _arrival_block(
  threshold: statistics.Threshold, rows: list[statistics.Arrival]
) -> str:
  lines = [
    _line(f"steps to {threshold}", "runs", "reached", "earliest to latest", "median")
  ]
  for row in rows:
    lines.append(_line("  " + row.group.name, *arrival_cells(row)))
    if row.missed:
      lines.append(_wrapped(f"    {missed_text(row)}"))
  return "\n".join(lines)


def arrival_cells(row: statistics.Arrival) -> list[str]:
  """Runs, those that reach the threshold, first and last step, median step."""
  steps = row.steps.values()
  total = len(steps) + len(row.missed)
  span = f"{min(steps)} to {max(steps)}" if steps else _DASH
  median = _DASH if math.isnan(row.median) else f"{row.median:g}"
  return [str(total), str(len(steps)), span, "never" if median == "inf" else median]


def missed_text(row: statistics.Arrival) -> str:
  """Which runs do not reach a threshold."""
  said = [
    run.path + ("" if run.finished else f" (in progress, step {run.last_step})")
    for run in row.missed
  ]
  return f"not reached by {notes.count(len(said), 'run')}: {records.few(said)}"


def _line(name: str, *cells: str) -> str:
  """A row; a name that is too long stands on a line of its own."""
  texts = [f"{cell:>{size}}" for cell, size in zip(cells, _COLUMNS, strict=False)]
  rest = "".join(texts).rstrip()
  if len(name) > _NAME:
    return f"{name}\n{'':{_NAME}}{rest}"
  return f"{name:{_NAME}}{rest}"


def label(comparison: statistics.Comparison, group: grouping.Group) -> str:
  """A group's name, the baseline marked where there are several groups."""
  alone = len(comparison.grouping.groups) == 1
  marked = group is comparison.baseline and not alone
  return group.name + (" (baseline)" if marked else "")


def formatter(intervals: list[curves.Interval], sign: bool = False):
  """Number -> text with decimals that suit all the intervals of a table.

  Two digits of the narrowest interval, at least four of the largest mean where there is
  no interval.
  """
  sizes = [abs(i.mean) for i in intervals if math.isfinite(i.mean) and i.mean]
  halves = [(i.high - i.low) / 2 for i in intervals if i.high - i.low > 0]
  largest = max(sizes, default=1.0)
  digit = min(halves) if halves else largest / 100
  decimals = min(max(1 - math.floor(math.log10(digit)), 0), 6)
  plus = "+" if sign else ""
  kind = (
    f"{plus}.4g"
    if not 1e-3 <= max([largest, *halves]) < 1e6
    else (f"{plus}.{decimals}f")
  )
  return lambda value: format(value, kind) if math.isfinite(value) else _DASH


def seeds_text(group: grouping.Group, cell: statistics.Cell) -> str:
  """Number of seeds, with a star if a run is in progress and counts as it stands."""
  return f"{cell.interval.n}{'' if all(run.finished for run in group.runs) else '*'}"


def bounds(interval: curves.Interval, number) -> str:
  """`0.12 to 0.18`, or a dash for one value."""
  if not math.isfinite(interval.low):
    return _DASH
  return f"{number(interval.low)} to {number(interval.high)}"


def p_text(value: float) -> str:
  """A p-value to two digits, `<0.001` below that."""
  if math.isnan(value):
    return _DASH
  return (
    "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
  )


def needed_text(value: float) -> str:
  """A number of seeds; `>10000` for what no study can pay for."""
  if math.isnan(value):
    return _DASH
  return ">10000" if math.isinf(value) else f"{value:.0f}"


def csv_text(comparison: statistics.Comparison) -> str:
  """Long form: group, seed, run, metric, value; a value that is missing has no row."""
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator="\n")
  writer.writerow(["group", "seed", "run", "metric", "value"])
  for metric in comparison.metrics:
    for group in comparison.grouping.groups:
      for run in group.runs:
        value = records.final_value(run, metric)
        if value is not None and math.isfinite(value):
          seed = "" if run.seed is None else run.seed
          writer.writerow([group.name, seed, run.path, metric, repr(value)])
  return stream.getvalue()


def write_csv(comparison: statistics.Comparison, path: pathlib.Path) -> None:
  """Writes `csv_text` atomically.

  Raises:
    UserError: the file cannot be written.
  """
  files.write(path, csv_text(comparison).encode(), "--out")
