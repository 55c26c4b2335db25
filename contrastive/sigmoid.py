"""The pairwise sigmoid loss: each pair is a binary problem, nothing is normalised."""

import jax
import jax.numpy as jnp

from contrastive import axes, numerics
from contrastive.rows import own_columns, refuse_blocks


def pairwise_sigmoid(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  bias: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
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

  Returns:
    [n] nats; N log 2 when all logits are 0.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  refuse_blocks(block_size)
  numerics.check_scale(scale)
  if query.ndim != 2 or query.shape != key.shape:
    raise ValueError(
      f"embeddings must be two [n, d] arrays of one shape, not {query.shape} and "
      f"{key.shape}"
    )
  logits = scale * numerics.similarity(query, axes.gather(key, axis_name)) + bias
  own = own_columns(query.shape[0], logits.shape[1], axis_name)
  return jnp.sum(jax.nn.softplus(jnp.where(own, -logits, logits)), axis=-1)
