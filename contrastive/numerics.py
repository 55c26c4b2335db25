"""The few primitives that stay finite at zero vectors and at any temperature."""

import jax
import jax.numpy as jnp
import numpy as np

# Below this squared norm a row is divided by a constant: 0 stays 0, gradients finite.
_TINY = 1e-12


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
  """Scales rows to unit length, in float32 or wider; a zero row stays zero.

  `x / norm(x)` has a NaN gradient at zero; `x * rsqrt(max(x.x, tiny))` has not.

  Args:
    x: [..., d] rows of any float type.
    axis: the axis of the vector's entries.

  Returns:
    [..., d] rows of length 1 (0 for a zero row), at least float32.
  """
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  squared = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(squared, _TINY))


def similarity(query: jax.Array, key: jax.Array) -> jax.Array:
  """Inner products [n, m] of rows [n, d] and [m, d], in float32 or wider."""
  return product("nd,md->nm", query, key)


def product(subscripts: str, x: jax.Array, y: jax.Array) -> jax.Array:
  """Einsum of two arrays in float32 or wider, whatever the device's default."""
  dtype = jnp.promote_types(jnp.result_type(x, y), jnp.float32)
  # Full float32 products: a TPU's default would round unit rows to bfloat16 first,
  # and an error of 4e-3 in a similarity is 0.4 nats at scale 100.
  return jnp.einsum(
    subscripts,
    x.astype(dtype),
    y.astype(dtype),
    precision=jax.lax.Precision.HIGHEST,
  )


def check_scale(scale: jax.Array | float) -> None:
  """Raises ValueError for an inverse temperature known to be zero or negative."""
  if isinstance(scale, jax.core.Tracer):
    return
  # NumPy, because inside `jit` even a comparison of known numbers is traced by jnp.
  if not np.all(np.asarray(scale) > 0):
    raise ValueError(
      f"scale is the inverse temperature and must be positive, not {scale}; "
      "for a temperature t pass scale=1 / t"
    )


def log_sum_exp(
  x: jax.Array, where: jax.Array | None = None, axis: int = -1
) -> jax.Array:
  """Log of the sum of exponentials over the entries that `where` admits.

  Args:
    x: logits of any scale; +-1e4 is fine.
    where: boolean mask of x's shape, or None for all.
    axis: the axis that is summed over.

  Returns:
    x without that axis; -inf, with zero gradient, where nothing is admitted.
  """
  if where is None:
    where = jnp.ones_like(x, bool)
  top = jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf, where=where)
  top = jax.lax.stop_gradient(jnp.where(jnp.isfinite(top), top, 0))
  # The inner where keeps a masked entry's exponential, and its gradient, finite.
  terms = jnp.where(where, jnp.exp(jnp.where(where, x - top, 0)), 0)
  total = jnp.sum(terms, axis=axis)
  some = total > 0
  logs = jnp.log(jnp.where(some, total, 1)) + jnp.squeeze(top, axis)
  return jnp.where(some, logs, -jnp.inf)


def log_add(x: jax.Array, y: jax.Array) -> jax.Array:
  """`log(e^x + e^y)`; -inf, with zero gradient, where both are (logaddexp has NaN)."""
  return log_sum_exp(jnp.stack([x, y]), jnp.isfinite(jnp.stack([x, y])), axis=0)


def log_mean_exp(
  x: jax.Array, where: jax.Array | None = None, axis: int = -1
) -> jax.Array:
  """Log of the mean of exponentials over the admitted entries; -inf without any."""
  if where is None:
    count = jnp.asarray(x.shape[axis], x.dtype)
  else:
    count = jnp.sum(where, axis=axis).astype(x.dtype)
  return log_sum_exp(x, where, axis) - jnp.log(jnp.maximum(count, 1))


def masked_mean(x: jax.Array, where: jax.Array | None = None) -> jax.Array:
  """Mean over the admitted entries of x; 0 if none is admitted."""
  if where is None:
    return jnp.mean(x)
  total = jnp.sum(jnp.where(where, x, 0))
  return total / jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
