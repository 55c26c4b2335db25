"""Reads generated English back, and guesses from words alone: for tests of scenes.

Nothing here is taken from the generator: words and grammar are written down once more.
"""

import re
import warnings
import zlib

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from multimodal import scenes

FACTORS = ("shape", "colour", "texture", "size")
_NAMES = {
  "shape": "circle disc, square box, triangle, star, cross plus, ring hoop, "
  "crescent moon, heart",
  "colour": "red crimson scarlet, orange amber, yellow golden lemon, green jade, "
  "cyan turquoise, blue cobalt, purple violet, pink rosy",
  "texture": "plain solid, striped stripy, chequered checkered checked",
  "size": "small little tiny, medium middling, large big huge",
}
# Word -> factor and the name that stands for all words of its meaning.
WORDS = {
  word: (factor, group.split()[0])
  for factor, groups in _NAMES.items()
  for group in groups.split(", ")
  for word in group.split()
}
_AFTER = {"without a pattern": "plain", "with stripes": "striped"}
_AFTER["with checks"] = "chequered"
_PLURALS = {"box": "boxes", "cross": "crosses", "plus": "pluses"}
_SHAPES = [word for word, (factor, _) in WORDS.items() if factor == "shape"]
_SINGULAR = {_PLURALS.get(word, word + "s"): word for word in _SHAPES}
_NOUNS = [*_SHAPES, *_SINGULAR, "object", "objects", "thing", "things"]
_ADJECTIVES = [word for word in WORDS if word not in _SHAPES]
_EITHER = lambda words: "|".join(sorted(words, key=len, reverse=True))
# A noun phrase without its article, one value of a factor, and a relation.
NOUN = (
  rf"((?:(?:{_EITHER(_ADJECTIVES)}) )*(?:{_EITHER(_NOUNS)})(?: (?:{_EITHER(_AFTER)}))?)"
)
VALUE = rf"((?:an? )?(?:{_EITHER(WORDS)}))"
RELATION_WORDS = {
  "left of": "left",
  "to the left of": "left",
  "further left than": "left",
  "right of": "right",
  "to the right of": "right",
  "further right than": "right",
  "above": "above",
  "over": "above",
  "higher than": "above",
  "below": "below",
  "under": "below",
  "lower than": "below",
}
RELATION = rf"({_EITHER(RELATION_WORDS)})"
_WAYS = {"left": (0, -1), "right": (0, 1), "above": (1, -1), "below": (1, 1)}


def objects(
  ids: np.ndarray, take: int = 0, level: scenes.Crowd = scenes.CROWD
) -> list[list[dict]]:
  """The objects of each scene: names of their factors, and (x, y)."""
  layout = scenes.compose(ids, take=take, level=level)
  names = (scenes.SHAPES, scenes.COLOURS, scenes.TEXTURES, scenes.SIZES)
  found: list[list[dict]] = []
  for row in range(len(ids)):
    found.append([])
    for k in range(layout.number[row]):
      thing: dict = {
        factor: known[getattr(layout, factor)[row, k]]
        for factor, known in zip(FACTORS, names, strict=True)
      }
      thing["at"] = (layout.x[row, k], layout.y[row, k])
      found[-1].append(thing)
  return found


def said(phrase: str) -> dict[str, str]:
  """Factor -> value that a noun phrase says."""
  found = {}
  for tail, texture in _AFTER.items():
    if phrase.endswith(" " + tail):
      phrase = phrase.removesuffix(" " + tail)
      found["texture"] = texture
  for word in phrase.split():
    word = _SINGULAR.get(word, word)
    if word not in ("object", "objects", "thing", "things"):
      factor, value = WORDS[word]
      assert factor not in found, phrase
      found[factor] = value
  return found


def value(words: str) -> tuple[str, str]:
  """Factor and value of "red", "a circle", ...; articles belong to shapes alone."""
  article, _, word = words.rpartition(" ")
  factor, name = WORDS[word]
  assert (article != "") == (factor == "shape"), words
  assert article in ("", "an" if word[0] in "aeiou" else "a"), words
  return factor, name


def fitting(scene: list[dict], phrase: str) -> list[dict]:
  """The objects that a noun phrase fits."""
  wanted = said(phrase).items()
  return [thing for thing in scene if all(thing[f] == v for f, v in wanted)]


def the(scene: list[dict], phrase: str) -> dict:
  """The one object that a noun phrase names."""
  (found,) = fitting(scene, phrase)
  return found


def further(one: dict, other: dict, way: str) -> float:
  """How much further that way the one stands, in sides of the picture."""
  axis, sign = _WAYS[way]
  return sign * (one["at"][axis] - other["at"][axis])


def stands(one: dict, other: dict, way: str) -> bool:
  """Whether it stands that way; it must be clear that it does, or the contrary."""
  distance = further(one, other, way)
  assert abs(distance) >= scenes.MARGIN
  return distance > 0


def read(text: str, readings: dict) -> tuple:
  """The function of the only pattern that fits a text, and its groups."""
  found = [
    (meaning, match.groups())
    for pattern, meaning in readings.items()
    if (match := re.fullmatch(pattern, text))
  ]
  assert len(found) == 1, (text, len(found))
  return found[0]


def checksum(texts: list[str]) -> str:
  """Of texts, for pins."""
  return f"{zlib.crc32(chr(10).join(texts).encode()):08x}"


def guesses(texts, labels: np.ndarray, train: int, more=None) -> np.ndarray:
  """Labels guessed from words and pairs of words, for what follows the first `train`.

  Args:
    texts: n of them.
    labels: [n].
    train: how many to learn from.
    more: [n, k] further features.
  """
  count = CountVectorizer(ngram_range=(1, 2), token_pattern=r"[a-z']+", min_df=2)
  features = count.fit(texts[:train]).transform(texts).astype(np.float64)
  if more is not None:
    features = np.concatenate([features.toarray(), more], axis=1)
  model = LogisticRegression(C=0.1, max_iter=30, tol=1e-3)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)
    model.fit(features[:train], labels[:train])
  return model.predict(features[train:])
