"""Embeds pictures and captions by a fusion model and by its momentum copy.

Everything that needs no other example is done here, so that a batch may be embedded in
parts: the two encoders, the masked captions fused with their own pictures, and what the
momentum copy says to both. Matching, whose hard negatives come from the whole batch, is
left to the objective.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.engine.pretraining.fusion_network import FusionNetwork
from experiments.engine.pretraining.tower_method import Reading, watch_features
from experiments.engine.step import Method
from multimodal import masking, text_transformer
from multimodal.structures import Features


class Words(NamedTuple):
  """Hidden words of n captions, at k places of each.

  Attributes:
    logits: [n, k, v] of the model.
    momentum_logits: [n, k, v] of its momentum copy; None without distillation.
    targets: int [n, k] what stood there.
    where: booleans [n, k], the places that count.
  """

  logits: jax.Array
  momentum_logits: jax.Array | None
  targets: jax.Array
  where: jax.Array


class Embedded(NamedTuple):
  """What is made of n pairs.

  Attributes:
    features: unit rows by "image" and "text"; the views are the momentum copy's.
    image_tokens: [n, p, d] what fusion looks at.
    text_states: [n, t, d] what it looks from.
    text_mask: booleans [n, t].
    words: hidden words; None without masked language modelling.
  """

  features: Features
  image_tokens: jax.Array
  text_states: jax.Array
  text_mask: jax.Array
  words: Words | None


class FusionBatch(NamedTuple):
  """What the objective takes.

  Attributes:
    embedded: of the whole batch.
    ids: [n] numbers of the pictures in the data set.
    params: of the network, for the layers above what is embedded.
  """

  embedded: Embedded
  ids: jax.Array
  params: Any


class Masking(NamedTuple):
  """How words are hidden; a rate of 0 hides none.

  Attributes:
    rate: share of the words.
    distil: whether the momentum copy is asked for them, too.
  """

  rate: float
  distil: bool


def build_fusion_method(
  network: FusionNetwork, image: Reading, hidden: Masking
) -> Method:
  """How a batch of pictures and captions is embedded.

  The momentum copy sees the same picture and caption as the model.

  Args:
    network: the fusion model.
    image: how pictures are read and augmented.
    hidden: how words are.
  """

  def embed(params, stats, target, batch, key):
    image_key, word_key = jax.random.split(key)
    column, tokens = batch.inputs["image"], batch.inputs["text"]["base"]
    if image.view is None:
      pictures = image.prepare(column["base"])
    else:
      pictures = image.augment(image_key, batch.ids, column["base"], image.view)
    masked = None
    if hidden.rate:
      masked = _hide(word_key, batch.ids, tokens, network.vocabulary_size, hidden.rate)
    online = _look(network, params, pictures, tokens, masked)
    teacher = jax.lax.stop_gradient(
      _look(
        network, target["params"], pictures, tokens, masked if hidden.distil else None
      )
    )
    words = None
    if masked is not None:
      said: Any = online.logits
      words = Words(said, teacher.logits, masked.targets, masked.where)
    made = Embedded(
      features=Features(
        online.shared, teacher.shared, online.specific, teacher.specific
      ),
      image_tokens=online.image_tokens,
      text_states=online.text_states,
      text_mask=text_transformer.token_mask(tokens),
      words=words,
    )
    return made, stats

  return Method(
    embed=embed,
    compared=lambda params, embedded, batch: FusionBatch(embedded, batch.ids, params),
    watch=lambda batch: watch_features(batch.embedded.features.shared),
  )


class _Seen(NamedTuple):
  shared: dict[str, jax.Array]
  specific: dict[str, jax.Array] | None
  image_tokens: jax.Array
  text_states: jax.Array
  logits: jax.Array | None


def _look(network, params, pictures, tokens, masked) -> _Seen:
  """One model's view of a batch."""
  call = network.bind(params)
  image_tokens = call("encode_image", pictures)
  text_states = call("encode_text", tokens)
  rows = {
    "image": call("project_image", image_tokens),
    "text": call("project_text", text_states),
  }
  specific = None
  if rows["image"].specific is not None:
    specific = {name: x.specific for name, x in rows.items()}
  logits = None
  if masked is not None:
    states = call("encode_text", masked.inputs)
    mask = text_transformer.token_mask(masked.inputs)
    fused = call("fuse", states, mask, image_tokens, at=masked.positions)
    logits = call("predict_tokens", fused)
  shared = {name: x.shared for name, x in rows.items()}
  return _Seen(shared, specific, image_tokens, text_states, logits)


def _hide(key, ids, tokens, vocabulary_size, rate) -> masking.MaskedTokens:
  """Hides words of each caption: a function of (key, example), whatever the batch."""

  def one(number, row):
    made = masking.mask_tokens(
      jax.random.fold_in(key, number),
      row[None],
      vocabulary_size=vocabulary_size,
      rate=rate,
    )
    return jax.tree.map(lambda x: x[0], made)

  return jax.vmap(one)(ids, jnp.asarray(tokens))
