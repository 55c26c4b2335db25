"""Many seeds -> mean, 95 % interval, paired difference; and the figures of a study.

Intervals are Student's t intervals of a mean over independent runs. A value that is not
finite counts as missing: it is left out, `n` says how many values were used, and a
figure says which runs have such values.
"""

import io
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from experiments.engine import errors


class Interval(NamedTuple):
  """A mean with its confidence interval; `n` values were used."""

  mean: float
  low: float
  high: float
  n: int


class Series(NamedTuple):
  """One method in one panel: x [t], runs [seeds, t]; NaN marks a missing value."""

  name: str
  x: Any
  runs: Any


class Panel(NamedTuple):
  """One set of axes of curves.

  `lines` maps a label to the height of a dashed reference line, `guides` lists
  (label, x, y) of dotted curves, `show_runs` draws a thin line per run below the mean
  and its 95 % band.
  """

  title: str
  series: Sequence[Series]
  xlabel: str = ""
  ylabel: str = ""
  log_x: bool = False
  log_y: bool = False
  lines: Mapping[str, float] | None = None
  guides: Sequence[tuple[str, Any, Any]] = ()
  ylim: tuple[float, float] | None = None
  show_runs: bool = True


class PointPanel(NamedTuple):
  """One row per group: mean, 95 % whisker and a dot per run.

  `groups` maps a name to its values [seeds], or to a ready Interval (no dots). `lines`
  maps a label to the place of a dashed vertical reference line.
  """

  title: str
  groups: Mapping[str, Any]
  xlabel: str = ""
  log_x: bool = False
  lines: Mapping[str, float] | None = None
  xlim: tuple[float, float] | None = None


def interval(values: Any, confidence: float = 0.95) -> Interval:
  """Student's t interval of the mean of independent values.

  Args:
    values: [seeds]; those that are not finite are left out.
    confidence: coverage in (0, 1).

  Returns:
    The interval; one value alone has NaN bounds, no value a NaN mean too.

  Raises:
    ValueError: values is not one-dimensional, or confidence is out of range.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1:
    raise ValueError(f"interval takes values [seeds], not shape {values.shape}")
  mean, low, high = band(values[:, None], confidence)
  count = int(np.isfinite(values).sum())
  return Interval(float(mean[0]), float(low[0]), float(high[0]), count)


def band(
  runs: Any, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean over runs and its Student t interval, at each step by itself.

  Args:
    runs: [seeds, t]; values that are not finite are left out of their step.
    confidence: coverage in (0, 1).

  Returns:
    (mean, low, high), each [t]; NaN where there is no value, for the bounds also where
    there is only one.

  Raises:
    ValueError: runs is not two-dimensional, or confidence is out of range.
  """
  runs = np.asarray(runs, np.float64)
  if runs.ndim != 2:
    raise ValueError(f"band takes runs [seeds, t], not shape {runs.shape}")
  if not 0 < confidence < 1:
    raise ValueError(f"confidence {confidence} is not between 0 and 1")
  finite = np.isfinite(runs)
  count = finite.sum(0)
  some, several = np.maximum(count, 1), np.maximum(count, 2)
  mean = np.where(finite, runs, 0.0).sum(0) / some
  squares = np.where(finite, (runs - mean[None]) ** 2, 0.0).sum(0)
  quantile = special.stdtrit(several - 1, 0.5 + confidence / 2)
  half = quantile * np.sqrt(squares / (several - 1) / several)
  half = np.where(count > 1, half, np.nan)
  mean = np.where(count > 0, mean, np.nan)
  return mean, mean - half, mean + half


def paired_difference(a: Any, b: Any, confidence: float = 0.95) -> Interval:
  """Interval of the mean of a - b, where a[i] and b[i] share seed i.

  Raises:
    ValueError: the shapes differ or are not [seeds].
  """
  return interval(_differences(a, b), confidence)


