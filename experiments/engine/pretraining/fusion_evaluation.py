"""Measures a frozen fusion model: its encoders as towers, and the matching head."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine.evaluation import evaluate, paired, paired_settings
from experiments.engine.pretraining.fusion_network import FusionNetwork
from experiments.engine.pretraining.pairs import PairSet
from experiments.engine.pretraining.tower_evaluation import (
  embed_column,
  embed_parts,
  evaluate_towers,
)
from experiments.engine.pretraining.tower_method import Reading
from multimodal import reranking, text_transformer

# Pairs that the fusion layers see at a time.
_PAIRS = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
  """Rows of a table by number, fetched when they are asked for."""

  table: np.ndarray
  numbers: np.ndarray

  def __len__(self) -> int:
    return len(self.numbers)

  def __getitem__(self, places: np.ndarray) -> np.ndarray:
    return self.table[self.numbers[places]]


def evaluate_fusion(
  network: FusionNetwork,
  readings: Mapping[str, Reading],
  train_set: PairSet | None,
  test_set: PairSet,
  settings: paired_settings.Settings,
  variables: Any,
  *,
  rerank: int = 0,
) -> dict[str, float]:
  """Measures the encoders as towers, and retrieval when the matching head decides.

  Args:
    network: the fusion model.
    readings: how it reads "image" and "text".
    train_set: what probes are fitted on; None leaves them out.
    test_set: measured.
    settings: what to measure.
    variables: {"params", "batch_stats"} of the model.
    rerank: nearest keys of each query that the matching head puts in order; 0 leaves
      that out.

  Returns:
    Numbers by name as `paired.evaluate_split` has them, and
    reranked/image_to_text/recall@k and so on.
  """
  if not (rerank and settings.retrieval):
    return evaluate_towers(network, readings, train_set, test_set, settings, variables)
  test, seen = embed_with_tokens(network, readings, variables, test_set)
  report = evaluate_towers(
    network, readings, train_set, test_set, settings, variables, test=test
  )
  return report | _rerank(
    network, variables["params"], test_set, test, seen, rerank, settings.ks
  )


def embed_with_tokens(
  network: FusionNetwork,
  readings: Mapping[str, Reading],
  variables: Any,
  pairs: PairSet,
) -> tuple[paired.Split, np.ndarray]:
  """A set embedded as by `embed_split`, and the tokens of its pictures, encoded once.

  Args:
    network: the fusion model.
    readings: how it reads "image" and "text".
    variables: {"params"} of the model.
    pairs: n pictures and their captions.

  Returns:
    The embedded set, and float32 [n, p, d].
  """
  numbers = np.arange(len(pairs.columns["image"]))
  pixels = pairs.columns["image"].inputs(numbers, 0, 0)["base"]
  seen = embed_pictures(network, readings["image"], variables["params"], pixels)

  def project(variables, tokens):
    return network.bind(variables["params"])("project_image", tokens)

  # The head reads the class token alone.
  parts = embed_parts(project, variables, seen[:, :1], "image tower")
  texts = embed_column(
    network, readings["text"], variables, "text", pairs.columns["text"]
  )
  tables = {"image": paired.TowerTable(parts, numbers), "text": texts}
  return paired.Split(tables, pairs.attributes), seen


def match_scores(
  network: FusionNetwork,
  params: Any,
  image_tokens: np.ndarray,
  tokens: np.ndarray,
  pictures: np.ndarray,
  texts: np.ndarray,
) -> np.ndarray:
  """Logits [j] by which pictures and texts belong together rather than not.

  Args:
    network: the fusion model.
    params: its parameters.
    image_tokens: [n, p, d] of n pictures.
    tokens: int [m, t] of m texts, each of which is encoded once.
    pictures: [j] numbers of pictures.
    texts: [j] numbers of texts.
  """

  def apply(params, rows):
    call = network.bind(params)
    seen, states, words = rows
    mask, first = text_transformer.token_mask(words), jnp.zeros((len(words), 1), int)
    logits = call("match", call("fuse", states, mask, seen, at=first))
    return logits[:, 1:] - logits[:, :1]

  states = _encode_texts(network, params, tokens)
  rows = (
    Taken(image_tokens, pictures),
    Taken(states, texts),
    Taken(tokens, texts),
  )
  scores = evaluate.embed(
    jax.tree_util.Partial(apply, params), rows, batch=_PAIRS, split="pair"
  )
  return scores[:, 0]


def embed_pictures(
  network: FusionNetwork, image: Reading, params: Any, pixels: np.ndarray
) -> np.ndarray:
  """Tokens float32 [n, p, d] of pictures uint8 [n, h, w, c]."""

  def apply(params, pixels):
    found = network.bind(params)("encode_image", image.prepare(pixels))
    return found.reshape(len(found), -1)

  rows = evaluate.embed(
    jax.tree_util.Partial(apply, params), pixels, split="image tokens"
  )
  return rows.reshape(len(rows), -1, network.model.image.width)


def _encode_texts(network: FusionNetwork, params: Any, tokens: np.ndarray):
  """States float32 [m, t, d] of the text layers."""

  def apply(params, tokens):
    found = network.bind(params)("encode_text", tokens)
    return found.reshape(len(found), -1)

  rows = evaluate.embed(jax.tree_util.Partial(apply, params), tokens, split="text")
  return rows.reshape(*tokens.shape, -1)


def _rerank(
  network: FusionNetwork,
  params: Any,
  pairs: PairSet,
  split: paired.Split,
  image_tokens: np.ndarray,
  most: int,
  ks: Sequence[int],
) -> dict[str, float]:
  """Recall both ways when the matching head orders the `most` nearest keys."""
  towers = split.towers
  of: Any = pairs.columns["text"]
  ways = (("image", "text"), ("text", "image"))
  near = [
    reranking.nearest(towers[query].parts["shared"], towers[key].parts["shared"], most)
    for query, key in ways
  ]
  asked = [np.repeat(np.arange(len(keys)), keys.shape[1]) for keys in near]
  # Both ways at once, so that one program is compiled.
  pictures = np.concatenate([asked[0], near[1].ravel()])
  texts = np.concatenate([near[0].ravel(), asked[1]])
  scores = match_scores(network, params, image_tokens, of.tokens, pictures, texts)
  report: dict[str, float] = {}
  for (query, key), keys, found in zip(
    ways, near, np.split(scores, [len(asked[0])]), strict=True
  ):
    recall = reranking.reranked_recall(
      found.reshape(keys.shape), keys, towers[query].example, towers[key].example, ks=ks
    )
    report |= {f"reranked/{query}_to_{key}/{name}": x for name, x in recall.items()}
  return report
