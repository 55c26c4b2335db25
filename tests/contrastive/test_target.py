import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import target


def test_the_average_is_a_geometric_sum():
  old, online = {"w": jnp.zeros(2), "b": jnp.ones(())}, {"w": jnp.ones(2), "b": 3.0}
  for _ in range(10):
    old = target.ema(old, online, 0.9)
  np.testing.assert_allclose(old["w"], np.full(2, 1 - 0.9**10), rtol=1e-5)
  np.testing.assert_allclose(old["b"], 3 - 2 * 0.9**10, rtol=1e-5)


def test_the_ends_of_the_decay_copy_and_keep():
  old, online = jnp.array([1.0, 64.0]), jnp.array([-2.0, 0.5])
  np.testing.assert_array_equal(target.ema(old, online, 0.0), online)
  np.testing.assert_array_equal(target.ema(old, online, 1.0), old)


def test_equal_networks_stay_exactly_equal():
  x = jnp.array([0.1, 1 / 3, 1e-30])
  np.testing.assert_array_equal(target.ema(x, x, 0.9961), x)


def test_averages_are_kept_in_float32():
  old = jnp.ones(1, jnp.bfloat16)
  online = jnp.full(1, 2, jnp.bfloat16)
  new = target.ema(old, online, 0.999)
  assert new.dtype == jnp.float32
  np.testing.assert_allclose(new, [1.001], rtol=1e-6)


def test_leaves_that_are_not_floats_are_onlines():
  old = {"step": jnp.int32(1), "key": jax.random.key(0), "on": jnp.array(True)}
  online = {"step": jnp.int32(5), "key": jax.random.key(3), "on": jnp.array(False)}
  new = target.ema(old, online, 0.9)
  assert new["step"] == 5 and new["step"].dtype == jnp.int32
  assert new["key"] == online["key"]
  assert not new["on"]


def test_no_gradient_flows_through_the_target():
  total = lambda online: target.ema(jnp.ones(2), online, 0.5).sum()
  np.testing.assert_array_equal(jax.grad(total)(jnp.ones(2)), [0, 0])


def test_a_scheduled_decay_works_under_jit():
  step = jax.jit(
    lambda old, online, t: target.ema(
      old, online, target.cosine_decay_schedule(t, 100, 0.9)
    )
  )
  np.testing.assert_allclose(step(jnp.zeros(1), jnp.ones(1), 0), [0.1], rtol=1e-5)
  np.testing.assert_allclose(step(jnp.zeros(1), jnp.ones(1), 100), [0.0], atol=1e-7)


def test_the_schedule_rises_from_the_base_to_one():
  steps = np.arange(0, 121)
  decay = target.cosine_decay_schedule(steps, 100, 0.99)
  expected = 1 - 0.01 * (np.cos(np.pi * np.minimum(steps, 100) / 100) + 1) / 2
  np.testing.assert_allclose(decay, expected, rtol=1e-6)
  assert np.all(np.diff(decay) >= 0)
  np.testing.assert_array_equal(decay[100:], np.ones(21))


def test_values_out_of_range_and_other_trees_are_refused():
  with pytest.raises(ValueError, match="decay"):
    target.ema(jnp.ones(1), jnp.ones(1), 1.1)
  with pytest.raises(ValueError, match="steps"):
    target.cosine_decay_schedule(0, 0, 0.9)
  with pytest.raises(ValueError, match="base"):
    target.cosine_decay_schedule(0, 10, 1.9)
  with pytest.raises(ValueError):
    target.ema({"a": jnp.ones(1)}, {"b": jnp.ones(1)}, 0.9)
