"""Sums over all pairs in linear memory, with their gradients: the fast path of `sums`.

A batch of N rows has N^2 logits, and a gradient by plain differentiation keeps them.
Here they are made in tiles and made again for the gradient (`tiles`). `log_sums` serves
both directions of a pair of towers from one tile, and `self_log_sums` uses that a
pool's logits with itself are symmetric: value and gradient cost four and three matrix
products of the logits' size, where rows and columns apart would cost eight and four.

Gradients are for reverse mode and may be taken repeatedly; a second one keeps the
tiles. Forward mode (`jax.jvp`, `jax.jacfwd`) raises JAX's TypeError about custom_vjp.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, numerics, ring, tiles
from contrastive.tiles import Keys, Queries, Shares


class Plan(NamedTuple):
  """How sums are executed; the result is the same.

  Attributes:
    block_size: queries of a tile.
    axis_name: device axis with the rest of the batch, or None.
    ring: keys walk round the devices instead of being gathered.
  """

  block_size: int
  axis_name: str | None = None
  ring: bool = False

  @property
  def ring_axis(self) -> str | None:
    """The axis along which rows of other devices come by, or None if they do not."""
    return self.axis_name if self.ring else None


def plan(
  n: int, axis_name: str | None, block_size: int | None, ring: bool = False
) -> Plan | None:
  """How to execute the sums of n anchors on this device.

  Args:
    n: anchors on this device; larger blocks are cut to it.
    axis_name: device axis, or None.
    block_size: queries of a tile, at least 1; None: one tile.
    ring: keys walk; without an axis there is nothing to walk to.

  Returns:
    The plan, or None for the plain form with one matrix.

  Raises:
    ValueError: block_size is not a whole number >= 1.
  """
  if block_size is None:
    return Plan(n, axis_name, True) if ring and axis_name is not None else None
  if isinstance(block_size, bool) or not isinstance(block_size, int) or block_size < 1:
    raise ValueError(
      f"block_size is the number of rows of a tile, at least 1, not {block_size!r}; "
      "None is the form with one matrix"
    )
  return Plan(min(block_size, n), axis_name, ring)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def log_sums(plan: Plan, queries: Queries, keys: Keys) -> tuple[jax.Array, jax.Array]:
  """Log sums over rows and columns of `s_ij = scale_i q_i . k_j`.

  Args:
    plan: execution.
    queries: n on this device.
    keys: m on this device.

  Returns:
    [n] for each query over the keys of all devices, and [m] for each key over the
    queries of all; -inf, with zero gradient, where no pair counts.
  """
  return _log_sums_forward(plan, queries, keys)[0]


def _log_sums_forward(plan, queries, keys):
  size = plan.block_size
  axis = plan.ring_axis
  if axis is not None:
    rows, columns = _empty(queries.rows, keys.rows), _empty(keys.rows, queries.rows)

    def visit(rows, keys, columns):
      more = tiles.log_sums(queries, keys, block_size=size, columns=True)
      return numerics.log_add(rows, more[0]), numerics.log_add(columns, more[1])

    rows, columns = ring.walk(visit, rows, keys, columns, axis)
  else:
    everyone = axes.gather(keys, plan.axis_name)
    rows, columns = tiles.log_sums(queries, everyone, block_size=size, columns=True)
    columns = axes.scatter_log_sum(columns, plan.axis_name)
  return (rows, columns), (queries, keys, rows, columns)


def _log_sums_backward(plan, residuals, cotangents):
  queries, keys, rows, columns = residuals
  rows, columns = Shares(rows, cotangents[0]), Shares(columns, cotangents[1])
  gradients = lambda keys, columns: tiles.log_sum_gradients(
    queries, keys, rows, columns, block_size=plan.block_size
  )
  return _pulled_back(plan, queries, keys, gradients, columns)


log_sums.defvjp(_log_sums_forward, _log_sums_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def self_log_sums(plan: Plan, pool: Queries) -> jax.Array:
  """Log sums [n] over the rows of `s_ij = scale z_i . z_j`, one scale for all."""
  return _self_log_sums_forward(plan, pool)[0]


def _self_log_sums_forward(plan, pool):
  keys = Keys(pool.rows, pool.tag)
  sums = _row_log_sums(plan, pool, keys)
  return sums, (pool, sums)


def _self_log_sums_backward(plan, residuals, weight):
  pool, sums = residuals
  own = Shares(sums, weight)

  def of_set(read):
    keys, others = read
    return tiles.log_sum_gradients(
      pool, keys, own, others, block_size=plan.block_size, towards_keys=False
    )[:2]

  read = Keys(pool.rows, pool.tag), own
  start = _no_gradient(pool, pool.rows)
  d_rows, d_scale = _over_devices(plan, of_set, _add, start, read)
  # A pair's weight holds the shares of both its rows: all that z gets, and twice what
  # the scale gets.
  return (_as_queries(pool, (d_rows, d_scale / 2)),)


self_log_sums.defvjp(_self_log_sums_forward, _self_log_sums_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def row_log_sums(plan: Plan, queries: Queries, keys: Keys) -> jax.Array:
  """The rows' sums of `log_sums` alone, [n]."""
  return _row_log_sums(plan, queries, keys)


