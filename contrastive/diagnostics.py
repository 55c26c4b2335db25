"""What a set of embeddings looks like: aligned, uniform, of full rank, or collapsed.

Pure functions of rows; those on the sphere scale rows to unit length themselves, and a
zero row stays zero.
"""

import jax
import jax.numpy as jnp

from contrastive import numerics

# `collapse` warns below this share of the spread of rows that fill the sphere.
_LOW_STD = 0.1
# ... and above this root mean square cosine of two rows.
_HIGH_COSINE = 0.99


def alignment(a: jax.Array, b: jax.Array, *, alpha: float = 2.0) -> jax.Array:
  """Mean of |a - b|^alpha over positive pairs of unit rows (Wang & Isola, 2020).

  Args:
    a: [n, d] rows.
    b: [n, d] their positives.
    alpha: exponent > 0.

  Returns:
    A scalar in [0, 2^alpha]; 0 is best. Its gradient is finite (0) at equal rows.
  """
  squared = jnp.sum(jnp.square(numerics.unit(a) - numerics.unit(b)), axis=-1)
  # The gradient of a power below 1 is infinite at 0; there it is cut to 0.
  apart = squared > 0
  return jnp.mean(jnp.where(apart, jnp.where(apart, squared, 1) ** (alpha / 2), 0))


def uniformity(
  z: jax.Array, *, t: float = 2.0, block_size: int | None = None
) -> jax.Array:
  """Log of the mean of exp(-t |z_i - z_j|^2) over distinct unit rows (Wang & Isola).

  Args:
    z: [n, d] rows, n >= 2.
    t: precision of the kernel, > 0.
    block_size: rows at once, for memory block_size * n; None takes all.

  Returns:
    A scalar <= 0; lower is more uniform, 0 says that all rows are one. On the sphere it
    cannot fall below about -2t (rows at right angles) in high dimensions.

  Raises:
    ValueError: for fewer than two rows, which have no pair.
  """
  n = _require_pairs(z, "uniformity")
  z = numerics.unit(z)
  lengths = jnp.sum(jnp.square(z), axis=-1)
  size = n if block_size is None else min(block_size, n)
  blocks = -(-n // size)

  @jax.checkpoint
  def block_sum(start):
    places = start + jnp.arange(size)
    rows = jnp.take(z, places, axis=0, mode="clip")
    own = jnp.take(lengths, places, mode="clip")
    squared = own[:, None] + lengths[None, :] - 2 * numerics.similarity(rows, z)
    distinct = places[:, None] != jnp.arange(n)[None, :]
    # Rows past the end fill the last block and count for nothing.
    counted = distinct & (places < n)[:, None]
    return numerics.log_sum_exp((-t * squared).ravel(), where=counted.ravel())

  sums = jax.lax.map(block_sum, size * jnp.arange(blocks))
  return numerics.log_sum_exp(sums) - jnp.log(float(n) * (n - 1))


def effective_rank(z: jax.Array) -> jax.Array:
  """Exponential of the entropy of the singular values' shares (Roy & Vetterli, 2007).

  Args:
    z: [n, d] rows as they are, neither centred nor scaled.

  Returns:
    A scalar from 1 (all rows on one line) to min(n, d) (equal singular values); 0 for
    rows that are all zero.
  """
  values = _singular_values(z)
  total = jnp.sum(values)
  share = values / jnp.where(total > 0, total, 1)
  entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)))
  return jnp.where(total > 0, jnp.exp(entropy), 0)


def energy_rank(z: jax.Array, *, energy: float = 0.99) -> jax.Array:
  """Number of principal directions of rows [n, d] that hold a share of their energy.

  Args:
    z: [n, d] rows as they are, neither centred nor scaled.
    energy: share of the sum of squares, in (0, 1).

  Returns:
    An integer scalar from 1 to min(n, d); 0 for rows that are all zero.
  """
  held = jnp.cumsum(jnp.square(_singular_values(z)))
  # The directions before the one that crosses the line, and that one.
  return jnp.sum(held < energy * held[-1]) + (held[-1] > 0)


def collapse(z: jax.Array) -> dict[str, jax.Array]:
  """Whether unit rows have collapsed to a point, or to a line, of the sphere.

  Args:
    z: [n, d] rows, n >= 2.

  Returns:
    std: [d] standard deviation of each coordinate of the unit rows.
    std_ratio: its mean times sqrt(d), in [0, 1]: 1 where rows fill the sphere, 0 where
      they are one; the square root of m / d where they fill m of the d axes.
    mean_cosine: mean cosine of two distinct rows.
    collapsed: a boolean: std_ratio < 0.1 (cosines above about 0.99, or variation in
      under a hundredth of the axes), or a root mean square cosine of two distinct rows
      above 0.99 (rows on one line, in either direction).

  Raises:
    ValueError: for fewer than two rows, which cannot differ.
  """
  n = _require_pairs(z, "collapse")
  z = numerics.unit(z)
  std = jnp.std(z, axis=0)
  std_ratio = jnp.mean(std) * jnp.sqrt(float(z.shape[1]))
  lengths = jnp.sum(jnp.square(z), axis=-1)
  pairs = float(n) * (n - 1)
  mean_cosine = (jnp.sum(jnp.square(jnp.sum(z, axis=0))) - jnp.sum(lengths)) / pairs
  # Sum over pairs of cosine^2 = |Z'Z|_F^2, in d^2 memory.
  second = numerics.similarity(z.T, z.T)
  mean_square = (jnp.sum(jnp.square(second)) - jnp.sum(jnp.square(lengths))) / pairs
  return {
    "std": std,
    "std_ratio": std_ratio,
    "mean_cosine": mean_cosine,
    "collapsed": (std_ratio < _LOW_STD) | (mean_square > _HIGH_COSINE**2),
  }


def _require_pairs(z: jax.Array, name: str) -> int:
  """The number of rows, at least two."""
  if z.shape[0] < 2:
    raise ValueError(f"{name} compares rows with each other; give it two or more")
  return z.shape[0]


def _singular_values(z: jax.Array) -> jax.Array:
  """Singular values of rows [n, d], descending, in float32 or wider.

  The roots of the Gram matrix's eigenvalues would be cheaper, but rounding lifts the
  small ones to 3e-4 of the largest, and hundreds of those look like rank.
  """
  z = z.astype(jnp.promote_types(z.dtype, jnp.float32))
  if z.shape[0] > z.shape[1]:
    z = jnp.linalg.qr(z, mode="r")
  return jnp.linalg.svd(z, compute_uv=False)
