"""Zero-shot classification: pictures by sentences about classes.

  python -m experiments.zero_shot --run=runs/t
  python -m experiments.zero_shot --run=runs/t --config.data.name=caltech101 \
    --config.prompts=photos --data_dir=DIR

The run is one of towers, or of a fusion model, whose encoders are read as towers. Each
class is the mean of the text tower's embeddings of a few sentences (a prompt set of
multimodal/prompts.py); a picture belongs to the class of highest cosine. Without
--config.data.name the classes are those of the run's own data. Without --workdir the
records go to <run>/zero_shot.
"""

import functools
import pathlib
from typing import Any

import ml_collections

from experiments.engine import cli, errors, record
from experiments.engine.evaluation import paired
from experiments.engine.pretraining import tower_evaluation, tower_network, trained
from multimodal import retrieval, tokenizer


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, float]:
  """Classifies a labelled set by prompts.

  Args:
    config: of configs/zero_shot.py.
    workdir: where run.json and summary.json go.

  Returns:
    The contents of summary.json: zero_shot/topk, chance/top1, classes, images.

  Raises:
    UserError: no such run, or a set without class names.
  """
  towers = trained.trained_towers(config.run)
  source = config.data
  images = trained.labelled_images(
    source.name or towers.config.data.name,
    source.test or towers.config.data.test,
    image_size=towers.config.data.image_size,
    data_dir=config.data_dir,
    limit=source.test_limit,
  )
  names = tuple(config.class_names) or images.class_names
  if len(names) <= images.labels.max():
    raise errors.UserError(
      f"{images.name} has labels up to {images.labels.max()}, but {len(names)} class "
      "names are given; list one for each by --config.class_names"
    )
  text = towers.tower("text")
  embed = functools.partial(
    tower_evaluation.embed_texts,
    towers.network,
    towers.variables,
    text,
    tokenizer.load(),
    tower_network.text_context(towers.config.towers[text]),
  )
  weights = paired.embed_prompts(embed, names, config.prompts or _prompts_of(towers))
  name = towers.tower("image")
  rows = tower_evaluation.embed_inputs(
    towers.network, towers.readings[name], towers.variables, name, images.images
  )["shared"]
  found = retrieval.zero_shot_accuracy(
    rows, weights, images.labels, ks=tuple(config.guesses)
  )
  final: dict[str, Any] = {f"zero_shot/{k}": v for k, v in found.items()}
  final |= {
    "chance/top1": 1 / len(names),
    "classes": len(names),
    "images": len(images.labels),
  }
  record.conclude(workdir, config, final)
  return final


def _prompts_of(towers: trained.TrainedTowers) -> str:
  return towers.config.evaluate.prompts


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/zero_shot.py",
    settings={"run": "folder of a pretraining run of towers or fusion"},
    workdir_of=lambda config: str(pathlib.Path(config.run) / "zero_shot"),
  )
