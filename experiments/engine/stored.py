"""Reads image sets that TFDS prepared as ArrayRecord, without TensorFlow."""

import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from experiments.engine import errors, pictures


class Encoded(NamedTuple):
  """A split as it lies on disk: encoded pictures and what the labels mean."""

  pictures: list[bytes]
  labels: np.ndarray  # int32 [n]; -1 where there is none
  class_names: tuple[str, ...]
  channels: int  # 1 or 3


def read_encoded(folder: pathlib.Path, split: str) -> Encoded:
  """Reads a split.

  Args:
    folder: the prepared version, with dataset_info.json.
    split: name of a split, or a part of it as in TFDS ("train[:5000]").

  Raises:
    UsageError: no such split.
    UserError: no image classification set, a damaged file, or not enough memory.
  """
  builder = tfds.builder_from_directory(folder)
  features = builder.info.features
  image, label = (
    (features[key] if key in features else None) for key in ("image", "label")
  )
  if not isinstance(image, tfds.features.Image) or not isinstance(
    label, tfds.features.ClassLabel
  ):
    raise errors.UserError(
      f"{folder} has the features {', '.join(features)}; an image classification set "
      "with 'image' and 'label' is needed"
    )
  name = split.partition("[")[0]
  if name not in builder.info.splits:
    raise errors.unknown(f"split of '{builder.name}'", name, builder.info.splits)
  try:
    source = builder.as_data_source(
      split, decoders={"image": tfds.decode.SkipDecoding()}
    )
  except ValueError as error:
    raise errors.UsageError(f"'{split}' of '{builder.name}': {error}") from error
  whole = builder.info.splits[name]
  size = whole.num_bytes * len(source) / max(whole.num_examples, 1)
  pictures.require_memory(size, builder.name)
  try:
    examples = source.__getitems__(range(len(source)))
  except RuntimeError as error:  # what ArrayRecord raises for any damage
    raise errors.UserError(_blame(folder, name, error)) from error
  return Encoded(
    pictures=[example["image"] for example in examples],
    labels=np.array([example["label"] for example in examples], np.int32),
    class_names=tuple(label.names or map(str, range(label.num_classes))),
    channels=image.shape[-1] or 3,
  )


def _blame(folder: pathlib.Path, split: str, error: Exception) -> str:
  """Names the file that cannot be read."""
  from array_record.python import array_record_module

  shards = sorted(folder.glob(f"*-{split}.array_record-*"))
  for shard in shards:
    try:
      reader = array_record_module.ArrayRecordReader(str(shard))
      reader.read_all()
      reader.close()
    except RuntimeError as fault:
      return f"{shard} is damaged or cut short; prepare the data set again ({fault})"
  return f"a file of split '{split}' in {folder} cannot be read ({error})"
