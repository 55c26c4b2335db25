import jax
import numpy as np
import pytest

import contrastive
from tests import losses, oracle


def _units():
  x = losses.batch()
  return oracle.unit(x.a).astype(np.float32), oracle.unit(x.b).astype(np.float32)


def test_logits_of_zero_cost_log_two_a_pair():
  basis = np.eye(6, dtype=np.float32)
  values = contrastive.pairwise_sigmoid(basis[:3], basis[3:], scale=5.0, bias=0.0)
  np.testing.assert_allclose(values, np.full(3, 3 * np.log(2)), rtol=1e-5)


def test_the_value_of_separated_pairs():
  z = np.eye(4, dtype=np.float32)
  values = contrastive.pairwise_sigmoid(z, z, scale=20.0, bias=-10.0)
  np.testing.assert_allclose(values, np.full(4, 4 * np.log1p(np.exp(-10))), rtol=1e-4)


def test_exchanging_the_sides_keeps_the_sum():
  a, b = _units()
  forward = contrastive.pairwise_sigmoid(a, b, scale=10.0, bias=-10.0)
  back = contrastive.pairwise_sigmoid(b, a, scale=10.0, bias=-10.0)
  np.testing.assert_allclose(np.sum(forward), np.sum(back), rtol=1e-5)


def test_the_gradient_of_the_bias_is_the_excess_of_predicted_pairs():
  a, b = _units()
  total = lambda bias: contrastive.pairwise_sigmoid(a, b, scale=3.0, bias=bias).sum()
  predicted = 1 / (1 + np.exp(-(3 * a @ b.T - 1.0)))
  np.testing.assert_allclose(jax.grad(total)(-1.0), predicted.sum() - 6, rtol=1e-4)


@pytest.mark.parametrize("bias", [-1e4, 1e4])
def test_logits_of_1e4_are_finite(bias):
  a, b = _units()
  total = lambda a, s, t: contrastive.pairwise_sigmoid(a, b, scale=s, bias=t).sum()
  value, grads = jax.value_and_grad(total, (0, 1, 2))(a, 1e4, bias)
  assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in grads)


def test_unequal_shapes_are_refused():
  a, b = _units()
  with pytest.raises(ValueError, match="one shape"):
    contrastive.pairwise_sigmoid(a, b[:3], scale=1.0, bias=0.0)
