"""What each form of question asks of a scene, and which scenes it can be asked of.

A form takes draws u of the item, and a scene with draws w of its own, by which it picks
among the objects. It says whether the scene is one for it, with which words and answer.
The words come out independent of the answer in one of three ways:

- the answer is a factor that nothing else in the question depends on;
- the answer is drawn first, and permuting the names of a factor, which leaves the law
  of the scenes as it is, takes any words to any others;
- two objects are named in random order, and exchanging them, or reflecting the scene,
  turns the answer round.

Sizes are not exchangeable (each scene has one large object), so a size that is said is
drawn before anything else. Of an object that is alone no size is said: it is large.
"""

import itertools
from typing import NamedTuple

import numpy as np

from multimodal.scenes.layout import MARGIN, MAX_OBJECTS, RELATIONS, SIZES
from multimodal.scenes.naming import (
  ANY,
  UNSIZED,
  alone,
  named,
  only,
  other_value,
  two,
)
from multimodal.scenes.search import (
  COLOUR,
  COUNTS,
  NAMES,
  SHAPE,
  SIZE,
  TEXTURE,
  View,
  described,
  pick,
  taken,
)

_NUMBERS = tuple(str(number) for number in range(MAX_OBJECTS + 1))
_SIDES = ("left", "right", "above", "below")
# The answers of all questions.
ANSWERS = (*itertools.chain(*NAMES), *_NUMBERS, *_SIDES, "no", "yes")
_FIRST = np.cumsum([0, *COUNTS])[:4].astype(np.int32)  # of the names of each factor
_NUMBER, _SIDE, _NO = (ANSWERS.index(x) for x in ("0", "left", "no"))

DRAWS = 6  # that a form needs
_LARGE = SIZES.index("large")


class Found(NamedTuple):
  """Questions about n scenes.

  Attributes:
    fits: bool [n]: whether the question can be asked; if not, the rest says nothing.
    answer: int32 [n], index into ANSWERS.
    choices: int32 [n], how many answers such a question may have.
    group: int32 [n], which group of the templates of the form.
    first, second: int32 [n, 4], descriptions of what is named first and second.
    relation: int32 [n], index into RELATIONS, or -1.
  """

  fits: np.ndarray
  answer: np.ndarray
  choices: np.ndarray
  group: np.ndarray
  first: np.ndarray
  second: np.ndarray
  relation: np.ndarray


def _found(fits, answer, choices, group, first, second=None, relation=None) -> Found:
  whole = lambda x: np.broadcast_to(np.asarray(x, np.int32), fits.shape)
  none = np.full((len(fits), 4), -1, np.int32)
  return Found(
    fits,
    whole(answer),
    whole(choices),
    whole(group),
    first,
    none if second is None else second,
    whole(-1 if relation is None else relation),
  )


def _yes(truth: np.ndarray) -> np.ndarray:
  return np.int32(_NO) + truth.astype(np.int32)


def _along(view: View, axis: np.ndarray, first, second) -> np.ndarray:
  """How much further right (axis 0) or down (1) the second object stands, [n]."""
  rows = np.arange(len(axis))
  return view.places[rows, second, axis] - view.places[rows, first, axis]


def attribute(view: View, u: np.ndarray, *, sized: bool = True) -> Found:
  """What colour is the large star? Sizes only if `sized`."""
  factor = pick(u[0], 4 if sized else SIZE)
  target = pick(view.draws[0], view.number)
  said = named(view, target, u[1], factor if sized else UNSIZED + factor)
  value = taken(taken(view.values, target), factor)
  fits = alone(view, said)
  fits &= (factor != SIZE) | (value == pick(u[2], COUNTS[SIZE]))
  return _found(fits, _FIRST[factor] + value, COUNTS[factor], factor, said)


# What groups are told by: a shape, a colour, a texture, a size, two of them, nothing.
_GROUPS = np.zeros((7, 4), bool)
_GROUPS[[0, 1, 2, 3], [SHAPE, COLOUR, TEXTURE, SIZE]] = True
_GROUPS[4, [SHAPE, COLOUR]] = _GROUPS[5, [SHAPE, TEXTURE]] = True
# How many numbers may be the answer: 0 to 3, 0 to 2, and 1 to 4 for all objects.
_GROUP_CHOICES = np.array([4, 4, 4, 4, 3, 3, 4], np.int32)


