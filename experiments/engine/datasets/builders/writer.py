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
  Pictures,
)

VERSION = "1.0.0"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A data set whose name and content are given at run time.

  Attributes:
    captions: how many of each split were written.
  """

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self,
    name: str,
    pictures: Pictures | CaptionedPictures,
    provenance: Mapping,
    data_dir: pathlib.Path,
  ):
    self.name = name
    self._pictures = pictures
    self._provenance = provenance
    self.captions: collections.Counter[str] = collections.Counter()
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    pictures = self._pictures
    described: dict[str, tfds.features.FeatureConnector] = {
      "image": tfds.features.Image(shape=pictures.shape)
    }
    if isinstance(pictures, CaptionedPictures):
      described["captions"] = tfds.features.Sequence(tfds.features.Text())
      described["id"] = tfds.features.Text()
    if pictures.class_names or isinstance(pictures, Pictures):
      described["label"] = tfds.features.ClassLabel(names=list(pictures.class_names))
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
    for found in self._pictures.splits[split]():
      key, encoded, label = found[0], found[1], found[-1]
      example: dict = {"image": io.BytesIO(encoded)}
      if isinstance(found, CaptionedExample):
        example |= {"captions": list(found.captions), "id": key}
        self.captions[split] += len(found.captions)
      if "label" in self.info.features:
        example["label"] = label
      yield key, example


def write(
  name: str,
  pictures: Pictures | CaptionedPictures,
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
      stand in provenance.json. Of captions their number in each split is added.
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
      counted = {"captions": dict(builder.captions)} if builder.captions else {}
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
