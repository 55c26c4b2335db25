"""Questions about pictures with one right answer from a closed list.

A question is a pure function of (seed, id), and it has the scene that it is about: the
id says which question, not which scene. So what is said is independent of the answer:
from the words alone, all answers that a question of its form may have are equally
likely, whatever objects, colours or sides it speaks of (`asking` says how).

Objects are named by what the picture shows, and a name fits exactly one. Who stands
left of whom is asked of centres at least MARGIN apart. Takes of a scene have the same
answers. Of scenes with one object only its attributes are asked, and what it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multimodal.scenes import asking, draws, phrases
from multimodal.scenes.layout import CROWD, Crowd
from multimodal.scenes.question_forms import FORMS, LONE_FORMS, QUESTION_KINDS, Form
from multimodal.scenes.search import (
  LONE,
  STREAM,
  checked,
  chosen_kinds,
  look,
  pick,
  seek,
)

_CHUNK = 8192  # questions at a time
_TRIES = STREAM + 16  # the stream of the first tries


class Questions(NamedTuple):
  """Questions about pictures.

  Attributes:
    scenes: int64 [n], ids of the scenes, for `paint`; of the split of the questions.
    texts: n questions, in lower case.
    answers: int32 [n], indices into ANSWERS.
    kinds: int32 [n], indices into QUESTION_KINDS.
    chances: float32 [n]: how often the best guess from the text is right.
  """

  scenes: np.ndarray
  texts: list[str]
  answers: np.ndarray
  kinds: np.ndarray
  chances: np.ndarray


def ask(
  ids: np.ndarray,
  *,
  seed: int = 0,
  level: Crowd = CROWD,
  kinds: Sequence[str] | None = None,
) -> Questions:
  """Returns questions, each about a scene of its own.

  Args:
    ids: [n] integers: those of a split of `split_ids` ask about scenes of that split.
    seed: as in `compose`.
    level: as in `compose`; of 1 to 4 objects, or of one, where the kinds are
      "attribute" and "yes/no" and nothing is said of sizes.
    kinds: those that are asked, equally often; None: all that the level has.

  Raises:
    ValueError: no kind or one that the level has not, ids outside of the splits, or
      another level.
  """
  ids = checked(ids, level, lone=True)
  every = LONE_FORMS if level.counts == LONE else FORMS
  known = tuple(dict.fromkeys(form.kind for form in every))
  kinds = chosen_kinds(kinds, known, "questions", level)
  found = Questions(
    np.zeros(len(ids), np.int64),
    [""] * len(ids),
    np.zeros(len(ids), np.int32),
    np.zeros(len(ids), np.int32),
    np.zeros(len(ids), np.float32),
  )
  for start in range(0, len(ids), _CHUNK):
    items = ids[start : start + _CHUNK]
    first, then = draws.uniform(seed, items, 2, STREAM).T
    asked = np.array([QUESTION_KINDS.index(kind) for kind in kinds], np.int32)
    kind = asked[pick(first, len(asked))]
    for number, name in enumerate(QUESTION_KINDS):
      forms = [form for form in every if form.kind == name]
      which = pick(then, len(forms))
      for k, form in enumerate(forms):
        rows = np.flatnonzero((kind == number) & (which == k))
        if len(rows):
          _fill(found, items, rows, start, form, seed, level)
    found.kinds[start : start + len(items)] = kind
  return found


def _fill(
  into: Questions,
  items: np.ndarray,
  rows: np.ndarray,
  start: int,
  form: Form,
  seed: int,
  level: Crowd,
) -> None:
  """Writes the questions of one form; row r of the items is start + r of `into`."""
  items = items[rows]
  u = draws.uniform(seed, items, asking.DRAWS, STREAM + 1).T
  fits = lambda tried, view: form.find(view, u[:, tried]).fits
  placed = form.placed
  scenes = seek(items, fits, seed=seed, level=level, stream=_TRIES, placed=placed)
  asked = form.find(look(scenes, seed=seed, level=level, placed=placed), u)
  texts = _worded(form, asked, draws.uniform(seed, items, 12, STREAM + 2))
  into.scenes[start + rows] = scenes
  into.answers[start + rows] = asked.answer
  into.chances[start + rows] = 1 / asked.choices
  for row, text in zip((start + rows).tolist(), texts, strict=True):
    into.texts[row] = text


def _worded(form: Form, asked: asking.Found, drawn: np.ndarray) -> list[str]:
  """The questions in words; drawn is [n, 12]."""
  style = {
    "noun": phrases.nouns,
    "name": lambda said, u: phrases.nouns(said, u, varied=False),
    "plural": phrases.plurals,
    "article": lambda said, u: phrases.with_article(phrases.nouns(said, u)),
    "predicate": phrases.predicates,
  }
  drawn[:, 5] = drawn[:, 0]  # objects beside objects, and things beside things
  first = style[form.styles[0]](asked.first, drawn[:, :5])
  second = style[form.styles[1]](asked.second, drawn[:, 5:10])
  relations = phrases.relation_words(asked.relation, drawn[:, 10])
  return [
    form.templates[group][int(u * len(form.templates[group]))].format(a=a, b=b, r=r)
    for group, u, a, b, r in zip(
      asked.group.tolist(),
      drawn[:, 11].tolist(),
      first,
      second,
      relations,
      strict=True,
    )
  ]
