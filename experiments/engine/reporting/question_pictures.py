"""Sheet of texts about pictures: what was answered, and where the model looked."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.engine.reporting.sheet import (
  INK,
  MUTED,
  TICK,
  new_figure,
  put_picture,
  put_text,
  shorten,
)

_SIDE, _GAP, _TEXT = 1.15, 0.1, 3.9
_DARKEST = 0.25  # of what nothing looks at


class Example(NamedTuple):
  """A text about pictures.

  Attributes:
    images: uint8 [v, h, w, 3].
    attention: [v, rows, columns] shares over the patches, at least 0; None for none.
    text: the question or statement.
    given: the answer of the data set.
    said: that of the model.
    right: whether it counts as right.
  """

  images: np.ndarray
  attention: np.ndarray | None
  text: str
  given: str
  said: str
  right: bool


def answers_shown(examples: Sequence[Example]) -> Any:
  """Figure with a row for each example: text, answers, pictures, attention.

  A right answer bears a tick and bold type. Attention is shown by brightness: the
  patch of all pictures of an example that is looked at most is as bright as it is.
  """
  step = _SIDE + 0.28
  most = max(len(example.images) for example in examples)
  looked = any(example.attention is not None for example in examples)
  shown = most * (1 + looked)
  fig = new_figure(_TEXT + shown * (_SIDE + _GAP) + 0.2, step * len(examples))
  for i, example in enumerate(examples):
    top = step * (len(examples) - i) - 0.1
    lines = textwrap.wrap(shorten(example.text, 160), 52)[:3]
    put_text(fig, (0.1, top), "\n".join(lines), va="top", linespacing=1.35)
    below = top - 0.19 * len(lines) - 0.16
    tick = f"{TICK} " if example.right else ""
    style = {"fontweight": "bold" if example.right else "normal"}
    put_text(fig, (0.1, below), shorten(f"{tick}model: {example.said}", 52), **style)
    given = shorten(f"data: {example.given}", 52)
    put_text(fig, (0.1, below - 0.19), given, color=MUTED if example.right else INK)
    for k, pixels in enumerate(_panels(example)):
      place = (_TEXT + k * (_SIDE + _GAP), top - _SIDE, _SIDE)
      put_picture(fig, place, pixels)
  return fig


def shade(pixels: np.ndarray, attention: np.ndarray, brightest: float) -> np.ndarray:
  """A picture whose patches are as bright as they are looked at.

  Args:
    pixels: uint8 [h, w, 3].
    attention: [rows, columns], at least 0.
    brightest: the value that leaves a patch as it is.
  """
  h, w = pixels.shape[:2]
  rows, columns = attention.shape
  own = np.arange(h) * rows // h, np.arange(w) * columns // w
  light = attention[own[0][:, None], own[1][None]] / max(brightest, 1e-12)
  light = _DARKEST + (1 - _DARKEST) * np.clip(light, 0, 1)
  return (pixels * light[..., None]).round().astype(np.uint8)


def _panels(example: Example) -> list[np.ndarray]:
  """The pictures, each followed by where the model looked."""
  if example.attention is None:
    return list(example.images)
  brightest = float(example.attention.max())
  pairs = zip(example.images, example.attention, strict=True)
  return [x for image, a in pairs for x in (image, shade(image, a, brightest))]
