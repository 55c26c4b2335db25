import numpy as np
import pytest

import contrastive
from tests import oracle


def _views(n=8, d=3):
  rng = np.random.default_rng(0)
  a = rng.standard_normal((n, d))
  return a.astype(np.float32), (a + rng.standard_normal((n, d))).astype(np.float32)


def _white(n=8):
  """Exactly uncorrelated features of mean 0 and population variance 1: [n, 3]."""
  signs = np.array([[1, 1], [1, -1]])
  hadamard = np.kron(np.kron(signs, signs), signs)[:, 1:4]
  return np.tile(hadamard, (n // 8, 1)).astype(np.float32)


def test_white_equal_views_are_the_optimum_of_barlow_twins():
  z = _white()
  np.testing.assert_allclose(contrastive.cross_correlation(z, z), np.eye(3), atol=2e-5)
  np.testing.assert_allclose(contrastive.barlow_twins(z, z), 0, atol=1e-6)
  np.testing.assert_allclose(contrastive.barlow_twins(z, -z), 4 * 3, rtol=1e-4)
  # All features equal: the diagonal is right, six off-diagonal correlations are 1.
  same = np.repeat(z[:, :1], 3, axis=1)
  loss = contrastive.barlow_twins(same, same, off_diagonal=0.1)
  np.testing.assert_allclose(loss, 0.6, rtol=1e-4)


def test_barlow_twins_does_not_see_shift_and_positive_scale_of_a_feature():
  a, b = _views()
  gain, shift = np.array([0.5, 3.0, 10.0], np.float32), np.float32(2.0)
  np.testing.assert_allclose(
    contrastive.barlow_twins(a * gain[None] + shift, b),
    contrastive.barlow_twins(a, b),
    rtol=1e-3,
  )


def test_constant_features_have_correlation_zero():
  a, b = _views()
  a[:, 0] = 5
  np.testing.assert_allclose(contrastive.cross_correlation(a, b)[0], 0, atol=1e-4)


def test_vicreg_terms_against_loops():
  a, b = _views()
  terms = contrastive.vicreg_terms(a, b)
  np.testing.assert_allclose(terms, oracle.vicreg_terms(a, b), rtol=1e-4)
  weighted = contrastive.vicreg(a, b, invariance=2.0, variance=3.0, covariance=5.0)
  np.testing.assert_allclose(weighted, np.dot(terms, (2, 3, 5)), rtol=1e-5)


def test_white_equal_views_are_the_optimum_of_vicreg():
  z = _white()
  np.testing.assert_allclose(contrastive.vicreg(z, z), 0, atol=1e-6)


def test_collapsed_views_pay_the_variance_term_only():
  z = np.ones((8, 3), np.float32)
  terms = contrastive.vicreg_terms(z, z)
  np.testing.assert_allclose(terms, [0, 1 - 0.01, 0], atol=1e-6)


@pytest.mark.parametrize(
  "loss",
  [contrastive.barlow_twins, contrastive.vicreg, contrastive.cross_correlation],
)
def test_unequal_shapes_are_refused(loss):
  a, b = _views()
  with pytest.raises(ValueError, match="one shape"):
    loss(a, b[:3])
