"""The pairwise sigmoid loss: each pair is a binary problem, nothing is normalised."""

import jax
import jax.numpy as jnp

from contrastive import axes, blockwise, numerics
from contrastive.rows import own_columns, positives
from contrastive.sums import numbered, queries_of
from contrastive.tiles import Keys


def pairwise_sigmoid(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  bias: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Binary cross entropy of each pair, summed over the N keys of a query.

  `-sum_j log sigmoid(z_ij (scale q_i.k_j + bias))` with z = 1 on the diagonal and -1
  elsewhere. The mean over the queries is open_clip's `SigLipLoss`: the sum over all
  pairs, divided by N. Zhai et al. 2023, algorithm 1. The usual start is scale 10 and
  bias -10, which makes the pairs' prior about right for large N.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows; row i is the positive of query i.
    scale: inverse temperature > 0.
    bias: added to every logit.
    axis_name: device axis with the rest of the batch of N rows, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    [n] nats; N log 2 when all logits are 0.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  positive = positives(query, key, scale) + bias
  plan = blockwise.plan(query.shape[0], axis_name, block_size, ring)
  if plan is None:
    logits = scale * numerics.similarity(query, axes.gather(key, axis_name)) + bias
    own = own_columns(query.shape[0], logits.shape[1], axis_name)
    return jnp.sum(jax.nn.softplus(jnp.where(own, -logits, logits)), axis=-1)
  tag = numbered(query, axis_name)
  # The bias as one more entry of each row: scale (q.k + bias / scale).
  wide = jnp.promote_types(query.dtype, jnp.float32)
  one = jnp.ones((query.shape[0], 1), wide)
  left = jnp.concatenate([query.astype(wide), one * (bias / scale)], axis=-1)
  right = Keys(jnp.concatenate([key.astype(wide), one], axis=-1), tag)
  others = blockwise.softplus_sums(plan, queries_of(left, scale, tag), right)
  return others + jax.nn.softplus(-positive)
