"""Cross entropy against targets mixed with a momentum model's; means over devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from multimodal import distillation


def _softmax(row, where):
  total = sum(math.exp(x) for x, w in zip(row, where, strict=True) if w)
  return [math.exp(x) / total if w else 0.0 for x, w in zip(row, where, strict=True)]


def _mixed(targets, teacher, where, alpha):
  rows = []
  for target, row, admitted in zip(targets, teacher, where, strict=True):
    soft = _softmax(row, admitted)
    mix = zip(target, soft, strict=True)
    rows.append([(1 - alpha) * t + alpha * s for t, s in mix])
  return np.array(rows)


def _cross_entropy(logits, targets, where):
  values = []
  for row, target, admitted in zip(logits, targets, where, strict=True):
    soft = _softmax(row, admitted)
    terms = [t * math.log(s) for t, s in zip(target, soft, strict=True) if s]
    values.append(-sum(terms))
  return np.array(values)


def _case():
  rng = np.random.default_rng(0)
  logits, teacher = rng.normal(scale=2, size=(2, 5, 7))
  where = rng.random((5, 7)) < 0.7
  where[:, 0] = True
  targets = where * rng.random((5, 7))
  return logits, teacher, targets / targets.sum(1, keepdims=True), where


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_targets_and_cross_entropy_equal_the_double_loop(alpha):
  logits, teacher, targets, where = _case()
  mixed = distillation.mixed_targets(targets, teacher, alpha=alpha, where=where)
  expected = _mixed(targets, teacher, where, alpha)
  np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(mixed.sum(1), 1, rtol=1e-6)
  got = distillation.soft_cross_entropy(logits, mixed, where)
  np.testing.assert_allclose(got, _cross_entropy(logits, expected, where), rtol=1e-5)
  assert got.dtype == jnp.float32


def test_without_a_mask_all_are_candidates():
  logits, teacher, targets, _ = _case()
  everywhere = np.ones_like(logits, bool)
  mixed = distillation.mixed_targets(targets, teacher, alpha=0.3)
  expected = _mixed(targets, teacher, everywhere, 0.3)
  np.testing.assert_allclose(mixed, expected, rtol=1e-5)
  got = distillation.soft_cross_entropy(logits, mixed)
  expected = _cross_entropy(logits, expected, everywhere)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_gradient_is_the_softmax_less_the_targets():
  logits, _, targets, where = _case()
  targets = 0.5 * targets  # of half the mass: half the loss
  total = lambda x: distillation.soft_cross_entropy(x, targets, where).sum()
  soft = [_softmax(row, w) for row, w in zip(logits, where, strict=True)]
  expected = 0.5 * np.array(soft) - targets
  np.testing.assert_allclose(jax.grad(total)(logits), expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_flows_to_the_targets_or_the_teacher():
  _, teacher, targets, where = _case()

  def total(targets, teacher):
    mixed = distillation.mixed_targets(targets, teacher, alpha=0.5, where=where)
    return jnp.sum(jnp.square(mixed))

  for grad in jax.grad(total, argnums=(0, 1))(targets, teacher):
    assert not grad.any()


def test_rows_without_targets_or_candidates_count_nothing():
  logits, teacher, targets, where = _case()
  where[1] = False
  targets[3] = 0
  logits[:, 6], where[:, 6] = np.nan, False

  def values(logits):
    mixed = distillation.mixed_targets(targets, None, alpha=0.0)
    return distillation.soft_cross_entropy(logits, mixed, where)

  got = values(logits)
  assert got[1] == 0 and got[3] == 0 and np.isfinite(got).all()
  grad = jax.grad(lambda x: values(x).sum())(logits)
  assert np.isfinite(grad).all() and not grad[1].any() and not grad[3].any()
  mixed = distillation.mixed_targets(0 * targets, teacher, alpha=1.0, where=where)
  assert np.isfinite(mixed).all() and not mixed[1].any()


def test_a_small_loss_survives_large_logits():
  """`log sum e^s - s` in float32 would be 0, or 1e-3, and so would the gradient."""
  logits = np.array([[1e4, 1e4 - 8.0], [-1e4, -1e4 - 8.0]], np.float32)
  targets = np.array([[1.0, 0.0]] * 2)
  got = distillation.soft_cross_entropy(logits, targets)
  # What is left is the rounding of 1 + e^-8 itself.
  np.testing.assert_allclose(got, math.log1p(math.exp(-8)), rtol=5e-4)


def test_the_ramp_is_linear_and_then_constant():
  at = lambda step, steps: float(distillation.alpha_ramp(step, steps=steps, alpha=0.4))
  steps = (0, 25, 50, 100, 1000)
  np.testing.assert_allclose([at(s, 100) for s in steps], [0, 0.1, 0.2, 0.4, 0.4], 1e-6)
  np.testing.assert_allclose([at(s, 0) for s in (0, 7)], 0.4, rtol=1e-6)
  ramp = jax.jit(lambda step: distillation.alpha_ramp(step, steps=10))
  assert ramp(jnp.int32(5)) == np.float32(0.2)


def test_what_cannot_be_is_refused():
  with pytest.raises(ValueError, match="0 steps or more"):
    distillation.alpha_ramp(0, steps=-1)
  for alpha in (-0.1, 1.1, np.nan):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
      distillation.alpha_ramp(0, steps=1, alpha=alpha)
  one = np.ones((1, 2))
  with pytest.raises(ValueError, match=r"pass them, or alpha=0\.0"):
    distillation.mixed_targets(one, None, alpha=0.4)
  with pytest.raises(ValueError, match="there are none"):
    jax.jit(lambda a: distillation.mixed_targets(one, None, alpha=a))(0.0)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_mean_is_over_the_admitted_values_of_all_devices(devices):
  values = np.arange(16.0, dtype=np.float32).reshape(8, 2)
  where = values % 3 < values // 4  # another count on every device
  values[0, 0] = np.nan
  mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
  split, same = PartitionSpec("data"), PartitionSpec()
  mean = lambda values, where: distillation.global_mean(values, where, "data")
  mapped = jax.shard_map(mean, mesh=mesh, in_specs=split, out_specs=same)
  got = jax.jit(mapped)(values, where)
  np.testing.assert_allclose(got, values[where].mean(), rtol=1e-6)
  np.testing.assert_allclose(distillation.global_mean(values, where), got, rtol=1e-6)
  assert jax.jit(mapped)(values, np.zeros_like(where)) == 0
