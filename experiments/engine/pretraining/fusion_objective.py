"""The objective of a fusion model: contrast, matching, hidden words, structures.

Each of ALBEF's three losses (Li et al. 2021, Align before Fuse) has a weight, and a
weight of 0 leaves it out; the latent structures come on top, with the momentum copy's
rows as the augmented ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from experiments.engine import errors
from experiments.engine.objective import Objective
from experiments.engine.objectives import (
  check_temperature,
  inverse_temperature,
  temperature_params,
)
from experiments.engine.pretraining.fusion_method import FusionBatch
from experiments.engine.pretraining.fusion_network import FusionNetwork
from experiments.engine.pretraining.tower_objective import read_structures
from multimodal import distillation, masking, matching, momentum_contrast, structures

LOSSES = ("contrast", "matching", "masking")


class FusionState(NamedTuple):
  """What the objective keeps between steps.

  Attributes:
    step: [] int32 steps done.
    queues: keys of earlier batches; None without queues.
  """

  step: jax.Array
  queues: momentum_contrast.PairQueues | None


def build_fusion_objective(
  config: ml_collections.ConfigDict, network: FusionNetwork, ramp_steps: int
) -> Objective:
  """The objective of `config.objective` and the structures of `config.structures`.

  Args:
    config: `objective` (`contrast`, `matching`, `masking`: weights; `temperature`,
      `learn_temperature`; `queue_size`, 0 for none; `alpha`: weight of the momentum
      copy's targets; `all_captions`: other captions of a picture, which the queue may
      hold, are positives too, and no negatives) and `structures`.
    network: the fusion model.
    ramp_steps: steps in which alpha rises from 0.

  Raises:
    UsageError: a number out of range, or all weights 0.
  """
  knobs = config.objective
  check_knobs(knobs)
  added = read_structures(config.structures)

  def loss(params, batch: FusionBatch, state: FusionState, key):
    made, scale = batch.embedded, inverse_temperature(params, knobs)
    alpha = distillation.alpha_ramp(state.step, steps=ramp_steps, alpha=knobs.alpha)
    match_key, structure_key = jax.random.split(key)
    terms: dict[str, jax.Array] = {}
    metrics = {"scale": jnp.asarray(scale), "alpha": alpha}
    image, text, image_key, text_key = rows = _rows(made.features)
    ids = batch.ids if knobs.all_captions else None
    if knobs.contrast:
      how: Any = dict(scale=scale, alpha=alpha, ids=ids)
      terms["contrast"] = momentum_contrast.momentum_nce(
        image, text, image_key, text_key, state.queues, **how
      )
    if knobs.matching:
      terms["matching"], metrics["match_accuracy"] = _match(
        network.bind(batch.params), made, rows, ids, scale, match_key
      )
    words = made.words
    if words is not None:
      terms["masking"] = masking.masked_loss(
        words.logits,
        words.targets,
        words.where,
        momentum_logits=words.momentum_logits,
        alpha=alpha if knobs.alpha else 0.0,
      )
      metrics["word_accuracy"] = word_accuracy(words.logits, words.targets, words.where)
    extra, parts = structures.structure_loss(
      made.features, added, scale=scale, key=structure_key
    )
    total = extra + sum(knobs[name] * jnp.mean(x) for name, x in terms.items())
    metrics |= {f"term/{name}": jnp.mean(x) for name, x in terms.items()} | parts
    queues = state.queues
    if queues is not None:
      queues = momentum_contrast.push_pairs(queues, image_key, text_key, ids)
    return total, FusionState(state.step + 1, queues), metrics

  return Objective(
    params=temperature_params(knobs),
    init=_init(knobs.queue_size, knobs.all_captions),
    loss=loss,
    negatives=lambda n: n - 1 + knobs.queue_size,
    chance=lambda n: None,
  )


def check_knobs(config: ml_collections.ConfigDict) -> None:
  """Raises UsageError for a weight or a size out of range, or if nothing is trained."""
  check_temperature(config)
  for name in (*LOSSES, "queue_size"):
    if config[name] < 0:
      raise errors.UsageError(
        f"objective.{name} is {config[name]}, but must be at least 0 (0 leaves it out)"
      )
  if not any(config[name] for name in LOSSES):
    raise errors.UsageError(
      f"objective.{', objective.'.join(LOSSES)} are all 0: nothing would be trained"
    )
  if not 0 <= config.alpha <= 1:
    raise errors.UsageError(
      f"objective.alpha is {config.alpha}, but is a weight between 0 and 1"
    )
  if config.masking and not 0 < config.mask_rate <= 1:
    raise errors.UsageError(
      f"objective.mask_rate is {config.mask_rate}, but is a share above 0, up to 1; "
      "objective.masking=0 leaves hidden words out"
    )


def word_accuracy(logits: jax.Array, targets: jax.Array, where: jax.Array) -> jax.Array:
  """Share of hidden words [n, k] that have the largest logit [n, k, v]."""
  right = jnp.argmax(logits, axis=-1) == targets
  return distillation.global_mean(right.astype(jnp.float32), where)


def _init(queue_size: int, ids: bool) -> Callable[[int, int], FusionState]:
  def init(examples, width):
    del examples
    queues = None
    if queue_size:
      queues = momentum_contrast.init_pairs(queue_size, width, ids=ids)
    return FusionState(jnp.zeros((), jnp.int32), queues)

  return init


def _rows(features: structures.Features) -> tuple[jax.Array, ...]:
  """Pictures, captions, and what the momentum copy makes of both."""
  keys: Any = features.shared_view
  return tuple(found[k] for found in (features.shared, keys) for k in ("image", "text"))


def _match(call: Callable[..., Any], made, rows, ids, scale, key):
  """Matching loss over 3 n pairs, and its accuracy."""
  image, text, image_key, text_key = rows
  for_image, for_text = jax.random.split(key)
  scale = jax.lax.stop_gradient(scale)
  how: Any = dict(scale=scale, ids=ids)
  texts = matching.hard_negatives(for_image, image, text_key, **how)
  images = matching.hard_negatives(for_text, text, image_key, **how)
  take = matching.take_global
  hard_images = take(made.image_tokens, images.number)
  hard_states, hard_masks = take((made.text_states, made.text_mask), texts.number)
  # True pairs, texts with a hard image, images with a hard text.
  states = jnp.concatenate([made.text_states, made.text_states, hard_states])
  masks = jnp.concatenate([made.text_mask, made.text_mask, hard_masks])
  tokens = jnp.concatenate([made.image_tokens, hard_images, made.image_tokens])
  first = jnp.zeros((len(states), 1), jnp.int32)
  logits = call("match", call("fuse", states, masks, tokens, at=first))
  parts = jnp.split(logits, 3)
  valid: Any = dict(valid_image=images.valid, valid_text=texts.valid)
  loss = matching.matching_loss(*parts, **valid)
  return loss, matching.matching_accuracy(*parts, **valid)
