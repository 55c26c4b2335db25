"""The Bayesian-augmented objective: one Gamma auxiliary variable per anchor.

The generalised loss of anchor i is `-p_i + log s_i` with the normaliser

  s_i = E_j e^n_ij                       (the decoupled, infinite-negative limit), or
  s_i = e^p_i + K E_j e^n_ij             (coupled, K nominal negatives),

an expectation over *all* negatives. The log of an expectation does not decompose over
minibatches. With `s^-a = 1/Gamma(a) * integral u^(a-1) e^(-u s) du` the posterior of an
auxiliary variable is `u_i | theta ~ Gamma(shape a, rate s_i)`, and given w_i = u_i / a
the conditional loss

  -p_i + w_i s_i

is linear in the expectation, so minibatches give unbiased gradients. Stochastic EM
alternates the draw of w_i and a step on the conditional loss; no gradient flows
through w_i. Chen et al., Why do We Need Large Batchsizes in Contrastive Learning? A
Gradient-Bias Perspective, NeurIPS 2022.

What removes the bias is the *rate* of the draw. The rate must be the normaliser over
all negatives, or a running estimate of it (`contrastive.normalizer`). Drawn from the
minibatch's own normaliser, `E[w | batch] = 1 / s_hat` and the expected gradient is
that of the decoupled loss exactly: no bias is removed, for any shape, and variance is
added. That form is here as a negative control.
"""

from typing import Any

import jax
import jax.numpy as jnp

from contrastive import axes, numerics
from contrastive.rows import Rows
from contrastive.sums import Sums, summed, two_view_sums

# Above this exponent, exp goes on as its tangent: value and gradient stay finite.
_LIMIT = 20.0


def log_normalizer(anchors: Rows | Sums, *, coupled: float | None = None) -> jax.Array:
  """Log of the minibatch estimate s_hat_i of each anchor's normaliser.

  Args:
    anchors: n rows of logits, or their sums.
    coupled: None for `mean_j e^n_ij`; a number K > 0 of nominal negatives for
      `e^p_i + K mean_j e^n_ij`.

  Returns:
    [n] log s_hat_i, differentiable; -inf for a decoupled anchor without negatives.
  """
  sums = summed(anchors)
  log_mean = sums.log_sum - jnp.log(jnp.maximum(sums.negatives, 1))
  if coupled is None:
    return log_mean
  if coupled <= 0:
    raise ValueError(
      f"coupled is a number of nominal negatives and must be positive, not {coupled}"
    )
  return jnp.logaddexp(sums.positive, log_mean + jnp.log(coupled))


def log_gamma_noise(
  key: jax.Array | None, n: int, shape: float | None, dtype=jnp.float32
) -> jax.Array:
  """Log of n draws e ~ Gamma(shape, 1) / shape, which have mean 1.

  `w_i = e_i / s_i` then has u_i = shape * w_i ~ Gamma(shape, rate s_i).

  Args:
    key: typed PRNG key; may be None if `shape` is.
    n: number of draws.
    shape: > 0, variance 1 / shape. One draw of shape m is the mean of m draws of
      shape 1. None is the limit, e = 1: the exact E-step u = E[u].
    dtype: of the result.

  Returns:
    [n] log e.
  """
  if shape is None:
    return jnp.zeros(n, dtype)
  if shape <= 0:
    raise ValueError(
      f"the Gamma shape must be positive, not {shape}; None is its limit, u = E[u]"
    )
  if key is None:
    raise ValueError("a Gamma draw needs a key; pass key=, or shape=None for no draw")
  if shape == 1:
    # The log of an exponential draw is a negated Gumbel draw: no rejection loop, twelve
    # times faster, and finite (an exponential draw can be 0).
    return -jax.random.gumbel(key, (n,), dtype)
  return jax.random.loggamma(key, shape, (n,), dtype) - jnp.log(shape)


def augmented_loss(
  anchors: Rows | Sums,
  log_norm: jax.Array,
  log_noise: jax.Array | float = 0.0,
  *,
  coupled: float | None = None,
) -> jax.Array:
  """Conditional loss of each anchor given its auxiliary variable.

  The value is `-p_i + log v_i + w_i s_hat_i - 1` with `w_i = e_i / v_i`. The terms
  log v_i - 1 have no gradient; with them the value is, in expectation over e_i, an
  upper bound of `-p_i + log s_i` that touches it at v_i = s_i, so that curves of
  different normalisers compare.

  Args:
    anchors: n rows of logits, or their sums.
    log_norm: [n] log v_i: running, exact or minibatch normaliser.
    log_noise: [n] log e_i of `log_gamma_noise`, or 0 for the exact E-step.
    coupled: as in `log_normalizer`, and as log_norm was made.

  Returns:
    [n] nats; 0 for an anchor without negatives. No gradient flows to log_norm and
    log_noise.
  """
  sums = summed(anchors)
  some = sums.negatives > 0
  # Anchors without negatives are computed on a sum of 1 and then dropped, so that no
  # -inf enters the gradient.
  filled = sums._replace(log_sum=jnp.where(some, sums.log_sum, 0))
  log_norm = jax.lax.stop_gradient(jnp.where(some, log_norm, 0))
  log_weight = jax.lax.stop_gradient(log_noise) - log_norm
  ratio = _tangent_exp(log_normalizer(filled, coupled=coupled) + log_weight)
  return jnp.where(some, log_norm - sums.positive + ratio - 1, 0)


