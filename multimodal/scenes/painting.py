"""Pictures, masks and boxes of scenes of several objects.

Every object is drawn inside a square patch that holds it, many objects at a time.
Pictures are kept as float32 planes from 0 to 255 until the end.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.layout import (
  BACKGROUNDS,
  CROWD,
  MAX_OBJECTS,
  RADII,
  REACH,
  Crowd,
  Layout,
  compose,
  take_stream,
)
from multimodal.scenes.materials import RGB, TEXTURES
from multimodal.scenes.outlines import OUTLINES, SHAPES

MIN_SIZE = 16  # pixels; below it the small objects are blots

_CHUNK = 2**18  # pixels painted at a time: keeps the planes near the cache
_PERIOD = 1.0  # of stripes, in radii of the object
_GLOW = 0.4  # how much lighter an object is one radius towards its lighter side
_NOISE = 0.02 * 255  # deviation of the sensor noise


class Painting(NamedTuple):
  """Pictures of n scenes with places for m objects.

  Attributes:
    images: uint8 [n, size, size, 3].
    masks: uint8 [n, size, size]: 0 is background, k + 1 is object k of the layout. A
      pixel belongs to an object that covers at least half of it.
    boxes: float32 [n, m, 4]: left, top, right, bottom of the object's mask in sides of
      the picture, edges of pixels; times size they are whole. 0 without an object.
  """

  images: np.ndarray
  masks: np.ndarray
  boxes: np.ndarray


def paint(
  ids: np.ndarray,
  *,
  size: int = 64,
  seed: int = 0,
  level: Crowd = CROWD,
  threads: int = 1,
  take: int = 0,
) -> Painting:
  """Paints scenes of several objects.

  Args:
    ids: [n] integers, not negative.
    size: side of the pictures in pixels, at least MIN_SIZE. Made for 64 and more: at 32
      the shape of small objects is hard to tell.
    seed: as in `compose`.
    level: as in `compose`.
    threads: how many paint; the result does not depend on it. They gain little (two:
      5 % at 64 pixels, see benchmarks/scenes.py), processes more.
    take: number of the picture of each scene, as in `compose`: another picture of the
      same objects, with noise of its own.

  Raises:
    ValueError: the pictures or the threads are too few, a bad level or take.
  """
  if size < MIN_SIZE or threads < 1:
    raise ValueError(
      f"a painting of {size} pixels on {threads} threads was asked for; at least "
      f"{MIN_SIZE} pixels and one thread are needed"
    )
  ids = np.asarray(ids)
  layout = compose(ids, seed=seed, level=level, take=take)
  noise = take_stream(take) + 1
  painting = Painting(
    images=np.empty((len(ids), size, size, 3), np.uint8),
    masks=np.zeros((len(ids), size, size), np.uint8),
    boxes=np.zeros((len(ids), MAX_OBJECTS, 4), np.float32),
  )

  chunk = max(8, _CHUNK // size**2)

  def work(start: int) -> None:
    part = slice(start, start + chunk)
    rows = Layout(*(field[part] for field in layout))
    into = Painting(*(field[part] for field in painting))
    _paint_chunk(ids[part], rows, seed, noise, into)

  starts = range(0, len(ids), chunk)
  if threads == 1 or len(starts) < 2:
    for start in starts:
      work(start)
  else:
    with ThreadPoolExecutor(threads) as pool:
      list(pool.map(work, starts))  # the list passes errors on
  return painting


def _paint_chunk(
  ids: np.ndarray, layout: Layout, seed: int, stream: int, into: Painting
) -> None:
  """Fills the views `into`; the noise is drawn from `stream`."""
  size = into.masks.shape[1]
  planes = _backdrop(layout, size)
  for place in range(MAX_OBJECTS):
    for grade in range(len(RADII)):
      rows = np.flatnonzero(layout.size[:, place] == grade)
      if len(rows):
        _paint_objects(planes, into, layout, rows, place)

  # Sensor noise, uniform: a byte for each number.
  count = planes[0].size
  noise = draws.words(seed, ids, -(-count // 8), stream).astype("<u8").view(np.uint8)
  scale = np.float32(_NOISE / np.sqrt((256**2 - 1) / 12))
  work = noise[:, :count].reshape(planes.shape) * scale
  # What was taken off centres the noise, and 0.5 rounds.
  planes += work
  planes += np.float32(0.5 - 127.5 * scale)
  np.clip(planes, 0, 255, out=planes)
  for channel in range(3):  # faster than the three at once
    into.images[..., channel] = planes[:, channel]


def _backdrop(layout: Layout, size: int) -> np.ndarray:
  """Backgrounds, float32 [n, 3, size, size] from 0 to 255."""
  drawn, kind = layout.backdrop, layout.background
  light = np.empty((len(kind), size, size), np.float32)
  side = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
  turn = np.float32(2 * np.pi) * drawn[:, 4]
  x = np.cos(turn)[:, None, None] * side[None, None, :]
  y = np.sin(turn)[:, None, None] * side[None, :, None]
  bright = drawn[:, 0, None, None]
  for number, name in enumerate(BACKGROUNDS):
    rows = kind == number
    if name == "dark":
      light[rows] = 0.12 + 0.1 * bright[rows]
    elif name == "light":
      light[rows] = 0.72 + 0.14 * bright[rows]
    elif name == "gradient":
      light[rows] = 0.42 + 0.08 * bright[rows] + 0.6 * (x[rows] + y[rows])
    else:
      along = (3 + 2 * drawn[rows, 5])[:, None, None] * (x[rows] + y[rows])
      phase = np.float32(2 * np.pi) * (along + drawn[rows, 6, None, None])
      light[rows] = 0.28 + 0.08 * bright[rows] + 0.12 * np.sin(phase)
  tint = 255 * (1 + 0.16 * (drawn[:, 1:4] - np.float32(0.5)))
  return light[:, None] * tint[:, :, None, None]


def _paint_objects(
  planes: np.ndarray, into: Painting, layout: Layout, rows: np.ndarray, place: int
) -> None:
  """Paints object number `place` of the scenes `rows`, all of one size."""
  # By shape, so that the objects of a shape are neighbours.
  rows = rows[np.argsort(layout.shape[rows, place], kind="stable")]
  pick = lambda field: field[rows, place]
  size = into.masks.shape[1]
  greatest = RADII[layout.size[rows[0], place], 1]
  side = min(size, int(2 * REACH * greatest * size) + 3)
  x, y = pick(layout.x) * size, pick(layout.y) * size
  left = np.clip(np.rint(x - 0.5 * side).astype(np.int64), 0, size - side)
  top = np.clip(np.rint(y - 0.5 * side).astype(np.int64), 0, size - side)
  radius = pick(layout.radius) * size

  # The frame of the object: origin at its centre, turned, a radius long.
  steps = np.arange(side, dtype=np.float32) + np.float32(0.5)
  dx = (steps + (left - x).astype(np.float32)[:, None]) / radius[:, None]
  dy = (steps + (top - y).astype(np.float32)[:, None]) / radius[:, None]
  cos, sin = np.cos(pick(layout.angle)), np.sin(pick(layout.angle))
  u = (cos[:, None] * dx)[:, None, :] + (sin[:, None] * dy)[:, :, None]
  v = (cos[:, None] * dy)[:, :, None] - (sin[:, None] * dx)[:, None, :]

  coverage = _coverage(pick(layout.shape), u, v, radius)
  shade = _shade(pick(layout.texture), u, v, radius)
  colour = 255 * RGB[pick(layout.colour)]
  windows = _windows(planes, side)
  patch = windows[rows, :, top, left]  # a copy, [objects, 3, side, side]
  paint = colour[:, :, None, None] * shade[:, None]
  paint -= patch
  paint *= coverage[:, None]
  patch += paint
  windows[rows, :, top, left] = patch

  inside = coverage >= 0.5
  windows = _windows(into.masks, side)
  patch = windows[rows, top, left]
  np.putmask(patch, inside, np.uint8(place + 1))
  windows[rows, top, left] = patch
  edges = _edges(inside) + np.stack([left, top, left, top], axis=1)
  into.boxes[rows, place] = edges / size


def _windows(array: np.ndarray, side: int) -> np.ndarray:
  """Every square patch of the last two axes, as a view that can be written to."""
  return np.lib.stride_tricks.sliding_window_view(
    array, (side, side), axis=(-2, -1), writeable=True
  )


def _coverage(
  shape: np.ndarray, u: np.ndarray, v: np.ndarray, radius: np.ndarray
) -> np.ndarray:
  """Covered part of each pixel, [objects, side, side]; `shape` is ascending."""
  coverage = np.empty_like(u)
  ends = np.searchsorted(shape, np.arange(len(SHAPES) + 1))
  for name, start, stop in zip(SHAPES, ends[:-1], ends[1:], strict=True):
    if start < stop:
      distance, scale = OUTLINES[name]
      part, inverse = slice(start, stop), np.float32(1 / scale)
      found = distance(u[part] * inverse, v[part] * inverse)
      found *= (-scale * radius[part])[:, None, None]
      found += np.float32(0.5)
      np.clip(found, 0, 1, out=coverage[part])
  return coverage


def _shade(
  texture: np.ndarray, u: np.ndarray, v: np.ndarray, radius: np.ndarray
) -> np.ndarray:
  """Brightness: the pattern of the texture, lighter towards the object's own right."""
  shade = 1 + np.float32(_GLOW) * u
  # Four pixels are needed to show a period.
  wave = np.float32(2 * np.pi) / np.maximum(_PERIOD, 4 / radius)
  rows = np.flatnonzero(texture == TEXTURES.index("striped"))
  pattern = np.clip(2 * np.sin(wave[rows, None, None] * u[rows]), -1, 1)
  shade[rows] *= 1 + np.float32(0.3) * pattern
  rows = np.flatnonzero(texture == TEXTURES.index("chequered"))
  wave = 0.8 * wave[rows, None, None]
  product = np.sin(wave * u[rows]) * np.sin(wave * v[rows])
  shade[rows] *= 1 + np.float32(0.3) * np.clip(3 * product, -1, 1)
  shade *= np.float32(0.75)
  return shade


def _edges(inside: np.ndarray) -> np.ndarray:
  """Left, top, right, bottom of the true part, [objects, 4] in pixels."""
  columns, rows = np.any(inside, axis=1), np.any(inside, axis=2)
  side = inside.shape[1]
  return np.stack(
    [
      columns.argmax(1),
      rows.argmax(1),
      side - columns[:, ::-1].argmax(1),
      side - rows[:, ::-1].argmax(1),
    ],
    axis=1,
  )