def _row_log_sums(plan, queries, keys):
  of_set = lambda keys: tiles.log_sums(queries, keys, block_size=plan.block_size)[0]
  start = _empty(queries.rows, keys.rows)
  return _over_devices(plan, of_set, numerics.log_add, start, keys)


def _row_log_sums_forward(plan, queries, keys):
  sums = _row_log_sums(plan, queries, keys)
  return sums, (queries, keys, sums)


def _row_log_sums_backward(plan, residuals, weight):
  queries, keys, sums = residuals
  rows = Shares(sums, weight)
  gradients = lambda keys, _: tiles.log_sum_gradients(
    queries, keys, rows, block_size=plan.block_size
  )
  return _pulled_back(plan, queries, keys, gradients)


row_log_sums.defvjp(_row_log_sums_forward, _row_log_sums_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def softplus_sums(plan: Plan, queries: Queries, keys: Keys) -> jax.Array:
  """Sums [n] of `log(1 + e^s_ij)` over the keys of all devices."""
  of_set = lambda keys: tiles.softplus_sums(queries, keys, block_size=plan.block_size)
  start = _zeros(queries.rows[:, 0], keys.rows)
  return _over_devices(plan, of_set, jnp.add, start, keys)


def _softplus_forward(plan, queries, keys):
  return softplus_sums(plan, queries, keys), (queries, keys)


def _softplus_backward(plan, residuals, weight):
  queries, keys = residuals
  gradients = lambda keys, _: tiles.softplus_gradients(
    queries, keys, weight, block_size=plan.block_size
  )
  return _pulled_back(plan, queries, keys, gradients)


softplus_sums.defvjp(_softplus_forward, _softplus_backward)


class Group(NamedTuple):
  """Labels, int32 [n], and tags [n]: rows of one label and different tags belong."""

  label: jax.Array
  tag: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def group_sums(plan: Plan, group: Group, rows: jax.Array) -> jax.Array:
  """Sum [n, d] of the other rows [n, d] of all devices that belong to each row."""
  of_set = lambda others: tiles.group_sums(*group, *others, block_size=plan.block_size)
  return _over_devices(plan, of_set, jnp.add, _zeros(rows), (*group, rows))


def _group_sums_forward(plan, group, rows):
  return group_sums(plan, group, rows), group


def _group_sums_backward(plan, group, cotangent):
  # Belonging is mutual, so the sum is its own transpose.
  return None, group_sums(plan, group, cotangent)


group_sums.defvjp(_group_sums_forward, _group_sums_backward)


def _pulled_back(plan, queries, keys, gradients, columns=None):
  """Cotangents of queries and keys; `gradients` takes one device's keys and columns."""
  axis = plan.ring_axis
  read = keys, columns
  if axis is not None:

    def visit(d_queries, read, d_keys):
      *more, pull = gradients(*read)
      return _add(d_queries, tuple(more)), d_keys + pull

    start = _no_gradient(queries, keys.rows)
    collected = _zeros(keys.rows, queries.rows)
    d_queries, d_keys = ring.walk(visit, start, read, collected, axis)
  else:
    *d_queries, d_keys = gradients(*axes.gather(read, plan.axis_name))
    d_keys = axes.scatter_sum(d_keys, plan.axis_name)
  return _as_queries(queries, d_queries), _as_keys(keys, d_keys)


def _over_devices(plan, of_set, add, start, read):
  """Adds `of_set` of what each device holds: of all at once, or as it comes by."""
  if plan.ring_axis is None:
    return of_set(axes.gather(read, plan.axis_name))
  visit = lambda total, read, _: (add(total, of_set(read)), ())
  return ring.walk(visit, start, read, (), plan.ring_axis)[0]


# Cotangents have the form of what they belong to; that of a tag, an integer, is None.
_NO_TAG: Any = None


def _as_queries(queries: Queries, gradients: Any) -> Any:
  rows, scale = gradients
  like = queries.scale.dtype
  return queries._replace(
    rows=rows.astype(queries.rows.dtype), scale=scale.astype(like), tag=_NO_TAG
  )


def _as_keys(keys: Keys, rows: jax.Array) -> Any:
  return keys._replace(rows=rows.astype(keys.rows.dtype), tag=_NO_TAG)


def _zeros(x, *like):
  return axes.vary(
    jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), x, *like
  )


def _empty(x, *like):
  """Log sums of x's rows over no pairs yet."""
  return _zeros(x[:, 0], *like) - jnp.inf


def _no_gradient(queries, *like):
  return _zeros(queries.rows, *like), _zeros(queries.scale, queries.rows, *like)


def _add(x, y):
  return jax.tree.map(jnp.add, x, y)
