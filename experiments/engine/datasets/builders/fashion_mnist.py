"""Fashion-MNIST from its four official idx files."""

import pathlib
from collections.abc import Iterator, Mapping

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
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
)
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def _read(paths: Mapping[str, pathlib.Path]) -> Pictures:
  def split(stem: str) -> Iterator[Example]:
    images = formats.read_idx(paths[f"{stem}-images-idx3-ubyte.gz"])
    labels = formats.read_idx(paths[f"{stem}-labels-idx1-ubyte.gz"])
    if len(images) != len(labels):
      raise errors.UserError(
        f"fashion_mnist has {len(images)} pictures but {len(labels)} labels in its "
        f"{stem} files: they do not belong together"
      )
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield f"{i:05d}", formats.png(image[..., None]), int(label)

  return Pictures(
    class_names=_CLASSES,
    shape=(28, 28, 1),
    splits={"train": lambda: split("train"), "test": lambda: split("t10k")},
  )


def _file(name: str, sha256: str) -> File:
  return File(name, sha256, _URL + name)


RECIPE = Recipe(
  name="fashion_mnist",
  title="Fashion-MNIST: 70,000 grey 28x28 pictures of clothes, 10 classes",
  homepage="https://github.com/zalandoresearch/fashion-mnist",
  licence="MIT",
  citation="Xiao, Rasul, Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
  forms=(
    Form(
      files=(
        _file(
          "train-images-idx3-ubyte.gz",
          "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        _file(
          "train-labels-idx1-ubyte.gz",
          "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        _file(
          "t10k-images-idx3-ubyte.gz",
          "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        _file(
          "t10k-labels-idx1-ubyte.gz",
          "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
      ),
      read=_read,
    ),
  ),
)
