"""From embeddings to rows of logits: who is the positive, who are the negatives.

Every softmax-like and exponential objective sees an anchor only through the logit of
its positive and the logits of its negatives. The functions here build those rows for
the usual pairings; `infonce` and `augmented` turn rows, or their `sums`, into losses.
So each objective works with each pairing.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, numerics


class Rows(NamedTuple):
  """Logits of n anchors, in units of nats.

  Attributes:
    positive: [n] logit of each anchor with its positive.
    negative: [n, m] logits with the candidates for negatives.
    where: [n, m] True where a candidate is a negative of the anchor.
  """

  positive: jax.Array
  negative: jax.Array
  where: jax.Array


def cross_rows(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
) -> Rows:
  """One direction: row i of `key` is the positive of query i, the others negatives.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch of N rows, or None.

  Returns:
    Rows of n anchors and N candidates.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  positive = positives(query, key, scale)
  logits = scale * numerics.similarity(query, axes.gather(key, axis_name))
  own = own_columns(query.shape[0], logits.shape[1], axis_name)
  return Rows(positive, logits, ~own)


def two_view_rows(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
) -> Rows:
  """SimCLR's pairing: all 2N views are candidates, the own image's two are not.

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch of N images, or None.

  Returns:
    Rows of 2n anchors (first views, then second views) and 2N candidates, of which
    2N - 2 are negatives.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  positive = jnp.tile(positives(view_a, view_b, scale), 2)
  n = view_a.shape[0]
  candidates = jnp.concatenate(
    [axes.gather(view_a, axis_name), axes.gather(view_b, axis_name)]
  )
  anchors = jnp.concatenate([view_a, view_b])
  logits = scale * numerics.similarity(anchors, candidates)
  own = jnp.tile(own_columns(n, candidates.shape[0] // 2, axis_name), (2, 2))
  return Rows(positive, logits, ~own)


def queue_rows(
  query: jax.Array,
  key: jax.Array,
  queue: jax.Array,
  *,
  scale: jax.Array | float,
) -> Rows:
  """MoCo's pairing: row i of `key` is the positive, the queue holds the negatives.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows.
    queue: [k, d] keys of earlier batches; the same on all devices.
    scale: inverse temperature > 0.

  Returns:
    Rows of n anchors and k candidates, all of them negatives. A slot of the queue
    that was never filled (a zero row) is not.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  positive = positives(query, key, scale)
  check_queue(query, queue)
  logits = scale * numerics.similarity(query, queue)
  filled = jnp.any(queue != 0, axis=-1)
  where = jnp.broadcast_to(filled[None, :], logits.shape)
  return Rows(positive, logits, where)


def stack_rows(*parts: Rows) -> Rows:
  """Rows of several groups of anchors, one after another; as many candidates each."""
  return Rows(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def own_columns(n: int, columns: int, axis_name: str | None) -> jax.Array:
  """[n, columns] True at the global number of each of this device's n rows."""
  own = jnp.arange(n) + axes.row_offset(n, axis_name)
  return own[:, None] == jnp.arange(columns)[None, :]


def positives(query: jax.Array, key: jax.Array, scale: jax.Array | float) -> jax.Array:
  """Logits [n] of each query with the key of its number.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  if query.ndim != 2 or query.shape != key.shape:
    raise ValueError(
      f"embeddings must be two [n, d] arrays of one shape, not {query.shape} and "
      f"{key.shape}"
    )
  numerics.check_scale(scale)
  # From the rows themselves rather than from the matrix: no gather of a diagonal that
  # lies at another place on every device.
  dtype = jnp.promote_types(jnp.result_type(query, key), jnp.float32)
  return scale * jnp.sum(query.astype(dtype) * key.astype(dtype), axis=-1)


def check_queue(query: jax.Array, queue: jax.Array) -> None:
  """Raises ValueError unless the queue [k, d] has the queries' width d."""
  if queue.ndim != 2 or queue.shape[1] != query.shape[1]:
    raise ValueError(
      f"the queue must hold keys of the queries' width {query.shape[1]}, not an array "
      f"of shape {queue.shape}"
    )
