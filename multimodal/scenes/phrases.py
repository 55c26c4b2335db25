"""Names of objects in English questions and statements, made from descriptions."""

import numpy as np

from multimodal.scenes.search import COLOUR, SHAPE, SIZE, TEXTURE, pick
from multimodal.scenes.vocabulary import ENGLISH

DRAWS = 5  # that a name needs

_KINDS = ("shape", "colour", "texture", "size")
_NOUNS = np.array([" object", " thing"], object)


def nouns(said: np.ndarray, drawn: np.ndarray, *, varied: bool = True) -> list[str]:
  """Names such as "large red star", "thing with stripes", without an article.

  Args:
    said: int32 [n, 4] descriptions; -1 for what is not said.
    drawn: [n, 5] in [0, 1).
    varied: whether other words may stand for the names of factors, and "thing" for
      "object".
  """
  return [_joined(parts) for parts in _parts(said, drawn, varied)]


def plurals(said: np.ndarray, drawn: np.ndarray) -> list[str]:
  """Names of any number of objects, such as "red boxes"; arguments as in `nouns`."""
  return [
    _joined((before, noun + ("es" if noun[-1] in "sx" else "s"), after))
    for before, noun, after in _parts(said, drawn, varied=True)
  ]


def with_article(names: list[str]) -> list[str]:
  """Names with "a" or "an" before them."""
  return [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]


def predicates(said: np.ndarray, drawn: np.ndarray) -> list[str]:
  """What an object is said to be: "red", "striped", "large", "a star".

  Args:
    said: int32 [n, 4] descriptions that say one factor each.
    drawn: as in `nouns`.
  """
  factor = (said >= 0).argmax(1)
  names = np.full(len(said), "", object)
  for column in range(said.shape[1]):
    rows = factor == column
    names[rows] = _words(column, said[rows, column], drawn[rows, column])
  bare = [name.strip() for name in names.tolist()]
  shapes = with_article(bare)
  return [
    shape if column == SHAPE else name
    for name, shape, column in zip(bare, shapes, factor.tolist(), strict=True)
  ]


def relation_words(relation: np.ndarray, drawn: np.ndarray) -> list[str]:
  """Words of RELATIONS [n], such as "to the left of"; "" for -1."""
  found = np.where(relation >= 0, ENGLISH.pick("relation", relation, drawn), 0)
  return [words.strip() for words in ENGLISH.text[0, found].tolist()]


def _joined(parts: tuple[str, str, str]) -> str:
  return "".join(parts).lstrip()


def _words(column: int, meaning: np.ndarray, draw: np.ndarray | float) -> np.ndarray:
  """Words of one factor with a space before them; half of them the factor's name."""
  piece = ENGLISH.pick(_KINDS[column], meaning, np.maximum(0, 2 * np.asarray(draw) - 1))
  return ENGLISH.text[0, np.where(meaning >= 0, piece, 0)]


def _parts(
  said: np.ndarray, drawn: np.ndarray, varied: bool
) -> list[tuple[str, str, str]]:
  """What stands before the noun, the noun, and what stands after it."""
  share = float(varied)
  noun = np.where(
    said[:, SHAPE] >= 0,
    _words(SHAPE, said[:, SHAPE], share * drawn[:, 0]),
    _NOUNS[pick(share * drawn[:, 0], 2)],
  )
  colour = _words(COLOUR, said[:, COLOUR], share * drawn[:, 1])
  texture = _words(TEXTURE, said[:, TEXTURE], share * drawn[:, 2])
  size = _words(SIZE, said[:, SIZE], share * drawn[:, 3])
  # Where the texture stands: before the colour, behind it, or behind the noun.
  where = share * drawn[:, 4]
  after = np.where(
    (where >= 0.8) & (said[:, TEXTURE] >= 0), ENGLISH.pick("after", said[:, TEXTURE]), 0
  )
  texture = np.where(after > 0, "", texture)
  middle = np.where(where < 0.4, texture + colour, colour + texture)
  columns = (size + middle, noun, ENGLISH.text[0, after])
  return list(zip(*(column.tolist() for column in columns), strict=True))
