"""Embeds pair sets by a frozen fusion model, and measures what it made of them."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine.evaluation import evaluate, paired, paired_settings
from experiments.engine.pretraining.fusion_network import FusionNetwork
from experiments.engine.pretraining.pairs import PairSet
from experiments.engine.pretraining.tower_evaluation import embed_parts, take
from experiments.engine.pretraining.tower_method import Reading
from multimodal import reranking, text_transformer, tokenizer

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
  image: Reading,
  train_set: PairSet,
  test_set: PairSet,
  settings: paired_settings.Settings,
  variables: Any,
  *,
  rerank: int = 0,
) -> dict[str, float]:
  """Measures retrieval, zero-shot, probes and geometry as of towers, and reranking.

  Args:
    network: the fusion model.
    image: how pictures are read.
    train_set: what probes are fitted on.
    test_set: measured.
    settings: what to measure.
    variables: {"params", "batch_stats"} of the network.
    rerank: nearest keys of each query that the matching head puts in order; 0 leaves
      that out.

  Returns:
    Numbers by name as `paired.evaluate_split` has them, and
    reranked/image_to_text/recall@k and so on.
  """
  params = variables["params"]
  split = functools.partial(embed_pairs, network, image, params)
  test = split(test_set)
  weights = None
  if settings.zero_shot and test_set.class_names:
    embed = functools.partial(_embed_prompts, network, params)
    weights = paired.embed_prompts(embed, test_set.class_names, settings.prompts)
  report = paired.evaluate_split(
    None, test, settings, class_weights=weights, classified="image"
  )
  if settings.fits and test_set.attributes:
    rows = paired.training_rows(settings, train_set.attributes)
    only_probes = dataclasses.replace(settings, retrieval=False, geometry=False)
    report |= paired.evaluate_split(split(take(train_set, rows)), test, only_probes)
  if rerank and settings.retrieval:
    report |= _rerank(network, image, params, test_set, test, rerank, settings.ks)
  return report


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
    tokens: int [m, t] of m texts.
    pictures: [j] numbers of pictures.
    texts: [j] numbers of texts.
  """

  def apply(params, rows):
    call = network.bind(params)
    seen, words = rows
    states, mask = call("encode_text", words), text_transformer.token_mask(words)
    first = jnp.zeros((len(words), 1), jnp.int32)
    logits = call("match", call("fuse", states, mask, seen, at=first))
    return logits[:, 1:] - logits[:, :1]

  rows = (Taken(image_tokens, pictures), Taken(tokens, texts))
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


def embed_pairs(
  network: FusionNetwork, image: Reading, params: Any, pairs: PairSet
) -> paired.Split:
  """Embeds pictures and captions of a set, each by itself."""
  images, texts = pairs.columns["image"], pairs.columns["text"]
  numbers = np.arange(len(images))
  pixels = images.inputs(numbers, 0, 0)["base"]
  table: Any = texts
  return paired.Split(
    {
      "image": paired.TowerTable(
        _parts(network, params, "image", image, pixels), numbers
      ),
      "text": paired.TowerTable(
        _parts(network, params, "text", Reading(), table.tokens), table.example()
      ),
    },
    pairs.attributes,
  )


def _parts(network, params, kind, reading, inputs) -> dict[str, np.ndarray]:
  """Rows of pictures or texts: features, shared and perhaps specific ones."""

  def make(params, inputs):
    call = network.bind(params)
    return call(f"project_{kind}", call(f"encode_{kind}", reading.prepare(inputs)))

  return embed_parts(make, params, inputs, kind)


def _embed_prompts(network, params, texts: Sequence[str]) -> np.ndarray:
  tokens, _ = tokenizer.load().batch(list(texts), network.context)
  return _parts(network, params, "text", Reading(), tokens)["shared"]


def _rerank(network, image, params, pairs, split, most, ks) -> dict[str, float]:
  """Recall both ways when the matching head orders the nearest keys."""
  numbers = np.arange(len(pairs.columns["image"]))
  pixels = pairs.columns["image"].inputs(numbers, 0, 0)["base"]
  seen = embed_pictures(network, image, params, pixels)
  report: dict[str, float] = {}
  for query, key in (("image", "text"), ("text", "image")):
    a, b = split.towers[query], split.towers[key]
    near = reranking.nearest(a.parts["shared"], b.parts["shared"], most)
    asked = np.repeat(np.arange(len(near)), near.shape[1])
    pictures, texts = asked, near.ravel()
    if query == "text":
      pictures, texts = texts, pictures
    tokens = pairs.columns["text"].tokens
    scores = match_scores(network, params, seen, tokens, pictures, texts)
    found = reranking.reranked_recall(
      scores.reshape(near.shape), near, a.example, b.example, ks=ks
    )
    report |= {f"reranked/{query}_to_{key}/{name}": x for name, x in found.items()}
  return report
