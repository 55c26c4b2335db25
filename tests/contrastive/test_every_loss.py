"""What must hold for every objective: value, gradient and the edges of its domain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from tests import losses, oracle

WEIGHT = np.linspace(0.5, 2.0, 6).astype(np.float32)
DIFFERENTIATED = ("a", "b", "scale", "bias")


def _value_and_grads(x, weight):
  """Name -> values, and name -> gradients of their weighted mean."""

  def one(name):
    def scalar(moving):
      values = losses.LOSSES[name](x._replace(**moving), None)
      return losses.weighted_mean(values, weight), values

    moving = {field: getattr(x, field) for field in DIFFERENTIATED}
    grads, values = jax.grad(scalar, has_aux=True)(moving)
    return values, grads

  return {name: one(name) for name in losses.LOSSES}


# All objectives in one program: compiled once per shape and type.
_compiled = jax.jit(_value_and_grads)


@functools.cache
def _evaluate(**knobs):
  x = losses.batch(**knobs)
  return jax.device_get(_compiled(x, WEIGHT[: x.a.shape[0]]))


def _finite(name, result):
  values, grads = result[name]
  assert np.all(np.isfinite(values)), values
  for field, grad in grads.items():
    assert np.all(np.isfinite(grad)), (field, grad)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_value_and_gradient_equal_the_oracle(name):
  x = losses.batch(dtype=np.float64)
  with jax.enable_x64(True):
    values, grads = _evaluate(dtype=np.float64)[name]
    noise = np.asarray(contrastive.view_noise(losses.key(), 6, 1.0), np.float64)
  expected = losses.oracles(x, noise)[name]
  # The Gamma draw is in float32: two programs may round it differently.
  loose = 1e-5 if name in ("augmented", "augmented_minibatch") else 1e-9
  np.testing.assert_allclose(values, expected(x), rtol=loose, atol=1e-12)
  weight = WEIGHT.astype(np.float64)

  def scalar(field, moved):
    return losses.weighted_mean(expected(x._replace(**{field: moved})), weight)

  for field, grad in grads.items():
    numeric = oracle.gradient(functools.partial(scalar, field), getattr(x, field))
    np.testing.assert_allclose(
      grad, numeric, rtol=max(loose, 1e-6), atol=1e-8, err_msg=field
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_float32_agrees_with_float64(name):
  with jax.enable_x64(True):
    wide, wide_grads = _evaluate(dtype=np.float64)[name]
  values, grads = _evaluate()[name]
  assert values.dtype == np.float32
  np.testing.assert_allclose(values, wide, rtol=1e-5, atol=1e-5)
  for field, grad in grads.items():
    np.testing.assert_allclose(
      grad, wide_grads[field], rtol=1e-4, atol=1e-5, err_msg=field
    )


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("scale", [0.01, 0.2, 100.0, 200.0, 1e4])
def test_finite_at_temperatures_from_1e_minus_4_to_100(name, scale):
  _finite(name, _evaluate(scale=scale))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_finite_for_identical_embeddings_and_for_zeros(name, scale):
  x = losses.batch(scale=scale)
  same = np.broadcast_to(x.a[:1], x.a.shape)
  _finite(name, _compiled(x._replace(a=same, b=same), WEIGHT))
  some_zero = x._replace(a=x.a * (np.arange(6) > 1)[:, None])
  _finite(name, _compiled(some_zero, WEIGHT))
  zeros = np.zeros_like(x.a)
  _finite(name, _compiled(x._replace(a=zeros, b=zeros), WEIGHT))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_opposite_views_are_finite_at_logits_of_1e4(name):
  x = losses.batch(scale=1e4)
  _finite(name, _compiled(x._replace(b=-x.a), WEIGHT))


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_batch_of_one_is_finite(name):
  values, grads = _evaluate(n=1)[name]
  if name != "log_normalizer":  # its estimate from no negatives is log 0
    assert np.all(np.isfinite(values))
  for grad in grads.values():
    assert np.all(np.isfinite(grad))
  if name in ("info_nce", "nt_xent", "decoupled", "flat_nce", "augmented"):
    np.testing.assert_allclose(values, 0, atol=1e-6)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_bfloat16_embeddings_give_float32_values_near_float32(name):
  x = losses.batch()
  half = x._replace(a=jnp.asarray(x.a, jnp.bfloat16), b=jnp.asarray(x.b, jnp.bfloat16))
  values, grads = _compiled(half, WEIGHT)[name]
  assert values.dtype == jnp.float32
  assert grads["a"].dtype == jnp.bfloat16
  # The inputs are rounded to 8 bits, nothing after them is.
  rounded = x._replace(
    a=np.asarray(half.a.astype(np.float32)), b=np.asarray(half.b.astype(np.float32))
  )
  expected, _ = _compiled(rounded, WEIGHT)[name]
  np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_permuting_the_batch_permutes_the_values(name):
  x = losses.batch()
  order = np.array([3, 0, 5, 1, 4, 2])
  moved = x._replace(
    a=x.a[order],
    b=x.b[order],
    labels=x.labels[order],
    targets=x.targets[order][:, order],
    log_norm=x.log_norm[order],
  )
  values = _evaluate()[name][0]
  after = _compiled(moved, WEIGHT)[name][0]
  if name in ("augmented", "augmented_minibatch"):
    return  # the draws stay at their places; test_augmented covers the objective
  if values.ndim == 0:
    np.testing.assert_allclose(after, values, rtol=1e-5)
  else:
    np.testing.assert_allclose(
      losses.per_image(after, 6), losses.per_image(values, 6)[order], rtol=1e-5
    )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_eager_equals_jit(name):
  x = losses.batch()
  x = x._replace(scale=float(x.scale), bias=float(x.bias))
  eager = losses.LOSSES[name](x, None)
  constant_scale = jax.jit(lambda: losses.LOSSES[name](x, None))()
  np.testing.assert_allclose(eager, _evaluate()[name][0], rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(constant_scale, eager, rtol=1e-5, atol=1e-6)


def test_vmap_over_seeds_equals_one_at_a_time():
  parts = [losses.batch(seed=seed) for seed in range(2)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)

  def every(x):
    return {name: loss(x, None) for name, loss in losses.LOSSES.items()}

  program = jax.jit(jax.vmap(every))
  together = program(stacked)
  for i in range(2):
    for name, (values, _) in _evaluate(seed=i).items():
      np.testing.assert_allclose(
        together[name][i], values, rtol=1e-5, atol=1e-5, err_msg=name
      )


@pytest.mark.parametrize("name", losses.SCALED)
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_not_positive_is_refused(name, scale):
  with pytest.raises(ValueError, match="inverse temperature"):
    losses.LOSSES[name](losses.batch(scale=scale), None)
