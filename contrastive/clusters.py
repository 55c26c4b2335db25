"""Two noisy views of points from a Gaussian mixture: data whose law is known exactly.

A point is z = centre_c + spread * e with cluster c drawn by its weight; a pair is
(z + noise * e_1, z + noise * e_2), all e standard normal and independent. Unequal
clusters make unequal normalisers: an anchor in a large cluster has many near
negatives, one in a small cluster has few. The density of a view and the pointwise
mutual information of a pair, which is the optimal critic of every contrastive loss up
to a function of the anchor, are closed forms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Clusters(NamedTuple):
  """A mixture of c isotropic Gaussians in d dimensions.

  Attributes:
    log_weight: [c] log probabilities.
    centre: [c, d].
    spread: [] standard deviation of a point about its centre.
  """

  log_weight: jax.Array
  centre: jax.Array
  spread: jax.Array


def random_clusters(
  key: jax.Array,
  clusters: int,
  width: int,
  *,
  concentration: float = 0.5,
  separation: float = 1.0,
  spread: float = 0.5,
) -> Clusters:
  """A mixture with normal centres and Dirichlet weights.

  Args:
    key: typed PRNG key.
    clusters: number of clusters c.
    width: dimension d.
    concentration: of the symmetric Dirichlet law, > 0; below 1 a few clusters
      dominate, far above 1 all are equal.
    separation: standard deviation of the centres, > 0.
    spread: standard deviation within a cluster, > 0.

  Raises:
    ValueError: a count below 1, or another number that is not positive.
  """
  if min(clusters, width) < 1:
    raise ValueError(
      f"a mixture needs at least 1 cluster and 1 dimension, not {clusters} and {width}"
    )
  if min(concentration, separation, spread) <= 0:
    raise ValueError(
      "concentration, separation and spread must be positive, not "
      f"{concentration}, {separation} and {spread}"
    )
  weight_key, centre_key = jax.random.split(key)
  # In logs: a small concentration draws weights below the smallest float32.
  log_gamma = jax.random.loggamma(weight_key, concentration, (clusters,))
  return Clusters(
    log_weight=jax.nn.log_softmax(log_gamma),
    centre=separation * jax.random.normal(centre_key, (clusters, width)),
    spread=jnp.asarray(spread, jnp.float32),
  )


def sample_points(
  key: jax.Array, model: Clusters, n: int
) -> tuple[jax.Array, jax.Array]:
  """Draws points [n, d] and the clusters [n] that they come from."""
  label_key, point_key = jax.random.split(key)
  label = jax.random.categorical(label_key, model.log_weight, shape=(n,))
  noise = jax.random.normal(point_key, (n, model.centre.shape[1]))
  return model.centre[label] + model.spread * noise, label


def sample_pairs(
  key: jax.Array, points: jax.Array, noise: float
) -> tuple[jax.Array, jax.Array]:
  """Draws two views [n, d] of each point, with independent noise of that deviation."""
  first, second = jax.random.normal(key, (2, *points.shape))
  return points + noise * first, points + noise * second


def log_density(model: Clusters, x: jax.Array, noise: float = 0.0) -> jax.Array:
  """Log density [n] in nats of points, or of views with that noise, at x [n, d]."""
  return _log_mixture(model, x, jnp.square(model.spread) + noise**2)


def pointwise_information(
  model: Clusters, view_a: jax.Array, view_b: jax.Array, noise: float
) -> jax.Array:
  """Log of p(a, b) / (p(a) p(b)) for pairs of views: the optimal critic.

  Its mean over pairs is the mutual information of the two views. Mean and difference
  of a pair are independent given the cluster, so the joint density is a mixture in
  (a + b) / 2 times one Gaussian in a - b.

  Args:
    model: the mixture.
    view_a: [n, d].
    view_b: [n, d].
    noise: standard deviation of a view about its point, > 0.

  Returns:
    [n] nats.
  """
  if noise <= 0:
    raise ValueError(f"noise must be positive, not {noise}: equal views tell all")
  mean_variance = jnp.square(model.spread) + noise**2 / 2
  log_joint = _log_mixture(model, (view_a + view_b) / 2, mean_variance)
  log_joint = log_joint + _log_normal(
    jnp.sum(jnp.square(view_a - view_b), axis=-1), view_a.shape[-1], 2 * noise**2
  )
  return (
    log_joint - log_density(model, view_a, noise) - log_density(model, view_b, noise)
  )


def _log_mixture(model, x, variance):
  """Log density [n] of the mixture with that variance within a cluster."""
  squared = jnp.sum(jnp.square(x[:, None] - model.centre[None, :]), axis=-1)
  logs = model.log_weight[None, :] + _log_normal(squared, x.shape[-1], variance)
  return jax.nn.logsumexp(logs, axis=-1)


def _log_normal(squared, width, variance):
  """Log density of N(0, variance I) at points of that squared length."""
  return -0.5 * (squared / variance + width * jnp.log(2 * jnp.pi * variance))
