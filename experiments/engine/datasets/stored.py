"""Reads image sets that TFDS prepared as ArrayRecord, without TensorFlow."""

import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from experiments.engine import errors
from experiments.engine.datasets import pictures


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
  image = features["image"] if "image" in features else None
  names = class_names(features)
  if not isinstance(image, tfds.features.Image) or not names:
    raise errors.UserError(
      f"{folder} has the features {', '.join(features)}; an image classification set "
      "with 'image' and 'label' is needed"
    )
  examples = read_examples(builder, split, "label")
  return Encoded(
    pictures=[example["image"] for example in examples],
    labels=np.array([example["label"] for example in examples], np.int32),
    class_names=names,
    channels=image.shape[-1] or 3,
  )


def class_names(features: tfds.features.FeaturesDict) -> tuple[str, ...]:
  """The words of the feature "label", or numbers; empty without classes."""
  label = features["label"] if "label" in features else None
  if not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
    return ()
  return tuple(label.names)


def read_examples(
  builder: tfds.core.DatasetBuilder, split: str, required: str
) -> list[dict]:
  """Reads the examples of a split; pictures stay encoded.

  Args:
    builder: of a prepared set with the feature "image", or several pictures.
    split: as in `read_encoded`.
    required: a feature that every whole record has.

  Raises:
    UsageError: no such split.
    UserError: a damaged file, or not enough memory.
  """
  name = split.partition("[")[0]
  if name not in builder.info.splits:
    raise errors.unknown(f"split of '{builder.name}'", name, builder.info.splits)
  features = builder.info.features
  pictured = [x for x in features if isinstance(features[x], tfds.features.Image)]
  try:
    source = builder.as_data_source(
      split, decoders={x: tfds.decode.SkipDecoding() for x in pictured}
    )
  except ValueError as error:
    raise errors.UsageError(f"'{split}' of '{builder.name}': {error}") from error
  whole = builder.info.splits[name]
  size = whole.num_bytes * len(source) / max(whole.num_examples, 1)
  pictures.require_memory(size, builder.name)
  try:
    examples = source.__getitems__(range(len(source)))
  # What ArrayRecord raises for any damage but one: a file cut to its first block of
  # 64 KiB reads as one without records, silently. Then TFDS gives None, or raises a
  # ValueError where there are texts.
  except (RuntimeError, ValueError) as error:
    raise errors.UserError(_blame(whole, error)) from error
  if any(example[required] is None for example in examples):
    raise errors.UserError(_blame(whole, "records are missing"))
  return examples


def _blame(split: tfds.core.SplitInfo, reason: object) -> str:
  """Names the file that cannot be read, or holds fewer records than it should."""
  from array_record.python import array_record_module

  for path, count in zip(split.filepaths, split.shard_lengths, strict=True):
    try:
      reader = array_record_module.ArrayRecordReader(str(path))
      whole = len(reader.read_all()) == count
      reader.close()
    except RuntimeError:
      whole = False
    if not whole:
      return f"{path} is damaged or cut short ({reason}); prepare the data set again"
  return f"split '{split.name}' cannot be read ({reason}); prepare the data set again"
