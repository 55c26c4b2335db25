"""CIFAR-10 and CIFAR-100 from the official binary archives, CIFAR-10 also as JPEG.

The official archives with pickled Python objects are not read: unpickling runs code.
"""

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

_CLASSES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)
_PIXELS = 3 * 32 * 32
_URL = "https://www.cs.toronto.edu/~kriz/"
_CITATION = (
  "Krizhevsky: Learning Multiple Layers of Features from Tiny Images, "
  "University of Toronto, 2009"
)


def _binary_examples(
  archive: pathlib.Path, members: tuple[str, ...], *, label_bytes: int
) -> Iterator[Example]:
  """Examples of the files `members`: the label is the last of the label bytes.

  A record is `label_bytes` bytes (CIFAR-100: coarse, fine), then the red, green and
  blue plane, each 32x32 in row order.
  """
  found = 0
  for name, stream in formats.tar_members(archive):
    member = pathlib.PurePosixPath(name).name
    if member not in members:
      continue
    found += 1
    size = label_bytes + _PIXELS
    for i, record in enumerate(formats.records(stream, size, f"{archive}:{name}")):
      planes = np.frombuffer(record, np.uint8, offset=label_bytes)
      pixels = planes.reshape(3, 32, 32).transpose(1, 2, 0)
      yield f"{member}/{i:05d}", formats.png(pixels), record[label_bytes - 1]
  if found != len(members):
    raise errors.UserError(f"{archive} lacks some of {', '.join(members)}")


def _read_cifar10(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths["cifar-10-binary.tar.gz"]
  train = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
  return Pictures(
    class_names=_CLASSES,
    shape=(32, 32, 3),
    splits={
      "train": lambda: _binary_examples(archive, train, label_bytes=1),
      "test": lambda: _binary_examples(archive, ("test_batch.bin",), label_bytes=1),
    },
  )


def _read_cifar100(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths["cifar-100-binary.tar.gz"]
  names = formats.read_member(archive, "fine_label_names.txt").decode().split()
  return Pictures(
    class_names=tuple(names),
    shape=(32, 32, 3),
    splits={
      "train": lambda: _binary_examples(archive, ("train.bin",), label_bytes=2),
      "test": lambda: _binary_examples(archive, ("test.bin",), label_bytes=2),
    },
  )


def _read_cifar10_jpeg(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths["cifar10_jpeg.tar.xz"]

  def split(wanted: str) -> Iterator[Example]:
    for name, stream in formats.tar_members(archive):
      folder, _, rest = name.partition("/")
      if folder == wanted:
        label = _CLASSES.index(rest.partition("/")[0])
        yield rest, stream.read(), label

  return Pictures(
    class_names=_CLASSES,
    shape=(32, 32, 3),
    splits={"train": lambda: split("train"), "test": lambda: split("test")},
  )


CIFAR10 = Recipe(
  name="cifar10",
  title="CIFAR-10: 60,000 colour 32x32 photographs, 10 classes",
  homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
  licence="none stated",
  citation=_CITATION,
  forms=(
    Form(
      files=(
        File(
          "cifar-10-binary.tar.gz",
          "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
          _URL + "cifar-10-binary.tar.gz",
        ),
      ),
      read=_read_cifar10,
    ),
    Form(
      files=(
        File(
          "cifar10_jpeg.tar.xz",
          "61abdb9d7f5465662dc76dee80c15e8ba53b5cccba7475f3699aa433c06f98cc",
        ),
      ),
      read=_read_cifar10_jpeg,
      note="JPEG of quality 75 with halved chroma: not bit-identical to the original",
    ),
  ),
)

CIFAR100 = Recipe(
  name="cifar100",
  title="CIFAR-100: 60,000 colour 32x32 photographs, 100 classes",
  homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
  licence="none stated",
  citation=_CITATION,
  forms=(
    Form(
      files=(
        File(
          "cifar-100-binary.tar.gz",
          "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
          _URL + "cifar-100-binary.tar.gz",
        ),
      ),
      read=_read_cifar100,
      note="the label is the fine one of 100; the 20 coarse labels are left out",
    ),
  ),
)
