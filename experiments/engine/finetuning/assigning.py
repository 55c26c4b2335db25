"""Text assignment: which of several pictures a caption is about, or none.

ALBEF's pre-step for reasoning about two pictures (Li et al. 2021, Align before Fuse,
sec. 5): it teaches a pretrained model to look at several pictures at once.
"""

import dataclasses
import functools
from typing import Any

import ml_collections
import numpy as np
from jax.sharding import Mesh

from experiments.engine import errors
from experiments.engine.evaluation import task_metrics
from experiments.engine.finetuning.judging import (
  judge,
  judging_method,
  judging_objective,
  read_pictures,
)
from experiments.engine.finetuning.network import TaskNetwork, build_model, predict
from experiments.engine.pretraining import fusion_start, pair_loading, pair_network
from experiments.engine.pretraining.pairs import PairSet
from experiments.engine.pretraining.task import Task
from multimodal.tasks import Judge


@dataclasses.dataclass(frozen=True, eq=False)
class Assigned:
  """Captions, each with several pictures of which one may be its own.

  The other pictures are drawn from the set anew in each epoch, and so is the place of
  the caption's own one: the first, ..., the last, or none, equally often.

  Attributes:
    pairs: pictures with captions.
    pictures: of each caption, v.
  """

  pairs: PairSet
  pictures: int

  @property
  def name(self) -> str:
    """Of the data set."""
    return self.pairs.name

  @property
  def labels(self) -> np.ndarray:
    """int32 [n] classes of the pictures; the places are drawn by `inputs`."""
    return self.pairs.labels

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> dict[str, Any]:
    """{"image" [b, v, h, w, 3], "text" [b, t], "labels" [b] places, v for none}."""
    count, v = len(self.pairs.labels), self.pictures
    # Drawn for all examples: what one is given does not depend on the batch.
    rng = np.random.default_rng((seed, epoch, 2))
    places = rng.integers(v + 1, size=count)
    others = rng.integers(1, count, size=(count, v))  # how far from its own
    every = np.arange(count)[:, None]
    own = places[:, None] == np.arange(v)[None]
    shown = np.where(own, every, (every + others) % count)[rows]
    columns = self.pairs.columns
    pixels: Any = columns["image"].inputs(shown.reshape(-1), epoch, seed)["base"]
    return {
      "image": pixels.reshape(*shown.shape, *pixels.shape[1:]),
      "text": columns["text"].inputs(rows, epoch, seed)["base"],
      "labels": places[rows].astype(np.int32),
    }

  def describe(self) -> str:
    """One line for people: what and how many."""
    return f"{self.pairs.describe()}, {self.pictures} pictures a caption"


def build_assigning_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/finetune.py with method "assigning".

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  del devices  # the loss is over the global batch as jit divides it
  if config.pictures < 2:
    raise errors.UsageError(
      f"pictures is {config.pictures}, but a caption is assigned to one of 2 or more"
    )
  model = build_model(config)
  # A picture and a caption of each example, as a fusion model is pretrained on them.
  reads = ml_collections.ConfigDict(config.to_dict() | {"method": "fusion", "view": ""})
  sets = pair_loading.load_pairs(pair_network.reading_config(reads))
  train, test = (Assigned(pairs, config.pictures) for pairs in sets)
  if len(train.labels) < 2 or len(test.labels) < 2:
    raise errors.UserError(
      f"{config.data.name} has {len(train.labels)} and {len(test.labels)} examples in "
      "its splits; to draw other pictures there must be 2 or more"
    )
  sample = train.inputs(np.arange(2), 0, 0)
  sample |= {"image": sample["image"].astype(np.float32)}
  image = read_pictures(config, sample)
  names = (*(f"picture {i + 1}" for i in range(config.pictures)), "none")
  network = TaskNetwork(Judge(model, len(names), config.pictures), ("image", "text"))
  network.check(sample)
  return Task(
    title=f"fusion model of size {config.model.size} that assigns a text to one of "
    f"{config.pictures} pictures, or none",
    network=network,
    objective=judging_objective(len(names)),
    method=judging_method(network, image, "both"),
    train_set=train,
    sample=sample,
    evaluate=functools.partial(_evaluate, network, image, test, names),
    start=fusion_start.start_task,
  )


def _evaluate(network, image, test: Assigned, names, variables, before, folder):
  del before, folder  # no benchmark takes predictions of a pre-step
  rows = test.inputs(np.arange(len(test.labels)), 0, 0)
  labels = rows.pop("labels")
  apply = lambda call, rows: judge(call, image, "both", rows)
  found = predict(network, variables["params"], rows, apply, "caption").argmax(-1)
  return task_metrics.label_report(found, labels, names)
