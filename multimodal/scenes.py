"""Procedural scenes with exact factors: an image set that needs no files.

A scene is a pure function of (seed, id): one shape with a colour and a texture, at a
random place, size and angle, before a background of its own. Every random number is a
counter-based hash of (seed, id, number of the draw), so any subset can be rendered in
any order, and the factors are known exactly. The same factors come out everywhere;
pixels may differ by one grey level between processors (sine and cosine are rounded
differently).

Shape, colour and texture are uniform and independent. All shapes have equal area and
all textures equal mean brightness, so that neither can be read off a linear function
of the pixels. How much the rest varies is a `Level`: the same id has the same shape,
colour and texture at each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "chequered")


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

# Ids of the two splits: [start, stop). They never meet.
SPLITS = {"train": (0, 2**31), "test": (2**31, 2**32)}

_RGB = np.array(
  [
    (0.90, 0.15, 0.15),
    (0.98, 0.55, 0.10),
    (0.95, 0.90, 0.20),
    (0.20, 0.75, 0.25),
    (0.20, 0.85, 0.90),
    (0.20, 0.35, 0.95),
    (0.60, 0.25, 0.85),
    (0.98, 0.60, 0.75),
  ],
  np.float32,
)
_CHUNK = 128  # scenes rendered at a time: keeps the work arrays inside the cache


def split_ids(split: str, count: int, *, start: int = 0) -> np.ndarray:
  """Returns the int64 ids start, ..., start + count - 1 of a split.

  Args:
    split: "train" or "test".
    count: how many, at most 2**31 - start.
    start: number of the first one within the split.

  Raises:
    ValueError: no such split, or ids beyond its end.
  """
  if split not in SPLITS:
    raise ValueError(f"scenes have no split '{split}'; choose from {list(SPLITS)}")
  first, stop = SPLITS[split]
  if start < 0 or count < 0 or first + start + count > stop:
    raise ValueError(
      f"scenes {start} to {start + count} lie outside split '{split}', which has "
      f"{stop - first} of them"
    )
  return np.arange(first + start, first + start + count, dtype=np.int64)


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
  draws = _uniform(seed, np.asarray(ids), 15)
  size = _between(*level.size, draws[:, 3])
  # 1.2 radii from the edge: only tips of a star, triangle or crescent may leave the
  # picture.
  margin = (1 - level.spread) * 0.5 + level.spread * 1.2 * size
  return {
    "shape": (draws[:, 0] * len(SHAPES)).astype(np.int32),
    "colour": (draws[:, 1] * len(COLOURS)).astype(np.int32),
    "texture": (draws[:, 2] * len(TEXTURES)).astype(np.int32),
    "size": size,
    "x": margin + (1 - 2 * margin) * draws[:, 4],
    "y": margin + (1 - 2 * margin) * draws[:, 5],
    "angle": _between(*level.angle, draws[:, 6]),
    "background": draws[:, 7:15],
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
    distance, scale = _OUTLINES[name]
    unit = radius[rows] * np.float32(scale)
    # Distance to the outline in pixels -> covered part of the pixel.
    pixels = distance(u[rows] / unit, v[rows] / unit) * unit * size
    coverage[rows] = np.clip(0.5 - pixels, 0, 1)

  # Four pixels are needed to show a period.
  pattern = _pattern(scene["texture"], u, v, max(level.period, 4 / size))
  shade = 0.75 + 0.25 * pattern
  colour = _RGB[scene["colour"]][:, None, None, :] * shade[..., None]
  picture = background + coverage[..., None] * (colour - background)
  # Sensor noise, so that no two pixels are exactly alike: deviation 0.02.
  picture += 0.02 * _normal(seed, ids, size * size * 3).reshape(picture.shape)
  return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def _per_scene(values: np.ndarray) -> np.ndarray:
  return values[:, None, None]


def _between(low: float, high: float, draw: np.ndarray) -> np.ndarray:
  return low + (high - low) * draw


def _background(
  draws: np.ndarray, x: np.ndarray, y: np.ndarray, clutter: float
) -> np.ndarray:
  """A dim colour or grey with a gradient and a faint wave, [n, size, size, 3]."""
  colour = 0.285 + 0.33 * clutter * (draws[:, :3] - 0.5)
  contrast, direction, frequency, wave_direction, phase = (
    _per_scene(draws[:, i]) for i in range(3, 8)
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


def _circle(x, y):
  return np.hypot(x, y) - 1


def _square(x, y):
  return np.maximum(np.abs(x), np.abs(y)) - 1


def _triangle(x, y):
  slanted = np.float32(np.sqrt(3) / 2) * np.abs(x) - 0.5 * y
  return np.maximum(slanted, y) - 0.5


def _star(x, y):
  # Five points: fold into half a wedge, then the line from a tip (1, 0) to the inner
  # corner at radius 0.45 and angle pi / 5.
  wedge = np.float32(2 * np.pi / 5)
  angle = np.abs(np.mod(np.arctan2(y, x) + wedge / 2, wedge) - wedge / 2)
  radius = np.hypot(x, y)
  inner = 0.45 * np.exp(1j * np.pi / 5)
  normal = -1j * (inner - 1) / abs(inner - 1)
  a, b = np.float32(normal.real), np.float32(normal.imag)
  return a * (radius * np.cos(angle) - 1) + b * radius * np.sin(angle)


def _cross(x, y):
  x, y = np.abs(x), np.abs(y)
  return np.minimum(np.maximum(x - 1, y - 0.33), np.maximum(x - 0.33, y - 1))


def _ring(x, y):
  return np.abs(np.hypot(x, y) - 0.78) - 0.22


def _crescent(x, y):
  return np.maximum(np.hypot(x, y) - 1, 0.85 - np.hypot(x - 0.55, y))


def _heart(x, y):
  # A square standing on a corner with a half disc on each of its upper sides.
  x, y = np.float32(np.sqrt(0.5)) * (x - y), np.float32(np.sqrt(0.5)) * (-x - y)
  square = np.maximum(np.abs(x), np.abs(y))
  left, right = np.hypot(x - 0.5, y), np.hypot(x, y - 0.5)
  return np.minimum(square, np.minimum(left, right)) - 0.5


# Signed distance (negative inside) to an outline of size about 1, and the factor that
# gives it the area of the unit disc (`test_shapes_have_equal_area` checks them).
_Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
_OUTLINES: dict[str, tuple[_Outline, float]] = {
  "circle": (_circle, 1.0),
  "square": (_square, 0.886),
  "triangle": (_triangle, 1.555),
  "star": (_star, 1.541),
  "cross": (_cross, 1.194),
  "ring": (_ring, 1.207),
  "crescent": (_crescent, 1.458),
  "heart": (_heart, 1.326),
}


def _hash(seed: int, ids: np.ndarray, draws: int) -> np.ndarray:
  """uint64 [n, draws]: the SplitMix64 finaliser of (seed, id, draw), by counter."""
  step = np.uint64(0x9E3779B97F4A7C15)
  start = _mix(np.full(1, seed, np.uint64) * step + step)
  rows = _mix(ids.astype(np.uint64) * step + start)
  return _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * step)


def _mix(z: np.ndarray) -> np.ndarray:
  """The output function of SplitMix64 (Steele, Lea, Flood, 2014)."""
  z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return z ^ (z >> np.uint64(31))


def _uniform(seed: int, ids: np.ndarray, draws: int) -> np.ndarray:
  """float32 [n, draws] in [0, 1), of 24 bits."""
  return (_hash(seed, ids, draws) >> np.uint64(40)).astype(np.float32) / 2**24


def _normal(seed: int, ids: np.ndarray, draws: int) -> np.ndarray:
  """float32 [n, draws], mean 0, variance 1: the sum of four 16-bit uniforms."""
  words = _hash(~seed & (2**63 - 1), ids, draws).astype("<u8").view("<u2")
  total = words.reshape(*words.shape[:-1], draws, 4).sum(-1, dtype=np.float32)
  return (total / 65536 - np.float32(2)) * np.float32(np.sqrt(3))
