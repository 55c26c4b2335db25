"""Pictures of embedded towers, from plain arrays: what is found, a map, a matrix.

Right answers bear a tick and a frame or bold type; no picture speaks by colour alone.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.engine.reporting.sheet import (
  INK,
  MUTED,
  TICK,
  new_figure,
  put_picture,
  put_text,
  shorten,
)

MOST_GROUPS = 8  # colours and markers that are told apart
_MARKERS = "os^DvPX*"
_EIGHTH = "#888888"  # beside the seven colours of the palette
# Groups that are named for a colour have one like it: "red" in blue misleads.
_HUES = {
  "red": "#D55E00",
  "orange": "#E69F00",
  "yellow": "#BFB000",
  "green": "#009E73",
  "cyan": "#56B4E9",
  "blue": "#0072B2",
  "purple": "#6F3D96",
  "pink": "#CC79A7",
}


class Ranking(NamedTuple):
  """What one query finds.

  Attributes:
    keys: [k] numbers of the nearest keys, nearest first.
    cosines: [k] with the query.
    right: [k] whether a key belongs to the query.
    rank: of the nearest key that does, from 1; equal cosines in the order of the keys.
    nearest_right: number of that key.
  """

  keys: np.ndarray
  cosines: np.ndarray
  right: np.ndarray
  rank: int
  nearest_right: int


class Plane(NamedTuple):
  """Two principal axes [2, d] about a mean [d], and their shares [2] of variance."""

  mean: np.ndarray
  axes: np.ndarray
  shares: np.ndarray

  def points(self, rows: np.ndarray) -> np.ndarray:
    """Places [n, 2] of rows [n, d] in the plane."""
    return (rows - self.mean[None]) @ self.axes.T

  def share_of(self, rows: np.ndarray) -> float:
    """Share in [0, 1] of the variance of rows [n, d] that the plane shows."""
    centred = rows - rows.mean(axis=0)[None]
    total = np.square(centred).sum()
    return float(np.square(centred @ self.axes.T).sum() / total) if total else 0.0


def rank_keys(
  queries: np.ndarray,
  keys: np.ndarray,
  query_group: np.ndarray,
  key_group: np.ndarray,
  count: int = 5,
) -> list[Ranking]:
  """Ranks all keys for each query by cosine.

  Args:
    queries: [q, d].
    keys: [m, d].
    query_group: [q] numbers; keys of the same number are right, one at least.
    key_group: [m].
    count: nearest keys that are kept; all where there are fewer.
  """
  cosines = unit_rows(queries) @ unit_rows(keys).T
  found = []
  for row, group in zip(cosines, query_group, strict=True):
    order = np.argsort(-row, kind="stable")
    right = key_group[order] == group
    first = int(np.argmax(right))
    best = order[:count]
    found.append(Ranking(best, row[best], right[:count], first + 1, int(order[first])))
  return found


def principal_plane(rows: np.ndarray) -> Plane:
  """The plane of the largest variance of rows [n, d], d >= 2 and n >= 2, by an SVD.

  Signs are fixed: the largest entry of an axis is positive.
  """
  mean = rows.mean(axis=0)
  _, values, axes = np.linalg.svd(rows - mean[None], full_matrices=False)
  axes = axes[:2]
  largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1)
  total = np.square(values).sum()
  shares = np.square(values[:2]) / total if total else np.zeros(2)
  return Plane(mean, axes * np.where(largest < 0, -1.0, 1.0), shares)


def explained_share(points: np.ndarray, labels: np.ndarray) -> float:
  """Share in [0, 1] of the variance of points [n, d] that lies between labels [n]."""
  centred = points - points.mean(axis=0)[None]
  between = 0.0
  for label in np.unique(labels):
    group = centred[labels == label]
    between += len(group) * np.square(group.mean(axis=0)).sum()
  total = np.square(centred).sum()
  return float(between / total) if total else 0.0


def unit_rows(rows: np.ndarray) -> np.ndarray:
  """Rows [n, d] in float64, of length 1; a zero row stays zero."""
  rows = np.asarray(rows, np.float64)
  return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def captions_found(
  images: np.ndarray, rankings: Sequence[Ranking], texts: Sequence[str]
) -> Any:
  """Figure of image queries beside the captions nearest to each.

  Args:
    images: uint8 [q, h, w, c] of the queries, c 1 or 3.
    rankings: [q] of the captions.
    texts: [m] all captions.
  """
  step, wide = 1.22, 9.6
  fig = new_figure(wide, step * len(images))
  for i, (pixels, found) in enumerate(zip(images, rankings, strict=True)):
    top = step * (len(images) - i) - 0.08
    put_picture(fig, (0.08, top - 1.0, 1.0), pixels)
    lines = [
      (TICK if right else "", f"{cosine:.2f}", texts[key], right)
      for key, cosine, right in zip(found.keys, found.cosines, found.right, strict=True)
    ]
    for j, (tick, cosine, text, right) in enumerate(lines):
      style = {"fontweight": "bold" if right else "normal"}
      for left, words in ((1.22, tick), (1.42, cosine), (1.86, text)):
        put_text(fig, (left, top - 0.09 - 0.172 * j), shorten(words, 100), **style)
    if not found.right.any():
      said = f"its nearest own caption has rank {found.rank:,} of {len(texts):,}: "
      said += texts[found.nearest_right]
      place = (1.22, top - 0.09 - 0.172 * len(lines))
      put_text(fig, place, shorten(said, 112), color=MUTED, fontstyle="italic")
  return fig


def images_found(
  texts: Sequence[str], rankings: Sequence[Ranking], images: np.ndarray
) -> Any:
  """Figure of caption queries beside the pictures nearest to each.

  Args:
    texts: [q] the queries.
    rankings: [q] of the pictures.
    images: uint8 [m, h, w, c] all pictures, c 1 or 3.
  """
  step, side, first = 1.32, 1.0, 2.75
  fig = new_figure(first + 6 * (side + 0.12) + 0.2, step * len(texts))
  for i, (text, found) in enumerate(zip(texts, rankings, strict=True)):
    top = step * (len(texts) - i) - 0.08
    quoted = textwrap.wrap(f"“{shorten(text, 200)}”", 36)
    put_text(fig, (0.08, top), "\n".join(quoted), va="top", linespacing=1.35)
    shown = list(zip(found.keys, found.cosines, found.right, strict=True))
    for j, (key, cosine, right) in enumerate(shown):
      place = (first + j * (side + 0.12), top - side, side)
      said = f"{TICK} {cosine:.2f}" if right else f"{cosine:.2f}"
      put_picture(fig, place, images[key], framed=right, below=said)
    if not found.right.any():
      place = (first + 5 * (side + 0.12) + 0.15, top - side, side)
      said = f"own: rank {found.rank:,}"
      put_picture(fig, place, images[found.nearest_right], below=said)
  return fig


def embedding_map(
  points: Mapping[str, np.ndarray],
  plane: Plane,
  labels: np.ndarray | None = None,
  names: Sequence[str] = (),
) -> Any:
  """Figure of the towers' embeddings in one plane, a panel each, on the same axes.

  Args:
    points: [n, 2] by tower.
    plane: whose shares of variance the axes name.
    labels: [n] integers below len(names), told apart by colour and marker; or None.
    names: of the labels, at most MOST_GROUPS.
  """
  fig = new_figure(4.7 * len(points), 4.3 + (0.3 if labels is not None else 0), "tight")
  from experiments.engine.reporting import drawing

  panels = fig.subplots(1, len(points), squeeze=False)[0]
  every = np.concatenate(list(points.values()))
  middle = (every.min(axis=0) + every.max(axis=0)) / 2
  half = 0.53 * max(float(np.ptp(every, axis=0).max()), 1e-6)
  groups = [slice(None)] if labels is None else [labels == i for i in range(len(names))]
  colours = [_HUES.get(name, "") for name in names]
  if not colours or not all(colours):
    colours = [*drawing.PALETTE, _EIGHTH]
  for ax, (tower, places) in zip(panels, points.items(), strict=True):
    for i, group in enumerate(groups):
      size = 34 if _MARKERS[i] == "*" else 18
      kind = {"s": size, "color": colours[i], "marker": _MARKERS[i], "alpha": 0.75}
      ax.scatter(*places[group].T, linewidths=0, **kind)
    ax.set_title(tower, loc="left", fontsize=10, color=INK)
    ax.set_xlabel(f"first axis ({plane.shares[0]:.0%})", fontsize=9, color=INK)
    ax.set_xlim(middle[0] - half, middle[0] + half)
    ax.set_ylim(middle[1] - half, middle[1] + half)
    ax.set_aspect("equal")
    ax.grid(True, color="#E4E4E4", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8, length=3)
  panels[0].set_ylabel(f"second axis ({plane.shares[1]:.0%})", fontsize=9, color=INK)
  if labels is not None:
    kind = {"frameon": False, "fontsize": 9, "handletextpad": 0.1, "markerscale": 1.5}
    shown = panels[0].collections
    fig.legend(shown, names, loc="outside lower center", ncols=len(names), **kind)
  return fig


def similarity_matrix(
  cosines: np.ndarray,
  rows: str,
  columns: str,
  groups: Sequence[str] = (),
) -> Any:
  """Figure of cosines [n, n], pairs on the diagonal, with its colour scale.

  Args:
    cosines: of rows and columns.
    rows: what the rows are.
    columns: what the columns are.
    groups: [n] words by which the examples are sorted; a run of equal ones is one
      group, parted from the next by a line. Empty for none.
  """
  fig = new_figure(7.4, 5.6, "tight")
  ax = fig.subplots()
  low, high = color_scale(cosines)
  shown = ax.imshow(cosines, cmap="cividis", vmin=low, vmax=high, aspect="equal")
  bar = fig.colorbar(shown, ax=ax, shrink=0.9)
  bar.set_label("cosine", fontsize=9, color=INK)
  bar.ax.tick_params(labelsize=8)
  ax.set_xlabel(columns, fontsize=9, color=INK)
  ax.set_ylabel(rows, fontsize=9, color=INK)
  ax.tick_params(labelsize=8, length=2)
  if groups:
    starts = [i for i in range(len(groups)) if i == 0 or groups[i] != groups[i - 1]]
    ends = [*starts[1:], len(groups)]
    middles = [(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)]
    ax.set_yticks(middles, [shorten(groups[i], 24) for i in starts], fontsize=7)
    ax.set_xticks([])
    for start in starts[1:]:
      ax.axhline(start - 0.5, color="white", linewidth=0.5)
      ax.axvline(start - 0.5, color="white", linewidth=0.5)
  return fig


def color_scale(cosines: np.ndarray) -> tuple[float, float]:
  """Ends of the scale of a matrix: its range, widened to tenths."""
  low, high = np.floor(cosines.min() * 10) / 10, np.ceil(cosines.max() * 10) / 10
  return float(low), float(max(high, low + 0.1))
