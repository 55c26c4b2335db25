"""Fine-tuning of a pretrained fusion model on a task, and its measure.

  python -m experiments.finetune --config=configs/finetune.py:vqa --init_from=RUN

The same command continues a stopped run from its last checkpoint, and does nothing
for a run that is complete. Predictions are written into the run's folder, in the
format of the task's benchmark.
"""

from typing import Any

import ml_collections

from experiments.engine import cli, task_run


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Trains a task, measures it and writes the records and the predictions.

  Args:
    config: of configs/finetune.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json.
  """
  return task_run.run_task(config, workdir)


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/finetune.py",
    settings={
      "init_from": "folder of the pretraining run that it starts from, or of a sweep "
      "with a run of the same arm and seed",
      "resume": "force: go on although the folder's run had another config",
    },
    switches={"dry_run": "say what the run would be, and stop"},
  )
