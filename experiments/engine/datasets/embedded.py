"""The image sets that need no preparation: procedural scenes and scikit-learn's digits.

Each is opened without its pictures; these are made for the chosen rows only.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.engine import errors
from multimodal import scenes

# Splits of the scenes without a range: so many from the first on.
SCENE_COUNTS = {"train": 20_000, "test": 4_000}
_LEVELS = {"scenes": scenes.EASY, "scenes_hard": scenes.HARD}
NAMES = (*_LEVELS, "digits")


class Source(NamedTuple):
  """A split whose pictures are made on demand.

  Attributes:
    labels: int32 [n]; -1 where there is none.
    class_names: the word of each label.
    images: rows -> uint8 [len(rows), height, width, channels].
  """

  labels: np.ndarray
  class_names: tuple[str, ...]
  images: Callable[[np.ndarray], np.ndarray]


def open_embedded(name: str, split: str, image_size: int | None) -> Source:
  """Opens a split of "scenes", "scenes_hard" or "digits".

  Args:
    name: one of NAMES.
    split: "train" or "test", or a part: "train[100:200]", "train[:10%]". A range of
      the scenes may reach beyond what "train" alone means, up to 2**31.
    image_size: side of the pictures; None: 32 for scenes, 8 for digits. The label of
      a scene is its shape and texture; "scenes" is the easy level, "scenes_hard" the
      one with any place, angle and background.

  Raises:
    UsageError: no such split or range.
    UserError: digits without scikit-learn.
  """
  if name == "digits":
    return _digits(split, image_size)
  return _scenes(name, split, image_size)


def _scenes(name: str, split: str, image_size: int | None) -> Source:
  part, start, stop = read_range(split, SCENE_COUNTS, name, most=2**31)
  ids = scenes.split_ids(part, stop - start, start=start)
  level = _LEVELS[name]
  found = scenes.factors(ids, level=level)
  return Source(
    labels=found["shape"] * len(scenes.TEXTURES) + found["texture"],
    class_names=tuple(
      f"{texture} {shape}" for shape in scenes.SHAPES for texture in scenes.TEXTURES
    ),
    images=lambda rows: scenes.render(ids[rows], size=image_size or 32, level=level),
  )


def _digits(split: str, image_size: int | None) -> Source:
  try:
    from sklearn import datasets
  except ImportError as error:
    raise errors.UserError(
      "data set 'digits' comes with scikit-learn: pip install scikit-learn"
    ) from error
  digits = datasets.load_digits()
  pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  # No division is published: every fourth picture is a test picture.
  numbers = np.arange(len(pixels))
  parts = {"train": numbers[numbers % 4 != 3], "test": numbers[numbers % 4 == 3]}
  sizes = {key: len(part) for key, part in parts.items()}
  name, start, stop = read_range(split, sizes, "digits")
  part = parts[name][start:stop]

  def images(rows: np.ndarray) -> np.ndarray:
    from experiments.engine.datasets import pictures

    return pictures.resize(pixels[part[rows]], image_size or 8)

  labels = digits.target[part].astype(np.int32)
  return Source(labels, tuple(map(str, range(10))), images)


def read_range(
  split: str, sizes: dict[str, int], name: str, most: int | None = None
) -> tuple[str, int, int]:
  """Reads "train", "train[100:200]", "train[:10%]" -> (split, start, stop).

  Args:
    split: what the user wrote.
    sizes: examples of each split: what its name alone means.
    name: of the data set, for errors.
    most: where a range may end; None: at the split's size.

  Raises:
    UsageError: no such split or range.
  """
  match = re.fullmatch(r"(\w+)(?:\[(\d+%?)?:(\d+%?)?\])?", split)
  if match is None:
    raise errors.UsageError(
      f"split '{split}' of '{name}' is not of the form train, train[100:200] or "
      "train[:10%]"
    )
  if match[1] not in sizes:
    raise errors.unknown(f"split of '{name}'", match[1], sizes)
  size = sizes[match[1]]

  def position(text: str | None, default: int) -> int:
    if text is None:
      return default
    return int(text[:-1]) * size // 100 if text.endswith("%") else int(text)

  start, stop = position(match[2], 0), position(match[3], size)
  if not 0 <= start < stop <= (most or size):
    raise errors.UsageError(
      f"split '{split}' of '{name}' is empty or reaches beyond its "
      f"{most or size} examples"
    )
  return match[1], start, stop
