"""How `curves.figure` draws: axes, curves, bands, points, limits, ticks."""

import textwrap
from typing import Any

import numpy as np
from matplotlib import figure, layout_engine, lines, patches, ticker

from experiments.engine.reporting import curves, line_labels

# Okabe and Ito's colour-blind safe palette, without its yellow (invisible on white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)))
_MARKERS = "os^DvPX"
_INK, _MUTED, _GRID = "#222222", "#666666", "#E4E4E4"
_REFERENCE: dict[str, Any] = {
  "color": _MUTED,
  "linestyle": (0, (4, 3)),
  "linewidth": 1.1,
  "zorder": 1.8,
}
_POINTS = 200  # a line of more is thinned: it keeps its look, the file shrinks


def grid(panels: list, columns: int, title: str) -> figure.Figure:
  """Draws panels row by row; see `curves.figure`."""
  columns = min(columns, len(panels))
  rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
  heights = [max(_height(panel) for panel in row) for row in rows]
  names = [s.name for p in panels if isinstance(p, curves.Panel) for s in p.series]
  styles = {name: _style(i) for i, name in enumerate(dict.fromkeys(names))}
  width = 4.6 * columns + (0.8 if columns == 1 else 0)
  entries = _entries(styles)
  layout = layout_engine.ConstrainedLayoutEngine(
    w_pad=0.08, h_pad=0.08, hspace=0.04, wspace=0.04
  )
  fig = figure.Figure(figsize=(width, sum(heights)), layout=layout)
  axes = fig.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
  banded = False
  for i, ax in enumerate(axes.flat):
    if i >= len(panels):
      ax.remove()
    elif isinstance(panels[i], curves.Panel):
      banded |= _draw_curves(ax, panels[i], styles)
    else:
      _draw_points(ax, panels[i], styles)
  if title:
    fig.suptitle(title, fontsize=12, fontweight="bold", color=_INK)
  if banded:
    shade = patches.Patch(color=_MUTED, alpha=0.25, linewidth=0)
    entries.append((shade, "95 % interval of the mean"))
  _legend(fig, entries, width)
  line_labels.write_labels(fig)
  return fig


def _height(panel: curves.Panel | curves.PointPanel) -> float:
  """Height of a panel in inches."""
  if isinstance(panel, curves.Panel):
    return 3.1
  return 1.0 + 0.3 * max(1, len(panel.groups))


def _entries(styles: dict[str, dict]) -> list[tuple[Any, str]]:
  kind = {"linewidth": 1.8, "markersize": 0}
  return [
    (lines.Line2D([], [], **style | kind), name) for name, style in styles.items()
  ]


def _legend(fig: figure.Figure, entries: list, width: float) -> None:
  """One legend below all panels, in as many columns as its longest name allows."""
  if not entries:
    return
  longest = max(len(name) for _, name in entries)
  columns = max(1, min(len(entries), int(width * 72 / (longest * 4.8 + 42))))
  rows = -(-len(entries) // columns)
  fig.set_figheight(fig.get_figheight() + 0.1 + 0.19 * rows)
  handles, names = zip(*entries, strict=True)
  kind = {"fontsize": 9, "labelcolor": _INK, "frameon": False, "handlelength": 2.4}
  fig.legend(handles, names, loc="outside lower center", ncols=columns, **kind)


def _style(i: int) -> dict[str, Any]:
  turn = i // len(PALETTE)
  return {
    "color": PALETTE[i % len(PALETTE)],
    "linestyle": _DASHES[turn % len(_DASHES)],
    "marker": _MARKERS[i % len(_MARKERS)],
  }


def _draw_curves(ax: Any, panel: curves.Panel, styles: dict[str, dict]) -> bool:
  """Draws one panel; returns whether it has a band."""
  _frame(ax, panel)
  ax.set_ylabel(panel.ylabel, fontsize=9, color=_INK)
  if panel.log_y:
    ax.set_yscale("log", nonpositive="mask")
  drawn = [_checked(series) for series in panel.series]
  means = [curves.band(s.runs)[0] for s in drawn]
  places = [s.x[np.isfinite(mean)] for s, mean in zip(drawn, means, strict=True)]
  if not (_on_axis(means, panel.log_y).size and _on_axis(places, panel.log_x).size):
    _say(ax, "no values to show" if drawn else "no runs to show")
    return False
  for series in drawn:
    _draw_series(ax, panel, series, styles[series.name])
  for label, x, y in panel.guides:
    ax.plot(
      x, y, color=_MUTED, linestyle=":", linewidth=1.4, gid=line_labels.MARK + label
    )
  for label, y in (panel.lines or {}).items():
    if np.isfinite(y):
      ax.axhline(y, gid=line_labels.MARK + label, **_REFERENCE)
  _limits(ax, panel, drawn)
  _ticks(ax.xaxis, panel.log_x, np.concatenate([s.x for s in drawn]))
  _ticks(ax.yaxis, panel.log_y)
  _note_missing(ax, drawn)
  bands = [_draw_band(ax, panel, s, styles[s.name]["color"]) for s in drawn]
  return any(bands)


def _draw_series(
  ax: Any, panel: curves.Panel, series: curves.Series, style: dict
) -> None:
  """Draws the mean and, below it, the runs."""
  color, x = style["color"], series.x
  marker = style["marker"] if x.size <= 12 else ""
  if panel.show_runs and len(series.runs) > 1:
    alpha = max(0.12, min(0.35, 1.5 / len(series.runs)))
    kind = {"color": color, "linewidth": 0.7, "marker": marker, "markersize": 2}
    for run in series.runs:
      keep = _thin(x, run, panel.log_x)
      ax.plot(x[keep], run[keep], alpha=alpha, zorder=2, **kind)
  mean = curves.band(series.runs)[0]
  keep = _thin(x, mean, panel.log_x)
  kind = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 4}
  ax.plot(x[keep], mean[keep], linestyle=style["linestyle"], zorder=3, **kind)


