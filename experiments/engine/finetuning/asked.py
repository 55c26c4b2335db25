"""Texts about pictures as a task is trained and measured on them."""

import dataclasses
import functools
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import question_sets
from experiments.engine.datasets.question_sets import QuestionSet
from multimodal import answers as spelling
from multimodal import tokenizer

# What a model is shown: the baselines see one of the two.
SEES = ("both", "text", "image")
# Sets whose pictures are drawings in several orders of their boxes: of each the first
# and the last column in widths of a box. The model sees each box as a picture.
_BOXES = {"nlvr_v1": ((0.0, 1.0), (1.5, 2.5), (3.0, 4.0))}
_WIDTH = 4  # boxes and the gaps between them


@dataclasses.dataclass(frozen=True, eq=False)
class AnswerTable:
  """Answers of n texts as a decoder learns them, k at most of each.

  Attributes:
    tokens: int32 [n, k, a].
    weights: float32 [n, k] that sum to 1; 0 where there is no answer.
  """

  tokens: np.ndarray
  weights: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Asked:
  """A split of texts about pictures, whole in memory.

  Attributes:
    questions: texts, pictures and answers.
    tokens: int32 [n, t] of the texts; of those that are not seen only the ends.
    boxes: first and last column, in widths of a box, of each part of a picture that the
      model sees as one of its own; () for whole pictures.
    answers: what a decoder learns to say; None where an answer is a label.
  """

  questions: QuestionSet
  tokens: np.ndarray
  boxes: tuple[tuple[float, float], ...] = ()
  answers: AnswerTable | None = None

  @property
  def name(self) -> str:
    """Of the data set."""
    return self.questions.name

  @property
  def labels(self) -> np.ndarray:
    """int32 [n] numbers of the answers; -1 if any answer may occur."""
    return self.questions.labels

  @property
  def drawings(self) -> int:
    """Drawings of each example, one of which is seen at a time."""
    index = self.questions.image_index
    return index.shape[1] if self.boxes and index.ndim == 2 else 1

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, Any]:
    """Pictures, text and answers of the examples; each epoch draws one drawing."""
    found: dict[str, Any] = {
      "image": self.pictures(rows, self._draw(rows, epoch, seed)),
      "text": self.tokens[rows],
    }
    if self.answers is not None:
      found["answers"] = self.answers.tokens[rows]
      found["weights"] = self.answers.weights[rows]
    return found

  def pictures(self, rows: np.ndarray, drawing: Any = 0) -> np.ndarray:
    """uint8 [b, h, w, 3], or [b, v, h, w, 3] where a text is about v pictures.

    Args:
      rows: [b] numbers of examples.
      drawing: number of the drawing of all, or [b] of each, where there are several.
    """
    if not self.boxes:
      return self.questions.pictures(rows)
    index = self.questions.image_index[rows]
    if index.ndim == 2:
      index = index[np.arange(len(rows)), drawing]
    whole = self.questions.images[index]
    side = whole.shape[1]
    parts = [whole[:, :, round(a * side) : round(b * side)] for a, b in self.boxes]
    return np.stack(parts, axis=1)

  def describe(self) -> str:
    """One line for people: what and how many."""
    return self.questions.describe()

  def sample(self) -> dict[str, Any]:
    """What the model reads of two examples, pictures as floats."""
    found = self.inputs(np.resize(np.arange(len(self.tokens)), 2), 0, 0)
    return found | {"image": found["image"].astype(np.float32)}

  def _draw(self, rows, epoch, seed) -> np.ndarray:
    # Drawn for all examples: which drawing one has does not depend on the batch.
    draws = np.random.default_rng((seed, epoch, 1)).integers(
      self.drawings, size=len(self.tokens)
    )
    return draws[rows]


def load_asked(config: ml_collections.ConfigDict, context: int) -> tuple[Asked, Asked]:
  """Training and test split of a config.

  Args:
    config: `data` (`name`, `image_size`, splits and limits), `sees`, `data_dir`,
      `seed`.
    context: most tokens of a text.

  Raises:
    UsageError: an unknown set or split, or a value of `sees` that is none.
    UserError: the data cannot be read, or the splits have other answers.
  """
  if config.sees not in SEES:
    raise errors.unknown("value of sees", config.sees, SEES)
  data = config.data
  boxes = _BOXES.get(data.name, ())
  side = data.image_size
  load = functools.partial(
    question_sets.load_questions,
    data.name,
    data_dir=config.data_dir,
    image_size=(side, _WIDTH * side) if boxes else side,
  )
  train = load(data.train, limit=data.train_limit, seed=config.seed)
  test = load(data.test, limit=data.test_limit, seed=0)
  if train.label_names != test.label_names:
    raise errors.UserError(
      f"the splits '{data.train}' and '{data.test}' of {data.name} number their "
      "answers differently; prepare the set again"
    )
  make = functools.partial(_make, config.sees, context, boxes)
  return make(train), make(test)


def _make(sees, context, boxes, questions: QuestionSet) -> Asked:
  texts = questions.texts if sees != "image" else [""] * len(questions.texts)
  tokens = read_texts(texts, context, questions.name)
  return Asked(questions, tokenizer.without_padding(tokens), boxes)


def read_texts(texts: Sequence[str], context: int, name: str) -> np.ndarray:
  """Tokens [n, context]; texts that are too long are counted on standard error."""
  tokens, cut = tokenizer.load().batch(list(texts), context)
  if cut:
    print(
      f"note: {cut:,} of {len(texts):,} texts of {name} are longer than {context} "
      "tokens and were cut (model.context)",
      file=sys.stderr,
    )
  return tokens


def known_answers(asked: Asked, most: int = 0) -> tuple[str, ...]:
  """The list that answers are chosen from.

  Args:
    asked: training split.
    most: so many of the commonest; 0 for all.

  Returns:
    The answers of the set, if it has a list; else those given in training, the
    commonest first, in the spelling of VQA's scorer.
  """
  questions = asked.questions
  if questions.label_names:
    return questions.label_names
  said = [answer for given in questions.given for answer in given]
  return spelling.frequent_answers(said, most=most or None)


def with_answers(asked: Asked, context: int) -> Asked:
  """The split with the answers that a decoder learns, and their weights.

  Args:
    asked: training split.
    context: most tokens of an answer, start and end counted; longer ones are cut and
      counted on standard error.
  """
  shares = [spelling.answer_weights(given) for given in asked.questions.given]
  most = max(map(len, shares))
  weights = np.zeros((len(shares), most), np.float32)
  flat = []
  for row, share in enumerate(shares):
    weights[row, : len(share)] = list(share.values())
    flat += [*share, *[""] * (most - len(share))]
  tokens = read_texts(flat, context, f"the answers of {asked.name}")
  table = AnswerTable(tokens.reshape(len(shares), most, context), weights)
  return dataclasses.replace(asked, answers=table)
