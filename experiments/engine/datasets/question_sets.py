"""Questions, or sentences to judge, about pictures, whole in memory.

Prepared sets, and scenes that need no files.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import embedded
from experiments.engine.datasets.builders import QUESTIONED, RECIPES, folders
from experiments.engine.datasets.loading import (
  decode_usable,
  draw_rows,
  judge_skipped,
  not_prepared,
)
from experiments.engine.datasets.scene_questions import EMBEDDED, paint_asked
from experiments.engine.datasets.scene_rows import choose_scenes

NAMES = (*EMBEDDED, *QUESTIONED)


@dataclasses.dataclass(frozen=True, eq=False)
class QuestionSet:
  """A split of texts about pictures, each with its answer.

  A text is a question, or a sentence that is to be judged; its picture may be one of
  many or, in sets like NLVR, several.

  Attributes:
    name: of the data set.
    images: uint8 [m, height, width, 3], each distinct picture once.
    image_index: int32 [n], which picture a text is about; [n, v] where it is about v of
      them: of "nlvr_v1" column k is the drawing with order k of its boxes.
    texts: n questions or sentences.
    ids: for each text what its set calls it.
    given: for each text what each human answered; one answer for most sets.
    labels: int32 [n], the number of the answer in `label_names`; -1 throughout if any
      answer may occur.
    label_names: all answers that there are; empty if any may occur.
    groups: values by name, one for each text, such as "answer_type".
    skipped: texts that were left out because they could not be used.
  """

  name: str
  images: np.ndarray
  image_index: np.ndarray
  texts: tuple[str, ...]
  ids: tuple[str, ...]
  given: tuple[tuple[str, ...], ...]
  labels: np.ndarray
  label_names: tuple[str, ...] = ()
  groups: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
  skipped: int = 0

  @property
  def answers(self) -> tuple[str, ...]:
    """The answer to each text: the commonest one, of ties that given first."""
    return tuple(max(said, key=said.count) for said in self.given)

  def pictures(self, rows: np.ndarray) -> np.ndarray:
    """The pictures of the texts `rows`: uint8 [b, h, w, 3], or [b, v, h, w, 3]."""
    return self.images[self.image_index[rows]]

  def describe(self) -> str:
    """One line for people: what and how many."""
    shape = " x ".join(map(str, self.images.shape[1:]))
    known = f", {len(self.label_names)} answers" if self.label_names else ""
    return (
      f"{self.name}: {len(self.texts):,} texts{known}, {len(self.images):,} images of "
      f"{shape}"
    )

  def take(self, rows: np.ndarray) -> "QuestionSet":
    """Returns the texts `rows`, in that order; `images` stays as it is."""
    pick = lambda values: tuple(values[row] for row in rows)
    return dataclasses.replace(
      self,
      image_index=self.image_index[rows],
      texts=pick(self.texts),
      ids=pick(self.ids),
      given=pick(self.given),
      labels=self.labels[rows],
      groups={name: pick(values) for name, values in self.groups.items()},
    )


def load_questions(
  name: str,
  split: str,
  *,
  data_dir: str = "",
  image_size: int | Sequence[int] | None = None,
  limit: int | None = None,
  seed: int = 0,
  max_skipped: float = 0.01,
  picture: int | None = None,
) -> QuestionSet:
  """Loads a split of questions about pictures.

  Texts that cannot be used (one of their pictures cannot be decoded; a blank text or
  answer) are left out; how many is said on standard error and in `skipped`.

  Args:
    name: of scenes "scenes_questions", "scenes_statements" (about two pictures) or
      "scenes_entailment", of one to four objects, or "scenes_questions_easy",
      "scenes_statements_lone", "scenes_statements_easy" (four kinds of the statements)
      of one large object, which need no files; or a set that `experiments.prepare`
      prepared: "nlvr_v1", "vqa_rad", "easy_vqa", "coco_entailment".
    split: name of a split, or a part of it as in TFDS: "train[:500]", "train[90%:]".
      What is counted are pictures with all that is asked about them (in "nlvr_v1", the
      six of an example), so that no picture is in two parts; but in "nlvr_v1" a
      sentence, with another drawing, may be. Of the scenes there are 2**31 texts a
      split: "train" is the first 20,000, "test" the first 4,000, and a range may reach
      beyond.
    data_dir: folder of prepared sets; empty means $DATA_DIR, then TFDS's default.
    image_size: (height, width) of the pictures, or the side of squares: the whole
      picture is scaled to it, nothing is cropped, since the answer may lie at its edge.
      None (or 0) keeps their size; scenes, which are square, have 64, easy ones 32.
    limit: so many texts, drawn uniformly without replacement, in the order of the
      split; those that are skipped are not replaced. None (or 0): all.
    seed: of that draw.
    max_skipped: greatest share, in [0, 1], of those to be loaded that may be skipped.
    picture: the number of the one picture of each text to load, where it has several:
      of "nlvr_v1" the order of the boxes, 0 to 5. None: all of them.

  Raises:
    UsageError: an unknown name or split, a limit beyond the number of texts, a size
      that is none, or a picture that there is not.
    UserError: the set is not prepared, damaged, without questions, of varied sizes
      without image_size, or too many texts cannot be used.
  """
  size = _read_size(image_size, name)
  if name in EMBEDDED:
    return _load_scenes(name, split, size, limit, seed, picture)
  folder = folders.find_prepared(name, data_dir)
  if folder is None:
    raise _not_found(name, data_dir)
  items, label_names = _read_prepared(folder, name, split, picture)
  what = f"'{split}' of '{name}'"
  chosen = [items[row] for row in draw_rows(len(items), limit, seed, what)]
  whole = [item for item in chosen if item.text and all(item.given)]
  images, index = _decode(whole, size, name)
  broken = (index < 0).any(axis=1)
  skipped = {
    "with a picture that cannot be decoded": int(broken.sum()),
    "without a text or an answer": len(chosen) - len(whole),
  }
  total = judge_skipped(what, len(chosen), skipped, max_skipped)
  kept = [whole[row] for row in np.flatnonzero(~broken)]
  # Of what is asked about a broken picture and a whole one, the latter may be idle.
  used, index = np.unique(index[~broken], return_inverse=True)
  index = index.reshape(len(kept), -1).astype(np.int32)
  return QuestionSet(
    name=name,
    images=images if len(used) == len(images) else images[used],
    image_index=index[:, 0] if index.shape[1] == 1 else index,
    texts=tuple(item.text for item in kept),
    ids=tuple(item.known_as for item in kept),
    given=tuple(item.given for item in kept),
    labels=np.array([item.label for item in kept], np.int32),
    label_names=label_names,
    groups={
      group: tuple(item.groups[group] for item in kept)
      for group in (kept[0].groups if kept else ())
    },
    skipped=total,
  )


def _load_scenes(
  name: str,
  split: str,
  size: tuple[int, int] | None,
  limit: int | None,
  seed: int,
  picture: int | None,
) -> QuestionSet:
  source = EMBEDDED[name]
  size = size or (source.side, source.side)
  rows, ids = choose_scenes(name, split, size, 2, limit, seed)
  asked = source.make(ids, source.level)
  if picture is not None:
    count = 1 if asked.scenes.ndim == 1 else asked.scenes.shape[1]
    _check_picture(picture, count, name)
    if count > 1:
      asked = asked._replace(scenes=asked.scenes[:, picture])
  images, index = paint_asked(asked, size[0], source.level)
  return QuestionSet(
    name=name,
    images=images,
    image_index=index,
    texts=tuple(asked.texts),
    ids=tuple(map(str, rows.tolist())),
    given=tuple((asked.names[label],) for label in asked.labels.tolist()),
    labels=asked.labels,
    label_names=asked.names,
    groups=asked.groups,
  )


class _Item(NamedTuple):
  """A text with its pictures, these encoded."""

  pictures: tuple[bytes, ...]
  text: str
  known_as: str
  given: tuple[str, ...]
  label: int
  groups: dict[str, str]


def _read_prepared(
  folder: os.PathLike, name: str, split: str, picture: int | None
) -> tuple[list[_Item], tuple[str, ...]]:
  """The texts of a split, picture by picture, and the names of their labels."""
  import tensorflow_datasets as tfds

  from experiments.engine.datasets import stored

  builder = tfds.builder_from_directory(folder)
  features = builder.info.features
  if "questions" not in features:
    raise errors.UserError(
      f"'{name}' in {folder} has the features {', '.join(sorted(features))}; a set "
      "with pictures and 'questions' is needed"
    )
  asked = features["questions"].feature
  class_names = stored.class_names(asked)
  groups = [key for key in asked if key not in ("id", "text", "answers", "label")]
  pictured = _choose_pictures(features, picture, name)
  items = []
  for example in stored.read_examples(builder, split, "id"):
    encoded = tuple(example[key] for key in pictured)
    questions = example["questions"]
    for row, text in enumerate(questions["text"]):
      label = int(questions["label"][row]) if class_names else -1
      given = (
        (class_names[label],)
        if class_names
        else tuple(map(str.strip, _text(questions["answers"][row]).split("\n")))
      )
      values = {key: _text(questions[key][row]) for key in groups}
      known_as = _text(questions["id"][row])
      items.append(_Item(encoded, _text(text).strip(), known_as, given, label, values))
  return items, class_names


def _choose_pictures(features, picture: int | None, name: str) -> tuple[str, ...]:
  """The features with the pictures that are wanted."""
  count = sum(key.partition("_")[0] == "image" for key in features)
  names = folders.picture_names(count)
  if picture is None:
    return names
  _check_picture(picture, count, name)
  return names[picture : picture + 1]


def _check_picture(picture: int, count: int, name: str) -> None:
  if not 0 <= picture < count:
    raise errors.UsageError(
      f"picture {picture} was asked for, but a text of '{name}' has {count}, counted "
      "from 0"
    )


def _text(value: bytes | str) -> str:
  return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _decode(
  items: Sequence[_Item], size: tuple[int, int] | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Distinct pictures [m, h, w, 3], and theirs for each item: [n, v], -1 if broken."""
  numbers: dict[bytes, int] = {}
  rows = [
    [numbers.setdefault(x, len(numbers)) for x in item.pictures] for item in items
  ]
  images, whole = decode_usable(list(numbers), size, name)
  places = np.full(len(numbers), -1, np.int32)
  places[whole] = np.arange(len(whole))
  index = np.array(rows, np.int32).reshape(len(items), -1)
  return images, places[index]


def _read_size(size: int | Sequence[int] | None, name: str) -> tuple[int, int] | None:
  """(height, width) of what was asked for."""
  if size is None or size == 0:
    return None
  sides = (size, size) if isinstance(size, int) else tuple(size)
  if len(sides) != 2 or not all(isinstance(x, int) and x > 0 for x in sides):
    raise errors.UsageError(
      f"an image_size of '{name}' is a side or (height, width) in pixels, not {size}"
    )
  return sides


def _not_found(name: str, data_dir: str) -> errors.UserError:
  if name in QUESTIONED:
    return not_prepared(name, data_dir)
  known = f"sets with questions: {', '.join(NAMES)}"
  if name in RECIPES or name in embedded.NAMES:
    return errors.UsageError(f"'{name}' has no questions; {known}")
  return errors.UsageError(
    f"data set '{name}' not found in {folders.data_folder(data_dir)}"
    f"{errors.nearest(name, NAMES)}; {known}"
  )
