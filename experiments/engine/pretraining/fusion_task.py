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
  fusion_start,
  pair_loading,
  pair_network,
  tower_evaluation,
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
  reads = pair_network.reading_config(config)
  for name, tower in reads.towers.items():
    tower_network.check_view(name, tower)
  train_set, test_set = pair_loading.load_pairs(reads)
  paired.check_attributes(settings, train_set.attributes, test_set.attributes)
  sample = {name: column.sample() for name, column in train_set.columns.items()}
  readings = pair_network.build_readings(reads)
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
    method=build_fusion_method(network, readings["image"], hidden),
    train_set=train_set,
    sample=sample,
    evaluate=beside_untrained(
      functools.partial(
        fusion_evaluation.evaluate_fusion,
        network,
        readings,
        train_set,
        test_set,
        settings,
        rerank=config.rerank,
      )
    ),
    untrained=settings.untrained,
    start=fusion_start.start_model,
    illustrate=functools.partial(_illustrate, network, readings, test_set),
    with_target=True,
    target_constant=True,
  )


def _illustrate(network, readings, test_set, variables, folder) -> None:
  split = tower_evaluation.embed_split(network, readings, variables, test_set)
  pictures.write_pictures(draw_towers(split, test_set), folder)


def _try(network, sample) -> None:
  """Refuses what does not fit together before anything is compiled."""
  floats = {k: np.asarray(v) for k, v in sample.items()}
  try:
    jax.eval_shape(lambda key: network.init(key, floats), jax.random.key(0))
  except ValueError as error:
    raise errors.UsageError(f"model: {error}") from error
