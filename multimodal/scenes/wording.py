"""Captions: several for each scene, in varying words, each one true of it.

A caption names the main object and, by chance, others; it leaves out sizes, colours and
textures by chance, and may tell the number of objects or how two of them stand. It is
put together from pieces that are picked for all scenes at once.

The frame around what is said is formal or informal. That is a property of the caption
alone; words out of `SYNONYMS` are picked apart from it, so swapping them keeps it.
"""

from collections.abc import Sequence

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.layout import (
  CROWD,
  MAX_OBJECTS,
  Crowd,
  Layout,
  compose,
  relations,
)
from multimodal.scenes.vocabulary import FRAMES, PIECES, STYLES, UNSAID, VOWEL, pick

# How often what may be said is said.
_SAY_OTHER, _SAY_RELATION, _SAY_COUNT = 0.7, 0.6, 0.3
_SAY_COLOUR, _SAY_TEXTURE, _SAY_SIZE = 0.8, 0.7, 0.4

_FRAME_STREAM = 3
_STREAM = 16  # and from here on one stream for each number of a caption
_CHUNK = 4096  # scenes at a time


def captions(
  ids: np.ndarray,
  *,
  seed: int = 0,
  level: Crowd = CROWD,
  which: Sequence[int] = range(5),
  reveal: Sequence[str] = (),
) -> list[list[str]]:
  """Returns captions of scenes of several objects.

  They are lower-case ASCII with the marks . , : ; ! ( ) and '. "A ring above a star"
  means that there are such a ring and such a star; objects named in one caption are
  different ones. Captions of a scene whose numbers differ by less than 8 always differ.

  Args:
    ids: [n] integers, not negative.
    seed: as in `compose`.
    level: as in `compose`.
    which: numbers of the captions, from 0; there is no end of them.
    reveal: of UNSAID, what every caption is to say all the same: the pose of the main
      object, or the kind of background.

  Returns:
    n lists with a caption for each number in `which`; a pure function of (seed, id,
    number), the level and what is revealed.

  Raises:
    ValueError: a negative number, or `reveal` names something else.
  """
  if not set(reveal) <= set(UNSAID):
    raise ValueError(f"captions cannot reveal {list(reveal)}; choose from {UNSAID}")
  if min(which, default=0) < 0:
    raise ValueError(f"captions have numbers from 0, not {min(which)}")
  ids = np.asarray(ids)
  found: list[list[str]] = []
  for start in range(0, len(ids), _CHUNK):
    rows = ids[start : start + _CHUNK]
    layout = compose(rows, seed=seed, level=level)
    holds = relations(layout)
    columns = [_write(rows, seed, layout, holds, k, tuple(reveal)) for k in which]
    found += [[column[i] for column in columns] for i in range(len(rows))]
  return found


def caption_styles(
  ids: np.ndarray, *, seed: int = 0, which: Sequence[int] = range(5)
) -> np.ndarray:
  """Returns the style of each caption: int32 [n, len(which)], indices into STYLES."""
  styles = [_style(draws.uniform(seed, ids, 1, _STREAM + k)[:, 0]) for k in which]
  return np.array(styles, np.int32).reshape(len(which), len(ids)).T


def _style(draw: np.ndarray) -> np.ndarray:
  return (draw * len(STYLES)).astype(np.int32)


