"""Pretraining on images alone: SimCLR or MoCo-v3, then the probe."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from contrastive import views
from experiments.engine import build, data, spread
from experiments.engine.evaluation import evaluate, tables
from experiments.engine.objective import Objective
from experiments.engine.objectives import build_objective
from experiments.engine.pretraining.task import Task
from experiments.engine.pretraining.view_pairs import Recipes, two_view_method

METHODS = ("simclr", "moco_v3")


def image_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/pretrain.py.

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  network = build.build_network(config)
  objective = _objective(config, devices)
  train_set, test_set = data.load_pair(config.data, config.data_dir, config.seed)
  labelled = data.labelled_part(config.data, train_set, config.data_dir)
  settings = evaluate.read_settings(config.evaluate)
  evaluate.check_labels(labelled.labels, test_set.labels, settings)
  shape = train_set.images.shape[1:]
  recipes = Recipes(
    *build.build_recipes(config.views), *build.channel_statistics(config.data, shape)
  )
  with_target = config.method == "moco_v3"
  return Task(
    title=f"{config.method} with {config.objective.name}, encoder "
    f"{config.encoder.name}",
    network=network,
    objective=objective,
    method=two_view_method(network, recipes, with_target=with_target),
    train_set=train_set,
    sample=np.zeros((2, *shape), np.float32),
    evaluate=lambda variables, untrained, _: evaluate_network(
      config, network, variables, labelled, test_set, untrained=untrained
    ),
    untrained=settings.untrained,
    with_target=with_target,
  )


def _objective(config, devices) -> Objective:
  how = spread.execution(
    config.mesh, devices, anchors=2 * config.batch, width=config.projector.out
  )
  objective = build_objective(config.objective, config.method, how)
  return spread.spread_objective(objective, devices, how)


def evaluate_network(
  config: ml_collections.ConfigDict,
  network: build.Network,
  variables: Any,
  train_set: data.ImageSet,
  test_set: data.ImageSet,
  *,
  untrained: Any = None,
) -> dict[str, float]:
  """Embeds both splits once and evaluates the frozen features.

  Args:
    config: `data.mean` and `data.std`, and `evaluate`.
    network: as trained.
    variables: {"params", "batch_stats"} of the network.
    train_set: images that the probe is fitted on.
    test_set: images that it is tested on.
    untrained: variables before training; given, probe/untrained_top1 is theirs.
  """
  mean, std = build.channel_statistics(config.data, train_set.images.shape)

  def encode(variables, images):
    x = views.normalise(images.astype(jnp.float32) / 255, mean, std)
    return network.embed(variables, x)

  def both(variables):
    apply = jax.tree_util.Partial(encode, variables)
    for part in (train_set, test_set):
      features = evaluate.embed(apply, part.images, split=part.name)
      yield tables.Table(features, part.labels)

  report = evaluate.evaluate_features(*both(variables), config=config.evaluate)
  if untrained is not None:
    top1 = evaluate.probe_top1(*both(untrained), config=config.evaluate)
    report["probe/untrained_top1"] = top1
  return report
