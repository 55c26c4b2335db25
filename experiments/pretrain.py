"""Pretraining on images, pairs of modalities or captions, followed by its measures.

  python -m experiments.pretrain --config=configs/pretrain.py:smoke --workdir=runs/a
  python -m experiments.pretrain --config=configs/pretrain.py:cifar10 \
    --config.objective.name=decoupled --config.batch=128 --data_dir=DIR

The same command continues a stopped run from its last checkpoint, and does nothing
for a run that is complete.
"""

from typing import Any

import ml_collections

from experiments.engine import cli, task_run


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains, probes the frozen features and writes the records.

  Args:
    config: of configs/pretrain.py, configs/towers.py or configs/fusion.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json: final loss, probe, diagnostics.
  """
  return task_run.run_task(config, workdir)


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/pretrain.py",
    settings={
      "resume": "force: go on although the folder's run had another config",
      "init_from": "FILE.safetensors of weights that the network starts from; of a "
      "fusion model a run's folder, too",
    },
    switches={"dry_run": "say what the run would be, and stop"},
  )
