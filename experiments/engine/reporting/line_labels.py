"""Labels beside reference lines of a figure, placed where they cover fewest curves."""

from typing import Any

import numpy as np
from matplotlib import figure

MARK = "label:"  # a line whose gid is MARK + text is to bear that text


def write_labels(fig: figure.Figure) -> None:
  """Writes each marked line's label beside it, where it covers fewest curves."""
  if any(_marked(ax) for ax in fig.axes):
    fig.draw_without_rendering()  # places depend on the final layout
  ax: Any
  for ax in fig.axes:
    paths = {line: _fractions(ax, line) for line in ax.lines}
    taken = np.concatenate([*paths.values(), np.empty((0, 2))])
    for line in _marked(ax):
      name = line.get_gid().removeprefix(MARK)
      kind = {"fontsize": 8, "color": "#444444", "transform": ax.transAxes}
      text = ax.text(0, 0, name, ha="left", va="bottom", zorder=4, **kind)
      box = text.get_window_extent().transformed(ax.transAxes.inverted())
      corner = _clearest(paths[line], taken, box.width, box.height)
      text.set_position(corner)
      line.set_gid(None)
      inside = np.stack(np.meshgrid(*[np.linspace(0, 1, 20)] * 2), -1).reshape(-1, 2)
      taken = np.concatenate([taken, corner + inside * [box.width, box.height]])


def _marked(ax: Any) -> list:
  return [x for x in ax.lines if (x.get_gid() or "").startswith(MARK)]


def _fractions(ax: Any, line: Any) -> np.ndarray:
  """A line as 400 points [400, 2] in fractions of its axes."""
  if not len(line.get_xydata()):
    return np.empty((0, 2))
  ends = line.get_transform().transform(line.get_xydata())
  ends = ax.transAxes.inverted().transform(ends)
  where = np.linspace(0, len(ends) - 1, 400)
  return np.stack([np.interp(where, np.arange(len(ends)), c) for c in ends.T], axis=1)


def _clearest(
  path: np.ndarray, taken: np.ndarray, width: float, height: float
) -> np.ndarray:
  """Corner of a box beside `path` that stays in the axes and covers fewest points."""
  seen = path[((path >= -0.01) & (path <= 1.01)).all(1)]
  if not len(seen):
    return np.zeros(2)
  corners = []
  if np.ptp(seen[:, 0]) < 1e-6:  # an upright line: to its right or left
    for y in (0.99 - height, 0.5, 0.01):
      corners += [(seen[0, 0] + 0.008, y), (seen[0, 0] - 0.008 - width, y)]
  else:
    for share in (0.99, 0.01, 0.75, 0.5, 0.25):
      x, y = seen[round(share * (len(seen) - 1))]
      left = np.clip(x - share * width, 0.005, max(0.005, 0.995 - width))
      for rise in (0.012, -0.012 - height, 0.06, -0.06 - height):
        corners.append((left, y + rise))
  costs = []
  for i, corner in enumerate(np.array(corners)):
    top = corner + [width, height]
    covered = ((taken > corner) & (taken < top)).all(1).sum()
    outside = corner.min() < 0 or top[0] > 1.0 or top[1] > 1.02
    costs.append(covered + 1000 * outside + 0.01 * i)
  return np.array(corners[int(np.argmin(costs))])
