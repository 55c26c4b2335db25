"""Writes pictures as a TFDS data set in ArrayRecord files, without TensorFlow.

TFDS needs TensorFlow for four things, so none of them is used: the TFRecord format,
pictures given as arrays, `dl_manager.extract`, and builders with configuration files
of a package.
"""

import collections
import contextlib
import fcntl
import io
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping

import tensorflow_datasets as tfds

from experiments.engine import errors
from experiments.engine.datasets.builders import folders
from experiments.engine.datasets.builders.recipe import (
  CaptionedExample,
  CaptionedPictures,
  Content,
  Pictures,
  QuestionExample,
  QuestionPictures,
)

VERSION = "1.0.0"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A data set whose name and content are given at run time.

  Attributes:
    texts: how many captions, or questions, of each split were written.
  """

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self,
    name: str,
    pictures: Content,
    provenance: Mapping,
    data_dir: pathlib.Path,
  ):
    self.name = name
    self._pictures = pictures
    self._provenance = provenance
    self.texts: collections.Counter[str] = collections.Counter()
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    described = _features(self._pictures)
    return tfds.core.DatasetInfo(
      builder=self,
      description=self._provenance["title"],
      homepage=self._provenance["homepage"],
      citation=self._provenance["citation"],
      license=self._provenance["licence"],
      features=tfds.features.FeaturesDict(described),
      supervised_keys=("image", "label") if "label" in described else None,
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The files are local, and already checked.
    return {split: self._generate_examples(split) for split in self._pictures.splits}

  def _generate_examples(self, split: str):
    if isinstance(self._pictures, QuestionPictures):
      for asked in self._pictures.splits[split]():
        self.texts[split] += len(asked.questions)
        yield asked.key, _stored(asked, self._pictures)
      return
    for found in self._pictures.splits[split]():
      key, encoded, label = found[0], found[1], found[-1]
      example: dict = {"image": io.BytesIO(encoded)}
      if isinstance(found, CaptionedExample):
        example |= {"captions": list(found.captions), "id": key}
        self.texts[split] += len(found.captions)
      if "label" in self.info.features:
        example["label"] = label
      yield key, example


def _features(pictures: Content) -> dict[str, tfds.features.FeatureConnector]:
  """What an example has. Without TensorFlow, TFDS knows no sequence of pictures."""
  text = tfds.features.Text
  if isinstance(pictures, QuestionPictures):
    known = list(pictures.answer_names)
    answer = {"label": tfds.features.ClassLabel(names=known)} if known else {}
    asked = {name: text() for name in ("id", "text", *pictures.groups)}
    return {
      "id": text(),
      "questions": tfds.features.Sequence(asked | (answer or {"answers": text()})),
      **{
        name: tfds.features.Image(shape=pictures.shape)
        for name in folders.picture_names(pictures.pictures)
      },
    }
  described = {"image": tfds.features.Image(shape=pictures.shape)}
  if isinstance(pictures, CaptionedPictures):
    described |= {"captions": tfds.features.Sequence(text()), "id": text()}
  if pictures.class_names or isinstance(pictures, Pictures):
    described["label"] = tfds.features.ClassLabel(names=list(pictures.class_names))
  return described


def _stored(found: QuestionExample, pictures: QuestionPictures) -> dict:
  """An example as stored: several answers of one question lie in one text, as lines."""
  if len(found.pictures) != pictures.pictures:
    raise errors.UserError(
      f"example {found.key} has {len(found.pictures)} pictures instead of "
      f"{pictures.pictures}: the files do not belong together"
    )
  questions = []
  for question in found.questions:
    asked: dict[str, str | int] = {"id": question.key, "text": question.text}
    if pictures.answer_names:
      (name,) = question.answers
      asked["label"] = pictures.answer_names.index(name)
    else:
      asked["answers"] = "\n".join(question.answers)
    questions.append(asked | dict(question.groups))
  names = folders.picture_names(pictures.pictures)
  encoded = dict(zip(names, map(io.BytesIO, found.pictures), strict=True))
  return {"id": found.key, "questions": questions, **encoded}


def write(
  name: str,
  pictures: Content,
  provenance: Mapping,
  data_dir: str,
) -> pathlib.Path:
  """Writes a data set whole or not at all.

  It is made in a hidden folder beside its place and renamed at the end, so a killed
  process leaves nothing that looks prepared; the next call removes the leftover.

  Args:
    name: the name of the data set.
    pictures: its content.
    provenance: `title`, `homepage`, `citation`, `licence`, and whatever else shall
      stand in provenance.json. Of captions, or of questions, their number in each split
      is added.
    data_dir: see `folders.data_folder`.

  Returns:
    The folder of the prepared version. If another process prepared it meanwhile,
    that one is returned as it is.

  Raises:
    UserError: something else is in its place.
  """
  root = folders.data_folder(data_dir)
  root.mkdir(parents=True, exist_ok=True)
  place = root / name / VERSION
  with _lock(root / f".{name}.lock"):
    if place.exists():
      if folders.find_prepared(name, data_dir) is None:
        raise errors.UserError(
          f"{place} exists but is no whole data set in array_record; remove it first"
        )
      return place
    staging = root / f".{name}.preparing"
    shutil.rmtree(staging, ignore_errors=True)
    try:
      builder = _Builder(name, pictures, provenance, staging)
      # TFDS's messages name the hidden folder, and its bars fill the screen.
      tfds.disable_progress_bar()
      with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
          download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
      made = staging / name / VERSION
      kind = "questions" if isinstance(pictures, QuestionPictures) else "captions"
      counted = {kind: dict(builder.texts)} if builder.texts else {}
      text = json.dumps({**provenance, **counted}, indent=2, ensure_ascii=False)
      (made / folders.PROVENANCE).write_text(text + "\n", "utf-8")
      place.parent.mkdir(exist_ok=True)
      made.rename(place)
    finally:
      shutil.rmtree(staging, ignore_errors=True)
  return place


@contextlib.contextmanager
def _lock(path: pathlib.Path) -> Iterator[None]:
  """Holds a lock among processes; the system drops it when a process dies."""
  with path.open("w") as stream:
    fcntl.flock(stream, fcntl.LOCK_EX)
    yield
