"""Loads the pair sets that a config names, as its towers read them."""

import functools
import sys

import ml_collections
import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import captioned
from experiments.engine.pretraining import tower_network
from experiments.engine.pretraining.pairs import (
  Column,
  Images,
  PairSet,
  make_texts,
)
from multimodal import tokenizer


def load_pairs(
  config: ml_collections.ConfigDict, *, train: bool = True
) -> tuple[PairSet, PairSet]:
  """Training and test split as the towers of a config read them.

  Args:
    config: `data` (`name`, `train`, `test`, `train_limit`, `test_limit`,
      `image_size`), `towers`, `context`, `data_dir`, `seed`.
    train: whether the training split is wanted; else the test split stands twice.
  """
  data = config.data
  load = functools.partial(
    captioned.load_captioned,
    data.name,
    data_dir=config.data_dir,
    image_size=data.image_size,
  )
  test = load(data.test, limit=data.test_limit, seed=0)
  found = load(data.train, limit=data.train_limit, seed=config.seed) if train else test
  return _pair_set(config, found), _pair_set(config, test)


def _pair_set(config, found: captioned.Captioned) -> PairSet:
  columns = {
    name: _column(name, tower, found, config) for name, tower in config.towers.items()
  }
  labels = found.attributes.get("class")
  count = len(found.captions)
  return PairSet(
    name=found.name,
    columns=columns,
    labels=np.full(count, -1, np.int32) if labels is None else labels,
    class_names=found.label_names.get("class", ()),
    attributes=found.attributes,
  )


def _column(name, tower, found: captioned.Captioned, config) -> Column:
  if tower.kind == "image":
    return Images(found.images)
  if tower.kind == "text":
    context = tower_network.text_context(tower)
    texts = make_texts(found.captions, tokenizer.load(), context, tower.view)
    if texts.cut:
      print(
        f"note: {texts.cut:,} of {len(texts.tokens):,} captions of {found.name} are "
        f"longer than {context} tokens and were cut (towers.{name}.encoder.context)",
        file=sys.stderr,
      )
    return texts
  raise errors.UsageError(
    f"towers.{name}.kind is {tower.kind}, but {found.name} has images and captions"
  )
