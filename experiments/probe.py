"""Probe of the frozen features of a pretraining run.

  python -m experiments.probe --run=runs/a
  python -m experiments.probe --run=runs/a --config.data.name=cifar10 --data_dir=DIR

Linear probe, k nearest neighbours, few shots and diagnostics; every choice is made on
the training split. Without --workdir the records go to <run>/probe.
"""

import pathlib
from typing import Any

import ml_collections

from experiments.engine import build, cli, data, errors, record
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.pretraining import images


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Restores a run's network, embeds a data set and evaluates the features.

  Args:
    config: of configs/probe.py; `run` is the folder of the pretraining run, and an
      empty `data.name` means the data that the run was trained on.
    workdir: where run.json and summary.json go.

  Returns:
    The contents of summary.json.
  """
  if not config.run:
    raise errors.UsageError("which run? give its folder: --run=DIR")
  trained = trained_config(config.run)
  variables, _ = trained_variables(config.run)
  network = build.build_network(trained)
  source = probed_data(trained.data, config.data)
  train_set, test_set = data.load_pair(source, config.data_dir, trained.seed)
  labelled = data.labelled_part(source, train_set, config.data_dir)
  probed = ml_collections.ConfigDict({"data": source, "evaluate": config.evaluate})
  final = images.evaluate_network(probed, network, variables, labelled, test_set)
  with record.Recorder(workdir, config) as recorder:
    recorder.summary(final)
  for name, value in sorted(final.items()):
    print(f"{name:32} {value:.4f}")
  print(f"-> {workdir}/summary.json")
  return final


def trained_config(folder: str) -> ml_collections.ConfigDict:
  """Config of the pretraining run in a folder.

  Raises:
    UserError: the folder holds no pretraining run.
  """
  about = record.read_json(pathlib.Path(folder) / "run.json")
  config = ml_collections.ConfigDict(about.get("config", {}))
  if "encoder" not in config or "objective" not in config:
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
