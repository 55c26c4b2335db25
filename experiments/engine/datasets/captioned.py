"""Pictures with captions in memory: prepared sets, and scenes that need no files."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import embedded
from experiments.engine.datasets.builders import (
  CAPTIONED,
  QUESTIONED,
  RECIPES,
  folders,
)
from experiments.engine.datasets.loading import (
  decode_usable,
  draw_rows,
  judge_skipped,
  not_prepared,
)
from experiments.engine.datasets.scene_inputs import (
  EMBEDDED,
  LANGUAGES,
  TAKES,
  make_inputs,
  own_labels,
)
from experiments.engine.datasets.scene_rows import choose_scenes
from multimodal import scenes

NAMES = (*EMBEDDED, *CAPTIONED)
DEFAULT_INPUTS = ("image", "text")

_SIDE = 64  # of scenes

# What others call them: coco_captions of TFDS, flickr30k and its kin on the hub.
_CAPTION_KEYS = ("captions", "caption", "text")
_ID_KEYS = ("id", "image/id", "image_id", "img_id", "image/filename", "filename")


@dataclasses.dataclass(frozen=True, eq=False)
class Captioned:
  """A split of pictures with captions, whole in memory.

  Attributes:
    name: of the data set.
    inputs: what towers may read, by name: "image", "text" and the like. Pictures are
      uint8 [n, height, width, 3]; captions a tuple for each example, with at least one,
      none of them blank.
    ids: for each example what its set calls it.
    attributes: labels by name, int32 [n], where they are known: of scenes those of
      `scenes.attributes`, "class" among them; of prepared sets with classes "class",
      -1 for an example without. "style" is a property of a caption, not of a picture:
      [n, captions].
    own: by input, those of its labels that differ from `attributes`: the pose in a
      second picture, the style of captions in another language.
    label_names: the word of each label, by attribute.
    languages: of the inputs that are captions, where it is known.
    skipped: examples that were left out because they could not be used.
  """

  name: str
  inputs: dict[str, Any]
  ids: tuple[str, ...]
  attributes: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  own: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)
  label_names: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  languages: dict[str, str] = dataclasses.field(default_factory=dict)
  skipped: int = 0

  @property
  def images(self) -> np.ndarray:
    """The first picture of each example."""
    return self.inputs["image"]

  @property
  def captions(self) -> tuple[tuple[str, ...], ...]:
    """The captions of each example, in English where there are other ones."""
    return self.inputs["text"]

  def describe(self) -> str:
    """One line for people: what and how many."""
    parts = []
    for name, found in self.inputs.items():
      named = "" if name in DEFAULT_INPUTS else f" ({name})"
      if isinstance(found, np.ndarray):
        shape = " x ".join(map(str, found.shape[1:]))
        parts.append(f"{len(found):,} images of {shape}{named}")
      else:
        parts.append(f"{sum(map(len, found)):,} captions{named}")
    return f"{self.name}: {', '.join(parts)}"

  def take(self, rows: np.ndarray) -> "Captioned":
    """Returns the examples `rows`, in that order."""
    pick = lambda labels: {key: value[rows] for key, value in labels.items()}
    inputs = {
      name: found[rows]
      if isinstance(found, np.ndarray)
      else tuple(found[row] for row in rows)
      for name, found in self.inputs.items()
    }
    return dataclasses.replace(
      self,
      inputs=inputs,
      ids=tuple(self.ids[row] for row in rows),
      attributes=pick(self.attributes),
      own={name: pick(labels) for name, labels in self.own.items()},
    )


def known_inputs(name: str) -> tuple[str, ...]:
  """What towers may read of a set."""
  return (*TAKES, *LANGUAGES) if name in EMBEDDED else DEFAULT_INPUTS


def load_captioned(
  name: str,
  split: str,
  *,
  data_dir: str = "",
  image_size: int | None = None,
  limit: int | None = None,
  seed: int = 0,
  max_skipped: float = 0.01,
  inputs: Iterable[str] = DEFAULT_INPUTS,
) -> Captioned:
  """Loads a split of pictures with captions.

  Examples that cannot be used (a picture that cannot be decoded, no caption that is
  not blank) are left out; how many is said on standard error and in `skipped`.

  Args:
    name: "scenes_text_easy", "scenes_text" or "scenes_text_hard" (procedural scenes of
      one large object, of one to two, or of one to four, five captions each; need no
      files), or a set that
      `experiments.prepare` or TFDS prepared as array_record with "image" and
      "captions", such as TFDS's coco_captions; its "label", if any, is the class.
    split: name of a split, or a part of it as in TFDS: "train[:5000]", "train[90%:]".
      Of the scenes there are 2**31 a split: "train" is the first 20,000, "test" the
      first 4,000, and a range may reach beyond.
    data_dir: folder of prepared sets; empty means $DATA_DIR, then TFDS's default.
    image_size: side of the pictures: others are scaled and cropped to the centre
      square. None (or 0) keeps their size, 64 for scenes.
    limit: so many examples, drawn uniformly without replacement, in the order of the
      split; those that are skipped are not replaced. None (or 0): all.
    seed: of that draw.
    max_skipped: greatest share, in [0, 1], of those to be loaded that may be skipped.
    inputs: what is wanted: "image" and "text" of any set; of scenes, "image_2" too (the
      same objects in other poses, elsewhere before another background) and "text_de"
      (German captions). Of scenes only these are made.

  Raises:
    UsageError: an unknown name, split or input, or a limit beyond the size of the
      split.
    UserError: the set is not prepared, damaged, without captions, of varied sizes
      without image_size, or too many examples cannot be used.
  """
  wanted = tuple(dict.fromkeys(inputs))
  if name in EMBEDDED:
    return _load_scenes(name, split, image_size or _SIDE, limit, seed, wanted)
  folder = folders.find_prepared(name, data_dir)
  if folder is None:
    raise _not_found(name, data_dir)
  _check_inputs(name, wanted)
  what = f"'{split}' of '{name}'"
  examples, class_names = _read_prepared(folder, name, split)
  chosen = [examples[row] for row in draw_rows(len(examples), limit, seed, what)]
  described = [example for example in chosen if example.captions]
  images, whole = decode_usable([x.picture for x in described], image_size, name)
  kept = [described[row] for row in whole]
  skipped = {
    "with a picture that cannot be decoded": len(described) - len(kept),
    "without a caption": len(chosen) - len(described),
  }
  total = judge_skipped(what, len(chosen), skipped, max_skipped)
  return Captioned(
    name=name,
    inputs={"image": images, "text": tuple(example.captions for example in kept)},
    ids=tuple(example.known_as for example in kept),
    attributes={"class": np.array([example.label for example in kept], np.int32)}
    if class_names
    else {},
    label_names={"class": class_names} if class_names else {},
    skipped=total,
  )


class _Example(NamedTuple):
  """As stored: the picture encoded, captions that are not blank."""

  picture: bytes
  captions: tuple[str, ...]
  known_as: str
  label: int


def _read_prepared(
  folder: os.PathLike, name: str, split: str
) -> tuple[list[_Example], tuple[str, ...]]:
  """The examples of a split, and the names of the classes, if there are any."""
  import tensorflow_datasets as tfds

  from experiments.engine.datasets import stored

  builder = tfds.builder_from_directory(folder)
  features = builder.info.features
  find = lambda keys: next((key for key in keys if key in features), None)
  caption_key, id_key = find(_CAPTION_KEYS), find(_ID_KEYS)
  image = features["image"] if "image" in features else None
  if not isinstance(image, tfds.features.Image) or caption_key is None:
    raise errors.UserError(
      f"'{name}' in {folder} has the features {', '.join(sorted(features))}; a set "
      "with 'image' and 'captions' is needed"
    )
  class_names = stored.class_names(features)
  examples = [
    _Example(
      example["image"],
      tuple(filter(None, map(str.strip, _texts(example[caption_key])))),
      _text(example[id_key]) if id_key else str(row),
      example["label"] if class_names else -1,
    )
    for row, example in enumerate(stored.read_examples(builder, split, caption_key))
  ]
  return examples, class_names


def _texts(value: Any) -> list[str]:
  """The captions in what TFDS hands out for Text, or a Sequence of it or of dicts."""
  if isinstance(value, dict):  # {"text": several, "id": several}
    value = value.get("text", value.get("raw", ()))
  if isinstance(value, str | bytes):
    return [_text(value)]
  texts = (item["text"] if isinstance(item, dict) else item for item in value)
  return [_text(text) for text in texts]


def _text(value: Any) -> str:
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _check_inputs(name: str, inputs: Iterable[str]) -> None:
  for wanted in inputs:
    if wanted not in known_inputs(name):
      raise errors.unknown(f"input of '{name}'", wanted, known_inputs(name))


def _load_scenes(
  name: str,
  split: str,
  size: int,
  limit: int | None,
  seed: int,
  inputs: tuple[str, ...],
) -> Captioned:
  _check_inputs(name, inputs)
  level = EMBEDDED[name]
  painted = sum(wanted in TAKES for wanted in inputs)
  _, ids = choose_scenes(name, split, (size, size), painted, limit, seed)
  known = {
    key: names for kind in scenes.ATTRIBUTES.values() for key, names in kind.items()
  }
  return Captioned(
    name=name,
    inputs=make_inputs(name, ids, size, inputs),
    ids=tuple(map(str, ids.tolist())),
    attributes=scenes.attributes(ids, level=level),
    own={x: own_labels(name, ids, x) for x in inputs if x not in DEFAULT_INPUTS},
    label_names={**known, "class": scenes.CLASS_NAMES},
    languages={x: LANGUAGES[x] for x in inputs if x in LANGUAGES},
  )


def _not_found(name: str, data_dir: str) -> errors.UserError:
  if name in CAPTIONED:
    return not_prepared(name, data_dir)
  known = f"sets with captions: {', '.join(NAMES)}"
  if name in RECIPES or name in embedded.NAMES:
    has = "questions" if name in QUESTIONED else "labels"
    return errors.UsageError(f"'{name}' has {has} but no captions; {known}")
  return errors.UsageError(
    f"data set '{name}' not found in {folders.data_folder(data_dir)}"
    f"{errors.nearest(name, NAMES)}; {known}, and any that TFDS prepared there as "
    "array_record"
  )
