"""Talk between devices along one axis; each function is the identity without one.

With an `axis_name`, the caller runs inside `shard_map` or `pmap` and holds n rows of
a global batch of N = n * devices; row i of device r is global row r * n + i.

Differentiate outside the mapped function (`value_and_grad(shard_map(loss))`), or, in
`pmap`, average value and gradient with `lax.pmean`: gradients taken inside without
that are wrong while the value is right.
"""

import jax
import jax.numpy as jnp


def size(axis_name: str | None) -> int:
  """Number of devices along the axis; 1 without one."""
  return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def gather(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Rows of all devices in device order: [n, ...] -> [N, ...]; differentiable."""
  if axis_name is None:
    return x
  return jax.lax.all_gather(x, axis_name, tiled=True)


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
  return 0 if axis_name is None else jax.lax.axis_index(axis_name) * n


def mean(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Mean over the devices of the axis."""
  return x if axis_name is None else jax.lax.pmean(x, axis_name)
