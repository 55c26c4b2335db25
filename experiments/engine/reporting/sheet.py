"""Sheets of pictures and words, placed in inches, for the page of a run."""

import textwrap
from typing import Any

import numpy as np

from experiments.engine import errors

INK, MUTED = "#222222", "#666666"
TICK = "✓"


def shorten(text: str, most: int) -> str:
  """Text on one line, cut at a word after `most` characters."""
  return textwrap.shorten(text, most, placeholder=" …")


def new_figure(width: float, height: float, layout: str = "") -> Any:
  """An empty figure of so many inches; "tight" is laid out by matplotlib."""
  try:
    from matplotlib import figure, layout_engine
  except ImportError as error:
    raise errors.UserError(
      "pictures of a run need matplotlib, which is not installed; run "
      "`pip install -r requirements.txt`"
    ) from error
  engine = layout_engine.ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
  return figure.Figure(figsize=(width, height), layout=engine if layout else None)


def put_picture(
  fig: Any,
  place: tuple[float, float, float],
  pixels: np.ndarray,
  framed: bool = False,
  below: str = "",
) -> None:
  """Puts a picture at (left, bottom, side), in inches."""
  left, bottom, side = place
  width, height = fig.get_size_inches()
  ax = fig.add_axes((left / width, bottom / height, side / width, side / height))
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  ax.imshow(pixels, interpolation="nearest")
  ax.set_xticks([])
  ax.set_yticks([])
  ax.spines[:].set(linewidth=4 if framed else 0.5, color=INK if framed else "#999999")
  if below:
    style = {"fontsize": 8, "color": INK, "fontweight": "bold" if framed else "normal"}
    ax.set_xlabel(below, labelpad=4, **style)


def put_text(fig: Any, place: tuple[float, float], text: str, **style: Any) -> None:
  """Writes text at (left, middle) in inches; a dollar sign is a dollar sign."""
  width, height = fig.get_size_inches()
  style = {"fontsize": 8.5, "color": INK, "va": "center", "parse_math": False} | style
  fig.text(place[0] / width, place[1] / height, text, **style)
