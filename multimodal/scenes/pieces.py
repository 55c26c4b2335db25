"""Captions as rows of pieces: what a language has to say, as tables of words.

A piece is a word or a few, and may have several forms, of which the rest of a phrase
decides: English articles have two, before consonants and before vowels; what stands
with a German noun has one for each case and gender.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

# A piece, or its forms where it has several.
Piece = str | tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Language:
  """Pieces of captions and how they agree with each other.

  The form of what is said of an object is the sum of three: that of the frame (or of
  what a relation asks for), of the noun, and of the first piece after the article.

  Attributes:
    text: str [forms, pieces]; piece 0 is empty.
    tables: by what is said: (indices into the pieces [meanings, most], how many there
      are of each meaning [meanings]).
    frame_forms: int [styles, frames], of objects that are named in a frame.
    beside_form: of the object behind a relation.
    noun_forms: int [pieces].
    opening_forms: int [pieces].
    streams: first stream of the draws of captions, one for each number; and the stream
      of the first frame. Each language has its own.
  """

  text: np.ndarray
  tables: Mapping[str, tuple[np.ndarray, np.ndarray]]
  frame_forms: np.ndarray
  beside_form: int
  noun_forms: np.ndarray
  opening_forms: np.ndarray
  streams: tuple[int, int]

  def pick(self, what: str, meaning, draw=0.0) -> np.ndarray:
    """A piece for each meaning, uniform in draw; they broadcast, -1 gives any."""
    indices, counts = self.tables[what]
    number = np.asarray(draw * counts[meaning]).astype(np.int32)
    return indices[meaning, number]


def collect(
  groups: Mapping[str, Sequence[Sequence[Piece]]], forms: int
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
  """`text` and `tables` of a Language.

  Args:
    groups: by what is said, the pieces of each meaning.
    forms: how many forms a piece has; one that is given alone is the same in all.
  """
  text: list[tuple[str, ...]] = [("",) * forms]
  tables = {}
  for what, meanings in groups.items():
    counts = np.array([len(pieces) for pieces in meanings])
    indices = np.zeros((len(meanings), counts.max()), np.int32)
    for row, pieces in enumerate(meanings):
      indices[row, : len(pieces)] = range(len(text), len(text) + len(pieces))
      text += [(x,) * forms if isinstance(x, str) else x for x in pieces]
    tables[what] = indices, counts
  return np.array(text, object).T, tables
