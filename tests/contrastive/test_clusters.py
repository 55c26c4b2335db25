import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import clusters


def mixture(width=1):
  return clusters.Clusters(
    log_weight=jnp.log(jnp.array([0.2, 0.5, 0.3])),
    centre=jnp.arange(3.0 * width).reshape(3, width) / width - 1,
    spread=jnp.array(0.4),
  )


def normal(x, mean, variance):
  return np.exp(-0.5 * (x - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)


def test_random_clusters_have_weights_that_sum_to_one():
  model = clusters.random_clusters(
    jax.random.key(0), 20, 12, concentration=0.01, separation=1.5
  )
  assert model.centre.shape == (20, 12)
  np.testing.assert_allclose(jnp.std(model.centre), 1.5, rtol=0.2)
  assert jnp.all(jnp.isfinite(model.log_weight))
  np.testing.assert_allclose(jnp.sum(jnp.exp(model.log_weight)), 1, rtol=1e-5)


def test_points_follow_weights_centres_and_spread():
  model, n = mixture(width=2), 20_000
  points, label = clusters.sample_points(jax.random.key(1), model, n)
  for c in range(3):
    own = np.asarray(points)[np.asarray(label) == c]
    share = np.exp(model.log_weight[c])
    assert abs(len(own) / n - share) < 4 * np.sqrt(share * (1 - share) / n)
    error = 0.4 / np.sqrt(len(own))
    np.testing.assert_allclose(own.mean(0), model.centre[c], atol=4 * error)
    np.testing.assert_allclose(own.std(0), 0.4, atol=4 * error)


def test_views_differ_from_their_point_by_independent_noise():
  points = jnp.zeros((20_000, 1))
  first, second = clusters.sample_pairs(jax.random.key(2), points, 0.3)
  np.testing.assert_allclose(jnp.std(first), 0.3, rtol=0.03)
  np.testing.assert_allclose(jnp.std(first - second), 0.3 * 2**0.5, rtol=0.03)


def test_log_density_is_the_mixture_with_widened_components():
  model = mixture()
  x = np.linspace(-3, 3, 7)
  expected = sum(
    w * normal(x, m, 0.4**2 + 0.3**2)
    for w, m in zip([0.2, 0.5, 0.3], [-1, 0, 1], strict=True)
  )
  found = clusters.log_density(model, jnp.asarray(x)[:, None], noise=0.3)
  np.testing.assert_allclose(found, np.log(expected), rtol=1e-4, atol=1e-5)


def test_pointwise_information_of_one_cluster_is_that_of_a_bivariate_normal():
  one = clusters.Clusters(jnp.zeros(1), jnp.zeros((1, 1)), jnp.array(0.4))
  a, b = np.array([0.1, -0.5, 0.7]), np.array([0.3, 0.2, 0.6])
  variance, shared = 0.4**2 + 0.3**2, 0.4**2
  conditional = normal(b, a * shared / variance, variance - shared**2 / variance)
  expected = np.log(conditional / normal(b, 0, variance))
  found = clusters.pointwise_information(
    one, jnp.asarray(a)[:, None], jnp.asarray(b)[:, None], 0.3
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pointwise_information_is_a_log_density_ratio():
  # For each first view, p(b) times the ratio is p(b | a) and integrates to one.
  model = mixture()
  grid = np.linspace(-6, 6, 2401)
  for a in (-1.2, 0.3):
    ratio = clusters.pointwise_information(
      model, jnp.full((grid.size, 1), a), jnp.asarray(grid)[:, None], 0.3
    )
    density = clusters.log_density(model, jnp.asarray(grid)[:, None], 0.3)
    total = np.exp(np.asarray(ratio + density, np.float64)).sum() * (grid[1] - grid[0])
    np.testing.assert_allclose(total, 1, rtol=1e-4)


@pytest.mark.parametrize(
  "wrong", [{"clusters": 0}, {"width": 0}, {"spread": 0.0}, {"separation": -1.0}]
)
def test_a_mixture_that_makes_no_sense_is_refused(wrong):
  sizes = {"clusters": 3, "width": 2} | wrong
  with pytest.raises(ValueError, match="not"):
    clusters.random_clusters(jax.random.key(0), **sizes)


def test_views_without_noise_have_no_finite_information():
  with pytest.raises(ValueError, match="noise must be positive"):
    clusters.pointwise_information(mixture(), jnp.zeros((1, 1)), jnp.zeros((1, 1)), 0.0)
