"""Retrieval by a run of towers or of a fusion model: texts of pictures, and back.

  python -m experiments.retrieval --run=runs/t
  python -m experiments.retrieval --run=runs/t --config.data.name=coco_cc --data_dir=DIR

Exact, in blocks, with several captions for each picture; keys of equal cosine count as
in random order. The matching head of a fusion model also puts the nearest keys of each
query in order, as many as --config.rerank says. Without --workdir the records go to
<run>/retrieval.
"""

import pathlib

import ml_collections

from experiments.engine import cli, errors, ranges, record
from experiments.engine.evaluation import paired_settings
from experiments.engine.pretraining import (
  fusion_evaluation,
  fusion_network,
  pair_loading,
  pairs,
  tower_evaluation,
  trained,
)


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
  """Measures recall between each two towers of a run, both ways.

  Args:
    config: of configs/retrieval.py.
    workdir: where run.json and summary.json go.

  Returns:
    The contents of summary.json: A_to_B/recall@k and A_to_B/median_rank for towers A
    and B, with a fusion model also reranked/A_to_B/..., examples, and chance/recall@1
    (of one key in as many as there are examples).

  Raises:
    UserError: no such run, or one that the matching head is asked of and has none.
  """
  ranges.check(config)
  towers = trained.trained_towers(config.run)
  rerank = _candidates(towers, config.rerank)
  asked = ml_collections.ConfigDict(towers.config.to_dict())
  asked.data_dir = config.data_dir
  for key, value in config.data.items():
    if value:
      asked.data[key] = value
  _, test_set = pair_loading.load_pairs(asked, train=False)
  settings = paired_settings.Settings(
    ks=tuple(config.ks),
    zero_shot=False,
    probe=False,
    few_shot=False,
    geometry=config.geometry,
  )
  final = _measure(towers, test_set, settings, rerank)
  final |= {
    "examples": len(test_set.labels),
    "chance/recall@1": 1 / len(test_set.labels),
  }
  record.conclude(workdir, config, final)
  return final


def _candidates(towers: trained.TrainedTowers, rerank: int | None) -> int:
  """Nearest keys that a matching head puts in order: as asked, or as in the run."""
  if towers.config.method == "fusion":
    return towers.config.rerank if rerank is None else rerank
  if rerank:
    raise errors.UsageError(
      "towers have no matching head to put what they find in order; leave out "
      "--config.rerank, or give a run of a fusion model"
    )
  return 0


def _measure(
  towers: trained.TrainedTowers,
  test_set: pairs.PairSet,
  settings: paired_settings.Settings,
  rerank: int,
) -> dict[str, float]:
  network, readings, variables = towers.network, towers.readings, towers.variables
  if isinstance(network, fusion_network.FusionNetwork):
    return fusion_evaluation.evaluate_fusion(
      network, readings, None, test_set, settings, variables, rerank=rerank
    )
  return tower_evaluation.evaluate_towers(
    network, readings, None, test_set, settings, variables
  )


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/retrieval.py",
    settings={"run": "folder of a pretraining run of towers or fusion"},
    workdir_of=lambda config: str(pathlib.Path(config.run) / "retrieval"),
  )
