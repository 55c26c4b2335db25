"""Retrieval by a run of towers: the text of a picture, and the picture of a text.

  python -m experiments.retrieval --run=runs/t
  python -m experiments.retrieval --run=runs/t --config.data.name=coco_cc --data_dir=DIR

Exact, in blocks, with several captions for each picture; keys of equal cosine count as
in random order. Without --workdir the records go to <run>/retrieval.
"""

import pathlib

import ml_collections

from experiments.engine import cli, record
from experiments.engine.evaluation import paired, paired_settings
from experiments.engine.pretraining import pair_loading, tower_evaluation, trained


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
  """Measures recall between each two towers of a run, both ways.

  Args:
    config: of configs/retrieval.py.
    workdir: where run.json and summary.json go.

  Returns:
    The contents of summary.json: A_to_B/recall@k and A_to_B/median_rank for towers A
    and B, examples, and chance/recall@1 (of one key in as many as there are examples).
  """
  towers = trained.trained_towers(config.run)
  asked = ml_collections.ConfigDict(towers.config.to_dict())
  asked.data_dir = config.data_dir
  for key, value in config.data.items():
    if value:
      asked.data[key] = value
  _, pairs = pair_loading.load_pairs(asked, train=False)
  split = tower_evaluation.embed_split(
    towers.network, towers.readings, towers.variables, pairs
  )
  settings = paired_settings.Settings(
    ks=tuple(config.ks), probe=False, few_shot=False, geometry=config.geometry
  )
  final = paired.evaluate_split(None, split, settings)
  final |= {
    "examples": len(pairs.labels),
    "chance/recall@1": 1 / len(pairs.labels),
  }
  record.conclude(workdir, config, final)
  return final


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/retrieval.py",
    settings={"run": "folder of a pretraining run of towers"},
    workdir_of=lambda config: str(pathlib.Path(config.run) / "retrieval"),
  )
