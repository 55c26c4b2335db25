"""Scenes that fit what a question or a statement needs, found by trying.

An item of language (a question, a statement) draws what it is about, and then tries
scenes of its split, in an order of its own, until one fits. So its words and its answer
can be made independent of each other, which they are not in a scene that is given.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.layout import CROWD, MAX_OBJECTS, SIZES, Crowd, compose
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES

# What an object may be named by. A description of objects is int [..., 4]: an index
# into the names of each factor, or -1 for a factor that it says nothing of.
SHAPE, COLOUR, TEXTURE, SIZE = range(4)
NAMES = (SHAPES, COLOURS, TEXTURES, SIZES)
COUNTS = np.array([len(names) for names in NAMES], np.int32)

LONE = (1, 1)  # counts of a level whose scenes have one object, which is large

# Streams of the draws of items: each user has one, and _STREAMS after it for its tries.
STREAM = 2**40
STREAMS = 2**20

_MOST_TRIES = 64  # of an item in one turn; the first turn has one, each next twice more
_TURNS = 400  # the rarest need is met by 1 scene in 80: so many tries never fail
_SCENES = 2**15  # looked at together: bounds the memory


class View(NamedTuple):
  """What is in n scenes with places for m objects.

  Attributes:
    number: int32 [n], objects in the scene.
    present: bool [n, m].
    values: int32 [n, m, 4], the description of each object; -1 without an object.
    places: float32 [n, m, 2], centres (x, y); [n, 0, 2] where they were not asked for.
    draws: float32 [8, n] in [0, 1): of the scene, to choose among its objects by. What
      an item chooses must be drawn anew for each scene that it tries.
  """

  number: np.ndarray
  present: np.ndarray
  values: np.ndarray
  places: np.ndarray
  draws: np.ndarray


def pick(draw: np.ndarray, count: np.ndarray | int) -> np.ndarray:
  """Whole numbers, int32: 0 to count - 1, uniform in draw in [0, 1)."""
  return (draw * count).astype(np.int32)


def described(view: View, said: np.ndarray) -> np.ndarray:
  """Which objects, bool [n, m], fit a description [n, 4] of each scene."""
  same = (view.values == said[:, None]) | (said[:, None] < 0)
  return same.all(-1) & view.present


def taken(field: np.ndarray, place: np.ndarray) -> np.ndarray:
  """Of each scene's row of objects, [n, m, ...], the one at its place, [n]."""
  return field[np.arange(len(place)), place]


def checked(ids: np.ndarray, level: Crowd, *, lone: bool) -> np.ndarray:
  """The ids of items as int64.

  Args:
    ids: [n] integers.
    level: of CROWD's numbers of objects, or of one object if that is allowed.
    lone: whether it is.

  Raises:
    ValueError: an id outside of the splits, or a level of other numbers of objects.
  """
  ids = np.asarray(ids, np.int64)
  stop = draws.SPLITS["test"][1]
  if ids.size and not 0 <= ids.min() <= ids.max() < stop:
    raise ValueError(
      f"ids of questions, statements and premises lie within 0 to {stop - 1}, as those "
      f"of split_ids do; these go from {ids.min()} to {ids.max()}"
    )
  if level.counts != CROWD.counts and not (lone and level.counts == LONE):
    what, cure = (
      ("questions and statements", f", or choose {LONE} for one object")
      if lone
      else ("premises", ": a cover hides one object and leaves another")
    )
    raise ValueError(
      f"level.counts is {level.counts}; {what} are balanced over all numbers of "
      f"objects, so leave it at {CROWD.counts}{cure}"
    )
  return ids


def chosen_kinds(
  kinds: Sequence[str] | None, known: tuple[str, ...], what: str, level: Crowd
) -> tuple[str, ...]:
  """The kinds of items that are made.

  Args:
    kinds: those that were asked for; None for all.
    known: those that the level has.
    what: the items, for the error.
    level: with one object or several.

  Raises:
    ValueError: none, or one that the level has not.
  """
  if kinds is None:
    return known
  if not kinds or not set(kinds) <= set(known):
    about = " about one object" if level.counts == LONE else ""
    raise ValueError(f"{what}{about} have no kinds {list(kinds)}; choose from {known}")
  return tuple(kinds)


def look(ids: np.ndarray, *, seed: int, level: Crowd, placed: bool) -> View:
  """What is in each scene, with or without where it stands.

  Args:
    ids: [n] of scenes.
    seed: as in `compose`.
    level: as in `compose`.
    placed: whether places are wanted.
  """
  chosen = draws.uniform(seed, ids, 8, STREAM - 1).T
  if placed:
    layout = compose(ids, seed=seed, level=level)
    factors = [layout.shape, layout.colour, layout.texture, layout.size]
    places = np.stack([layout.x, layout.y], axis=-1)
    return View(layout.number, layout.present, np.stack(factors, -1), places, chosen)
  # The same as compose without the places, five times as fast; a test compares them.
  drawn = draws.uniform(seed, ids, 4 + 4 * MAX_OBJECTS, 1)
  least, most = level.counts
  number = pick(drawn[:, 0], most - least + 1) + np.int32(least)
  present = np.arange(MAX_OBJECTS) < number[:, None]
  choices = np.array([*COUNTS[:SIZE], 2], np.float32)
  objects = drawn[:, 4:].reshape(len(ids), 4, MAX_OBJECTS).swapaxes(1, 2)
  values = pick(objects, choices[None, None])
  values[:, 0, SIZE] = SIZES.index("large")
  values[~present] = -1
  nowhere = np.zeros((len(ids), 0, 2), np.float32)
  return View(number, present, values, nowhere, chosen)


def seek(
  items: np.ndarray,
  fits: Callable[[np.ndarray, View], np.ndarray],
  *,
  seed: int,
  level: Crowd,
  stream: int,
  placed: bool = False,
) -> np.ndarray:
  """The first scene that fits each item, int64 [n], of the split of the item.

  Args:
    items: int64 [n] ids of items.
    fits: from the rows of the items that are tried, [k], and a View of a scene for
      each, which of them fit, bool [k].
    seed: as in `compose`.
    level: as in `compose`.
    stream: of the tries; so many streams after it as there are turns are used too.
    placed: whether `fits` looks at places.

  Raises:
    ValueError: thousands of scenes were tried for an item, and none fits.
  """
  found = np.full(len(items), -1, np.int64)
  half = draws.SPLITS["test"][0]
  first = np.where(items < half, 0, half)
  pending = np.arange(len(items))
  for turn in range(_TURNS):
    if not len(pending):
      return found
    tries = min(2**turn, _MOST_TRIES)
    step = _SCENES // tries
    for start in range(0, len(pending), step):
      rows = pending[start : start + step]
      words = draws.words(seed, items[rows], tries, stream + turn) >> np.uint64(33)
      scenes = words.astype(np.int64) + first[rows, None]
      view = look(scenes.reshape(-1), seed=seed, level=level, placed=placed)
      good = fits(np.repeat(rows, tries), view).reshape(-1, tries)
      hit = good.any(1)
      found[rows[hit]] = scenes[hit, good[hit].argmax(1)]
    pending = pending[found[pending] < 0]
  raise ValueError(
    f"no scene of level {level} fits item {items[pending[0]]}; use a level with more "
    "variety"
  )
