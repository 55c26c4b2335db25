"""The rules that statements about two pictures are made by, and their wordings."""

from typing import NamedTuple

import numpy as np

from multimodal.scenes.search import COLOUR, COUNTS, SHAPE, SIZE, TEXTURE

Cell = tuple[int, int]

_MANY = 9  # more than there are
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


class Rule(NamedTuple):
  """What statements of one wording say.

  Attributes:
    kind: one of STATEMENT_KINDS.
    about: what a cell holds for the left and the right picture: "shown", whether it
      shows such a thing (0 or 1); "counted", how many there are; "large", the value of
      the factor in `groups` that the large object has.
    groups: the factors that things may be told by, bool [g, 4].
    cells: those that make the statement false and those that make it true, of which
      one is drawn; one that is there twice, twice as often.
    templates: the wordings; {a} stands for the things.
    style: "noun", "article" or "plural": how {a} is worded.
  """

  kind: str
  about: str
  groups: np.ndarray
  cells: tuple[list[Cell], list[Cell]]
  templates: tuple[str, ...]
  style: str = "article"

  @property
  def alone(self) -> float:
    """How often the best guess from the words and one picture is right."""
    right = 0.0
    for side in (0, 1):
      shares = np.zeros((2, _MANY))
      for truth, cells in enumerate(self.cells):
        for cell in cells:
          shares[truth, cell[side]] += 0.5 / len(cells)
      right += shares.max(0).sum() / 2
    return right


def _groups(*factors: tuple[int, ...]) -> np.ndarray:
  table = np.zeros((len(factors), 4), bool)
  for row, group in enumerate(factors):
    table[row, list(group)] = True
  return table


_SHOWN = _groups(
  (SHAPE,),
  (COLOUR,),
  (SHAPE, COLOUR),
  (SHAPE, TEXTURE),
  (COLOUR, TEXTURE),
  (SHAPE, SIZE),
)
_UNSIZED = _groups(
  (SHAPE,),
  (COLOUR,),
  (TEXTURE,),
  (SHAPE, COLOUR),
  (SHAPE, TEXTURE),
  (COLOUR, TEXTURE),
)
_COUNTED = _groups((SHAPE,), (COLOUR,), (TEXTURE,))
_ALL = _groups(())

_BOTH, _LEFT, _RIGHT, _NEITHER = (1, 1), (1, 0), (0, 1), (0, 0)
_ONE = [_LEFT, _RIGHT]
_HERE = {"left": "right", "right": "left"}


def _shown(groups: np.ndarray) -> list[Rule]:
  """Whether the pictures show something."""
  rule = lambda kind, false, true, *templates: Rule(
    kind, "shown", groups, (false, true), templates
  )
  # One false case in eight of "both" is where neither shows it, and the like.
  rules = [
    rule(
      "both",
      7 * _ONE + 2 * [_NEITHER],
      [_BOTH],
      "both pictures show {a}.",
      "there is {a} in each of the two pictures.",
      "one can see {a} in both pictures.",
    ),
    rule(
      "neither",
      7 * _ONE + 2 * [_BOTH],
      [_NEITHER],
      "neither picture shows {a}.",
      "neither of the two pictures contains {a}.",
      "one can see {a} in neither of the two pictures.",
    ),
    rule(
      "any",
      [_NEITHER],
      7 * _ONE + 2 * [_BOTH],
      "at least one of the two pictures shows {a}.",
      "there is {a} in at least one of the pictures.",
      "one can see {a} in one picture or in both.",
    ),
    rule(
      "one",
      [_BOTH, _NEITHER],
      _ONE,
      "exactly one of the two pictures shows {a}.",
      "there is {a} in one of the two pictures, but not in both.",
      "only one of the two pictures contains {a}.",
    ),
    rule(
      "alike",
      _ONE,
      [_BOTH, _NEITHER],
      "either both pictures show {a} or neither does.",
      "there is {a} in both pictures or in neither.",
      "if one of the pictures shows {a}, so does the other.",
    ),
  ]
  for here, there in _HERE.items():
    rules.append(
      rule(
        "only",
        [_BOTH, _NEITHER],
        [_LEFT if here == "left" else _RIGHT],
        f"only the {here} picture shows {{a}}.",
        f"there is {{a}} in the {here} picture, but not in the {there} one.",
        f"the {here} picture contains {{a}}, but the {there} one does not.",
      )
    )
  return rules


def _counted(groups: np.ndarray, low: int, high: int) -> list[Rule]:
  """How many things there are, low to high in each picture."""
  numbers = range(low, high + 1)
  pairs = [(a, b) for a in numbers for b in numbers]
  equal = [(n, n) for n in numbers]
  steps = [(n + 1, n) for n in numbers[:-1]]
  rules = [
    Rule(
      "as many",
      "counted",
      groups,
      ([pair for pair in pairs if pair not in equal], equal),
      (
        "both pictures show the same number of {a}.",
        "there are exactly as many {a} in the left picture as in the right one.",
        "the number of {a} is the same in the two pictures.",
      ),
      "plural",
    )
  ]
  for here, there in _HERE.items():
    true = steps if here == "left" else [(b, a) for a, b in steps]
    # Of the false cases half have fewer there, and half as many.
    false = 2 * [(b, a) for a, b in true] + [(x, x) for pair in steps for x in pair]
    rules.append(
      Rule(
        "more",
        "counted",
        groups,
        (false, true),
        (
          f"the {here} picture shows more {{a}} than the {there} one.",
          f"there are more {{a}} in the {here} picture than in the {there} one.",
          f"the number of {{a}} is greater in the {here} picture than in the {there} "
          "one.",
        ),
        "plural",
      )
    )
  for total in range(2 * low + 1, 2 * high):
    # Numbers that the other picture can make up to the total, and no others.
    part = [n for n in numbers if total - n in numbers]
    true = [(n, total - n) for n in part]
    false = [(a, b) for a in part for b in part if a + b != total]
    are, is_one = ("is", True) if total == 1 else ("are", False)
    number = _NUMBERS[total]
    rules.append(
      Rule(
        "total",
        "counted",
        groups,
        (false, true),
        (
          f"there {are} {number} {{a}} in the two pictures together.",
          f"there {are} exactly {number} {{a}} in the two pictures together.",
          f"the two pictures together show {number} {{a}}.",
        ),
        "noun" if is_one else "plural",
      )
    )
  return rules


def _large(which: str) -> list[Rule]:
  """What the large objects have in common; each picture has one, called `which`."""
  rules = []
  for factor, what in ((SHAPE, "shape"), (COLOUR, "colour"), (TEXTURE, "pattern")):
    values = range(COUNTS[factor])
    rules.append(
      Rule(
        "large",
        "large",
        _groups((factor,)),
        (
          [(a, b) for a in values for b in values if a != b],
          [(a, a) for a in values],
        ),
        (
          f"the {which}s of the two pictures have the same {what}.",
          f"the {which} has the same {what} in both pictures.",
          f"the {what} of the {which} is the same in the two pictures.",
        ),
      )
    )
  return rules


RULES = (
  *_shown(_SHOWN),
  *_counted(_COUNTED, 0, 2),
  *_counted(_ALL, 1, 4),
  *_large("large object"),
)
# For pictures of one object, which is large; nothing is said of that.
LONE_RULES = (*_shown(_UNSIZED), *_large("object"))
STATEMENT_KINDS = tuple(dict.fromkeys(rule.kind for rule in RULES))
