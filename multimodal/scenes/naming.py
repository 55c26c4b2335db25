"""How one object of a scene can be told from the others, and by which words."""

import itertools

import numpy as np

from multimodal.scenes.search import SIZE, View, described, pick, taken


def _masks() -> tuple[np.ndarray, np.ndarray]:
  """One or two factors to name an object by.

  Returns:
    bool [8, most, 4] and their numbers [8]: those without one factor, all of them, and
    those without a size and one other factor.
  """
  pairs = [set(x) for size in (1, 2) for x in itertools.combinations(range(4), size)]
  table = np.zeros((8, len(pairs), 4), bool)
  counts = np.zeros(8, np.int32)
  unsized = [{factor, SIZE} for factor in range(SIZE)]
  for row, without in enumerate([*({k} for k in range(4)), set[int](), *unsized]):
    chosen = [pair for pair in pairs if not pair & without]
    counts[row] = len(chosen)
    for column, pair in enumerate(chosen):
      table[row, column, list(pair)] = True
  return table, counts


_MASKS, _MASK_COUNTS = _masks()
ANY = 4  # for `without`: nothing is left out
UNSIZED = 5  # plus the other factor


def named(view: View, place: np.ndarray, draw: np.ndarray, without) -> np.ndarray:
  """Descriptions [n, 4] of one object of each scene by one or two factors.

  Args:
    view: n scenes.
    place: [n] of the object.
    draw: [n] in [0, 1).
    without: the factor that must not be named, [n] or one number; 4 for none; UNSIZED
      plus a factor for that factor and the size.
  """
  mask = _MASKS[without, pick(draw, _MASK_COUNTS[without])]
  return np.where(mask, taken(view.values, place), -1)


def alone(view: View, said: np.ndarray) -> np.ndarray:
  """Whether, bool [n], exactly one object of the scene fits the description [n, 4]."""
  return described(view, said).sum(1) == 1


def two(view: View) -> tuple[np.ndarray, np.ndarray]:
  """Two different objects in random order; the same one twice where there is one."""
  first = pick(view.draws[0], view.number)
  step = 1 + pick(view.draws[1], np.maximum(view.number - 1, 1))
  return first, (first + step) % view.number


def other_value(
  value: np.ndarray, count: np.ndarray, near: np.ndarray, draws: np.ndarray
) -> np.ndarray:
  """Another value of a factor [n]: at times that of another object, or else any.

  Args:
    value: [n] of the object that is spoken of.
    count: [n] of the values of the factor.
    near: [n] value of another object.
    draws: [2, n] in [0, 1).
  """
  step = 1 + pick(draws[0], count - 1)
  there = (near - value) % count
  return (value + np.where((there > 0) & (draws[1] < 0.5), there, step)) % count


def only(factor: np.ndarray, value: np.ndarray) -> np.ndarray:
  """Descriptions [n, 4] that say one factor."""
  return np.where(np.arange(4) == factor[:, None], value[:, None], -1)
