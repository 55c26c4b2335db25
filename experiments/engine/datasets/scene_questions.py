"""Questions, statements about two pictures and entailment on scenes: need no files."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

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


def _questions(ids: np.ndarray) -> Asked:
  made = scenes.ask(ids)
  kinds = {"answer_type": _words(scenes.QUESTION_KINDS, made.kinds)}
  return Asked(made.scenes, None, made.texts, made.answers, scenes.ANSWERS, kinds)


def _statements(ids: np.ndarray) -> Asked:
  made = scenes.pair_statements(ids)
  kinds = {"kind": _words(scenes.STATEMENT_KINDS, made.kinds)}
  both = np.stack([made.left, made.right], axis=1)
  return Asked(both, None, made.texts, made.truths, answers.TRUTHS, kinds)


def _entailments(ids: np.ndarray) -> Asked:
  made = scenes.entailments(ids)
  return Asked(
    made.scenes, made.boxes, made.texts, made.labels, scenes.ENTAILMENT_LABELS, {}
  )


def _words(names: tuple[str, ...], numbers: np.ndarray) -> tuple[str, ...]:
  return tuple(names[i] for i in numbers.tolist())


EMBEDDED: dict[str, Callable[[np.ndarray], Asked]] = {
  "scenes_questions": _questions,
  "scenes_statements": _statements,
  "scenes_entailment": _entailments,
}


def paint_asked(asked: Asked, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Paints the pictures of texts, those of one scene once unless they are covered.

  Args:
    asked: the texts.
    size: side of the pictures.

  Returns:
    uint8 [m, size, size, 3], and the number of the picture of each text, int32 [n] or
    [n, 2].
  """
  if asked.boxes is not None:
    painted = scenes.paint(asked.scenes, size=size).images
    images = scenes.cover(painted, asked.boxes)
    return images, np.arange(len(images), dtype=np.int32)
  found, index = np.unique(asked.scenes, return_inverse=True)
  images = scenes.paint(found, size=size).images
  return images, index.reshape(asked.scenes.shape).astype(np.int32)