def paired_p_value(a: Any, b: Any) -> float:
  """Two-sided p-value of the paired t test of mean(a - b) = 0; NaN below two pairs."""
  differences = _differences(a, b)
  differences = differences[np.isfinite(differences)]
  if differences.size < 2:
    return float("nan")
  error = differences.std(ddof=1) / np.sqrt(differences.size)
  if error == 0:
    return 1.0 if differences[0] == 0 else 0.0
  return float(
    2 * special.stdtr(differences.size - 1, -abs(differences.mean() / error))
  )


def _differences(a: Any, b: Any) -> np.ndarray:
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  if a.ndim != 1 or a.shape != b.shape:
    raise ValueError(
      f"a paired difference needs the same seeds on both sides, not shapes {a.shape} "
      f"and {b.shape}; keep the seeds that both have"
    )
  return a - b


def format_interval(value: Interval, digits: int = 3) -> str:
  """`1.003 ± 0.004`; the mean alone for one run, `n/a` for none, else brackets."""
  mean, low, high, _ = value
  if not np.isfinite(mean):
    return "n/a"
  if not (np.isfinite(low) and np.isfinite(high)):
    return f"{mean:.{digits}f}"
  if abs((high - mean) - (mean - low)) > 1e-6 * (high - low):
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
  return f"{mean:.{digits}f} ± {(high - low) / 2:.{digits}f}"


def figure(
  panels: Sequence[Panel | PointPanel], columns: int = 2, title: str = ""
) -> Any:
  """Draws panels on a grid over one shared legend.

  A name has the same colour in every panel, given by the order in which names appear.

  Args:
    panels: what to draw, row by row.
    columns: panels a row.
    title: heading of the whole figure.

  Returns:
    A matplotlib Figure (made without pyplot: no state, no display).

  Raises:
    UserError: matplotlib is missing.
    ValueError: a series' shapes do not fit together.
  """
  _matplotlib()
  from experiments.engine.reporting import drawing

  return drawing.grid(list(panels) or [Panel("", [])], columns, title)


def points(
  groups: Mapping[str, Any],
  xlabel: str = "",
  title: str = "",
  lines: Mapping[str, float] | None = None,
) -> Any:
  """Figure of one PointPanel: a mean, a whisker and dots per group."""
  return figure([PointPanel(title, groups, xlabel, lines=lines)], columns=1)


def save(fig: Any, path: str | os.PathLike) -> tuple[pathlib.Path, pathlib.Path]:
  """Writes `path`.png (150 dpi) and `path`.svg; the same figure gives the same bytes.

  Raises:
    UserError: the files cannot be written.
  """
  png, svg = (pathlib.Path(f"{os.fspath(path)}.{suffix}") for suffix in ("png", "svg"))
  try:
    png.parent.mkdir(parents=True, exist_ok=True)
    for file in (png, svg):
      file.write_bytes(encode(fig, file.suffix[1:]))
  except OSError as error:
    raise errors.UserError(
      f"cannot write {png} ({error.strerror}); choose another --workdir"
    ) from error
  return png, svg


def encode(fig: Any, suffix: str) -> bytes:
  """Bytes of a figure as "png" or "svg", without dates and with text as outlines."""
  buffer = io.BytesIO()
  fixed = {"svg.hashsalt": "contrastive", "svg.fonttype": "path"}
  dull = {"Software": None} if suffix == "png" else {"Date": None, "Creator": None}
  with _matplotlib().rc_context(fixed):
    fig.savefig(buffer, format=suffix, dpi=150, metadata=dull, facecolor="white")
  if suffix == "png":
    return buffer.getvalue()
  return re.sub(rb' d="[^"]+"', _shorter, buffer.getvalue())


def _shorter(path: re.Match) -> bytes:
  """A path with coordinates to 0.01 pt instead of 0.000001: half the file."""
  return re.sub(rb"(\.\d\d)\d+", rb"\1", path[0])


def _matplotlib() -> Any:
  try:
    import matplotlib
  except ImportError as error:
    raise errors.UserError(
      "figures need matplotlib, which is not installed; run "
      "`pip install -r requirements.txt`"
    ) from error
  return matplotlib
