"""Image sets in memory, and the order in which a run sees them.

Small and medium sets are held whole, as uint8. The rows of a step are a pure function
of (seed, step), so a resumed run continues where it was with nothing to restore.
"""

import dataclasses
import functools

import ml_collections
import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import embedded
from experiments.engine.datasets.builders import RECIPES, folders


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
  """A split, whole in memory.

  Attributes:
    name: of the data set.
    images: uint8 [n, height, width, channels].
    labels: int32 [n]; -1 where there is none.
    class_names: the word of each label.
  """

  name: str
  images: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """What a network reads of the examples `rows`: their pixels, in any epoch."""
    del epoch, seed
    return self.images[rows]

  def describe(self) -> str:
    """One line for people: what and how many."""
    shape = " x ".join(map(str, self.images.shape[1:]))
    return f"{self.name}: {len(self.labels):,} images of {shape}"

  def take(self, rows: np.ndarray) -> "ImageSet":
    """Returns the examples `rows`, in that order."""
    return dataclasses.replace(self, images=self.images[rows], labels=self.labels[rows])


def load(
  name: str,
  split: str,
  *,
  data_dir: str = "",
  image_size: int | None = None,
  limit: int | None = None,
  seed: int = 0,
) -> ImageSet:
  """Loads a split of an image classification set.

  Args:
    name: a set prepared by `experiments.prepare` or by TFDS as array_record; or
      "scenes" and "scenes_hard" (procedural, the label is shape and texture), or
      "digits" (scikit-learn's). These need no files.
    split: name of a split, or a part of it as in TFDS: "train[:5000]", "train[90%:]".
      Of the scenes there are 2**31 a split: "train" is the first 20,000, "test" the
      first 4,000, and a range may reach beyond.
    data_dir: folder of prepared sets; empty means $DATA_DIR, then TFDS's default.
    image_size: side of the pictures: others are scaled and cropped to the centre
      square. None (or 0) keeps their size, 32 for scenes.
    limit: size of a class-balanced subset drawn without replacement: class counts
      differ by at most one unless a class is exhausted. None (or 0): all.
    seed: of that draw.

  Raises:
    UsageError: an unknown name or split, or a limit beyond the size of the split.
    UserError: the set is not prepared, damaged, or of varied sizes without image_size.
  """
  if name in embedded.NAMES:
    source = embedded.open_embedded(name, split, image_size or None)
  else:
    source = _open_prepared(name, split, data_dir, image_size or None)
  rows = _subset(source.labels, limit, seed, f"'{split}' of '{name}'")
  return ImageSet(name, source.images(rows), source.labels[rows], source.class_names)


def _open_prepared(
  name: str, split: str, data_dir: str, image_size: int | None
) -> embedded.Source:
  folder = folders.find_prepared(name, data_dir)
  if folder is None:
    raise _not_found(name, data_dir)
  from experiments.engine.datasets import pictures, stored

  encoded = stored.read_encoded(folder, split)
  decode = lambda rows: pictures.decode_pictures(
    [encoded.pictures[row] for row in rows],
    channels=encoded.channels,
    image_size=image_size,
    name=name,
  )
  return embedded.Source(encoded.labels, encoded.class_names, decode)


def load_pair(
  config: ml_collections.ConfigDict, data_dir: str = "", seed: int = 0
) -> tuple[ImageSet, ImageSet]:
  """Loads the training and the test split that a config names.

  Args:
    config: `name`, `image_size`, `train`, `test` (splits), `train_limit`,
      `test_limit` (0: all).
    data_dir: as in `load`.
    seed: of the draw of a limited training set; a limited test set is always the same.
  """
  part = functools.partial(
    load, config.name, data_dir=data_dir, image_size=config.image_size
  )
  return (
    part(config.train, limit=config.train_limit, seed=seed),
    part(config.test, limit=config.test_limit, seed=0),
  )


def labelled_part(
  config: ml_collections.ConfigDict, train_set: ImageSet, data_dir: str = ""
) -> ImageSet:
  """The split that a probe is fitted on: `config.labelled`, or the training set.

  STL-10, for one, is trained on without labels and probed with another split.
  """
  if not config.labelled:
    return train_set
  return load(
    config.name, config.labelled, data_dir=data_dir, image_size=config.image_size
  )


def _not_found(name: str, data_dir: str) -> errors.UserError:
  folder = folders.data_folder(data_dir)
  known = [*RECIPES, *embedded.NAMES]
  option = f" --data_dir={data_dir}" if data_dir else ""
  if name in RECIPES:
    return errors.UserError(
      f"data set '{name}' not found in {folder}; prepare it: "
      f"python -m experiments.prepare {name} --from=DIR{option}"
    )
  return errors.UsageError(
    f"data set '{name}' not found in {folder}{errors.nearest(name, known)}; known: "
    f"{', '.join(known)}; a folder of pictures becomes one by: python -m "
    f"experiments.prepare NAME --image_folder --from=DIR{option}"
  )


