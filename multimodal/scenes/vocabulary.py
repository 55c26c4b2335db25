"""The words of captions: synonyms, frames, and the pieces that captions are made of."""

from typing import NamedTuple

import numpy as np

from multimodal.scenes.layout import POSES, RELATIONS, SIZES
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES

STYLES = ("formal", "informal")
# What captions leave to the picture unless they are told to say it.
UNSAID = ("pose", "background")

# Words that may stand for each other, the name of the factor first. Each belongs to one
# entry only, and those of an entry take the same article.
SYNONYMS: dict[str, tuple[str, ...]] = {
  "circle": ("circle", "disc"),
  "square": ("square", "box"),
  "triangle": ("triangle",),
  "star": ("star",),
  "cross": ("cross", "plus"),
  "ring": ("ring", "hoop"),
  "crescent": ("crescent", "moon"),
  "heart": ("heart",),
  "red": ("red", "crimson", "scarlet"),
  "orange": ("orange", "amber"),
  "yellow": ("yellow", "golden", "lemon"),
  "green": ("green", "jade"),
  "cyan": ("cyan", "turquoise"),
  "blue": ("blue", "cobalt"),
  "purple": ("purple", "violet"),
  "pink": ("pink", "rosy"),
  "plain": ("plain", "solid"),
  "striped": ("striped", "stripy"),
  "chequered": ("chequered", "checkered", "checked"),
  "small": ("small", "little", "tiny"),
  "medium": ("medium", "middling"),
  "large": ("large", "big", "huge"),
  "left of": ("left of", "further left than"),
  "right of": ("right of", "further right than"),
  "above": ("above", "over", "higher than"),
  "below": ("below", "under", "lower than"),
}

# What comes before and after, by style.
FRAMES = (
  (
    ("the picture shows", "."),
    ("this image depicts", "."),
    ("the scene contains", "."),
    ("in this picture one can see", "."),
    ("the illustration presents", "."),
    ("we observe", "."),
    ("the frame includes", "."),
    ("this drawing displays", "."),
  ),
  (
    ("look,", "!"),
    ("hey, check out", "!"),
    ("i can see", " here"),
    ("oh nice,", "!"),
    ("so we've got", "."),
    ("wow,", "!"),
    ("guess what, i spot", "!"),
    ("here's", ", cool"),
  ),
)

_NUMBERS = ("one", "two", "three", "four")
_JOINS = (" and", " as well as", " along with")
_AFTER = {"plain": "without a pattern", "striped": "with stripes"}
_AFTER["chequered"] = "with checks"


class Pieces(NamedTuple):
  """Pieces of captions and, by what they mean, their indices into `text`.

  A table is (indices [meanings, most], number of them [meanings]). Piece 0 is empty.
  """

  text: np.ndarray
  shape: tuple[np.ndarray, np.ndarray]
  colour: tuple[np.ndarray, np.ndarray]
  texture: tuple[np.ndarray, np.ndarray]
  after: tuple[np.ndarray, np.ndarray]
  size: tuple[np.ndarray, np.ndarray]
  relation: tuple[np.ndarray, np.ndarray]
  told: tuple[np.ndarray, np.ndarray]
  some: tuple[np.ndarray, np.ndarray]
  join: tuple[np.ndarray, np.ndarray]
  pose: tuple[np.ndarray, np.ndarray]
  background: tuple[np.ndarray, np.ndarray]
  start: tuple[np.ndarray, np.ndarray]
  stop: tuple[np.ndarray, np.ndarray]
  mark: tuple[np.ndarray, np.ndarray]


def _collect() -> Pieces:
  text = [""]

  def table(groups) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([len(group) for group in groups])
    indices = np.zeros((len(groups), counts.max()), np.int32)
    for row, group in enumerate(groups):
      indices[row, : len(group)] = range(len(text), len(text) + len(group))
      text.extend(group)
    return indices, counts

  spaced = lambda names: [[f" {word}" for word in SYNONYMS[name]] for name in names]
  positions = spaced(RELATIONS)
  positions[0].append(" to the left of")
  positions[1].append(" to the right of")
  things = [("object", "shape", "thing")] + 3 * [("objects", "shapes", "things")]
  numbers = [
    [f" {number} {noun}" for noun in nouns]
    for number, nouns in zip(_NUMBERS, things, strict=True)
  ]
  fields = dict(
    shape=table(spaced(SHAPES)),
    colour=table(spaced(COLOURS)),
    texture=table(spaced(TEXTURES)),
    after=table([[f" {_AFTER[name]}"] for name in TEXTURES]),
    size=table(spaced(SIZES)),
    relation=table(positions),
    told=table([[f"{words}:" for words in row] for row in numbers]),
    some=table([[f"{words}, among them" for words in row] for row in numbers]),
    join=table([_JOINS]),
    pose=table([[f" (lighter at the {side})"] for side in POSES]),
    background=table(
      [
        [", before a dark background"],
        [", before a light background"],
        [", before a gradient"],
        [", before waves"],
      ]
    ),
    start=table([[before for before, _ in frames] for frames in FRAMES]),
    stop=table([[after for _, after in frames] for frames in FRAMES]),
    mark=table([[" a", " an", ",", "; also", " and"]]),
  )
  return Pieces(text=np.array(text, object), **fields)


PIECES = _collect()
# Whether a piece takes "an".
VOWEL = np.array([piece[1:2] in tuple("aeiou") for piece in PIECES.text])


def pick(
  table: tuple[np.ndarray, np.ndarray], meaning: np.ndarray, draw: np.ndarray
) -> np.ndarray:
  """A piece for each meaning, uniform in draw; the three broadcast, -1 gives any."""
  indices, counts = table
  return indices[meaning, (draw * counts[meaning]).astype(np.int32)]
