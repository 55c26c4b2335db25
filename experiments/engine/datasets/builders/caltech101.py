"""Caltech-101 from the official archive, or from pictures of 128 px with a division."""

import json
import pathlib
import tarfile
import zipfile
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

_SHAPE = (None, None, 3)
_OFFICIAL = "caltech-101.zip"
_INNER = "101_ObjectCategories.tar.gz"
_TRAIN_PER_CLASS = 30


def _official_pictures(archive: pathlib.Path) -> Iterator[tuple[str, bytes]]:
  """(class/file, bytes) of every picture in the tar archive inside the zip archive."""
  with zipfile.ZipFile(archive) as outer:
    inner = [
      name
      for name in outer.namelist()
      if name.endswith("/" + _INNER) and not name.startswith("__MACOSX")
    ]
    if not inner:
      raise errors.UserError(f"{archive} holds no {_INNER}: it is another archive")
    with outer.open(inner[0]) as stream:
      with tarfile.open(fileobj=stream, mode="r|gz") as tar:
        for member in tar:
          parts = pathlib.PurePosixPath(member.name).parts[-2:]
          picture = member.isfile() and member.name.lower().endswith(".jpg")
          content = tar.extractfile(member) if picture else None
          hidden = parts[-1].startswith(".") or parts[0] == "BACKGROUND_Google"
          if content is not None and not hidden:
            yield "/".join(parts), content.read()


def _train_part(names: list[str]) -> frozenset[str]:
  """30 pictures of each class, drawn once and for all."""
  rng = np.random.default_rng(0)
  chosen: list[str] = []
  for label in sorted({name.split("/")[0] for name in names}):
    own = sorted(name for name in names if name.startswith(label + "/"))
    chosen += [own[i] for i in rng.permutation(len(own))[:_TRAIN_PER_CLASS]]
  return frozenset(chosen)


def _read_official(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths[_OFFICIAL]
  names = [name for name, _ in _official_pictures(archive)]
  classes = tuple(sorted({name.split("/")[0] for name in names}))
  train = _train_part(names)

  def split(of_train: bool) -> Iterator[Example]:
    for name, content in _official_pictures(archive):
      if (name in train) == of_train:
        label = classes.index(name.split("/")[0])
        yield name, formats.as_rgb(content, f"{archive}:{name}"), label

  return Pictures(
    class_names=classes,
    shape=_SHAPE,
    splits={"train": lambda: split(True), "test": lambda: split(False)},
  )


def _read_128(paths: Mapping[str, pathlib.Path]) -> Pictures:
  archive = paths["images_128.zip"]
  classes = tuple(json.loads(paths["classes.json"].read_text("utf-8")))

  def split(name: str) -> Iterator[Example]:
    with zipfile.ZipFile(archive) as pictures:
      for line in paths[f"{name}.txt"].read_text("utf-8").split():
        content = formats.as_rgb(pictures.read(line), f"{archive}:{line}")
        yield line, content, classes.index(line.partition("/")[0])

  return Pictures(
    class_names=classes,
    shape=_SHAPE,
    splits={"train": lambda: split("train"), "test": lambda: split("test")},
  )


RECIPE = Recipe(
  name="caltech101",
  title="Caltech-101: 8,677 colour pictures of varied size, 101 classes",
  homepage="https://doi.org/10.22002/D1.20086",
  licence="CC BY 4.0",
  citation="Li, Andreetto, Ranzato, Perona: Caltech 101, CaltechDATA, 2022",
  forms=(
    Form(
      files=(
        File(
          _OFFICIAL,
          "331234750fc7f77520e50d9565e8b6907b03565e30320da1401130db08c61f91",
          "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
        ),
      ),
      read=_read_official,
      note=(
        "no official division exists: 30 pictures a class, drawn with seed 0, are "
        "train, all others test; without BACKGROUND_Google"
      ),
    ),
    Form(
      files=(
        File(
          "images_128.zip",
          "f8e47c05bf3d5def2dc5739b4519c654e7addf1f51f4ce44078447a5f2fe67a3",
        ),
        File(
          "train.txt",
          "126b57045188121d5650cb28948a06ce51616355b17b64a406d96886ba454ffe",
        ),
        File(
          "test.txt",
          "d430ea2511e57b5776ccce22799a4117e84ba9b4e3f1254eb525c571154e240e",
        ),
        File(
          "classes.json",
          "1b03c21a40ee3819dfd98aa81bcf82781bbc4c245dbe9e8ff73efd6e87f5b8fd",
        ),
      ),
      read=_read_128,
      note=(
        "shrunk to at most 128 px a side, JPEG of quality 75, without "
        "BACKGROUND_Google; 5,784 train and 2,893 test pictures"
      ),
    ),
  ),
)