def _draw_band(ax: Any, panel: curves.Panel, series: curves.Series, color: str) -> bool:
  """Shades the 95 % interval within the axes; returns whether there is one."""
  mean, low, high = curves.band(series.runs)
  if not np.isfinite(low).any():
    return False
  keep = _thin(series.x, mean, panel.log_x)
  foot, top = ax.get_ylim()  # on a log axis a bound may lie at or below zero
  low, high = (np.clip(bound[keep], foot, top) for bound in (low, high))
  kind = {"color": color, "alpha": 0.16, "zorder": 1.9}
  width = 4 if keep.size == 1 else 0  # one step alone is shaded as a bar
  ax.fill_between(series.x[keep], low, high, linewidth=width, **kind)
  ax.set_ylim(foot, top)
  return True


def _note_missing(ax: Any, drawn: list[curves.Series]) -> None:
  """Says below the title which runs have steps that the means leave out."""
  missing = [(s.name, (~np.isfinite(s.runs)).any(1)) for s in drawn]
  broken = [f"{name} {bad.sum()} of {bad.size}" for name, bad in missing if bad.any()]
  if broken:
    more = [f"{len(broken) - 3} more"] if len(broken) > 3 else []  # one line holds few
    note = f"runs with missing or infinite values: {', '.join(broken[:3] + more)}"
    kind = {"loc": "left", "fontsize": 10, "color": _INK, "pad": 16}
    ax.set_title(ax.get_title(loc="left"), **kind)
    kind = {"fontsize": 7, "color": _MUTED, "va": "bottom", "transform": ax.transAxes}
    ax.text(0, 1.015, note, **kind)


def _checked(series: curves.Series) -> curves.Series:
  x, runs = np.asarray(series.x, np.float64), np.asarray(series.runs, np.float64)
  if x.ndim != 1 or runs.ndim != 2 or runs.shape[1] != x.size:
    raise ValueError(
      f"series '{series.name}' needs x [t] and runs [seeds, t], not shapes {x.shape} "
      f"and {runs.shape}"
    )
  return curves.Series(series.name, x, np.where(np.isfinite(runs), runs, np.nan))


