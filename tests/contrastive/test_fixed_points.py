import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import fixed_points, infonce, synthetic

KEY = jax.random.key(0)
PROBLEM = synthetic.gaussian_problem(KEY)
recovery = jax.jit(synthetic.recovery)


def test_the_expected_minibatch_gradient_vanishes_at_the_decoupled_fixed_point():
  problem, index = PROBLEM, jnp.arange(64)

  def loss(critic, key, sd):
    draws = synthetic.draw_batch(key, problem, 64, 16)
    rows = synthetic.batch_rows(problem, critic, index, draws, sd)
    return jnp.mean(infonce.decoupled_loss(rows))

  gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0, None)))
  keys = jax.random.split(KEY, 1000)

  def distance(critic, sd):
    """Largest entry of the mean gradient, in standard errors."""
    found = np.asarray(gradients(np.float32(critic), keys, sd), np.float64)
    return np.max(np.abs(found.mean(axis=0)) / found.std(axis=0) * np.sqrt(len(keys)))

  for sd in (0.0, 1.5):
    assert distance(fixed_points.decoupled_fixed_point(problem, 16, sd), sd) < 4
    assert distance(problem.optimum, sd) > 8


def test_decoupled_fixed_point_in_limits():
  problem = PROBLEM
  size = lambda k, sd: float(
    recovery(problem, fixed_points.decoupled_fixed_point(problem, k, sd))["x"]
  )
  assert np.all(np.isinf(fixed_points.decoupled_fixed_point(problem, 1)))
  assert 1 < size(1024, 0.0) < 1.02
  assert size(16, 0.0) < size(16, 1.5) < size(8, 1.5)
  with pytest.raises(ValueError, match="normal negatives only"):
    fixed_points.decoupled_fixed_point(synthetic.heavy_tailed_problem(KEY), 16)