def _write(
  ids: np.ndarray,
  seed: int,
  layout: Layout,
  holds: np.ndarray,
  number: int,
  reveal: tuple[str, ...],
) -> list[str]:
  """One caption of each scene."""
  n = len(ids)
  drawn = draws.uniform(seed, ids, 7 + 10 * MAX_OBJECTS, _STREAM + number)
  objects = drawn[:, 7:].reshape(n, 10, MAX_OBJECTS)
  style = _style(drawn[:, 0])
  # Frames take turns, so that neighbouring captions differ whatever else is drawn.
  frames = len(FRAMES[0])
  first = draws.uniform(seed, ids, 1, _FRAME_STREAM)[:, 0]
  frame = ((first * frames).astype(np.int32) + number) % frames

  named = layout.present & (objects[:, 0] < _SAY_OTHER)
  named[:, 0] = True
  order = np.argsort(np.where(named, objects[:, 1], 2), axis=1, kind="stable")
  some = named.sum(1)
  phrases = _phrases(layout, objects, order)
  if "pose" in reveal:
    pose = PIECES.pose[0][layout.pose[:, 0], 0]
    phrases[..., -1] = np.where(order == 0, pose[:, None], 0)
  phrases[..., 0] = _connectors(holds, drawn, order, some)
  phrases[np.arange(MAX_OBJECTS) >= some[:, None]] = 0

  count = layout.number - 1
  told = np.where(
    some == layout.number,
    pick(PIECES.told, count, drawn[:, 5]),
    pick(PIECES.some, count, drawn[:, 5]),
  )
  told = np.where(drawn[:, 6] < _SAY_COUNT, told, 0)
  before = np.stack([PIECES.start[0][style, frame], told], axis=1)
  background = PIECES.background[0][layout.background, 0]
  if "background" not in reveal:
    background = np.zeros_like(background)
  after = np.stack([background, PIECES.stop[0][style, frame]], axis=1)
  pieces = np.concatenate([before, phrases.reshape(n, -1), after], axis=1)
  return ["".join(row) for row in PIECES.text[pieces].tolist()]


def _connectors(
  holds: np.ndarray, drawn: np.ndarray, order: np.ndarray, some: np.ndarray
) -> np.ndarray:
  """What stands before each object named, [n, m]: a relation, a comma, or "and"."""
  marks = PIECES.mark[0][0]
  place = np.arange(MAX_OBJECTS)
  last = place == some[:, None] - 1
  join = pick(PIECES.join, np.zeros(len(some), np.int32), drawn[:, 1])
  found = np.where(last, join[:, None], marks[2])

  # A relation holds between the first two; what follows is set apart from them.
  related = ((some > 1) & (drawn[:, 2] < _SAY_RELATION))[:, None]
  pair = holds[np.arange(len(some)), order[:, 0], order[:, 1]]
  # Of the one or two that hold, the first or the last.
  one = np.where(drawn[:, 3] < 0.5, pair.argmax(1), 3 - pair[:, ::-1].argmax(1))
  relation = pick(PIECES.relation, one, drawn[:, 4])
  beside = np.array([0, 0, marks[3], marks[4]]) + (place == 1) * relation[:, None]
  found = np.where(related, beside, found)
  found[:, 0] = 0
  return found


def _phrases(layout: Layout, objects: np.ndarray, order: np.ndarray) -> np.ndarray:
  """Pieces of each object in the order of naming, [n, m, 8].

  Connector (left empty), article, size, two of colour and texture, noun, texture said
  afterwards, pose (left empty).
  """
  sort = lambda field: np.take_along_axis(field, order, axis=1)
  draw = lambda k: np.take_along_axis(objects[:, k], order, axis=1)
  said = lambda k, share, piece: np.where(draw(k) < share, piece, 0)
  size = said(2, _SAY_SIZE, pick(PIECES.size, sort(layout.size), draw(3)))
  colour = said(4, _SAY_COLOUR, pick(PIECES.colour, sort(layout.colour), draw(5)))
  texture = sort(layout.texture)
  word = said(6, _SAY_TEXTURE, pick(PIECES.texture, texture, draw(7)))
  # One draw for where the texture stands: before the colour, behind it, or last.
  where = draw(8)
  left = np.where(where < 0.4, word, colour)
  right = np.where(where < 0.4, colour, np.where(where < 0.8, word, 0))
  after = np.where((where >= 0.8) & (word > 0), PIECES.after[0][texture, 0], 0)
  noun = pick(PIECES.shape, sort(layout.shape), draw(9))
  opening = np.where(size > 0, size, np.where(left > 0, left, right))
  opening = np.where(opening > 0, opening, noun)
  article = PIECES.mark[0][0, VOWEL[opening].astype(np.int32)]
  none = np.zeros_like(noun)
  return np.stack([none, article, size, left, right, noun, after, none], axis=-1)