def count(view: View, u: np.ndarray) -> Found:
  """How many red objects are there?"""
  form = pick(u[0], len(_GROUPS))
  w = view.draws
  choices = _GROUP_CHOICES[form]
  every = ~_GROUPS[form].any(1)
  number = pick(u[1], choices) + every
  # Of what is not there, a part often is.
  near = np.stack([(number > 0) | (w[k] < 0.5) for k in (1, 2, 3)], axis=1)
  values = taken(view.values, pick(w[0], view.number))
  drawn = [pick(w[4 + k], COUNTS[k]) for k in range(SIZE)]
  values[:, :SIZE] = np.where(near, values[:, :SIZE], np.stack(drawn, axis=1))
  values[:, SIZE] = pick(u[2], _LARGE)  # there is always one large object
  said = np.where(_GROUPS[form], values, -1)
  fits = described(view, said).sum(1) == number
  return _found(fits, _NUMBER + number, choices, ~every, said)


def beside(view: View, u: np.ndarray) -> Found:
  """What is left of the red object?"""
  factor = pick(u[0], SIZE)
  relation = pick(u[1], len(RELATIONS))
  anchor = pick(view.draws[0], view.number)
  said = named(view, anchor, u[2], factor)
  towards = np.where(relation % 2 == 0, np.float32(-1), np.float32(1))
  rows = np.arange(len(anchor))
  along = view.places[rows, :, relation // 2]
  further = (along - along[rows, anchor][:, None]) * towards[:, None]
  others = view.present & (np.arange(MAX_OBJECTS) != anchor[:, None])
  there = others & (further >= MARGIN)
  unclear = others & (further > 0) & (further < MARGIN)
  fits = alone(view, said) & (there.sum(1) == 1) & ~unclear.any(1)
  value = taken(taken(view.values, there.argmax(1)), factor)
  answer = _FIRST[factor] + value
  return _found(fits, answer, COUNTS[factor], factor, said, relation=relation)


def side(view: View, u: np.ndarray) -> Found:
  """Is the star left or right of the red object?"""
  axis = pick(u[0], 2)
  first, second = two(view)
  names = [named(view, x, u[1 + k], ANY) for k, x in enumerate((first, second))]
  fits = alone(view, names[0]) & alone(view, names[1])
  further = _along(view, axis, second, first)
  fits &= np.abs(further) >= MARGIN
  return _found(fits, _SIDE + 2 * axis + (further > 0), 2, axis, *names)


def which(view: View, u: np.ndarray) -> Found:
  """Which is larger, the star or the circle? Larger, smaller, left, right, up, down."""
  factor, group = pick(u[0], SIZE), pick(u[1], 6)
  first, second = two(view)
  values = [taken(taken(view.values, x), factor) for x in (first, second)]
  names = [only(factor, value) for value in values]
  fits = alone(view, names[0]) & alone(view, names[1]) & (first != second)
  sizes = [taken(view.values, x)[:, SIZE] for x in (first, second)]
  axis = np.maximum(group // 2 - 1, 0)
  further = _along(view, axis, second, first)
  placed = group >= 2
  fits &= np.where(placed, np.abs(further) >= MARGIN, sizes[0] != sizes[1])
  # Odd groups ask for the smaller one, or the one further right or down.
  won = np.where(placed, further > 0, sizes[0] < sizes[1]) == (group % 2 == 1)
  answer = _FIRST[factor] + np.where(won, *values)
  return _found(fits, answer, 2, group, *names)


def more(view: View, u: np.ndarray) -> Found:
  """Are there more circles than stars? Or as many?"""
  factor, group = pick(u[0], 4), pick(u[1], 2)
  yes = u[2] < 0.5
  # What is wanted: the sign of how many more there are of the first kind.
  unequal = np.where(u[3] < 0.5, 1, -1)
  sign = np.where(group == 0, np.where(yes, 1, np.minimum(unequal, 0)), unequal * ~yes)
  first, second = two(view)
  values = [taken(taken(view.values, x), factor) for x in (first, second)]
  values[1] = np.where(
    view.draws[2] < 0.5, values[1], pick(view.draws[3], COUNTS[factor])
  )
  size = pick(u[4], _LARGE)  # of the sizes, there is always one large object
  values = [
    np.where(factor == SIZE, s, v)
    for s, v in zip((size, 1 - size), values, strict=True)
  ]
  flip = u[5] < 0.5
  names = [only(factor, np.where(flip, *pair)) for pair in (values, values[::-1])]
  numbers = [described(view, name).sum(1) for name in names]
  fits = (values[0] != values[1]) & (np.sign(numbers[0] - numbers[1]) == sign)
  return _found(fits, _yes(yes), 2, group, *names)


def same(view: View, u: np.ndarray) -> Found:
  """Do the star and the circle have the same colour?"""
  factor = pick(u[0], 4)
  first, second = two(view)
  names = [named(view, x, u[1 + k], factor) for k, x in enumerate((first, second))]
  fits = alone(view, names[0]) & alone(view, names[1]) & (first != second)
  values = [taken(taken(view.values, x), factor) for x in (first, second)]
  yes = u[3] < 0.5
  fits &= (values[0] == values[1]) == yes
  return _found(fits, _yes(yes), 2, factor, *names)


def larger(view: View, u: np.ndarray) -> Found:
  """Is the star larger than the circle? Or smaller?"""
  group = pick(u[0], 2)
  first, second = two(view)
  names = [named(view, x, u[1 + k], SIZE) for k, x in enumerate((first, second))]
  sizes = [taken(view.values, x)[:, SIZE] for x in (first, second)]
  fits = alone(view, names[0]) & alone(view, names[1]) & (sizes[0] != sizes[1])
  return _found(fits, _yes((sizes[0] > sizes[1]) == (group == 0)), 2, group, *names)


# By what things that may be there are told.
_THINGS = np.zeros((6, 4), bool)
_THINGS[[0, 1], [SHAPE, COLOUR]] = True
_THINGS[2, [SHAPE, COLOUR]] = _THINGS[3, [SHAPE, TEXTURE]] = True
_THINGS[4, [SIZE, SHAPE]] = _THINGS[5, [SIZE, COLOUR]] = True
# Of one object a texture tells enough; among several there is often one that has it.
_UNSIZED_THINGS = np.zeros((6, 4), bool)
_UNSIZED_THINGS[:4] = _THINGS[:4]
_UNSIZED_THINGS[4, TEXTURE] = _UNSIZED_THINGS[5, [COLOUR, TEXTURE]] = True


def exists(view: View, u: np.ndarray, *, sized: bool = True) -> Found:
  """Is there a red circle? Sizes only if `sized`."""
  w = view.draws
  things = _THINGS if sized else _UNSIZED_THINGS
  mask = things[pick(u[0], len(things))]
  yes = u[1] < 0.5
  size = pick(u[2], COUNTS[SIZE])
  target = pick(w[0], view.number)
  values = taken(view.values, target)
  # Of what is not there, a part often is.
  near = np.stack([yes | (w[k] < 0.5) for k in (1, 2, 3)], axis=1)
  drawn = [pick(w[4 + k], COUNTS[k]) for k in range(SIZE)]
  values[:, :SIZE] = np.where(near, values[:, :SIZE], np.stack(drawn, axis=1))
  values[:, SIZE] = size
  said = np.where(mask, values, -1)
  there = described(view, said)
  fits = np.where(yes, taken(there, target), ~there.any(1))
  return _found(fits, _yes(yes), 2, 0, said)


def is_so(view: View, u: np.ndarray, *, sized: bool = True) -> Found:
  """Is the star striped? Sizes only if `sized`."""
  factor = pick(u[0], 4 if sized else SIZE)
  yes = u[1] < 0.5
  target, near = two(view)
  said = named(view, target, u[2], factor if sized else UNSIZED + factor)
  value, nearby = (taken(taken(view.values, x), factor) for x in (target, near))
  asked = np.where(
    yes, value, other_value(value, COUNTS[factor], nearby, view.draws[2:4])
  )
  asked = np.where(factor == SIZE, pick(u[3], COUNTS[SIZE]), asked)
  fits = alone(view, said) & ((value == asked) == yes)
  return _found(fits, _yes(yes), 2, 0, said, only(factor, asked))


def stands(view: View, u: np.ndarray) -> Found:
  """Is the star left of the circle?"""
  relation = pick(u[0], len(RELATIONS))
  first, second = two(view)
  names = [named(view, x, u[1 + k], ANY) for k, x in enumerate((first, second))]
  fits = alone(view, names[0]) & alone(view, names[1])
  further = _along(view, relation // 2, second, first)
  fits &= np.abs(further) >= MARGIN
  answer = _yes((further > 0) == (relation % 2 == 1))
  return _found(fits, answer, 2, 0, names[0], names[1], relation)
