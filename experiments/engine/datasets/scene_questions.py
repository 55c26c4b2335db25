"""Questions, statements about two pictures and entailment on scenes: need no files."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.engine.datasets import scene_inputs
from multimodal import answers, scenes


class Asked(NamedTuple):
  """n texts about scenes, not yet painted.

  Attributes:
    scenes: int64 [n], or [n, 2] of texts about two pictures.
    boxes: float32 [n, 4] what is covered of each picture; None for nothing.
    texts: n.
    labels: int32 [n], indices into the names.
    names: of the answers.
    groups: values by name, one for each text.
  """

  scenes: np.ndarray
  boxes: np.ndarray | None
  texts: list[str]
  labels: np.ndarray
  names: tuple[str, ...]
  groups: dict[str, tuple[str, ...]]


class Source(NamedTuple):
  """A set of texts about scenes.

  Attributes:
    make: texts, from ids and a level.
    level: of the scenes.
    side: of the pictures unless another one is asked for.
  """

  make: Callable[[np.ndarray, scenes.Crowd], Asked]
  level: scenes.Crowd = scenes.CROWD
  side: int = 64


def _questions(ids: np.ndarray, level: scenes.Crowd) -> Asked:
  made = scenes.ask(ids, level=level)
  kinds = {"answer_type": _words(scenes.QUESTION_KINDS, made.kinds)}
  return Asked(made.scenes, None, made.texts, made.answers, scenes.ANSWERS, kinds)


def _statements(
  ids: np.ndarray, level: scenes.Crowd, only: tuple[str, ...] | None = None
) -> Asked:
  made = scenes.pair_statements(ids, level=level, kinds=only)
  kinds = {"kind": _words(scenes.STATEMENT_KINDS, made.kinds)}
  both = np.stack([made.left, made.right], axis=1)
  return Asked(both, None, made.texts, made.truths, answers.TRUTHS, kinds)


def _entailments(ids: np.ndarray, level: scenes.Crowd) -> Asked:
  made = scenes.entailments(ids, level=level)
  return Asked(
    made.scenes, made.boxes, made.texts, made.labels, answers.ENTAILMENTS, {}
  )


def _words(names: tuple[str, ...], numbers: np.ndarray) -> tuple[str, ...]:
  return tuple(names[i] for i in numbers.tolist())


# One object that fills the picture: easier to see, even at half the side.
_EASY = scene_inputs.EMBEDDED["scenes_text_easy"]
# Kinds that a picture with what is said speaks for, if anything. Mixed from the start
# with the others, which it may speak against, all of them are hardly learnt; a model
# that knows these learns the others, too.
_PLAIN = ("both", "any", "only", "one")
EMBEDDED = {
  "scenes_questions": Source(_questions),
  "scenes_questions_easy": Source(_questions, _EASY, 32),
  "scenes_statements": Source(_statements),
  "scenes_statements_easy": Source(
    functools.partial(_statements, only=_PLAIN), _EASY, 32
  ),
  "scenes_statements_lone": Source(_statements, _EASY, 32),
  "scenes_entailment": Source(_entailments),
}


def paint_asked(
  asked: Asked, size: int, level: scenes.Crowd
) -> tuple[np.ndarray, np.ndarray]:
  """Paints the pictures of texts, those of one scene once unless they are covered.

  Args:
    asked: the texts.
    size: side of the pictures.
    level: of the scenes.

  Returns:
    uint8 [m, size, size, 3], and the number of the picture of each text, int32 [n] or
    [n, 2].
  """
  if asked.boxes is not None:
    painted = scenes.paint(asked.scenes, size=size, level=level).images
    images = scenes.cover(painted, asked.boxes)
    return images, np.arange(len(images), dtype=np.int32)
  found, index = np.unique(asked.scenes, return_inverse=True)
  images = scenes.paint(found, size=size, level=level).images
  return images, index.reshape(asked.scenes.shape).astype(np.int32)
