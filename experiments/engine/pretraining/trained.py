"""What a pretraining run left behind, read back for evaluation and export."""

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from experiments.engine import data, errors, record
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.datasets import captioned
from experiments.engine.pretraining import pair_loading, pair_network
from experiments.engine.pretraining.pair_network import PairNetwork
from experiments.engine.pretraining.tower_method import Reading


class TrainedTowers(NamedTuple):
  """Towers of a run, or the encoders of its fusion model, at its latest checkpoint.

  Attributes:
    config: of the run, with its towers as `pair_network.reading_config` has them.
    network: what embeds by them.
    variables: {"params", "batch_stats"}.
    readings: how each tower reads its column.
  """

  config: ml_collections.ConfigDict
  network: PairNetwork
  variables: dict[str, Any]
  readings: Mapping[str, Reading]

  def tower(self, kind: str) -> str:
    """Name of the tower that reads a data set's `kind`, "image" or (English) "text".

    Raises:
      UserError: there is none.
    """
    for name, tower in self.config.towers.items():
      if pair_loading.tower_input(tower) == kind:
        return name
    raise errors.UserError(
      f"no tower of the run reads the input '{kind}'; there are "
      f"{', '.join(self.config.towers)}"
    )


class Labelled(NamedTuple):
  """Pictures with classes: uint8 [n, h, w, 3], int32 [n], and the classes' words."""

  name: str
  images: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]


def trained_config(folder: str) -> ml_collections.ConfigDict:
  """Config of the pretraining run in a folder.

  Raises:
    UserError: the folder holds no pretraining run.
  """
  if not folder:
    raise errors.UsageError("which run? give its folder: --run=DIR")
  about = record.read_json(pathlib.Path(folder) / "run.json")
  config = ml_collections.ConfigDict(about.get("config", {}))
  if "method" not in config or "objective" not in config:
    raise errors.UserError(
      f"{folder} is no pretraining run; give the --workdir of experiments.pretrain"
    )
  return config


def trained_variables(folder: str) -> tuple[dict[str, Any], int]:
  """The network's {"params", "batch_stats"} at a run's latest checkpoint, and its step.

  Raises:
    UserError: the folder holds no whole checkpoint.
  """
  with Checkpoints(folder) as checkpoints:
    saved = checkpoints.restore_tree()
  variables = {
    "params": saved["params"]["network"],
    "batch_stats": saved.get("batch_stats") or {},
  }
  return variables, int(saved["step"])


def trained_towers(folder: str) -> TrainedTowers:
  """The towers of a run, or the encoders of its fusion model.

  Raises:
    UserError: the folder holds a run of neither, or no whole checkpoint.
  """
  config = trained_config(folder)
  if config.method not in pair_network.METHODS:
    raise errors.UserError(
      f"{folder} is a run of {config.method}, neither of towers nor of a fusion model; "
      "this command needs one of python -m experiments.pretrain "
      "--config=configs/towers.py, or configs/fusion.py"
    )
  variables, _ = trained_variables(folder)
  config = pair_network.reading_config(config)
  return TrainedTowers(
    config,
    pair_network.build_pair_network(config),
    variables,
    pair_network.build_readings(config),
  )


def labelled_images(
  name: str,
  split: str,
  *,
  image_size: int,
  data_dir: str = "",
  limit: int = 0,
  attribute: str = "class",
  seed: int = 0,
) -> Labelled:
  """Pictures with labels, of a captioned set that knows some or of an image set.

  Args:
    name: of either.
    split: of the set.
    image_size: side of the pictures.
    data_dir: folder of prepared sets.
    limit: so many examples; 0 for all.
    attribute: whose labels, of a captioned set; examples without one are left out.
    seed: of the draw of a limited set.

  Raises:
    UserError: no such set, or it has no such labels, or none of the examples has one.
  """
  how: Any = dict(data_dir=data_dir, image_size=image_size, limit=limit, seed=seed)
  if name not in captioned.NAMES:
    found = data.load(name, split, **how)
    images = found.images
    if images.shape[-1] == 1:
      images = np.repeat(images, 3, axis=-1)
    return Labelled(name, images, found.labels, found.class_names)
  pairs = captioned.load_captioned(name, split, **how)
  if not pairs.attributes:
    raise errors.UserError(
      f"'{name}' has captions and no classes; choose a labelled set by "
      "--config.data.name"
    )
  if attribute not in pairs.attributes or pairs.attributes[attribute].ndim > 1:
    single = [k for k, v in pairs.attributes.items() if v.ndim == 1]
    raise errors.unknown("attribute", attribute, single)
  words = pairs.label_names.get(attribute, ())
  labels = pairs.attributes[attribute]
  known = np.flatnonzero(labels >= 0)
  if not len(known):
    raise errors.UserError(
      f"none of the {len(labels)} examples of '{split}' of '{name}' has a label of "
      f"'{attribute}'; take more of them, or another split"
    )
  return Labelled(name, pairs.images[known], labels[known], words)