def augmented_nce(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  key: jax.Array | None = None,
  log_norm: jax.Array | None = None,
  shape: float | None = 1.0,
  coupled: float | None = None,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """The augmented objective over SimCLR's pairing, 2N - 2 negatives an anchor.

  With a running normaliser, one state for both views of an image:

    sums = contrastive.two_view_sums(view_a, view_b, scale=scale)
    log_s = contrastive.fold_views(contrastive.log_normalizer(sums))
    state, log_v = normalizer.update(state, index, log_s)
    noise = contrastive.view_noise(key, n, shape)
    loss = contrastive.augmented_loss(sums, jnp.tile(log_v, 2), noise)

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    key: typed PRNG key of the draw, the same on all devices; None if `shape` is.
    log_norm: [2n] log normalisers (first views, then second) that are the rates of
      the draws. None takes the minibatch's own, which **removes no bias**.
    shape: Gamma shape > 0; None for u = E[u].
    coupled: None to leave the positive out of the normaliser, or the number of
      nominal negatives.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [2n] first views, then second views (see `augmented_loss`).
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  sums = two_view_sums(view_a, view_b, scale=scale, **how)
  if log_norm is None:
    log_norm = log_normalizer(sums, coupled=coupled)
  noise = view_noise(key, view_a.shape[0], shape, axis_name)
  return augmented_loss(sums, log_norm, noise, coupled=coupled)


def two_view_log_normalizer(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  coupled: float | None = None,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Log s_hat [n] of each image: the mean over its two views as anchors.

  A caller who needs the loss as well should make `two_view_sums` once and hand them to
  `log_normalizer` and `augmented_loss`.
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  sums = two_view_sums(view_a, view_b, scale=scale, **how)
  return fold_views(log_normalizer(sums, coupled=coupled))


def fold_views(log_norm: jax.Array) -> jax.Array:
  """Log of the mean over the two views' normalisers: [2n] -> [n]."""
  first, second = jnp.split(log_norm, 2)
  return jnp.logaddexp(first, second) - jnp.log(2.0)


def copy_index(index: jax.Array, copies: int) -> jax.Array:
  """Rows [copies * n] of a normaliser for anchors that an example has several of.

  Args:
    index: [n] the examples' numbers.
    copies: anchors of an example; the normaliser has copies * examples rows, those of
      an example side by side. The result has all first anchors, then all second ones.
  """
  return (jnp.arange(copies)[:, None] + copies * index[None, :]).reshape(-1)


def view_noise(
  key: jax.Array | None,
  n: int,
  shape: float | None,
  axis_name: str | None = None,
  *,
  copies: int = 2,
) -> jax.Array:
  """Log Gamma noise [copies * n] of this device's anchors, two views of n images.

  Drawn for the whole batch and sliced, so that an anchor's draw does not depend on
  the number of devices.
  """
  total = n * axes.size(axis_name)
  noise = log_gamma_noise(key, copies * total, shape).reshape(copies, total)
  start = axes.row_offset(n, axis_name)
  return jax.lax.dynamic_slice_in_dim(noise, start, n, axis=1).reshape(-1)


def augmented_metrics(
  anchors: Rows | Sums, log_norm: jax.Array, axis_name: str | None = None
) -> dict[str, jax.Array]:
  """What to watch while training with a normaliser v: scalars, without gradient.

  Args:
    anchors: n rows of logits, or their sums.
    log_norm: [n] log v_i.
    axis_name: device axis with the rest of the anchors, or None.

  Returns:
    log_norm: mean log v_i. lag: mean |log v_i - log s_hat_i|. weight_max: largest
    s_hat_i / v_i. With rows of logits also cv2: mean squared coefficient of variation
    of e^n within a row, which over the number of negatives is the size of the minibatch
    bias; and effective_negatives: mean 1 / sum of squared shares of a row's negatives.
  """
  anchors, log_norm = jax.lax.stop_gradient((anchors, log_norm))
  sums = summed(anchors)
  log_s = log_normalizer(sums)
  ok = sums.negatives > 0
  # All anchors have equally many negatives, so the devices' means count the same.
  mean = lambda x: axes.mean(numerics.masked_mean(jnp.where(ok, x, 0), ok), axis_name)
  metrics = {
    "log_norm": mean(log_norm),
    "lag": mean(jnp.abs(log_norm - log_s)),
    "weight_max": axes.maximum(
      jnp.max(jnp.where(ok, jnp.exp(log_s - log_norm), 0)), axis_name
    ),
  }
  if isinstance(anchors, Rows):
    log_square = numerics.log_sum_exp(2 * anchors.negative, anchors.where)
    concentration = log_square - 2 * sums.log_sum  # log of the sum of squared shares
    metrics["cv2"] = mean(sums.negatives * jnp.exp(concentration) - 1)
    metrics["effective_negatives"] = mean(jnp.exp(-concentration))
  return metrics


def _tangent_exp(x: jax.Array) -> jax.Array:
  """Exp up to a limit, its tangent beyond: a gradient that is large but never lost."""
  below = jnp.exp(jnp.minimum(x, _LIMIT))
  return jnp.where(x > _LIMIT, below * (1 + x - _LIMIT), below)
