"""The forms of questions and their wordings.

In a template {a} and {b} stand for what is named first and second, {r} for a relation.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from multimodal.scenes import asking
from multimodal.scenes.search import View

QUESTION_KINDS = ("attribute", "count", "relation", "comparison", "yes/no")


class Form(NamedTuple):
  """A form of question.

  Attributes:
    kind: one of QUESTION_KINDS.
    find: what it asks of a scene, from a View and draws [6, n] of the item.
    templates: by group of wordings, those that mean the same.
    styles: how the two descriptions are worded: "noun", "name" (in the words of the
      answers), "plural", "article" (a noun with one), "predicate".
    placed: whether it depends on where objects stand.
  """

  kind: str
  find: Callable[[View, np.ndarray], asking.Found]
  templates: tuple[tuple[str, ...], ...]
  styles: tuple[str, str] = ("noun", "noun")
  placed: bool = False


def _compared(*words: str) -> tuple[str, ...]:
  """Wordings of "which is larger?"."""
  return (
    f"which is {words[0]}, the {{a}} or the {{b}}?",
    f"of the {{a}} and the {{b}}, which is {words[-1]}?",
    f"which one is {words[-1]}: the {{a}} or the {{b}}?",
  )


def _shared(what: str) -> tuple[str, ...]:
  """Wordings of "do they have the same colour?"."""
  return (
    f"do the {{a}} and the {{b}} have the same {what}?",
    f"does the {{a}} have the same {what} as the {{b}}?",
    f"is the {what} of the {{a}} the same as that of the {{b}}?",
  )


def _asked(what: str, choices: str = "") -> tuple[str, ...]:
  """Wordings of "what colour is it?"; with choices, "is it red or blue?" too."""
  return (
    f"what {what} does the {{a}} have?" if choices else f"what {what} is the {{a}}?",
    f"what is the {what} of the {{a}}?",
    f"is the {{a}} {choices}?" if choices else f"which {what} does the {{a}} have?",
  )


def _asked_beside(what: str) -> tuple[str, ...]:
  """Wordings of "what colour is the object left of it?"."""
  return (
    f"what {what} does the object {{r}} the {{a}} have?",
    f"what is the {what} of the object {{r}} the {{a}}?",
    f"which {what} does the thing {{r}} the {{a}} have?",
  )


FORMS = (
  Form(
    "attribute",
    asking.attribute,
    (
      _asked("shape"),
      _asked("colour"),
      _asked("pattern", "plain, striped or chequered"),
      _asked("size", "small, medium or large"),
    ),
  ),
  Form(
    "count",
    asking.count,
    (
      (
        "how many objects are there?",
        "how many things does the picture show?",
        "what is the number of objects in this picture?",
      ),
      (
        "how many {a} are there?",
        "how many {a} does the picture show?",
        "what is the number of {a} in this picture?",
      ),
    ),
    styles=("plural", "noun"),
  ),
  Form(
    "relation",
    asking.beside,
    (
      (
        "what is {r} the {a}?",
        "which shape is {r} the {a}?",
        "what is the shape of the object {r} the {a}?",
      ),
      _asked_beside("colour"),
      _asked_beside("pattern"),
    ),
    placed=True,
  ),
  Form(
    "relation",
    asking.side,
    (
      (
        "is the {a} left or right of the {b}?",
        "is the {a} to the left or to the right of the {b}?",
        "on which side of the {b} is the {a}, left or right?",
      ),
      (
        "is the {a} above or below the {b}?",
        "is the {a} above the {b} or below it?",
        "where is the {a}, above or below the {b}?",
      ),
    ),
    placed=True,
  ),
  Form(
    "comparison",
    asking.which,
    (
      _compared("larger", "bigger"),
      _compared("smaller"),
      _compared("further left", "further to the left"),
      _compared("further right", "further to the right"),
      _compared("higher", "higher up"),
      _compared("lower", "further down"),
    ),
    styles=("name", "name"),
    placed=True,
  ),
  Form(
    "comparison",
    asking.more,
    (
      (
        "are there more {a} than {b}?",
        "does the picture show more {a} than {b}?",
        "is the number of {a} greater than the number of {b}?",
      ),
      (
        "are there exactly as many {a} as {b}?",
        "does the picture show equally many {a} and {b}?",
        "is the number of {a} the same as the number of {b}?",
      ),
    ),
    styles=("plural", "plural"),
  ),
  Form(
    "comparison",
    asking.same,
    (_shared("shape"), _shared("colour"), _shared("pattern"), _shared("size")),
  ),
  Form(
    "comparison",
    asking.larger,
    (
      ("is the {a} larger than the {b}?", "is the {a} bigger than the {b}?"),
      ("is the {a} smaller than the {b}?", "is the {a} less large than the {b}?"),
    ),
  ),
  Form(
    "yes/no",
    asking.exists,
    (
      (
        "is there {a}?",
        "is there {a} in this picture?",
        "does the picture show {a}?",
        "can one see {a}?",
      ),
    ),
    styles=("article", "noun"),
  ),
  Form(
    "yes/no",
    asking.is_so,
    (
      (
        "is the {a} {b}?",
        "is it true that the {a} is {b}?",
        "would you say that the {a} is {b}?",
      ),
    ),
    styles=("noun", "predicate"),
  ),
  Form(
    "yes/no",
    asking.stands,
    (
      (
        "is the {a} {r} the {b}?",
        "is it true that the {a} is {r} the {b}?",
        "would you say that the {a} is {r} the {b}?",
      ),
    ),
    placed=True,
  ),
)

_OF_ONE = (asking.attribute, asking.exists, asking.is_so)
# Those that can be asked of one object, without its size, which is always the same.
LONE_FORMS = tuple(
  form._replace(find=functools.partial(form.find, sized=False))
  for form in FORMS
  if form.find in _OF_ONE
)
