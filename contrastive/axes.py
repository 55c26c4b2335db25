"""Talk between devices along one axis; each function is the identity without one.

With an `axis_name`, the caller runs inside `shard_map` or `pmap` and holds n rows of
a global batch of N = n * devices; row i of device r is global row r * n + i.

Differentiate outside the mapped function (`value_and_grad(shard_map(loss))`), or, in
`pmap`, average value and gradient with `lax.pmean`: gradients taken inside without
that are wrong while the value is right.
"""

from typing import Any

import jax
import jax.numpy as jnp


def size(axis_name: str | None) -> int:
  """Number of devices along the axis; 1 without one.

  Raises:
    ValueError: no such axis here.
  """
  if axis_name is None:
    return 1
  try:
    return jax.lax.axis_size(axis_name)
  except NameError as error:
    raise ValueError(
      f"axis_name='{axis_name}' is not an axis of devices here; call inside "
      f"jax.shard_map or jax.pmap over '{axis_name}', or leave axis_name=None"
    ) from error


def gather(x: Any, axis_name: str | None) -> Any:
  """Rows of all devices in device order: [n, ...] -> [N, ...]; differentiable.

  Args:
    x: an array or a pytree of arrays.
    axis_name: device axis, or None.
  """
  if axis_name is None:
    return x
  size(axis_name)  # complains of an unknown axis in words
  return jax.lax.all_gather(x, axis_name, tiled=True)


def scatter_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Sum over the devices of [N, ...], of which each keeps its own rows [n, ...]."""
  if axis_name is None:
    return x
  return jax.lax.psum_scatter(x, axis_name, tiled=True)


def scatter_log_sum(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Log of the devices' summed exponentials: [N] -> [n]; -inf where all have -inf."""
  if axis_name is None:
    return x
  top = maximum(x, axis_name)
  top = jnp.where(jnp.isfinite(top), top, 0)
  total = scatter_sum(jnp.exp(x - top), axis_name)
  n = total.shape[0]
  top = jax.lax.dynamic_slice_in_dim(top, row_offset(n, axis_name), n)
  return jnp.where(total > 0, jnp.log(jnp.where(total > 0, total, 1)) + top, -jnp.inf)


def gather_replicated(x: jax.Array, axis_name: str | None) -> jax.Array:
  """The same rows as `gather`, in a form that shard_map knows to be replicated.

  Each device adds its rows, at their place, to zeros; the sum is the same array
  everywhere by construction. It costs an all-reduce, so it is for short vectors that
  update replicated state, not for embeddings.
  """
  if axis_name is None:
    return x
  zeros = jnp.zeros((size(axis_name) * x.shape[0], *x.shape[1:]), x.dtype)
  start = row_offset(x.shape[0], axis_name)
  placed = jax.lax.dynamic_update_slice_in_dim(
    jax.lax.pcast(zeros, axis_name, to="varying"), x, start, axis=0
  )
  return jax.lax.psum(placed, axis_name)


def row_offset(n: int, axis_name: str | None) -> jax.Array | int:
  """Global number of this device's first row, of n rows a device."""
  if axis_name is None:
    return 0
  size(axis_name)  # complains of an unknown axis in words
  return jax.lax.axis_index(axis_name) * n


def vary(x: jax.Array, *like: jax.Array) -> jax.Array:
  """Marks `x` as different on the devices on which one of `like` is.

  shard_map keeps account of this, and a loop must start with what it goes on with.
  """
  for other in like:
    # A choice that is never taken: the way to say it that all versions of JAX know.
    sample = jax.lax.stop_gradient(other).reshape(-1)[0].astype(x.dtype)
    x = jnp.where(False, sample, x)
  return x


def mean(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Mean over the devices of the axis."""
  return x if axis_name is None else jax.lax.pmean(x, axis_name)


def maximum(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Maximum over the devices of the axis; no gradient."""
  x = jax.lax.stop_gradient(x)
  return x if axis_name is None else jax.lax.pmax(x, axis_name)
