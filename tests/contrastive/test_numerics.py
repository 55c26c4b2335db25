import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contrastive import numerics

ROWS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32))
_unit = jax.jit(numerics.unit)
_log_sum_exp = jax.jit(numerics.log_sum_exp)


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_unit_rows_have_length_one_or_are_shrunk(x):
  length = np.linalg.norm(x.astype(np.float64), axis=-1)
  expected = np.where(length > 1e-6, 1.0, length * 1e6)
  np.testing.assert_allclose(np.linalg.norm(_unit(x), axis=-1), expected, atol=1e-5)


def test_unit_of_zero_is_zero_with_a_finite_gradient():
  x = jnp.zeros((2, 3)).at[0].set(jnp.array([3.0, 0.0, 4.0]))
  y, back = jax.vjp(numerics.unit, x)
  np.testing.assert_allclose(y, [[0.6, 0, 0.8], [0, 0, 0]], rtol=1e-6)
  assert np.all(np.isfinite(back(jnp.ones_like(y))[0]))


def test_unit_widens_half_precision_and_keeps_double():
  assert numerics.unit(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32
  # 300^2 overflows float16.
  np.testing.assert_allclose(
    numerics.unit(jnp.full((1, 4), 300, jnp.float16)), 0.5, rtol=1e-6
  )
  with jax.enable_x64(True):
    assert numerics.unit(jnp.ones((2, 3), jnp.float64)).dtype == jnp.float64


def test_unit_along_another_axis():
  x = jnp.arange(1.0, 7.0).reshape(2, 3)
  np.testing.assert_allclose(numerics.unit(x, axis=0), numerics.unit(x.T).T, rtol=1e-6)


def test_similarity_is_in_float32_for_half_precision():
  x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
  half = jnp.asarray(x, jnp.bfloat16)
  exact = np.asarray(half, np.float64) @ np.asarray(half, np.float64).T
  result = numerics.similarity(half, half)
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(ROWS, hnp.arrays(bool, (4, 3)))
def test_log_sum_exp_lies_between_max_and_max_plus_log_count(x, where):
  result = np.asarray(_log_sum_exp(x, where))
  for value, row, mask in zip(result, x, where, strict=True):
    if not mask.any():
      assert value == -np.inf
    else:
      top = row[mask].max()
      assert top - 1e-4 <= value <= top + np.log(mask.sum()) + 1e-4
      exact = top + np.log(np.exp(row[mask].astype(np.float64) - top).sum())
      np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("offset", [-1e4, 0.0, 1e4])
def test_log_sum_exp_shifts_with_its_input(offset):
  x = jnp.array([[0.0, 1.0, -2.0]])
  np.testing.assert_allclose(
    _log_sum_exp(x + offset), _log_sum_exp(x) + offset, rtol=1e-6, atol=1e-5
  )


def test_gradient_of_log_sum_exp_is_the_masked_softmax():
  x = jnp.array([[1.0, 2.0, 1e4], [-1e4, 3.0, 1e4]])
  where = jnp.array([[True, True, False], [False, False, False]])
  grad = jax.grad(
    lambda x: jnp.sum(jnp.where(where.any(-1), numerics.log_sum_exp(x, where), 0))
  )(x)
  share = 1 / (1 + np.e)
  np.testing.assert_allclose(grad, [[share, 1 - share, 0], [0, 0, 0]], rtol=1e-6)
  # Not masked outside: the -inf itself passes no NaN back.
  grad = jax.grad(lambda x: jnp.sum(numerics.log_sum_exp(x, where)))(x)
  assert np.all(np.isfinite(grad))


def test_log_mean_exp_of_equal_entries_is_the_entry():
  x = jnp.full((2, 5), 7.0)
  where = jnp.array([[True] * 2 + [False] * 3, [False] * 5])
  np.testing.assert_allclose(numerics.log_mean_exp(x), [7, 7], rtol=1e-6)
  np.testing.assert_allclose(numerics.log_mean_exp(x, where), [7, -np.inf], rtol=1e-6)
  np.testing.assert_allclose(numerics.log_mean_exp(x, axis=0), [7] * 5, rtol=1e-6)


def test_masked_mean():
  x = jnp.array([1.0, 2.0, jnp.nan])
  np.testing.assert_allclose(numerics.masked_mean(x[:2]), 1.5)
  admitted = jnp.array([True, True, False])
  np.testing.assert_allclose(numerics.masked_mean(x, admitted), 1.5)
  assert numerics.masked_mean(x, jnp.zeros(3, bool)) == 0


def test_a_known_scale_is_checked_inside_jit_and_a_traced_one_is_not():
  def checked(x, scale):
    numerics.check_scale(scale)
    return scale * x

  assert jax.jit(lambda x: checked(x, 2.0))(1.0) == 2
  assert jax.jit(lambda x: checked(x, np.float32(2)))(1.0) == 2
  assert jax.jit(checked)(1.0, -2.0) == -2
  with pytest.raises(ValueError, match="scale=1 / t"):
    jax.jit(lambda x: checked(x, -2.0))(1.0)
