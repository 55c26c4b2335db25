"""Probe of the frozen features of a pretraining run.

  python -m experiments.probe --run=runs/a
  python -m experiments.probe --run=runs/a --config.data.name=cifar10 --data_dir=DIR

Linear probe, k nearest neighbours, few shots and diagnostics; every choice is made on
the training split. Of a run of towers, or of a fusion model, each part of the image
tower is probed: shared, specific, both and the encoder's features. Without --workdir
the records go to <run>/probe.
"""

import pathlib
from typing import Any

import ml_collections
import numpy as np

from experiments.engine import build, cli, data, record
from experiments.engine.evaluation import evaluate, paired, tables
from experiments.engine.pretraining import (
  images,
  pair_network,
  tower_evaluation,
  trained,
)


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Restores a run's network, embeds a data set and evaluates the features.

  Args:
    config: of configs/probe.py; `run` is the folder of the pretraining run, and an
      empty `data.name` means the data that the run was trained on.
    workdir: where run.json and summary.json go.

  Returns:
    The contents of summary.json.
  """
  of_towers = trained.trained_config(config.run).method in pair_network.METHODS
  final = _probe_towers(config) if of_towers else _probe_network(config)
  final = dict(sorted(final.items()))
  record.conclude(workdir, config, final)
  return final


def _probe_network(config) -> dict[str, float]:
  """Of a run on images alone: the encoder's features."""
  before = trained.trained_config(config.run)
  variables, _ = trained.trained_variables(config.run)
  network = build.build_network(before)
  source = probed_data(before.data, config.data)
  train_set, test_set = data.load_pair(source, config.data_dir, before.seed)
  labelled = data.labelled_part(source, train_set, config.data_dir)
  probed = ml_collections.ConfigDict({"data": source, "evaluate": config.evaluate})
  return images.evaluate_network(probed, network, variables, labelled, test_set)


def _probe_towers(config) -> dict[str, float]:
  """Of a run of towers, or of a fusion model: each part of the image tower."""
  towers = trained.trained_towers(config.run)
  source = probed_data(towers.config.data, config.data)
  name = towers.tower("image")
  splits = []
  for split, limit in (
    (source.get("labelled") or source.train, source.train_limit),
    (source.test, source.test_limit),
  ):
    found = trained.labelled_images(
      source.name,
      split,
      image_size=towers.config.data.image_size,
      data_dir=config.data_dir,
      limit=limit,
      attribute=config.attribute,
      seed=towers.config.seed,
    )
    parts = tower_evaluation.embed_inputs(
      towers.network, towers.readings[name], towers.variables, name, found.images
    )
    example = np.arange(len(found.labels))
    splits.append((paired.TowerTable(parts, example), found.labels))
  (train, train_labels), (test, test_labels) = splits
  final: dict[str, float] = {}
  for part in paired.present_parts(train):
    pair = (
      tables.Table(train.part(part), train_labels),
      tables.Table(test.part(part), test_labels),
    )
    report = evaluate.evaluate_features(*pair, config=config.evaluate)
    final |= {f"{part}/{key}": value for key, value in report.items()}
  return final


def probed_data(
  trained: ml_collections.ConfigDict, asked: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
  """The run's data, with what the probe's config names in its place.

  Image size, mean and standard deviation stay those that the network was trained on.
  """
  merged = ml_collections.ConfigDict(trained.to_dict())
  if asked.name:
    merged.update(asked.to_dict())
  return merged


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/probe.py",
    settings={"run": "folder of the pretraining run"},
    workdir_of=lambda config: str(pathlib.Path(config.run) / "probe"),
  )
