"""Captions: several for each scene, in varying words, each one true of it.

A caption names the main object and, by chance, others; it leaves out sizes, colours and
textures by chance, and may tell the number of objects or how two of them stand. It is
put together from pieces that are picked for all scenes at once.

The frame around what is said is formal or informal. That is a property of the caption
alone; words that may stand for each other are picked apart from it, so swapping them
keeps it.

English and German captions of one number are drawn apart: both are true of the scene,
but one is no translation of the other.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.german import GERMAN
from multimodal.scenes.layout import (
  CROWD,
  MAX_OBJECTS,
  Crowd,
  Layout,
  compose,
  relations,
)
from multimodal.scenes.pieces import Language
from multimodal.scenes.vocabulary import ENGLISH, STYLES, UNSAID

LANGUAGES: Mapping[str, Language] = {"en": ENGLISH, "de": GERMAN}

# How often what may be said is said.
_SAY_OTHER, _SAY_RELATION, _SAY_COUNT = 0.7, 0.6, 0.3
_SAY_COLOUR, _SAY_TEXTURE, _SAY_SIZE = 0.8, 0.7, 0.4

_CHUNK = 4096  # scenes at a time


def captions(
  ids: np.ndarray,
  *,
  seed: int = 0,
  level: Crowd = CROWD,
  which: Sequence[int] = range(5),
  reveal: Sequence[str] = (),
  language: str = "en",
) -> list[list[str]]:
  """Returns captions of scenes of several objects.

  They are in lower case, of letters (of ASCII, if English) with the marks
  . , : ; ! ( ) and '. "A ring above a star" means that there are such a ring and such a
  star; objects named in one caption are different ones. Captions of a scene in one
  language whose numbers differ by less than 8 always differ.

  Args:
    ids: [n] integers, not negative.
    seed: as in `compose`.
    level: as in `compose`.
    which: numbers of the captions, from 0; there is no end of them.
    reveal: of UNSAID, what every caption is to say all the same: the pose of the main
      object, or the kind of background.
    language: one of LANGUAGES, "en" or "de".

  Returns:
    n lists with a caption for each number in `which`; a pure function of (seed, id,
    number), the level, what is revealed, and the language.

  Raises:
    ValueError: a negative number, an unknown language, or `reveal` names something
      else.
  """
  words = _language(language)
  if not set(reveal) <= set(UNSAID):
    raise ValueError(f"captions cannot reveal {list(reveal)}; choose from {UNSAID}")
  if min(which, default=0) < 0:
    raise ValueError(f"captions have numbers from 0, not {min(which)}")
  ids = np.asarray(ids)
  found: list[list[str]] = []
  for start in range(0, len(ids), _CHUNK):
    rows = ids[start : start + _CHUNK]
    layout = compose(rows, seed=seed, level=level)
    holds = relations(layout)
    columns = [_write(words, rows, seed, layout, holds, k, reveal) for k in which]
    found += [[column[i] for column in columns] for i in range(len(rows))]
  return found


def caption_styles(
  ids: np.ndarray,
  *,
  seed: int = 0,
  which: Sequence[int] = range(5),
  language: str = "en",
) -> np.ndarray:
  """Returns the style of each caption: int32 [n, len(which)], indices into STYLES."""
  stream = _language(language).streams[0]
  styles = [_style(draws.uniform(seed, ids, 1, stream + k)[:, 0]) for k in which]
  return np.array(styles, np.int32).reshape(len(which), len(ids)).T


def _language(name: str) -> Language:
  if name not in LANGUAGES:
    raise ValueError(
      f"captions have no language '{name}'; choose from {list(LANGUAGES)}"
    )
  return LANGUAGES[name]


def _style(draw: np.ndarray) -> np.ndarray:
  return (draw * len(STYLES)).astype(np.int32)


def _write(
  words: Language,
  ids: np.ndarray,
  seed: int,
  layout: Layout,
  holds: np.ndarray,
  number: int,
  reveal: Sequence[str],
) -> list[str]:
  """One caption of each scene."""
  n = len(ids)
  stream, frame_stream = words.streams
  drawn = draws.uniform(seed, ids, 7 + 10 * MAX_OBJECTS, stream + number)
  objects = drawn[:, 7:].reshape(n, 10, MAX_OBJECTS)
  style = _style(drawn[:, 0])
  # Frames take turns, so that neighbouring captions differ whatever else is drawn.
  frames = words.frame_forms.shape[1]
  first = draws.uniform(seed, ids, 1, frame_stream)[:, 0]
  frame = ((first * frames).astype(np.int32) + number) % frames

  named = layout.present & (objects[:, 0] < _SAY_OTHER)
  named[:, 0] = True
  order = np.argsort(np.where(named, objects[:, 1], 2), axis=1, kind="stable")
  some = named.sum(1)
  related = (some > 1) & (drawn[:, 2] < _SAY_RELATION)
  form = words.frame_forms[style, frame]
  place = np.arange(MAX_OBJECTS)
  asked = np.where(related[:, None] & (place == 1), words.beside_form, form[:, None])
  phrases, forms = _phrases(words, layout, objects, order, asked)
  if "pose" in reveal:
    pose = words.pick("pose", layout.pose[:, 0])
    phrases[..., -1] = np.where(order == 0, pose[:, None], 0)
  phrases[..., 0] = _connectors(words, holds, drawn, order, some, related)
  phrases[place >= some[:, None]] = 0

  table = [words.pick(x, layout.number - 1, drawn[:, 5]) for x in ("told", "some")]
  told = np.where(some == layout.number, *table)
  told = np.where(drawn[:, 6] < _SAY_COUNT, told, 0)
  before = np.stack([words.tables["start"][0][style, frame], told], axis=1)
  background = words.pick("background", layout.background)
  if "background" not in reveal:
    background = np.zeros_like(background)
  after = np.stack([background, words.tables["stop"][0][style, frame]], axis=1)
  pieces = np.concatenate([before, phrases.reshape(n, -1), after], axis=1)
  outside = np.repeat(form[:, None], 2, axis=1)
  inside = np.repeat(forms, phrases.shape[2], axis=1)
  chosen = words.text[np.concatenate([outside, inside, outside], axis=1), pieces]
  return ["".join(row) for row in chosen.tolist()]


def _connectors(
  words: Language,
  holds: np.ndarray,
  drawn: np.ndarray,
  order: np.ndarray,
  some: np.ndarray,
  related: np.ndarray,
) -> np.ndarray:
  """What stands before each object named, [n, m]: a relation, a comma, or "and"."""
  comma, besides, then = (words.pick(x, 0) for x in ("comma", "besides", "then"))
  place = np.arange(MAX_OBJECTS)
  last = place == some[:, None] - 1
  join = words.pick("join", np.zeros(len(some), np.int32), drawn[:, 1])
  found = np.where(last, join[:, None], comma)

  # A relation holds between the first two; what follows is set apart from them.
  pair = holds[np.arange(len(some)), order[:, 0], order[:, 1]]
  # Of the one or two that hold, the first or the last.
  one = np.where(drawn[:, 3] < 0.5, pair.argmax(1), 3 - pair[:, ::-1].argmax(1))
  relation = words.pick("relation", one, drawn[:, 4])
  beside = np.array([0, 0, besides, then]) + (place == 1) * relation[:, None]
  found = np.where(related[:, None], beside, found)
  found[:, 0] = 0
  return found


def _phrases(
  words: Language,
  layout: Layout,
  objects: np.ndarray,
  order: np.ndarray,
  asked: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Pieces of each object in the order of naming, [n, m, 8], and their form, [n, m].

  Connector (left empty), article, size, two of colour and texture, noun, texture said
  afterwards, pose (left empty).

  Args:
    words: of the language.
    layout: the scenes.
    objects: [n, 10, m] draws.
    order: [n, m] of naming.
    asked: [n, m] the form that the frame or the relation asks for.
  """
  sort = lambda field: np.take_along_axis(field, order, axis=1)
  draw = lambda k: np.take_along_axis(objects[:, k], order, axis=1)
  said = lambda k, share, piece: np.where(draw(k) < share, piece, 0)
  size = said(2, _SAY_SIZE, words.pick("size", sort(layout.size), draw(3)))
  colour = said(4, _SAY_COLOUR, words.pick("colour", sort(layout.colour), draw(5)))
  texture = sort(layout.texture)
  word = said(6, _SAY_TEXTURE, words.pick("texture", texture, draw(7)))
  # One draw for where the texture stands: before the colour, behind it, or last.
  where = draw(8)
  left = np.where(where < 0.4, word, colour)
  right = np.where(where < 0.4, colour, np.where(where < 0.8, word, 0))
  after = np.where((where >= 0.8) & (word > 0), words.pick("after", texture), 0)
  noun = words.pick("shape", sort(layout.shape), draw(9))
  opening = np.where(size > 0, size, np.where(left > 0, left, right))
  opening = np.where(opening > 0, opening, noun)
  forms = asked + words.noun_forms[noun] + words.opening_forms[opening]
  none = np.zeros_like(noun)
  article = np.full_like(noun, words.pick("article", 0))
  pieces = [none, article, size, left, right, noun, after, none]
  return np.stack(pieces, axis=-1), forms
