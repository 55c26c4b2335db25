"""Pretraining of a fusion model over pictures and captions."""

import functools

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from experiments.engine import data, errors, optimizer
from experiments.engine.evaluation import paired, paired_settings
from experiments.engine.pretraining import (
  fusion_evaluation,
  pair_loading,
  tower_network,
)
from experiments.engine.pretraining.fusion_method import Masking, build_fusion_method
from experiments.engine.pretraining.fusion_network import build_fusion
from experiments.engine.pretraining.fusion_objective import build_fusion_objective
from experiments.engine.pretraining.task import Task, beside_untrained
from experiments.engine.pretraining.tower_illustration import draw_towers
from experiments.engine.reporting import pictures

INPUTS = ("image", "text")


def build_fusion_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/fusion.py.

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  del devices  # the loss is over the global batch as jit divides it
  optimizer.target_momentum(config.target_momentum, 1)  # refuses before data is read
  network = build_fusion(config)
  settings = paired_settings.read_settings(config.evaluate)
  reads = reading_config(config, network.context)
  for name, tower in reads.towers.items():
    tower_network.check_view(name, tower)
  train_set, test_set = pair_loading.load_pairs(reads)
  paired.check_attributes(settings, train_set.attributes, test_set.attributes)
  sample = {name: column.sample() for name, column in train_set.columns.items()}
  image = tower_network.build_reading(
    reads.towers.image, config.data, sample["image"].shape
  )
  steps = data.epoch_steps(len(train_set.labels), config.batch)
  objective = build_fusion_objective(
    config, network, round(config.objective.ramp_epochs * steps)
  )
  knobs = config.objective
  hidden = Masking(knobs.mask_rate if knobs.masking else 0.0, bool(knobs.alpha))
  _try(network, sample)
  return Task(
    title=f"fusion model of size {config.model.size} with "
    f"{', '.join(name for name in ('contrast', 'matching', 'masking') if knobs[name])}"
    + "".join(f" + {k}" for k, v in config.structures.items() if v.weight),
    network=network,
    objective=objective,
    method=build_fusion_method(network, image, hidden),
    train_set=train_set,
    sample=sample,
    evaluate=beside_untrained(
      functools.partial(
        fusion_evaluation.evaluate_fusion,
        network,
        image,
        train_set,
        test_set,
        settings,
        rerank=config.rerank,
      )
    ),
    untrained=settings.untrained,
    illustrate=functools.partial(_illustrate, network, image, test_set),
    with_target=True,
    target_constant=True,
  )


def reading_config(
  config: ml_collections.ConfigDict, context: int
) -> ml_collections.ConfigDict:
  """The config as `pair_loading` takes it: a picture and a caption of each example.

  Args:
    config: of configs/fusion.py.
    context: most tokens of a caption.
  """
  made = ml_collections.ConfigDict(
    {key: config[key] for key in ("data_dir", "seed")} | {"data": config.data.to_dict()}
  )
  made.towers = {
    "image": dict(kind="image", input="", view=config.view),
    "text": dict(
      kind="text", input="", view="", encoder=dict(name="text_micro", context=context)
    ),
  }
  return made


def _illustrate(network, image, test_set, variables, folder) -> None:
  split = fusion_evaluation.embed_pairs(network, image, variables["params"], test_set)
  pictures.write_pictures(draw_towers(split, test_set), folder)


def _try(network, sample) -> None:
  """Refuses what does not fit together before anything is compiled."""
  floats = {k: np.asarray(v) for k, v in sample.items()}
  try:
    jax.eval_shape(lambda key: network.init(key, floats), jax.random.key(0))
  except ValueError as error:
    raise errors.UsageError(f"model: {error}") from error