def _subset(labels: np.ndarray, limit: int | None, seed: int, what: str) -> np.ndarray:
  """Rows of a class-balanced subset of `limit` examples, ascending; all if 0."""
  if not limit:
    return np.arange(len(labels))
  if limit < 0 or limit > len(labels):
    raise errors.UsageError(
      f"a limit of {limit} examples was asked for, but {what} has {len(labels)}"
    )
  rng = _rng(seed, "limit")
  # The first example of every class, then the second of every class, and so on.
  order = np.lexsort((rng.permutation(len(labels)), _rank_in_class(labels, rng)))
  return np.sort(order[:limit])


def _rank_in_class(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Numbers the examples of each class 0, 1, ... in random order, [n]."""
  order = rng.permutation(len(labels))
  order = order[np.argsort(labels[order], kind="stable")]
  counts = np.unique(labels, return_counts=True)[1]
  ranks = np.empty(len(labels), np.int64)
  ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
  return ranks


def _rng(seed: int, purpose: str) -> np.random.Generator:
  """A generator of its own for each purpose, apart from those of the epochs."""
  return np.random.default_rng([seed, *purpose.encode()])


def stratified_split(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
  """Marks about `share` of every class for validation: [n] booleans.

  A class with two or more examples has at least one on either side; an only example
  stays in training.
  """
  rng = np.random.default_rng(seed)
  held_out = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    places = rng.permutation(np.flatnonzero(labels == label))
    count = min(max(1, round(share * len(places))), len(places) - 1)
    held_out[places[:count]] = True
  return held_out


def train_validation(
  images: ImageSet, fraction: float, seed: int
) -> tuple[ImageSet, ImageSet]:
  """Splits a set in two, stratified: the fraction holds in each class.

  Args:
    images: a labelled set.
    fraction: part of each class that becomes validation, in (0, 1); rounded, at least
      one example and at most all but one. A class of one example stays in training.
    seed: of the draw.

  Returns:
    Training set and validation set, disjoint, both in the order of `images`.

  Raises:
    UsageError: the fraction is not in (0, 1).
  """
  if not 0 < fraction < 1:
    raise errors.UsageError(f"a validation fraction of {fraction} is not in (0, 1)")
  held = stratified_split(images.labels, fraction, seed)
  return images.take(np.flatnonzero(~held)), images.take(np.flatnonzero(held))


def class_balanced_draw(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
  """Draws `shots` examples of every class without replacement.

  Args:
    labels: int [n], at least 0.
    shots: examples of each class, at least 1.
    seed: of the draw.

  Returns:
    int [classes * shots] rows, ascending.

  Raises:
    UserError: there are unlabelled examples, or too few of a class.
  """
  if shots < 1:
    raise errors.UsageError(
      f"{shots} shots a class were asked for; at least 1 is needed"
    )
  classes, counts = np.unique(labels, return_counts=True)
  if len(classes) == 0 or classes[0] < 0:
    raise errors.UserError(
      "a draw by class needs labels, but there are examples without"
    )
  if counts.min() < shots:
    raise errors.UserError(
      f"class {classes[counts.argmin()]} has {counts.min()} examples, but {shots} of "
      "each class were asked for"
    )
  return np.flatnonzero(_rank_in_class(labels, _rng(seed, "shots")) < shots)


def epoch_steps(num_examples: int, batch: int) -> int:
  """Returns the number of whole batches in an epoch.

  Raises:
    UserError: the batch exceeds the number of examples, or is not positive.
  """
  if batch < 1 or batch > num_examples:
    raise errors.UserError(
      f"a batch of {batch} cannot be drawn from {num_examples} examples; choose one "
      f"of 1 to {num_examples}"
    )
  return num_examples // batch


def rows_at(seed: int, step: int, num_examples: int, batch: int) -> np.ndarray:
  """Returns the rows of a step, a pure function of its arguments.

  Every epoch is a permutation of its own; what does not fill a batch at its end is
  left out, so no row occurs twice in an epoch.

  Args:
    seed: of the run.
    step: counted from 0.
    num_examples: size of the training set.
    batch: global batch.

  Returns:
    int [batch], distinct.

  Raises:
    UserError: as `epoch_steps`.
  """
  epoch, position = divmod(step, epoch_steps(num_examples, batch))
  order = _epoch_order(seed, epoch, num_examples)
  return order[position * batch : (position + 1) * batch].copy()


@functools.lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(num_examples)
