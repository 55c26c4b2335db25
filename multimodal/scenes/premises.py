"""Visual entailment: what a partly covered picture says of a sentence about it.

Every picture has a square cover that hides one of its objects wholly and no other. The
hypothesis says something of one object, which it names so that exactly one object of
the whole scene fits: "the circle is red". If that object can be seen, the picture
entails or contradicts the hypothesis; if it is the one behind the cover, the picture
leaves it open, since shapes, colours and textures of objects are independent.

The scene and the cover are drawn first: two objects, one of them to be hidden, both of
which the hypothesis may name. The label is drawn apart from them and says which of the
two is named, and whether what is said of it is true. So the label is independent of the
covered picture; and it is independent of the words, because permuting the names of a
factor takes any words to any others (sizes, for which that does not hold, are not
spoken of). Only both together tell.
"""

from typing import NamedTuple

import numpy as np

from multimodal.answers import ENTAILMENTS
from multimodal.scenes import draws, phrases
from multimodal.scenes.layout import CROWD, REACH, Crowd, compose
from multimodal.scenes.naming import UNSIZED, alone, named, only, other_value, two
from multimodal.scenes.search import (
  COUNTS,
  SIZE,
  STREAM,
  STREAMS,
  View,
  checked,
  look,
  pick,
  seek,
  taken,
)

GREY = 128  # of covers

_NEUTRAL, _ENTAILED = (ENTAILMENTS.index(x) for x in ("neutral", "entailment"))
_STREAM = STREAM + 2 * STREAMS
_TRIES = _STREAM + 2**10
_CHUNK = 8192  # premises at a time
_NEGATED, _EITHER = 1, 2  # of the templates

# {a} is the object that is named, {b} and {c} are what is said of it.
_TEMPLATES = (
  ("the {a} is {b}.", "the {a} in this picture is {b}.", "look, the {a} is {b}!"),
  ("the {a} is not {b}.", "the {a} in this picture is not {b}.", "the {a} isn't {b}."),
  (
    "the {a} is {b} or {c}.",
    "the {a} in this picture is {b} or {c}.",
    "the {a} is either {b} or {c}.",
  ),
)


class Premises(NamedTuple):
  """Covered pictures and hypotheses about them.

  Attributes:
    scenes: int64 [n], ids of the scenes; of the split of the premises.
    boxes: float32 [n, 4], the covers for `cover`: left, top, right, bottom in sides of
      the picture, within [0, 1].
    texts: n hypotheses, in lower case.
    labels: int32 [n], indices into `multimodal.answers.ENTAILMENTS`, equally often.
  """

  scenes: np.ndarray
  boxes: np.ndarray
  texts: list[str]
  labels: np.ndarray


def entailments(
  ids: np.ndarray, *, seed: int = 0, level: Crowd = CROWD, take: int = 0
) -> Premises:
  """Returns covered pictures with a hypothesis each.

  Without the cover, those that are not neutral are statements about one picture that
  are true or false (the form of NLVR).

  Args:
    ids: [n] integers: those of a split of `split_ids` are about scenes of that split.
    seed: as in `compose`.
    level: as in `compose`; of 1 to 4 objects.
    take: of the pictures that are to be covered; all else is the same for each.

  Raises:
    ValueError: ids outside of the splits, another level, or a negative take.
  """
  ids = checked(ids, level, lone=False)
  parts = [
    _supposed(ids[start : start + _CHUNK], seed, level, take)
    for start in range(0, max(len(ids), 1), _CHUNK)
  ]
  scenes, boxes, texts, labels = zip(*parts, strict=True)
  return Premises(
    np.concatenate(scenes),
    np.concatenate(boxes),
    [text for part in texts for text in part],
    np.concatenate(labels),
  )


