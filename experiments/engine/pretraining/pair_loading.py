"""Loads the pair sets that a config names, as its towers read them.

What a tower reads is its `input`, a name that the data set knows; empty means that of
the tower's kind: "image" or "text".
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import captioned, factor_vectors
from experiments.engine.pretraining import tower_network
from experiments.engine.pretraining.pairs import (
  Column,
  Images,
  PairSet,
  Vectors,
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

  Raises:
    UsageError: a tower asks for an input that the data set lacks, or whose kind is not
      the tower's.
    UserError: the data cannot be read.
  """
  data = config.data
  inputs = [tower_input(tower) for tower in config.towers.values()]
  if data.name == factor_vectors.NAME:
    load: Callable[..., Any] = functools.partial(
      factor_vectors.load_vectors, inputs=inputs
    )
    make: Callable[[Any, Any], PairSet] = _vector_set
  else:
    load = functools.partial(
      captioned.load_captioned,
      data.name,
      data_dir=config.data_dir,
      image_size=data.image_size,
      inputs=inputs,
    )
    make = _pair_set
  test = load(data.test, limit=data.test_limit, seed=0)
  found = load(data.train, limit=data.train_limit, seed=config.seed) if train else test
  return make(config, found), make(config, test)


def tower_input(tower: ml_collections.ConfigDict) -> str:
  """Name of what a tower reads; configs of earlier runs lack the key."""
  return tower.get("input", "") or tower.kind


def _pair_set(config, found: captioned.Captioned) -> PairSet:
  columns = {name: _column(name, config, found) for name in config.towers}
  labels = found.attributes.get("class")
  count = len(found.ids)
  return PairSet(
    name=found.name,
    columns=columns,
    labels=np.full(count, -1, np.int32) if labels is None else labels,
    class_names=found.label_names.get("class", ()),
    attributes=found.attributes,
  )


def _column(name: str, config, found: captioned.Captioned) -> Column:
  tower = config.towers[name]
  wanted = tower_input(tower)
  inputs, own = found.inputs[wanted], found.own.get(wanted, {})
  kind = "image" if isinstance(inputs, np.ndarray) else "text"
  _check_kind(name, tower, kind, found.name)
  if kind == "image":
    return Images(inputs, own)
  context = tower_network.text_context(tower)
  # Text towers draw their captions apart, even those that read the same.
  readers = [key for key, other in config.towers.items() if other.kind == "text"]
  texts = make_texts(
    inputs,
    tokenizer.load(),
    context,
    tower.view,
    language=found.languages.get(wanted, "en"),
    stream=1 + readers.index(name),
    attributes=own,
  )
  if texts.cut:
    towers = config.get("method", "towers") == "towers"
    key = f"towers.{name}.encoder.context" if towers else "model.context"
    print(
      f"note: {texts.cut:,} of {len(texts.tokens):,} captions of {found.name} are "
      f"longer than {context} tokens and were cut ({key})",
      file=sys.stderr,
    )
  return texts


def _vector_set(config, found: factor_vectors.FactorVectors) -> PairSet:
  columns = {}
  for name, tower in config.towers.items():
    _check_kind(name, tower, "vector", factor_vectors.NAME)
    wanted = tower_input(tower)
    columns[name] = Vectors(
      found.values[wanted], found.views[wanted] if tower.view else None
    )
  count = len(next(iter(found.values.values())))
  return PairSet(
    name=factor_vectors.NAME,
    columns=columns,
    labels=np.full(count, -1, np.int32),
    attributes=found.attributes,
  )


def _check_kind(name: str, tower, kind: str, data: str) -> None:
  if tower.kind != kind:
    raise errors.UsageError(
      f"towers.{name}.kind is {tower.kind}, but its input '{tower_input(tower)}' of "
      f"{data} is for a tower of kind {kind}"
    )
