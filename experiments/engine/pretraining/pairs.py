"""Examples that several towers read: pictures with captions, vectors and the like.

Each tower has a column: what it reads of each example. Like an image set, a pair set
is whole in memory, and what a step sees is a function of (seed, epoch, example).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from multimodal import wording
from multimodal.scenes import german
from multimodal.tokenizer import Tokenizer, without_padding

REWORDINGS: dict[str, wording.Rates] = {
  "eda": wording.EDA,
  # Only what leaves a caption true.
  "synonyms": wording.Rates(synonym=0.5, insertion=0.0, swap=0.0, deletion=0.0),
  "dropout": wording.Rates(synonym=0.0, insertion=0.0, swap=0.0, deletion=0.2),
}
# By language: the words that may stand for each other.
_SYNONYMS = {
  "en": wording.CAPTION_SYNONYMS,
  "de": wording.synonym_table(german.synonym_groups()),
}


class Column(Protocol):
  """What one tower reads of n examples."""

  @property
  def attributes(self) -> Mapping[str, np.ndarray]:
    """Labels of what the tower reads, where they are not those of the set."""

  def __len__(self) -> int:
    """Number of examples."""

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, np.ndarray]:
    """{"base": [len(rows), ...]}, and "view" where augmented inputs are made here."""

  def sample(self) -> np.ndarray:
    """Two inputs of the shape that the encoder reads."""

  def take(self, rows: np.ndarray) -> "Column":
    """The examples `rows`; of those with several inputs the first."""

  def describe(self) -> str:
    """A few words for people."""


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
  """Pictures uint8 [n, h, w, c]; their views are made on the devices."""

  pixels: np.ndarray
  attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.pixels)

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, np.ndarray]:
    """The pictures of the examples, in any epoch."""
    del epoch, seed
    return {"base": self.pixels[rows]}

  def sample(self) -> np.ndarray:
    """Two blank pictures, as the encoder reads them."""
    return np.zeros((2, *self.pixels.shape[1:]), np.float32)

  def take(self, rows: np.ndarray) -> "Images":
    """The pictures of the examples `rows`."""
    return Images(self.pixels[rows], take_labels(self.attributes, rows))

  def describe(self) -> str:
    """Their size."""
    return f"images of {' x '.join(map(str, self.pixels.shape[1:]))}"


@dataclasses.dataclass(frozen=True, eq=False)
class Vectors:
  """Plain vectors float32 [n, d], and others [n, d] that are their augmented inputs."""

  values: np.ndarray
  views: np.ndarray | None = None
  attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.values)

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, np.ndarray]:
    """The vectors of the examples, in any epoch."""
    del epoch, seed
    found = {"base": self.values[rows]}
    return found if self.views is None else found | {"view": self.views[rows]}

  def sample(self) -> np.ndarray:
    """Two zero vectors."""
    return np.zeros((2, *self.values.shape[1:]), np.float32)

  def take(self, rows: np.ndarray) -> "Vectors":
    """The vectors of the examples `rows`."""
    views = None if self.views is None else self.views[rows]
    return Vectors(self.values[rows], views, take_labels(self.attributes, rows))

  def describe(self) -> str:
    """Their width."""
    return f"vectors of {self.values.shape[1]}"


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
  """Captions, one or more an example, of which each epoch draws one.

  Attributes:
    captions: of each example.
    tokens: int32 [m, t] of all captions, example after example.
    first: [n + 1] number of each example's first caption among all, and m.
    context: most tokens of a caption.
    cut: how many captions were longer.
    tokenizer: that made the tokens.
    reworded: name in REWORDINGS of the augmented captions, or "" for none.
    language: "en" or "de": whose synonyms reword it.
    stream: towers of other streams draw their captions apart.
    attributes: as in `Column`.
  """

  captions: Sequence[Sequence[str]]
  tokens: np.ndarray
  first: np.ndarray
  context: int
  cut: int
  tokenizer: Tokenizer
  reworded: str = ""
  language: str = "en"
  stream: int = 1
  attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.captions)

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, np.ndarray]:
    """Tokens of one caption of each example and, if asked, of another wording."""
    # Drawn for all examples: which caption one has does not depend on the batch.
    draw = np.random.default_rng((seed, epoch, self.stream)).random(len(self))[rows]
    counts = np.diff(self.first)[rows]
    number = np.minimum((draw * counts).astype(np.int64), counts - 1)
    base = self.tokens[self.first[rows] + number]
    if not self.reworded:
      return {"base": base}
    chosen = [
      self.captions[row][i]
      for row, i in zip(rows.tolist(), number.tolist(), strict=True)
    ]
    words = wording.reword(
      chosen,
      rows.tolist(),
      seed=seed,
      epoch=epoch,
      rates=REWORDINGS[self.reworded],
      synonyms=_SYNONYMS[self.language],
    )
    view, _ = self.tokenizer.batch(words, self.context)
    return {"base": base, "view": view}

  def sample(self) -> np.ndarray:
    """Two rows without tokens, as long as a text may be."""
    return np.zeros((2, self.context), np.int32)

  def take(self, rows: np.ndarray) -> "Texts":
    """The first captions of the examples `rows`."""
    return dataclasses.replace(
      self,
      captions=[self.captions[row][:1] for row in rows.tolist()],
      tokens=self.tokens[self.first[rows]],
      first=np.arange(len(rows) + 1),
      attributes=take_labels(self.attributes, rows),
    )

  def describe(self) -> str:
    """How many captions there are."""
    return f"{len(self.tokens):,} captions of up to {self.tokens.shape[1]} tokens"

  def example(self) -> np.ndarray:
    """[m] number of the example that each caption belongs to."""
    return np.repeat(np.arange(len(self)), np.diff(self.first))


def take_labels(
  attributes: Mapping[str, np.ndarray], rows: np.ndarray
) -> dict[str, np.ndarray]:
  """The labels of the examples `rows`."""
  return {name: labels[rows] for name, labels in attributes.items()}


def make_texts(
  captions: Sequence[Sequence[str]],
  tokenizer: Tokenizer,
  context: int,
  reworded: str = "",
  **about: Any,
) -> Texts:
  """Tokenises the captions of a set.

  Args:
    captions: of each example, one or more.
    tokenizer: words to ids.
    context: most tokens of a caption, start and end counted; longer ones are cut.
    reworded: as in `Texts`.
    about: `language`, `stream` and `attributes` of `Texts`.
  """
  flat = [text for texts in captions for text in texts]
  tokens, cut = tokenizer.batch(flat, context)
  if not reworded:  # other words may be longer
    tokens = without_padding(tokens)
  counts = [len(texts) for texts in captions]
  first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
  return Texts(captions, tokens, first, context, cut, tokenizer, reworded, **about)


@dataclasses.dataclass(frozen=True, eq=False)
class PairSet:
  """A split, whole in memory, whose examples several towers read.

  Attributes:
    name: of the data set.
    columns: by tower.
    labels: int32 [n] classes of zero-shot classification; -1 where there is none.
    class_names: the words of each label; empty without classes.
    attributes: int32 [n] by name, for probes; [n, captions] where each caption has a
      label of its own. Those of a column go before them.
  """

  name: str
  columns: Mapping[str, Column]
  labels: np.ndarray
  class_names: tuple[str, ...] = ()
  attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, Any]:
    """What each tower reads of the examples `rows` in an epoch."""
    return {
      name: column.inputs(rows, epoch, seed) for name, column in self.columns.items()
    }

  def describe(self) -> str:
    """One line for people: what and how many."""
    towers = "; ".join(f"{k}: {v.describe()}" for k, v in self.columns.items())
    return f"{self.name}: {len(self.labels):,} examples ({towers})"
