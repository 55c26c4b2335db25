"""From embeddings to what a loss needs to know of an anchor: its positive's logit, the
log sum of its negatives' exponentials, and their number.

The pairings are those of `rows`. Without `block_size` and `ring` they are made there,
with one matrix of logits, and summed; otherwise by `blockwise`, to the same value and
gradient.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, blockwise, numerics, rows
from contrastive.rows import Rows
from contrastive.tiles import Keys, Queries


class Sums(NamedTuple):
  """Sufficient statistics of n anchors.

  Attributes:
    positive: [n] logit of each anchor with its positive.
    log_sum: [n] log of the sum of its negatives' exponentials; -inf without negatives.
    negatives: [n] number of its negatives.
  """

  positive: jax.Array
  log_sum: jax.Array
  negatives: jax.Array


def summed(anchors: Rows | Sums) -> Sums:
  """The sums of rows of logits; sums go through unchanged."""
  if isinstance(anchors, Sums):
    return anchors
  return Sums(
    anchors.positive,
    numerics.log_sum_exp(anchors.negative, anchors.where),
    jnp.sum(anchors.where, axis=-1).astype(anchors.positive.dtype),
  )


def mutual_sums(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> tuple[Sums, Sums]:
  """Both directions between two sets; rows of one number are a positive pair.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch of N rows, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    Sums of n queries over the N - 1 other keys, and of n keys over the other queries.

  Raises:
    ValueError: shapes differ, or scale or block_size is not positive.
  """
  plan = blockwise.plan(query.shape[0], axis_name, block_size, ring)
  if plan is None:
    one_way = functools.partial(rows.cross_rows, scale=scale, axis_name=axis_name)
    return summed(one_way(query, key)), summed(one_way(key, query))
  positive = rows.positives(query, key, scale)
  tag = numbered(query, axis_name)
  forward, back = blockwise.log_sums(
    plan, queries_of(query, scale, tag), Keys(key, tag)
  )
  negatives = jnp.full_like(positive, query.shape[0] * axes.size(axis_name) - 1)
  return Sums(positive, forward, negatives), Sums(positive, back, negatives)


def cross_sums(
  query: jax.Array,
  key: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> Sums:
  """The first direction of `mutual_sums` alone; `rows.cross_rows` in linear memory."""
  plan = blockwise.plan(query.shape[0], axis_name, block_size, ring)
  if plan is None:
    return summed(rows.cross_rows(query, key, scale=scale, axis_name=axis_name))
  positive = rows.positives(query, key, scale)
  tag = numbered(query, axis_name)
  log_sum = blockwise.row_log_sums(plan, queries_of(query, scale, tag), Keys(key, tag))
  negatives = jnp.full_like(positive, query.shape[0] * axes.size(axis_name) - 1)
  return Sums(positive, log_sum, negatives)


def two_view_sums(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> Sums:
  """SimCLR's pairing: the 2N - 2 views of other images are negatives.

  Args:
    view_a: [n, d] unit rows, the first view of each image.
    view_b: [n, d] unit rows, the second.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch of N images, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    Sums of 2n anchors: first views, then second views.

  Raises:
    ValueError: shapes differ, or scale or block_size is not positive.
  """
  plan = blockwise.plan(2 * view_a.shape[0], axis_name, block_size, ring)
  if plan is None:
    return summed(rows.two_view_rows(view_a, view_b, scale=scale, axis_name=axis_name))
  positive = jnp.tile(rows.positives(view_a, view_b, scale), 2)
  pool = jnp.concatenate([view_a, view_b])
  tag = jnp.tile(numbered(view_a, axis_name), 2)
  log_sum = blockwise.self_log_sums(plan, queries_of(pool, scale, tag))
  negatives = 2 * view_a.shape[0] * axes.size(axis_name) - 2
  return Sums(positive, log_sum, jnp.full_like(positive, negatives))


def queue_sums(
  query: jax.Array,
  key: jax.Array,
  queue: jax.Array,
  *,
  scale: jax.Array | float,
  block_size: int | None = None,
) -> Sums:
  """MoCo's pairing: row i of `key` is the positive, filled slots are the negatives.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows.
    queue: [k, d] keys of earlier batches, the same on all devices; a zero row is an
      empty slot.
    scale: inverse temperature > 0.
    block_size: rows of a tile of the linear-memory form; None: one matrix.

  Returns:
    Sums of n anchors.

  Raises:
    ValueError: shapes differ, or scale or block_size is not positive.
  """
  plan = blockwise.plan(query.shape[0], None, block_size, False)
  if plan is None:
    return summed(rows.queue_rows(query, key, queue, scale=scale))
  positive = rows.positives(query, key, scale)
  rows.check_queue(query, queue)
  filled = jnp.any(queue != 0, axis=-1)
  queries = queries_of(query, scale, jnp.ones(query.shape[0], jnp.int32))
  keys = Keys(axes.vary(queue, query), jnp.where(filled, 0, -1))
  log_sum = blockwise.row_log_sums(plan, queries, keys)
  negatives = jnp.sum(filled).astype(positive.dtype)
  return Sums(positive, log_sum, jnp.broadcast_to(negatives, positive.shape))


def stack_sums(*parts: Sums) -> Sums:
  """Sums of several groups of anchors, one after another."""
  return Sums(*(jnp.concatenate(leaves) for leaves in zip(*parts, strict=True)))


def queries_of(anchors: jax.Array, scale: jax.Array | float, tag: jax.Array) -> Queries:
  """Anchors [n, d] with one scale for all, for `blockwise`."""
  dtype = jnp.promote_types(anchors.dtype, jnp.float32)
  factors = jnp.broadcast_to(jnp.asarray(scale, dtype), anchors.shape[:1])
  # A factor an anchor, different on each device: so its gradient is summed over the
  # devices where the one scale is spread, outside of the custom derivative.
  return Queries(anchors, axes.vary(factors, anchors), tag)


def numbered(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Global numbers of this device's rows, int32 [n]: tags of which each is alone."""
  n = x.shape[0]
  return jnp.arange(n, dtype=jnp.int32) + axes.row_offset(n, axis_name)
