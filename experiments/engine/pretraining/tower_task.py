"""Pretraining of towers over pairs: CLIP-like models, with or without structures."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from experiments.engine import importing, spread
from experiments.engine.evaluation import paired, paired_settings
from experiments.engine.pretraining import pair_loading, tower_network, tower_objective
from experiments.engine.pretraining.task import Task, beside_untrained
from experiments.engine.pretraining.tower_evaluation import evaluate_towers
from experiments.engine.pretraining.tower_illustration import illustrate_towers
from experiments.engine.pretraining.tower_method import Reading, build_method
from experiments.engine.state import Start
from experiments.engine.step import Batch
from multimodal.towers import Towers


def build_tower_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/towers.py.

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  for name, tower in config.towers.items():
    tower_network.check_tower(name, tower)
  if not tower_objective.needs_views(config):
    config = _without_views(config)
  network = tower_network.build_towers(config)
  settings = paired_settings.read_settings(config.evaluate)
  tower_objective.read_structures(config.structures)
  how = spread.execution(config.mesh, devices, anchors=config.batch, width=config.width)
  objective = tower_objective.build_tower_objective(config, list(config.towers), how)
  train_set, test_set = pair_loading.load_pairs(config)
  paired.check_attributes(settings, train_set.attributes, test_set.attributes)
  sample = {name: column.sample() for name, column in train_set.columns.items()}
  readings = read_columns(config, sample)
  method = build_method(network, readings)
  _check_inputs(config, network, method, train_set, sample)
  return Task(
    title=f"towers ({', '.join(config.towers)}) with {config.objective.name} "
    f"({config.objective.terms} terms){_structures(config)}",
    network=network,
    objective=spread.spread_objective(objective, devices, how),
    method=method,
    train_set=train_set,
    sample=sample,
    evaluate=beside_untrained(
      functools.partial(
        evaluate_towers, network, readings, train_set, test_set, settings
      )
    ),
    untrained=settings.untrained,
    start=_start(config),
    frozen=lambda params: {
      "network": network.frozen(params["network"]),
      "objective": jax.tree.map(lambda x: False, params["objective"]),
    },
    illustrate=functools.partial(illustrate_towers, network, readings, test_set),
  )


def _without_views(config):
  """The config without the views that its towers are set to have."""
  config = ml_collections.ConfigDict(config.to_dict())
  for tower in config.towers.values():
    tower.view = ""
  return config


def read_columns(
  config: ml_collections.ConfigDict, sample: Mapping[str, Any]
) -> dict[str, Reading]:
  """How each tower reads its column, by tower."""
  return {
    name: tower_network.build_reading(tower, config.data, sample[name].shape)
    for name, tower in config.towers.items()
  }


def _check_inputs(config, network: Towers, method, train_set, sample) -> None:
  """Refuses structures without the views they need, before anything is compiled."""
  rows = np.arange(min(2, len(train_set.labels)))
  ids = jnp.asarray(rows, jnp.int32)
  batch = Batch(train_set.inputs(rows, 0, 0), ids, ids)

  def features(key, batch):
    variables = network.init(key, sample)
    stats: Any = (variables["batch_stats"], {})
    return method.embed(variables["params"], stats, {}, batch, key)[0]

  shapes = jax.eval_shape(features, jax.random.key(0), batch)
  tower_objective.check_inputs(config, shapes)


def _start(config) -> Start:
  """`init_from` names weights of the first image tower."""
  tower = next((k for k, v in config.towers.items() if v.kind == "image"), "")
  return functools.partial(_start_tower, tower) if tower else importing.init_from


def _start_tower(tower: str, params: Any, stats: Any, path: str) -> tuple[Any, Any]:
  own, own_stats = importing.init_from(params[tower], stats.get(tower, {}), path)
  params = {**params, tower: own}
  return params, {**stats, tower: own_stats} if own_stats else stats


def _structures(config) -> str:
  names = [name for name, knobs in config.structures.items() if knobs.weight]
  return "".join(f" + {name}" for name in names)
