"""Losses without negatives on the statistics of a batch: Barlow Twins and VICReg.

There are no anchors: each function returns one scalar for the whole batch, not one
value per row. With `axis_name`, means and covariances are over the global batch of N
rows and the scalar is the same on every device. Embeddings are used as they come, not
scaled to unit length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes


def barlow_twins(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  off_diagonal: float = 5e-3,
  epsilon: float = 1e-5,
  axis_name: str | None = None,
) -> jax.Array:
  """Distance of the views' cross-correlation from the identity; a scalar.

  `sum_i (1 - c_ii)^2 + off_diagonal * sum_{i != j} c_ij^2`; Zbontar et al. 2021, eq. 1.
  lightly's value; solo-learn reports 0.025 of it.

  Args:
    view_a: [n, d] embeddings of the first views.
    view_b: [n, d] embeddings of the second.
    off_diagonal: weight of the redundancy term.
    epsilon: added to the variances, as batch normalisation does.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [] the loss, in [0, 4 d + off_diagonal * d (d - 1)].
  """
  c = cross_correlation(view_a, view_b, epsilon=epsilon, axis_name=axis_name)
  invariance = jnp.sum(jnp.square(1 - jnp.diagonal(c)))
  return invariance + off_diagonal * _off_diagonal_square(c)


def cross_correlation(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  epsilon: float = 1e-5,
  axis_name: str | None = None,
) -> jax.Array:
  """Correlations [d, d] between the views' features over the global batch.

  Variances are those of the population (divided by N), so equal views have a diagonal
  of 1 (up to epsilon); a constant feature has correlation 0 with everything.
  """
  _check(view_a, view_b)
  z_a = _standard(view_a, epsilon, axis_name)
  z_b = _standard(view_b, epsilon, axis_name)
  return _mean_product(z_a, z_b, axis_name)


class VicregTerms(NamedTuple):
  """VICReg's three scalars before they are weighted.

  Attributes:
    invariance: [] mean squared difference of the views over rows and features.
    variance: [] mean over features of max(0, 1 - standard deviation), mean of the
      two views.
    covariance: [] sum of squared off-diagonal covariances / d, sum of the two views.
  """

  invariance: jax.Array
  variance: jax.Array
  covariance: jax.Array


def vicreg(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  invariance: float = 25.0,
  variance: float = 25.0,
  covariance: float = 1.0,
  epsilon: float = 1e-4,
  axis_name: str | None = None,
) -> jax.Array:
  """Weighted sum of invariance, variance and covariance; a scalar.

  Bardes et al. 2022, eq. 6, in the normalisation of the authors' code, lightly and
  pytorch-metric-learning (solo-learn's variance term is twice as large).

  Args:
    view_a: [n, d] embeddings of the first views.
    view_b: [n, d] embeddings of the second.
    invariance: weight of the distance between the views.
    variance: weight of the hinge that keeps each feature's deviation above 1.
    covariance: weight of the decorrelation of features.
    epsilon: added to the variances under the root.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [] the loss, >= 0.
  """
  terms = vicreg_terms(view_a, view_b, epsilon=epsilon, axis_name=axis_name)
  return (
    invariance * terms.invariance
    + variance * terms.variance
    + covariance * terms.covariance
  )


def vicreg_terms(
  view_a: jax.Array,
  view_b: jax.Array,
  *,
  epsilon: float = 1e-4,
  axis_name: str | None = None,
) -> VicregTerms:
  """VICReg's terms one by one (see `vicreg`), for logging or other weights."""
  _check(view_a, view_b)
  z_a, z_b = _wide(view_a), _wide(view_b)
  variance_a, covariance_a = _spread(z_a, epsilon, axis_name)
  variance_b, covariance_b = _spread(z_b, epsilon, axis_name)
  return VicregTerms(
    invariance=axes.mean(jnp.mean(jnp.square(z_a - z_b)), axis_name),
    variance=(variance_a + variance_b) / 2,
    covariance=covariance_a + covariance_b,
  )


def _spread(z: jax.Array, epsilon: float, axis_name: str | None):
  """Hinge on the standard deviations, and off-diagonal covariances, of one view."""
  rows = z.shape[0] * axes.size(axis_name)
  z = _centred(z, axis_name)
  # The unbiased estimate, N - 1; a single row has covariance 0.
  covariance = _mean_product(z, z, axis_name) * (rows / max(rows - 1, 1))
  deviation = jnp.sqrt(jnp.diagonal(covariance) + epsilon)
  hinge = jnp.mean(jax.nn.relu(1 - deviation))
  return hinge, _off_diagonal_square(covariance) / z.shape[1]


def _off_diagonal_square(c: jax.Array) -> jax.Array:
  """Sum of squares of a square matrix without its diagonal."""
  return jnp.sum(jnp.square(jnp.where(jnp.eye(c.shape[0], dtype=bool), 0, c)))


def _standard(z: jax.Array, epsilon: float, axis_name: str | None) -> jax.Array:
  """Features of mean 0 and variance 1 over the global batch."""
  z = _centred(_wide(z), axis_name)
  variance = axes.mean(jnp.mean(jnp.square(z), axis=0, keepdims=True), axis_name)
  return z * jax.lax.rsqrt(variance + epsilon)


def _centred(z: jax.Array, axis_name: str | None) -> jax.Array:
  return z - axes.mean(jnp.mean(z, axis=0, keepdims=True), axis_name)


def _mean_product(z_a: jax.Array, z_b: jax.Array, axis_name: str | None) -> jax.Array:
  """[d, d] mean over the global batch of products of features."""
  product = jnp.einsum("nd,ne->de", z_a, z_b, precision=jax.lax.Precision.HIGHEST)
  return axes.mean(product / z_a.shape[0], axis_name)


def _wide(z: jax.Array) -> jax.Array:
  return z.astype(jnp.promote_types(z.dtype, jnp.float32))


def _check(view_a, view_b):
  if view_a.ndim != 2 or view_a.shape != view_b.shape:
    raise ValueError(
      f"embeddings must be two [n, d] arrays of one shape, not {view_a.shape} and "
      f"{view_b.shape}"
    )
