"""The words of German captions, and how they are declined.

What stands behind "ein" takes the endings of the mixed declension, by the case that the
frame governs (nominative, accusative or dative) and the gender of the noun; behind
"links von", "über" and their like everything is in the dative:

  das bild zeigt einen kleinen roten kreis links von einer gestreiften sichel.
  ein bild mit einem kleinen roten kreis unter einem herzen.
  schau mal, ein kleiner roter kreis!

Words are in lower case, as those of English captions are.
"""

import numpy as np

from multimodal.scenes import pieces
from multimodal.scenes.layout import POSES, RELATIONS, SIZES
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES

_NOMINATIVE, _ACCUSATIVE, _DATIVE = range(3)
_GENDERS = ("m", "f", "n")
# By case and gender, and so by form: 3 * case + gender.
_ARTICLES = ("ein", "eine", "ein", "einen", "eine", "ein", "einem", "einer", "einem")
_ENDINGS = ("er", "e", "es", "en", "e", "es", "en", "en", "en")

# Nouns that may stand for each other, with their gender.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
  "circle": (("kreis", "m"), ("scheibe", "f")),
  "square": (("quadrat", "n"), ("viereck", "n")),
  "triangle": (("dreieck", "n"),),
  "star": (("stern", "m"),),
  "cross": (("kreuz", "n"), ("pluszeichen", "n")),
  "ring": (("ring", "m"), ("reifen", "m")),
  "crescent": (("mondsichel", "f"), ("halbmond", "m"), ("sichel", "f")),
  "heart": (("herz", "n"),),
}
# Those that are not the same in every case.
_DATIVES = {"herz": "herzen"}

# Adjectives that may stand for each other, without their endings.
ADJECTIVES: dict[str, tuple[str, ...]] = {
  "red": ("rot", "karminrot", "scharlachrot"),
  "orange": ("orangefarben", "bernsteinfarben"),
  "yellow": ("gelb", "goldgelb", "zitronengelb"),
  "green": ("grün", "jadegrün"),
  "cyan": ("türkisfarben", "cyanfarben"),
  "blue": ("blau", "kobaltblau"),
  "purple": ("violett", "lilafarben"),
  "pink": ("rosafarben", "pinkfarben"),
  "plain": ("einfarbig", "ungemustert"),
  "striped": ("gestreift",),
  "chequered": ("kariert", "gewürfelt"),
  "small": ("klein", "winzig"),
  "medium": ("mittelgroß",),
  "large": ("groß", "riesig"),
}

# All with the dative.
POSITIONS: dict[str, tuple[str, ...]] = {
  "left of": ("links von", "zur linken von"),
  "right of": ("rechts von", "zur rechten von"),
  "above": ("über", "oberhalb von"),
  "below": ("unter", "unterhalb von"),
}

# What comes before and after, and the case of what is named, by style.
_CASED = (
  (
    ("das bild zeigt", ".", _ACCUSATIVE),
    ("auf dieser abbildung sieht man", ".", _ACCUSATIVE),
    ("ein bild mit", ".", _DATIVE),
    ("die szene enthält", ".", _ACCUSATIVE),
    ("eine aufnahme, darauf", ".", _NOMINATIVE),
    ("die illustration präsentiert", ".", _ACCUSATIVE),
    ("eine zeichnung mit", ".", _DATIVE),
    ("wir betrachten", ".", _ACCUSATIVE),
  ),
  (
    ("schau mal,", "!", _NOMINATIVE),
    ("ich seh hier", ", cool", _ACCUSATIVE),
    ("oh schön,", "!", _NOMINATIVE),
    ("krass, ein bild mit", "!", _DATIVE),
    ("wow,", "!", _NOMINATIVE),
    ("rat mal, ich entdecke", "!", _ACCUSATIVE),
    ("na so was,", "!", _NOMINATIVE),
    ("hier gibt's", ".", _ACCUSATIVE),
  ),
)
FRAMES = tuple(
  tuple((before, after) for before, after, _ in frames) for frames in _CASED
)

