"""Every objective under one signature, so that edge and device tests cover them all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import contrastive
from tests import oracle

OFF_DIAGONAL = 0.05
SIGMA = 0.5
COUPLED = 7.0

# What users get; the tests themselves are compiled with little optimisation (conftest).
AS_USERS = {"xla_backend_optimization_level": 3}
if jax.__version_info__ < (0, 11):  # later ones have no such option
  AS_USERS["xla_cpu_use_fusion_emitters"] = True


class Inputs(NamedTuple):
  """One batch; `a` and `b` are raw, the losses below scale them to unit length."""

  a: jax.Array  # [n, d] first views
  b: jax.Array  # [n, d] second views
  scale: jax.Array  # [] inverse temperature
  bias: jax.Array  # [] of the sigmoid
  labels: jax.Array  # [n]
  targets: jax.Array  # [n, N] soft targets
  log_norm: jax.Array  # [n] running normalisers
  queue: jax.Array  # [k, d]


def batch(n=6, d=4, *, seed=0, scale=3.0, dtype=np.float32) -> Inputs:
  """Views that agree somewhat, three classes, one slot of the queue empty."""
  rng = np.random.default_rng(seed)
  a = rng.standard_normal((n, d))
  queue = oracle.unit(rng.standard_normal((5, d)))
  queue[-1] = 0
  return Inputs(
    a=a.astype(dtype),
    b=(a + rng.standard_normal((n, d))).astype(dtype),
    scale=np.asarray(scale, dtype),
    bias=np.asarray(-2.0, dtype),
    labels=np.arange(n, dtype=np.int32) // 2 % 3,
    targets=rng.dirichlet(np.full(n, 0.5), n).astype(dtype),
    log_norm=rng.normal(scale=0.3, size=n).astype(dtype),
    queue=queue.astype(dtype),
  )


def key():
  return jax.random.key(7)


def _augmented(x, axis_name, **knobs):
  return contrastive.augmented_nce(
    contrastive.unit(x.a),
    contrastive.unit(x.b),
    scale=x.scale,
    axis_name=axis_name,
    **knobs,
  )


def _queue_nce(x, axis_name, block_size=None, ring=False):
  del axis_name, ring  # the queue is the same on all devices
  sums = contrastive.queue_sums(
    contrastive.unit(x.a),
    contrastive.unit(x.b),
    x.queue,
    scale=x.scale,
    block_size=block_size,
  )
  return contrastive.softmax_loss(sums)


def _one_way(x, axis_name, **how):
  a, b = contrastive.unit(x.a), contrastive.unit(x.b)
  sums = contrastive.cross_sums(a, b, scale=x.scale, axis_name=axis_name, **how)
  return contrastive.softmax_loss(sums)


def _two_views(loss, **knobs):
  def call(x, axis_name, **how):
    a, b = contrastive.unit(x.a), contrastive.unit(x.b)
    return loss(a, b, scale=x.scale, axis_name=axis_name, **knobs, **how)

  return call


def _sup_con(x, axis_name, **how):
  z = contrastive.unit(jnp.concatenate([x.a, x.b]))
  labels = jnp.tile(x.labels, 2)
  return contrastive.sup_con(z, labels, scale=x.scale, axis_name=axis_name, **how)


def _soft_nce(x, axis_name, block_size=None, ring=False):
  del ring  # its targets have a column for each key anyhow
  return contrastive.soft_nce(
    contrastive.unit(x.a),
    contrastive.unit(x.b),
    x.targets,
    scale=x.scale,
    axis_name=axis_name,
    block_size=block_size,
  )


# (inputs, axis name, block_size and ring) -> values, [n] or [2n] (first views, then
# second), or a scalar.
LOSSES = {
  "info_nce": _two_views(contrastive.info_nce),
  "one_way": _one_way,
  "nt_xent": _two_views(contrastive.nt_xent),
  "decoupled": _two_views(contrastive.decoupled),
  "dclw": _two_views(contrastive.decoupled, sigma=SIGMA),
  "flat_nce": _two_views(contrastive.flat_nce),
  "queue_nce": _queue_nce,
  "sup_con": _sup_con,
  "soft_nce": _soft_nce,
  "pairwise_sigmoid": lambda x, axis_name, **how: contrastive.pairwise_sigmoid(
    contrastive.unit(x.a),
    contrastive.unit(x.b),
    scale=x.scale,
    bias=x.bias,
    axis_name=axis_name,
    **how,
  ),
  "augmented": lambda x, axis_name, **how: _augmented(
    x, axis_name, log_norm=jnp.tile(x.log_norm, 2), key=key(), shape=1.0, **how
  ),
  "augmented_coupled": lambda x, axis_name, **how: _augmented(
    x, axis_name, log_norm=jnp.tile(x.log_norm, 2), shape=None, coupled=COUPLED, **how
  ),
  "augmented_minibatch": lambda x, axis_name, **how: _augmented(
    x, axis_name, key=key(), **how
  ),
  "log_normalizer": _two_views(contrastive.two_view_log_normalizer),
  "barlow_twins": lambda x, axis_name: contrastive.barlow_twins(
    x.a, x.b, off_diagonal=OFF_DIAGONAL, axis_name=axis_name
  ),
  "vicreg": lambda x, axis_name: contrastive.vicreg(x.a, x.b, axis_name=axis_name),
}

# Losses whose rows of logits can be made as large as one likes through the scale.
SCALED = [name for name in LOSSES if name not in ("barlow_twins", "vicreg")]


def per_image(values: jax.Array, n: int) -> jax.Array:
  """[2n] or [n] values as [n, views], so that they split over devices by image."""
  return values.reshape(-1, n).T


def weighted_mean(values, weight):
  """Mean of the values under unequal weights [n] of the images; a scalar stays."""
  if values.ndim == 0:
    return values
  return (weight[:, None] * per_image(values, weight.shape[0])).mean()


def oracles(frozen: Inputs, log_noise: np.ndarray):
  """Name -> NumPy value of that loss; `frozen` supplies what carries no gradient."""
  frozen_units = oracle.unit(frozen.a), oracle.unit(frozen.b)
  own = oracle.log_normalizer(*frozen_units, float(frozen.scale))
  two_norms = np.tile(frozen.log_norm, 2)
  silence = np.zeros_like(log_noise)

  def two_views(loss, *rest):
    return lambda x: loss(oracle.unit(x.a), oracle.unit(x.b), float(x.scale), *rest)

  def sup_con(x):
    z = oracle.unit(np.concatenate([x.a, x.b]))
    return oracle.sup_con(z, [*x.labels, *x.labels], float(x.scale))

  def fold(x):
    both = two_views(oracle.log_normalizer)(x).reshape(2, -1)
    return np.log((np.exp(both[0]) + np.exp(both[1])) / 2)

  def flat(x):
    both = two_views(oracle.decoupled)
    return np.exp(both(x) - both(frozen))

  return {
    "info_nce": two_views(oracle.info_nce),
    "one_way": two_views(oracle.one_way),
    "nt_xent": two_views(oracle.nt_xent),
    "decoupled": two_views(oracle.decoupled),
    "dclw": two_views(oracle.decoupled, SIGMA, frozen_units),
    "flat_nce": flat,
    "queue_nce": lambda x: oracle.queue_nce(
      oracle.unit(x.a), oracle.unit(x.b), x.queue, float(x.scale)
    ),
    "sup_con": sup_con,
    "soft_nce": lambda x: oracle.soft_nce(
      oracle.unit(x.a), oracle.unit(x.b), x.targets, float(x.scale)
    ),
    "pairwise_sigmoid": lambda x: two_views(oracle.pairwise_sigmoid, float(x.bias))(x),
    "augmented": two_views(oracle.augmented, two_norms, log_noise),
    "augmented_coupled": two_views(oracle.augmented, two_norms, silence, COUPLED),
    "augmented_minibatch": two_views(oracle.augmented, own, log_noise),
    "log_normalizer": fold,
    "barlow_twins": lambda x: oracle.barlow_twins(x.a, x.b, OFF_DIAGONAL),
    "vicreg": lambda x: np.dot(oracle.vicreg_terms(x.a, x.b), (25, 25, 1)),
  }
