"""The words of English captions: synonyms, frames, and the pieces they are made of."""

import numpy as np

from multimodal.scenes import pieces
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


def _make() -> pieces.Language:
  spaced = lambda names: [[f" {word}" for word in SYNONYMS[name]] for name in names]
  positions = spaced(RELATIONS)
  positions[0].append(" to the left of")
  positions[1].append(" to the right of")
  things = [("object", "shape", "thing")] + 3 * [("objects", "shapes", "things")]
  numbers = [
    [f" {number} {noun}" for noun in nouns]
    for number, nouns in zip(_NUMBERS, things, strict=True)
  ]
  groups: dict[str, list] = dict(
    shape=spaced(SHAPES),
    colour=spaced(COLOURS),
    texture=spaced(TEXTURES),
    after=[[f" {_AFTER[name]}"] for name in TEXTURES],
    size=spaced(SIZES),
    relation=positions,
    told=[[f"{words}:" for words in row] for row in numbers],
    some=[[f"{words}, among them" for words in row] for row in numbers],
    join=[_JOINS],
    comma=[[","]],
    besides=[["; also"]],
    then=[[" and"]],
    article=[[(" a", " an")]],
    pose=[[f" (lighter at the {side})"] for side in POSES],
    background=[
      [", before a dark background"],
      [", before a light background"],
      [", before a gradient"],
      [", before waves"],
    ],
    start=[[before for before, _ in frames] for frames in FRAMES],
    stop=[[after for _, after in frames] for frames in FRAMES],
  )
  text, tables = pieces.collect(groups, forms=2)
  none = np.zeros(text.shape[1], np.int32)
  return pieces.Language(
    text=text,
    tables=tables,
    frame_forms=np.zeros((len(FRAMES), len(FRAMES[0])), np.int32),
    beside_form=0,
    noun_forms=none,
    opening_forms=np.array([x[1:2] in tuple("aeiou") for x in text[0]], np.int32),
    streams=(16, 3),
  )


ENGLISH = _make()
