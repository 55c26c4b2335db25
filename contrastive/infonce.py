"""The softmax family: InfoNCE, NT-Xent, decoupled (DCL, DCLW) and FlatNCE.

Each loss exists twice: on rows of logits or their sums (`softmax_loss`,
`decoupled_loss`, `flat_loss`), for any pairing, and on embeddings under its usual name.
Embeddings are unit rows (`contrastive.unit`); inner products are used as they are.
Values are in nats, one per anchor, not reduced.

`block_size` and `ring` choose how it is executed, see `contrastive.sums`: value and
gradient are the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from contrastive import axes, numerics
from contrastive.rows import Rows
from contrastive.sums import Sums, mutual_sums, summed, two_view_sums


def softmax_loss(anchors: Rows | Sums) -> jax.Array:
  """Cross entropy of the positive among positive and negatives.

  `-p_i + log(e^p_i + sum_j e^n_ij)`; van den Oord et al. 2018, eq. 4.

  Args:
    anchors: n rows of logits, or their sums.

  Returns:
    [n] nats; log(1 + negatives) when all logits are equal, 0 without negatives.
  """
  sums = summed(anchors)
  # log(1 + e^(log sum e^n - p)), not log(e^p + sum e^n) - p: the latter cancels, and
  # near the optimum (p = 100, loss 1e-6) loses value and gradient in float32.
  return jax.nn.softplus(sums.log_sum - sums.positive)


def decoupled_loss(anchors: Rows | Sums, weight: jax.Array | None = None) -> jax.Array:
  """The same without the positive in the normaliser: `-w_i p_i + log sum_j e^n_ij`.

  Yeh et al. 2022, Decoupled Contrastive Learning, eq. 6.

  Args:
    anchors: n rows of logits, or their sums.
    weight: [n] weights of the positives, or None for 1.

  Returns:
    [n] nats; unbounded below. An anchor without negatives counts 0.
  """
  sums = summed(anchors)
  positive = sums.positive if weight is None else weight * sums.positive
  return jnp.where(sums.negatives > 0, _finite_log_sum(sums) - positive, 0)


def flat_loss(anchors: Rows | Sums) -> jax.Array:
  """`exp(v - stop_gradient(v))` with `v = log sum_j e^(n_ij - p_i)`: always 1.

  Only the gradient carries information, and it is `decoupled_loss`'s. Chen et al.
  2021, Simpler, Faster, Stronger: FlatNCE, eq. 7.

  Args:
    anchors: n rows of logits, or their sums.

  Returns:
    [n] ones; 0 for an anchor without negatives.
  """
  sums = summed(anchors)
  v = _finite_log_sum(sums) - sums.positive
  return jnp.where(sums.negatives > 0, jnp.exp(v - jax.lax.stop_gradient(v)), 0)


def info_nce(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Symmetric InfoNCE between two sets of rows, as CLIP trains it.

  Row i of one side is the positive of row i of the other; the N - 1 other rows of the
  other side are negatives. The mean over i is open_clip's `ClipLoss`.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [n] mean of the two directions' losses; chance level log(N).
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  forward, back = mutual_sums(query, key, scale=scale, **how)
  return (softmax_loss(forward) + softmax_loss(back)) / 2


def nt_xent(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """SimCLR's normalised temperature-scaled cross entropy.

  All 2N - 2 views of other images are negatives. The mean is the value of lightly,
  solo-learn, pytorch-metric-learning and optax; google-research/simclr reports twice
  of it. Chen et al. 2020, eq. 1.

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [2n] first views, then second views; chance level log(2N - 1).
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  return softmax_loss(two_view_sums(view_a, view_b, scale=scale, **how))


def decoupled(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  sigma: float | None = None,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Decoupled contrastive loss (DCL), or its weighted form DCLW with `sigma`.

  DCLW weighs the positive by `2 - exp(c_i / sigma) / mean_i exp(c_i / sigma)`, where
  c_i is the pair's cosine, without gradient (Yeh et al. 2022, eq. 7; 0.5 there).

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    sigma: width of the von Mises-Fisher weight, or None for no weight.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [2n] first views, then second views; log(2N - 2) - scale c at equal negatives.
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  sums = two_view_sums(view_a, view_b, scale=scale, **how)
  if sigma is None:
    return decoupled_loss(sums)
  return decoupled_loss(sums, von_mises_weight(sums, scale, sigma, axis_name))


def flat_nce(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """FlatNCE over SimCLR's pairing: the value is 1, the gradient is `decoupled`'s.

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [2n] ones (see `flat_loss`).
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  return flat_loss(two_view_sums(view_a, view_b, scale=scale, **how))


def von_mises_weight(
  anchors: Rows | Sums,
  scale: jax.Array | float,
  sigma: float,
  axis_name: str | None = None,
) -> jax.Array:
  """DCLW's weights of the positives, mean 1 over the global batch, no gradient.

  Args:
    anchors: n rows of logits, or their sums.
    scale: inverse temperature that their logits were built with.
    sigma: width > 0, in units of the cosine.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [n] weights, at most 2.
  """
  if sigma <= 0:
    raise ValueError(f"sigma must be positive, not {sigma}; DCLW's paper uses 0.5")
  logits = jax.lax.stop_gradient(anchors.positive / (scale * sigma))
  mean = numerics.log_mean_exp(axes.gather(logits, axis_name))
  return 2 - jnp.exp(logits - mean)


def _finite_log_sum(sums: Sums) -> jax.Array:
  """Log sum of the negatives, 0 where there is none: no -inf enters the gradient."""
  return jnp.where(sums.negatives > 0, sums.log_sum, 0)