def cover(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
  """Returns the pictures with their covers painted over, in GREY.

  Args:
    images: uint8 [n, height, width, channels].
    boxes: [n, 4] left, top, right, bottom in sides of the picture. Every pixel that a
      box touches is covered.

  Raises:
    ValueError: the images are not uint8, or are not as many as the boxes.
  """
  if images.dtype != np.uint8 or images.ndim != 4 or boxes.shape != (len(images), 4):
    raise ValueError(
      f"covers {boxes.shape} cannot be painted over images {images.shape} of "
      f"{images.dtype}; pass uint8 images [n, height, width, channels] and boxes [n, 4]"
    )
  height, width = images.shape[1:3]
  left, top, right, bottom = boxes.T[..., None]
  x, y = np.arange(width)[None], np.arange(height)[None]
  across = (x + 1 > left * width) & (x < right * width)
  down = (y + 1 > top * height) & (y < bottom * height)
  hidden = down[:, :, None] & across[:, None, :]
  return np.where(hidden[..., None], np.uint8(GREY), images)


def _supposed(ids: np.ndarray, seed: int, level: Crowd, take: int) -> tuple:
  """The fields of Premises."""
  u = draws.uniform(seed, ids, 19, _STREAM).T
  factor, mask = pick(u[0], SIZE), u[1]

  def fits(rows: np.ndarray, view: View) -> np.ndarray:
    first, second = two(view)
    names = [named(view, x, mask[rows], UNSIZED + factor[rows]) for x in two(view)]
    return (first != second) & alone(view, names[0]) & alone(view, names[1])

  scenes = seek(ids, fits, seed=seed, level=level, stream=_TRIES)
  view = look(scenes, seed=seed, level=level, placed=False)
  hidden, shown = two(view)
  label = pick(u[2], len(ENTAILMENTS))
  neutral = label == _NEUTRAL
  target, other = np.where(neutral, (hidden, shown), (shown, hidden))
  said = named(view, target, mask, UNSIZED + factor)
  # Whether what is said holds of the object; of what is hidden, by chance.
  holds = np.where(neutral, u[3] < 0.5, label == _ENTAILED)
  form = pick(u[4], len(_TEMPLATES))
  values = [taken(taken(view.values, x), factor) for x in (target, other)]
  named_one = holds ^ (form == _NEGATED)
  first, second = _values(values, COUNTS[factor], named_one, u[5:8])
  either = (form == _EITHER) & (u[8] < 0.5)  # in either order
  first, second = np.where(either, (second, first), (first, second))
  names = only(factor, first), only(factor, second)
  texts = _worded(form, said, *names, u[9:].T)
  return scenes, _boxes(scenes, hidden, seed, level, take), texts, label


def _values(
  values: list[np.ndarray],
  count: np.ndarray,
  named: np.ndarray,
  draws: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Two values of a factor that differ, the first of which may be spoken of alone.

  Args:
    values: [n] that the object has, and [n] that another object has.
    count: [n] of the values of the factor.
    named: bool [n], whether the first one is that of the object; if not, neither is.
    draws: [3, n] in [0, 1).
  """
  value, nearby = values
  other = other_value(value, count, nearby, draws[:2])
  step = (other - value) % count  # 1 to count - 1, and so is any other one
  third = 1 + (step + pick(draws[2], count - 2)) % (count - 1)
  return np.where(named, value, other), np.where(named, other, (value + third) % count)


def _boxes(
  scenes: np.ndarray, place: np.ndarray, seed: int, level: Crowd, take: int
) -> np.ndarray:
  """Squares [n, 4] around one object of each scene, which touch no other object."""
  layout = compose(scenes, seed=seed, level=level, take=take)
  reach = (REACH * taken(layout.radius, place))[:, None]
  centre = np.stack([taken(layout.x, place), taken(layout.y, place)], axis=1)
  return np.clip(np.concatenate([centre - reach, centre + reach], axis=1), 0, 1)


def _worded(
  form: np.ndarray,
  said: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
  drawn: np.ndarray,
) -> list[str]:
  """The hypotheses; drawn is [n, 10]."""
  names = phrases.nouns(said, drawn[:, :5])
  values = [phrases.predicates(x, drawn[:, 5:9]) for x in (first, second)]
  return [
    _TEMPLATES[k][int(u * len(_TEMPLATES[k]))].format(a=a, b=b, c=c)
    for k, u, a, b, c in zip(
      form.tolist(), drawn[:, 9].tolist(), names, *values, strict=True
    )
  ]