# Of what there is so much of: (one, several, several in the dative) and the article of
# one in any case.
_THINGS = (
  (("objekt", "objekte", "objekten"), _ARTICLES[2::3]),
  (("form", "formen", "formen"), _ARTICLES[1::3]),
  (("ding", "dinge", "dingen"), _ARTICLES[2::3]),
)
_NUMBERS = ("zwei", "drei", "vier")
_JOINS = (" und", " sowie", " und auch")
_AFTER = {"plain": "ohne muster", "striped": "mit streifen"}
_AFTER["chequered"] = "mit karomuster"
_SIDES = {"right": "rechts", "bottom": "unten", "left": "links", "top": "oben"}


def synonym_groups() -> list[tuple[str, ...]]:
  """Words that may stand for each other wherever they occur.

  The adjectives of a group have one ending and its nouns one gender, so that an
  exchange leaves a caption true and its grammar whole.
  """
  groups = [
    tuple(stem + ending for stem in stems)
    for stems in ADJECTIVES.values()
    for ending in dict.fromkeys(_ENDINGS)
  ]
  for nouns in NOUNS.values():
    for gender in _GENDERS:
      groups.append(tuple(noun for noun, its in nouns if its == gender))
  groups += POSITIONS.values()
  objects, _, things = (nouns for nouns, _ in _THINGS)
  groups += zip(objects, things, strict=True)
  return [group for group in groups if len(group) > 1]


def _noun(noun: str) -> pieces.Piece:
  return (f" {noun}",) * 6 + (f" {_DATIVES.get(noun, noun)}",) * 3


def _counted(number: int, behind: str) -> list[pieces.Piece]:
  """So many objects, shapes or things in every form; the gender is their own."""
  found: list[pieces.Piece] = []
  for nouns, articles in _THINGS:
    if number == 1:
      words = [f" {article} {nouns[0]}{behind}" for article in articles]
    else:
      plurals = (nouns[1], nouns[1], nouns[2])
      words = [f" {_NUMBERS[number - 2]} {noun}{behind}" for noun in plurals]
    found.append(tuple(word for word in words for _ in _GENDERS))
  return found


def _make() -> pieces.Language:
  declined = lambda names: [
    [tuple(f" {stem}{ending}" for ending in _ENDINGS) for stem in ADJECTIVES[name]]
    for name in names
  ]
  groups: dict[str, list] = dict(
    shape=[[_noun(noun) for noun, _ in NOUNS[name]] for name in SHAPES],
    colour=declined(COLOURS),
    texture=declined(TEXTURES),
    after=[[f" {_AFTER[name]}"] for name in TEXTURES],
    size=declined(SIZES),
    relation=[[f" {words}" for words in POSITIONS[name]] for name in RELATIONS],
    told=[_counted(number, ":") for number in range(1, 5)],
    some=[_counted(number, ", darunter") for number in range(1, 5)],
    join=[_JOINS],
    comma=[[","]],
    besides=[["; außerdem"]],
    then=[[" und"]],
    article=[[tuple(f" {article}" for article in _ARTICLES)]],
    pose=[[f" ({_SIDES[side]} heller)"] for side in POSES],
    background=[
      [", vor dunklem hintergrund"],
      [", vor hellem hintergrund"],
      [", vor einem farbverlauf"],
      [", vor wellen"],
    ],
    start=[[before for before, _ in frames] for frames in FRAMES],
    stop=[[after for _, after in frames] for frames in FRAMES],
  )
  text, tables = pieces.collect(groups, forms=len(_ARTICLES))
  genders = np.zeros(text.shape[1], np.int32)
  for name, row in zip(SHAPES, tables["shape"][0], strict=True):
    for place, (_, gender) in enumerate(NOUNS[name]):
      genders[row[place]] = _GENDERS.index(gender)
  cases = np.array([[case for *_, case in frames] for frames in _CASED], np.int32)
  return pieces.Language(
    text=text,
    tables=tables,
    frame_forms=len(_GENDERS) * cases,
    beside_form=len(_GENDERS) * _DATIVE,
    noun_forms=genders,
    opening_forms=np.zeros_like(genders),
    streams=(2**33, 4),
  )


GERMAN = _make()
