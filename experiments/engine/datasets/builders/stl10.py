"""STL-10 from its official binary archive."""

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np

from experiments.engine import errors
from experiments.engine.datasets.builders import formats
from experiments.engine.datasets.builders.recipe import (
  Example,
  File,
  Form,
  Pictures,
  Recipe,
)

_ARCHIVE = "stl10_binary.tar.gz"
_SIDE = 96


def _examples(
  archive: pathlib.Path, stem: str, labels: np.ndarray | None
) -> Iterator[Example]:
  """Examples of `<stem>_X.bin`: three planes a picture, each in column order."""
  count = 0
  for name, stream in formats.tar_members(archive):
    if not name.endswith(f"/{stem}_X.bin"):
      continue
    size = 3 * _SIDE * _SIDE
    for record in formats.records(stream, size, f"{archive}:{name}"):
      planes = np.frombuffer(record, np.uint8).reshape(3, _SIDE, _SIDE)
      # Published labels count from 1.
      label = -1
      if labels is not None and count < len(labels):
        label = int(labels[count]) - 1
      yield f"{count:06d}", formats.png(planes.transpose(2, 1, 0)), label
      count += 1
  if count == 0 or (labels is not None and count != len(labels)):
    stated = "" if labels is None else f" but {len(labels)} labels"
    raise errors.UserError(f"{archive} holds {count} pictures{stated} in '{stem}'")


def _read(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths[_ARCHIVE]
  names = formats.read_member(archive, "/class_names.txt").decode().split()

  def labelled(stem: str) -> Iterator[Example]:
    labels = formats.read_member(archive, f"/{stem}_y.bin")
    return _examples(archive, stem, np.frombuffer(labels, np.uint8))

  return Pictures(
    class_names=tuple(names),
    shape=(_SIDE, _SIDE, 3),
    splits={
      "train": lambda: labelled("train"),
      "test": lambda: labelled("test"),
      "unlabelled": lambda: _examples(archive, "unlabeled", None),
    },
  )


RECIPE = Recipe(
  name="stl10",
  title="STL-10: 13,000 labelled and 100,000 unlabelled 96x96 photographs, 10 classes",
  homepage="https://cs.stanford.edu/~acoates/stl10/",
  licence="none stated",
  citation="Coates, Lee, Ng: An Analysis of Single-Layer Networks, AISTATS 2011",
  forms=(
    Form(
      files=(
        File(
          _ARCHIVE,
          "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
          f"http://ai.stanford.edu/~acoates/stl10/{_ARCHIVE}",
        ),
      ),
      read=_read,
    ),
  ),
)
