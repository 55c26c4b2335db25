"""Objective names of a config -> functions of embeddings, with explicit state.

A pairing (of SimCLR's or MoCo-v3's two views, or of towers) says who is compared with
whom; an objective turns that into one loss per anchor. Adding one is a function here
that takes its config and returns an `Objective`, and a line in `OBJECTIVES`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

import contrastive
from contrastive import augmented, infonce, normalizer, queue, sums
from experiments.engine import errors, pairings
from experiments.engine.objective import (
  ANCHORS_MULTIPLE,
  ONE_DEVICE,
  Execution,
  Objective,
  Pairing,
)


def build_objective(
  config: ml_collections.ConfigDict,
  method: str | Pairing,
  how: Execution = ONE_DEVICE,
) -> Objective:
  """The objective that `config.objective` names, for a method.

  Args:
    config: `name`, `temperature` > 0, `learn_temperature`, and the objective's knobs.
    method: "simclr" (both views in one pool of 2n candidates), "moco_v3" (queries
      against the other view's n keys), or a pairing.
    how: execution on devices.

  Raises:
    UsageError: unknown name or a knob out of range.
  """
  if config.name not in OBJECTIVES:
    raise errors.unknown("objective", config.name, OBJECTIVES)
  check_temperature(config)
  pairing = pairings.TWO_VIEWS[method] if isinstance(method, str) else method
  try:
    return OBJECTIVES[config.name](config, pairing, how)
  except ValueError as error:
    raise errors.UsageError(f"objective '{config.name}': {error}") from error


def check_temperature(config: ml_collections.ConfigDict) -> None:
  """Raises UsageError unless `config.temperature` is positive."""
  if not config.temperature > 0:
    raise errors.UsageError(
      f"objective.temperature must be positive, not {config.temperature}; "
      "0.07 to 0.5 is usual"
    )


def inverse_temperature(params, config):
  """The scale of the logits: learned from where the config says, or fixed there."""
  if "log_scale" in params:
    # Clamped as CLIP does: beyond 100 the softmax is a maximum and training spikes.
    return jnp.exp(jnp.minimum(params["log_scale"], jnp.log(100.0)))
  return 1 / config.temperature


def temperature_params(config):
  """Its logarithm as a parameter, if it is learned."""
  if not config.learn_temperature:
    return {}
  return {"log_scale": jnp.asarray(-jnp.log(config.temperature), jnp.float32)}


def _of_anchors(anchor_loss, config, pairing, how, chance) -> Objective:
  """An objective without state that looks at the anchors' logits only."""

  def loss(params, views, state, key):
    del key
    scale = inverse_temperature(params, config)
    return anchor_loss(pairing.anchors(views, scale, how), scale), state, {}

  return Objective(
    params=temperature_params(config),
    init=lambda examples, width: (),
    loss=loss,
    negatives=pairing.negatives,
    chance=lambda n: chance(pairing.negatives(n)),
  )


def _info_nce(config, pairing, how):
  """NT-Xent over SimCLR's pool; one-way InfoNCE against the target's keys."""
  loss = lambda r, scale: infonce.softmax_loss(r)
  return _of_anchors(loss, config, pairing, how, lambda k: math.log(1 + k))


def _decoupled(config, pairing, how):
  """DCL: no positive in the normaliser."""
  loss = lambda r, scale: infonce.decoupled_loss(r)
  return _of_anchors(loss, config, pairing, how, _log_count)


def _weighted_decoupled(config, pairing, how):
  """DCLW: positives weighted by a von Mises-Fisher factor of width `sigma`."""

  def loss(r, scale):
    weight = infonce.von_mises_weight(r, scale, config.sigma, how.axis_name)
    return infonce.decoupled_loss(r, weight)

  return _of_anchors(loss, config, pairing, how, _log_count)


def _flat_nce(config, pairing, how):
  """FlatNCE: DCL's gradient, a constant value."""
  loss = lambda r, scale: infonce.flat_loss(r)
  return _of_anchors(loss, config, pairing, how, lambda k: 1.0)


def _log_count(k: int) -> float | None:
  # Equal embeddings have p = n, so log sum e^n - p = log k at any temperature.
  return math.log(k) if k > 0 else None


def _augmented(config, pairing, how):
  """Bayesian-augmented; `source` is running or minibatch, shape None is the limit."""
  _smoothing(config)  # checks it
  coupled = config.coupled or None
  augmented.log_gamma_noise(jax.random.key(0), 1, config.shape)  # checks the shape
  if config.source not in ("running", "minibatch"):
    raise errors.unknown("objective.source", config.source, ["running", "minibatch"])
  running = config.source == "running"

  def loss(params, views, state, key):
    r = pairing.anchors(views, inverse_temperature(params, config), how)
    log_s = augmented.log_normalizer(r, coupled=coupled)
    log_norm = log_s
    if running:
      state, log_norm = _update(state, log_s, views.ids, config, pairing, how)
    axis, n = how.axis_name, views.ids.shape[0]
    noise = augmented.view_noise(key, n, config.shape, axis, copies=pairing.copies)
    values = augmented.augmented_loss(r, log_norm, noise, coupled=coupled)
    return values, state, augmented.augmented_metrics(r, log_norm, axis)

  # Anchors' estimates and counts are divided over the devices, the level is not.
  fields: Any = normalizer.Normalizer
  divided = fields(log_v=True, count=True, level=False, updates=False)

  def init(examples, width):
    del width
    anchors = examples * (1 if pairing.alike else pairing.copies)
    whole = -(-anchors // ANCHORS_MULTIPLE) * ANCHORS_MULTIPLE
    return normalizer.init(whole) if running else ()

  return Objective(
    params=temperature_params(config),
    init=init,
    loss=loss,
    negatives=pairing.negatives,
    chance=lambda n: 0.0 if coupled is None else None,
    split=divided if running and how.split else False,
  )


def _update(state, log_s, ids, config, pairing, how):
  """The running normalisers after a batch, and log v of its copies * n anchors."""
  knobs = dict(
    smoothing=_smoothing(config),
    boost=config.boost,
    axis_name=how.axis_name,
    split=how.split,
  )
  if pairing.alike:
    # One normaliser an image: its views are draws of the same anchor.
    state, log_v = normalizer.update(state, ids, augmented.fold_views(log_s), **knobs)
    return state, jnp.tile(log_v, pairing.copies)
  # One for each of an example's anchors, side by side.
  numbers = augmented.copy_index(ids, pairing.copies)
  return normalizer.update(state, numbers, log_s, **knobs)


def _smoothing(config) -> normalizer.Smoothing:
  """`smoothing` > 0 is a constant weight; 0 is the decreasing schedule."""
  if config.smoothing:
    return normalizer.constant(config.smoothing)
  return normalizer.decreasing(
    config.smoothing_numerator, config.smoothing_floor, config.smoothing_ceiling
  )


def _sogclr(config, pairing, how):
  """SogCLR: plain moving average (0.9 on the new batch by default), u = E[u]."""
  config = ml_collections.ConfigDict(config.to_dict())
  config.update(shape=None, source="running", boost=False, coupled=0.0)
  config.smoothing = config.smoothing or 0.9
  return _augmented(config, pairing, how)


def _moco(config, pairing, how):
  """InfoNCE against a queue of earlier keys (MoCo v1/v2)."""
  if pairing.name != "moco_v3":
    raise ValueError("needs keys of a target network; set method='moco_v3'")

  def loss(params, views, state, key):
    del key
    scale = inverse_temperature(params, config)
    q_a, q_b = contrastive.unit(views.query_a), contrastive.unit(views.query_b)
    k_a, k_b = contrastive.unit(views.key_a), contrastive.unit(views.key_b)
    half = functools.partial(
      sums.queue_sums, queue=state.keys, scale=scale, block_size=how.block_size
    )
    both = sums.stack_sums(half(q_a, k_b), half(q_b, k_a))
    return infonce.softmax_loss(both), queue.push(state, k_a, how.axis_name), {}

  return Objective(
    params=temperature_params(config),
    init=lambda examples, width: queue.init(config.queue_size, width),
    loss=loss,
    negatives=lambda n: config.queue_size,
    chance=lambda n: math.log(1 + config.queue_size),
  )


def _sup_con(config, pairing, how):
  """Supervised contrastive: all views of the same class are positives."""
  if pairing.name != "simclr":
    raise ValueError("compares views of one network; set method='simclr'")

  def loss(params, views, state, key):
    del key
    z = contrastive.unit(jnp.concatenate([views.query_a, views.query_b]))
    labels = jnp.tile(views.labels, 2)
    scale = inverse_temperature(params, config)
    return contrastive.sup_con(z, labels, scale=scale, **how.pairs), state, {}

  return Objective(
    params=temperature_params(config),
    init=lambda examples, width: (),
    loss=loss,
    negatives=pairing.negatives,
    chance=lambda n: math.log(2 * n - 1),
  )


def _pairwise_sigmoid(config, pairing, how):
  """SigLIP's loss with learned scale and bias, between the two views."""
  _require_views(pairing)
  params = {
    "log_scale": jnp.asarray(-jnp.log(config.temperature), jnp.float32),
    "bias": jnp.asarray(config.bias, jnp.float32),
  }

  def loss(params, views, state, key):
    del key
    pair = lambda q, k: contrastive.pairwise_sigmoid(
      contrastive.unit(q),
      contrastive.unit(k),
      scale=inverse_temperature(params, config),
      bias=params["bias"],
      **how.pairs,
    )
    first = pair(views.query_a, views.key_b)
    if pairing.name == "simclr":  # symmetric: the other direction is the same loss
      return first, state, {}
    return jnp.concatenate([first, pair(views.query_b, views.key_a)]), state, {}

  return Objective(
    params=params,
    init=lambda examples, width: (),
    loss=loss,
    negatives=lambda n: n - 1,
    chance=lambda n: None,
  )


def _barlow_twins(config, pairing, how):
  """Barlow Twins: no negatives, cross-correlation towards the identity."""
  _require_views(pairing)

  def loss(params, views, state, key):
    del params, key
    value = contrastive.barlow_twins(
      views.query_a,
      views.key_b,
      off_diagonal=config.off_diagonal,
      axis_name=how.axis_name,
    )
    return value, state, {}

  return _without_negatives(loss)


def _vicreg(config, pairing, how):
  """VICReg: invariance, variance and covariance terms, no negatives."""
  del config
  _require_views(pairing)
  axis = how.axis_name

  def loss(params, views, state, key):
    del params, key
    values = contrastive.vicreg(views.query_a, views.key_b, axis_name=axis)
    return values, state, {}

  return _without_negatives(loss)


def _require_views(pairing):
  if pairing.name not in pairings.TWO_VIEWS:
    raise ValueError("compares two views of an image; set method='simclr' or 'moco_v3'")


def _without_negatives(loss) -> Objective:
  none = lambda n: None
  return Objective({}, lambda examples, width: (), loss, none, none)


_Maker = Callable[[ml_collections.ConfigDict, Pairing, Execution], Objective]
OBJECTIVES: dict[str, _Maker] = {
  "info_nce": _info_nce,
  "decoupled": _decoupled,
  "dclw": _weighted_decoupled,
  "flat_nce": _flat_nce,
  "augmented": _augmented,
  "sogclr": _sogclr,
  "moco": _moco,
  "sup_con": _sup_con,
  "pairwise_sigmoid": _pairwise_sigmoid,
  "barlow_twins": _barlow_twins,
  "vicreg": _vicreg,
}
