"""Writes pictures as a TFDS data set in ArrayRecord files, without TensorFlow.

TFDS needs TensorFlow for four things, so none of them is used: the TFRecord format,
pictures given as arrays, `dl_manager.extract`, and builders with configuration files
of a package.
"""

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
from experiments.engine.datasets.builders.recipe import Pictures

VERSION = "1.0.0"


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A data set of (image, label) whose name and content are given at run time."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self, name: str, pictures: Pictures, provenance: Mapping, data_dir: pathlib.Path
  ):
    self.name = name
    self._pictures = pictures
    self._provenance = provenance
    super().__init__(data_dir=data_dir, file_format="array_record")

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self._provenance["title"],
      homepage=self._provenance["homepage"],
      citation=self._provenance["citation"],
      license=self._provenance["licence"],
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=self._pictures.shape),
          "label": tfds.features.ClassLabel(names=list(self._pictures.class_names)),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # The files are local, and already checked.
    return {split: self._generate_examples(split) for split in self._pictures.splits}

  def _generate_examples(self, split: str):
    for key, encoded, label in self._pictures.splits[split]():
      yield key, {"image": io.BytesIO(encoded), "label": label}


def write(
  name: str, pictures: Pictures, provenance: Mapping, data_dir: str
) -> pathlib.Path:
  """Writes a data set whole or not at all.

  It is made in a hidden folder beside its place and renamed at the end, so a killed
  process leaves nothing that looks prepared; the next call removes the leftover.

  Args:
    name: the name of the data set.
    pictures: its content.
    provenance: `title`, `homepage`, `citation`, `licence`, and whatever else shall
      stand in provenance.json.
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
      text = json.dumps(provenance, indent=2, ensure_ascii=False)
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
