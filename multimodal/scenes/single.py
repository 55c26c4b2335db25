"""Pictures of one object, for image pretraining.

One shape with a colour and a texture, at a random place, size and angle, before a
background of its own. The same factors come out everywhere; pixels may differ by one
grey level between processors (sine and cosine are rounded differently).

Shape, colour and texture are uniform and independent. All shapes have equal area and
all textures equal mean brightness, so that neither can be read off a linear function
of the pixels. How much the rest varies is a `Level`: the same id has the same shape,
colour and texture at each.
"""

from typing import NamedTuple

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.materials import COLOURS, RGB, TEXTURES
from multimodal.scenes.outlines import OUTLINES, SHAPES


class Level(NamedTuple):
  """How much scenes vary beyond shape, colour and texture; lengths in picture sides.

  Attributes:
    size: least and greatest radius of the circle of equal area.
    angle: least and greatest turn in radians.
    spread: share in [0, 1] of the room for the object's centre that it takes up; at 0
      it stands in the middle, at 1 it goes as far as the edges.
    clutter: strength in [0, 1] of the background's colour, gradient and wave; 0 leaves
      a plain dark grey.
    period: of stripes and chequers, at least; never under four pixels.
  """

  size: tuple[float, float]
  angle: tuple[float, float]
  spread: float
  clutter: float
  period: float


# In the easy world shape and texture are nearly all that two views of a picture share
# once their colours differ, so a minute of contrastive learning finds them.
EASY = Level((0.30, 0.36), (-0.3, 0.3), spread=0.5, clutter=0.0, period=0.25)
HARD = Level((0.15, 0.26), (0.0, 2 * np.pi), spread=1.0, clutter=1.0, period=0.14)

_CHUNK = 128  # scenes rendered at a time: keeps the work arrays inside the cache


def factors(
  ids: np.ndarray, *, seed: int = 0, level: Level = HARD
) -> dict[str, np.ndarray]:
  """Returns what is in each scene.

  Args:
    ids: [n] integers, not negative.
    seed: another seed gives another world.
    level: the ranges of what follows.

  Returns:
    int32 [n]: `shape`, `colour`, `texture`, indices into SHAPES, COLOURS, TEXTURES.
    float32 [n], lengths in sides of the picture: `size` (radius of the circle of
    equal area), `x`, `y` (centre, from the left and from the top), `angle` (radians).
    `background`: float32 [n, 8] in [0, 1): colour (3), contrast, direction, and
    frequency, direction and phase of a faint wave.
  """
  drawn = draws.uniform(seed, np.asarray(ids), 15)
  size = _between(*level.size, drawn[:, 3])
  # 1.2 radii from the edge: only tips of a star, triangle or crescent may leave the
  # picture.
  margin = (1 - level.spread) * 0.5 + level.spread * 1.2 * size
  return {
    "shape": (drawn[:, 0] * len(SHAPES)).astype(np.int32),
    "colour": (drawn[:, 1] * len(COLOURS)).astype(np.int32),
    "texture": (drawn[:, 2] * len(TEXTURES)).astype(np.int32),
    "size": size,
    "x": margin + (1 - 2 * margin) * drawn[:, 4],
    "y": margin + (1 - 2 * margin) * drawn[:, 5],
    "angle": _between(*level.angle, drawn[:, 6]),
    "background": drawn[:, 7:15],
  }


def render(
  ids: np.ndarray, *, size: int = 32, seed: int = 0, level: Level = HARD
) -> np.ndarray:
  """Renders scenes.

  Args:
    ids: [n] integers, not negative.
    size: side of the pictures in pixels.
    seed: as in `factors`.
    level: as in `factors`.

  Returns:
    uint8 [n, size, size, 3].
  """
  ids = np.asarray(ids)
  images = np.empty((len(ids), size, size, 3), np.uint8)
  for start in range(0, len(ids), _CHUNK):
    part = slice(start, start + _CHUNK)
    images[part] = _render_chunk(ids[part], size, seed, level)
  return images


def _render_chunk(ids: np.ndarray, size: int, seed: int, level: Level) -> np.ndarray:
  scene = factors(ids, seed=seed, level=level)
  centres = (np.arange(size, dtype=np.float32) + 0.5) / size
  x, y = centres[None, None, :], centres[None, :, None]
  background = _background(scene["background"], x, y, level.clutter)

  # The frame of the object: origin at its centre, turned by its angle.
  dx, dy = x - _per_scene(scene["x"]), y - _per_scene(scene["y"])
  cos, sin = _per_scene(np.cos(scene["angle"])), _per_scene(np.sin(scene["angle"]))
  u, v = cos * dx + sin * dy, cos * dy - sin * dx
  coverage = np.empty_like(u)
  radius = _per_scene(scene["size"])
  for shape, name in enumerate(SHAPES):
    rows = scene["shape"] == shape
    distance, scale = OUTLINES[name]
    unit = radius[rows] * np.float32(scale)
    # Distance to the outline in pixels -> covered part of the pixel.
    pixels = distance(u[rows] / unit, v[rows] / unit) * unit * size
    coverage[rows] = np.clip(0.5 - pixels, 0, 1)

  # Four pixels are needed to show a period.
  pattern = _pattern(scene["texture"], u, v, max(level.period, 4 / size))
  shade = 0.75 + 0.25 * pattern
  colour = RGB[scene["colour"]][:, None, None, :] * shade[..., None]
  picture = background + coverage[..., None] * (colour - background)
  # Sensor noise, so that no two pixels are exactly alike: deviation 0.02.
  picture += 0.02 * draws.normal(seed, ids, size * size * 3).reshape(picture.shape)
  return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _per_scene(values: np.ndarray) -> np.ndarray:
  return values[:, None, None]


def _between(low: float, high: float, draw: np.ndarray) -> np.ndarray:
  return low + (high - low) * draw


def _background(
  drawn: np.ndarray, x: np.ndarray, y: np.ndarray, clutter: float
) -> np.ndarray:
  """A dim colour or grey with a gradient and a faint wave, [n, size, size, 3]."""
  colour = 0.285 + 0.33 * clutter * (drawn[:, :3] - 0.5)
  contrast, direction, frequency, wave_direction, phase = (
    _per_scene(drawn[:, i]) for i in range(3, 8)
  )
  turn = np.float32(2 * np.pi)
  slope = np.cos(turn * direction) * (x - 0.5) + np.sin(turn * direction) * (y - 0.5)
  along = np.cos(turn * wave_direction) * x + np.sin(turn * wave_direction) * y
  wave = np.sin(turn * ((2 + 4 * frequency) * along + phase))
  light = 1 + clutter * (1.2 * contrast * slope + 0.15 * wave)
  return colour[:, None, None, :] * light[..., None]


def _pattern(texture: np.ndarray, u: np.ndarray, v: np.ndarray, period: float):
  """Light and dark, in [-1, 1] with mean 0: nothing, stripes, or a chequerboard."""
  wave = np.float32(2 * np.pi / period)
  pattern = np.zeros_like(u)
  striped = texture == TEXTURES.index("striped")
  pattern[striped] = np.clip(2 * np.sin(wave * u[striped]), -1, 1)
  squares = texture == TEXTURES.index("chequered")
  product = np.sin(wave * u[squares] * 0.8) * np.sin(wave * v[squares] * 0.8)
  pattern[squares] = np.clip(3 * product, -1, 1)
  return pattern