def _thin(x: np.ndarray, y: np.ndarray, log_x: bool) -> np.ndarray:
  """Indices of about _POINTS points that keep ends, gaps, peaks and valleys."""
  if x.size <= _POINTS:
    return np.arange(x.size)
  place = np.log(np.maximum(x, np.min(x[x > 0], initial=np.inf))) if log_x else x
  buckets = np.linspace(place.min(), place.max(), _POINTS // 2)
  bucket = np.digitize(place, buckets)
  order = np.lexsort((y, bucket))  # NaN sorts last, so a valley is found where one is
  known = order[np.isfinite(y[order])]
  ends = np.flatnonzero(np.diff(bucket[known], prepend=-1, append=_POINTS))
  peaks = (
    np.concatenate([known[ends[:-1]], known[ends[1:] - 1]]) if known.size else known
  )
  gaps = order[~np.isfinite(y[order])]
  gaps = gaps[np.unique(bucket[gaps], return_index=True)[1]]
  return np.unique(np.concatenate([[0, x.size - 1], peaks, gaps])).astype(int)


def _draw_points(ax: Any, panel: curves.PointPanel, styles: dict[str, dict]) -> None:
  """Draws a row per group, first group on top."""
  _frame(ax, panel)
  ax.grid(False, axis="y")
  whiskers = []
  for row, (name, value) in enumerate(panel.groups.items()):
    color = styles[name]["color"] if name in styles else PALETTE[0]
    if not isinstance(value, curves.Interval):
      dots = np.asarray(value, np.float64)
      value = curves.interval(dots)
      shape = {"linestyle": "", "marker": "o", "markersize": 4, "markeredgewidth": 0}
      ax.plot(dots, np.full(dots.shape, row + 0.2), color=color, alpha=0.4, **shape)
    shape = {"linestyle": "", "marker": "|", "markersize": 7, "markeredgewidth": 1.6}
    ax.plot([value.low, value.high], [row, row], color=color, **shape)
    ax.plot([value.mean], [row], color=color, marker="o", markersize=6, zorder=3)
    whiskers.append((row, value.low, value.high, color))
  if not _on_axis([line.get_xdata() for line in ax.lines], panel.log_x).size:
    _say(ax, "no values to show")
    return
  for label, x in (panel.lines or {}).items():
    if np.isfinite(x):
      ax.axvline(x, gid=line_labels.MARK + label, **_REFERENCE)
  ax.set_xlim(panel.xlim)
  left, right = ax.get_xlim()  # on a log axis a bound may lie at or below zero
  for row, low, high, color in whiskers:
    ax.plot(np.clip([low, high], left, right), [row, row], color=color, linewidth=1.8)
  ax.set_xlim(left, right)
  names = list(panel.groups)
  ax.set_ylim(len(names) - 0.4, -0.6)
  ax.set_yticks(range(len(names)), names, fontsize=9, color=_INK)
  ax.tick_params(axis="y", length=0)
  _ticks(ax.xaxis, panel.log_x)


def _frame(ax: Any, panel: curves.Panel | curves.PointPanel) -> None:
  """Title, x label, light grid, and only the two spines that carry ticks."""
  ax.set_title(textwrap.fill(panel.title, 58), loc="left", fontsize=10, color=_INK)
  ax.set_xlabel(panel.xlabel, fontsize=9, color=_INK)
  ax.grid(True, color=_GRID, linewidth=0.7)
  ax.set_axisbelow(True)
  ax.spines[["top", "right"]].set_visible(False)
  ax.spines[["left", "bottom"]].set_color("#999999")
  ax.tick_params(labelsize=8.5, labelcolor=_INK, color="#999999", length=3)
  ax.tick_params(which="minor", length=1.5, color="#BBBBBB")
  if panel.log_x:
    ax.set_xscale("log", nonpositive="mask")


def _say(ax: Any, sentence: str) -> None:
  """Empties the axes but for a sentence."""
  ax.set_axis_off()
  kind = {"ha": "center", "va": "center", "color": _MUTED, "fontsize": 9}
  ax.text(0.5, 0.5, sentence, transform=ax.transAxes, **kind)


def _limits(ax: Any, panel: curves.Panel, drawn: list[curves.Series]) -> None:
  """Limits from runs and lines; of a band, at most half the height of that beyond."""
  if panel.ylim:
    ax.set_ylim(panel.ylim)
    return
  extra = [y for _, _, y in panel.guides] + list((panel.lines or {}).values())
  values = _on_axis([s.runs for s in drawn] + extra, panel.log_y)
  bounds = _on_axis([curves.band(s.runs)[1:] for s in drawn], panel.log_y)
  if not values.size:
    return
  low, high = values.min(), values.max()
  span = (high - low) or 0.05 * (abs(high) or 1.0)
  if bounds.size:
    low = min(low, max(bounds.min(), low - 0.5 * span))
    high = max(high, min(bounds.max(), high + 0.5 * span))
  margin = 0.05 * ((high - low) or span)
  back = np.exp if panel.log_y else np.asarray
  ax.set_ylim(float(back(low - margin)), float(back(high + margin)))


def _on_axis(arrays: list[Any], log: bool) -> np.ndarray:
  """All numbers that the axis can show, flat; their logarithms on a log axis."""
  flat = np.concatenate([np.ravel(np.float64(a)) for a in arrays] or [np.empty(0)])
  flat = flat[np.isfinite(flat)]
  return np.log(flat[flat > 0]) if log else flat


def _ticks(axis: Any, log: bool, places: np.ndarray | None = None) -> None:
  """Few plain numbers: 1-2-5 on short log axes, the data's own places where few."""
  low, high = sorted(axis.get_view_interval())
  if not log:
    axis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    if max(abs(low), abs(high)) >= 1e4:
      axis.set_major_formatter(ticker.EngFormatter(sep=""))
    else:
      axis.get_major_formatter().set_useOffset(False)
    return
  decades = np.log10(high / low)
  own = np.unique(places[places > 0]) if places is not None else np.empty(0)
  if 1 < own.size <= 10 and np.diff(np.log10(own)).min() > 0.08 * decades:
    axis.set_major_locator(ticker.FixedLocator(own.tolist()))
    axis.set_minor_locator(ticker.NullLocator())
  else:
    subs = (1, 2, 5) if decades < 1.6 else (1,)
    axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=8))
  axis.set_major_formatter(ticker.FuncFormatter(_plain))
  axis.set_minor_formatter(ticker.NullFormatter())


def _plain(value: float, _: int | None = None) -> str:
  """Label of a tick on a log axis: `0.01`, `500`, `16384`, `50k`, `2M`, `10^-5`."""
  for size, suffix in ((1e6, "M"), (1e3, "k")):
    if 1e4 <= value < 1e9 and value >= size and (size > 1e3 or value % 1e3 == 0):
      return f"{value / size:.3g}{suffix}"
  if 1e-3 <= value < 1e6:
    return f"{value:g}"
  exponent = int(np.floor(np.log10(value) + 1e-9))
  mantissa = f"{value / 10.0**exponent:.3g}"
  times = "" if mantissa == "1" else rf"{mantissa}\cdot "
  return rf"${times}10^{{{exponent}}}$"
