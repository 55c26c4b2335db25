"""Embeds pair sets by frozen towers, and measures what they made.

The encoders of a fusion model are towers here (`pair_network`).
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine.evaluation import evaluate, paired, paired_settings
from experiments.engine.pretraining.pair_network import PairNetwork
from experiments.engine.pretraining.pairs import (
  Column,
  Images,
  PairSet,
  Texts,
  take_labels,
)
from experiments.engine.pretraining.tower_method import Reading
from multimodal import tokenizer
from multimodal.towers import Embeddings


def evaluate_towers(
  network: PairNetwork,
  readings: Mapping[str, Reading],
  train_set: PairSet | None,
  test_set: PairSet,
  settings: paired_settings.Settings,
  variables: Any,
  *,
  test: paired.Split | None = None,
) -> dict[str, float]:
  """Embeds both splits once by every tower and measures them.

  Args:
    network: the towers.
    readings: of their columns.
    train_set: what probes are fitted on; None leaves them out.
    test_set: measured.
    settings: what to measure.
    variables: {"params", "batch_stats"} of the towers.
    test: `test_set` where it is embedded already.

  Returns:
    Numbers by name as `paired.evaluate_split` has them.
  """
  split = functools.partial(embed_split, network, readings, variables)
  test = split(test_set) if test is None else test
  image, text = zero_shot_towers(test_set)
  weights = None
  if settings.zero_shot and test_set.class_names and image and text:
    read: Any = test_set.columns[text]
    embed = functools.partial(
      embed_texts, network, variables, text, read.tokenizer, read.context
    )
    weights = paired.embed_prompts(embed, test_set.class_names, settings.prompts)
  report = paired.evaluate_split(
    None, test, settings, class_weights=weights, classified=image
  )
  if train_set is not None and test_set.attributes and settings.fits:
    train_set = take(train_set, paired.training_rows(settings, train_set.attributes))
    report |= _probes((train_set, test_set), (split(train_set), test), settings)
  return report


def zero_shot_towers(pairs: PairSet) -> tuple[str, str]:
  """The first image tower, and the first that reads English; "" where there is none."""
  images = [name for name, x in pairs.columns.items() if isinstance(x, Images)]
  texts = [
    name
    for name, x in pairs.columns.items()
    if isinstance(x, Texts) and x.language == "en"  # the prompts are English
  ]
  return next(iter(images), ""), next(iter(texts), "")


def _probes(
  sets: Sequence[PairSet],
  splits: Sequence[paired.Split],
  settings: paired_settings.Settings,
) -> dict[str, float]:
  """Probes of the towers; those with labels of their own are asked for these.

  The chance of such a label is named for the tower: chance/TOWER/ATTRIBUTE.
  """
  only_probes = dataclasses.replace(settings, retrieval=False, geometry=False)
  columns = sets[1].columns
  plain = [name for name, column in columns.items() if not column.attributes]
  own = [[name] for name, column in columns.items() if column.attributes]
  report: dict[str, float] = {}
  for group in filter(None, [plain, *own]):
    train, test = (
      paired.Split(
        {name: split.towers[name] for name in group},
        {**split.attributes, **pairs.columns[group[0]].attributes},
      )
      for pairs, split in zip(sets, splits, strict=True)
    )
    found = paired.evaluate_split(train, test, only_probes)
    for name, value in found.items():
      kind, _, attribute = name.partition("/")
      if kind == "chance" and attribute in columns[group[0]].attributes:
        name = f"chance/{group[0]}/{attribute}"
      report[name] = value
  return report


def take(pairs: PairSet, rows: np.ndarray) -> PairSet:
  """The examples `rows` of a set, with the first caption of each."""
  return PairSet(
    pairs.name,
    {name: column.take(rows) for name, column in pairs.columns.items()},
    pairs.labels[rows],
    pairs.class_names,
    take_labels(pairs.attributes, rows),
  )


def embed_split(
  network: PairNetwork, readings: Mapping[str, Reading], variables: Any, pairs: PairSet
) -> paired.Split:
  """Embeds what each tower reads of a set."""
  tables = {
    name: embed_column(network, readings[name], variables, name, column)
    for name, column in pairs.columns.items()
  }
  return paired.Split(tables, pairs.attributes)


def embed_column(
  network: PairNetwork, reading: Reading, variables: Any, name: str, column: Column
) -> paired.TowerTable:
  """Embeds what the tower `name` reads: of texts all captions of each example."""
  if isinstance(column, Texts):
    inputs, example = column.tokens, column.example()
  else:
    example = np.arange(len(column))
    inputs = column.inputs(example, 0, 0)["base"]
  parts = embed_inputs(network, reading, variables, name, inputs)
  return paired.TowerTable(parts, example)


def embed_texts(
  network: PairNetwork,
  variables: Any,
  name: str,
  words: tokenizer.Tokenizer,
  context: int,
  texts: Sequence[str],
) -> np.ndarray:
  """Shared embeddings [m, d] of texts by the tower `name`.

  Args:
    network: the towers.
    variables: theirs.
    name: of the text tower.
    words: makes tokens of texts.
    context: most tokens of a text; longer ones are cut.
    texts: m of them.
  """
  tokens, _ = words.batch(list(texts), context)
  tokens = tokenizer.without_padding(tokens)
  return embed_inputs(network, Reading(), variables, name, tokens)["shared"]


def embed_inputs(
  network: PairNetwork, reading: Reading, variables: Any, name: str, inputs: Any
) -> dict[str, np.ndarray]:
  """Parts of a tower's embeddings of n inputs, float32 on the host.

  Args:
    network: the towers.
    reading: of the tower.
    variables: {"params", "batch_stats"} of the towers.
    name: of the tower.
    inputs: [n, ...] as its column has them.

  Returns:
    "features" [n, f], "shared" [n, d] and, with such a head, "specific" [n, d].
  """

  def make(variables, inputs):
    return network.embed(variables, name, reading.prepare(inputs))

  return embed_parts(make, variables, inputs, f"{name} tower")


def embed_parts(
  make: Callable[[Any, Any], Embeddings], variables: Any, inputs: Any, split: str
) -> dict[str, np.ndarray]:
  """Parts of embeddings of n inputs, float32 on the host.

  Args:
    make: variables and inputs to embeddings.
    variables: of the network.
    inputs: [n, ...].
    split: what an error calls the rows.

  Returns:
    "features" [n, f], "shared" [n, d] and, with such a head, "specific" [n, d].
  """
  widths: dict[str, int] = {}

  def apply(variables, inputs):
    made = make(variables, inputs)
    found = {k: v for k, v in made._asdict().items() if v is not None}
    widths.update({k: v.shape[1] for k, v in found.items()})
    return jnp.concatenate(list(found.values()), axis=1)

  rows = evaluate.embed(jax.tree_util.Partial(apply, variables), inputs, split=split)
  ends = np.cumsum(list(widths.values()))[:-1]
  return dict(zip(widths, np.split(rows, ends, axis=1), strict=True))
