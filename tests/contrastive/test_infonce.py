import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import contrastive
from contrastive import Rows
from tests import losses, oracle

DECOUPLED = contrastive.decoupled, contrastive.flat_nce
VIEWS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-5, 5, width=32))


@jax.jit
def _softmax_family(a, b, scale):
  """InfoNCE [n], then NT-Xent, DCL and FlatNCE [2n]."""
  family = contrastive.info_nce, contrastive.nt_xent, *DECOUPLED
  return tuple(loss(a, b, scale=scale) for loss in family)


def _same(n, d=3):
  return jnp.tile(contrastive.unit(jnp.ones((1, d))), (n, 1))


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("n", [2, 7])
def test_equal_embeddings_are_at_chance(n, scale):
  z = _same(n)
  info, nt_xent, dcl, _ = _softmax_family(z, z, scale)
  np.testing.assert_allclose(info, np.full(n, np.log(n)), rtol=1e-5)
  np.testing.assert_allclose(nt_xent, np.full(2 * n, np.log(2 * n - 1)), rtol=1e-5)
  np.testing.assert_allclose(dcl, np.full(2 * n, np.log(2 * n - 2)), atol=2e-5)


def test_orthonormal_pairs_have_the_closed_form():
  z, scale = np.eye(4, dtype=np.float32), 3.0
  info, _, dcl, ones = _softmax_family(z, z, scale)
  np.testing.assert_allclose(
    info, np.full(4, np.log(1 + 3 * np.exp(-scale))), rtol=1e-5
  )
  np.testing.assert_allclose(dcl, np.full(8, np.log(6) - scale), rtol=1e-5)
  np.testing.assert_array_equal(ones, np.ones(8))


def test_small_losses_keep_their_relative_precision():
  """A loss of 1e-16 is far below float32's step at the logit 38; it must not be 0."""
  z = jnp.eye(4)
  for scale in (20.0, 38.0):
    value, grad = jax.value_and_grad(
      lambda s: contrastive.info_nce(z, z, scale=s).mean()
    )(scale)
    expected = np.log1p(3 * np.exp(-scale))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, -expected, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(VIEWS, VIEWS, st.floats(0.01, 200))
def test_bounds_hold_for_any_embeddings(a, b, scale):
  a, b = contrastive.unit(a), contrastive.unit(b)
  info, nt_xent, dcl, _ = _softmax_family(a, b, scale)
  assert np.all(info >= 0) and np.all(nt_xent >= 0)
  assert np.all(nt_xent <= 2 * scale + np.log(7) + 1e-3)
  # DCL leaves the positive out of the sum, so it is the smaller one.
  assert np.all(dcl <= nt_xent + 1e-4 * (1 + scale))


def test_exchanging_the_views_exchanges_the_anchors():
  x = losses.batch()
  a, b = contrastive.unit(x.a), contrastive.unit(x.b)
  forward, back = _softmax_family(a, b, 3.0), _softmax_family(b, a, 3.0)
  for values, exchanged in zip(forward, back, strict=True):
    values, exchanged = values.reshape(-1, 6), exchanged.reshape(-1, 6)
    np.testing.assert_allclose(values, exchanged[::-1], rtol=1e-5)


def test_flat_nce_has_the_gradient_of_decoupled():
  x = losses.batch()
  grad = lambda loss: jax.jit(
    jax.grad(
      lambda a: loss(contrastive.unit(a), contrastive.unit(x.b), scale=5.0).sum()
    )
  )(x.a)
  np.testing.assert_allclose(
    grad(contrastive.flat_nce), grad(contrastive.decoupled), rtol=1e-4, atol=1e-6
  )


def test_gradient_on_rows_is_the_softmax():
  rng = np.random.default_rng(0)
  positive = rng.standard_normal(3).astype(np.float32)
  negative = rng.standard_normal((3, 5)).astype(np.float32)
  where = rng.random((3, 5)) < 0.6
  where[2] = False
  r = Rows(positive, negative, where)
  grad = jax.grad(
    lambda p, n: contrastive.softmax_loss(Rows(p, n, where)).sum(), (0, 1)
  )(positive, negative)
  exponentials = np.where(where, np.exp(negative), 0)
  total = np.exp(positive) + exponentials.sum(-1)
  np.testing.assert_allclose(
    grad[0], np.exp(positive) / total - 1, rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(grad[1], exponentials / total[:, None], rtol=1e-5)
  np.testing.assert_allclose(
    contrastive.softmax_loss(r), np.log(total) - positive, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(
  "loss",
  [contrastive.softmax_loss, contrastive.decoupled_loss, contrastive.flat_loss],
)
def test_masked_candidates_change_nothing_and_get_no_gradient(loss):
  positive = jnp.array([1.0, -1.0])
  negative = jnp.array([[0.5, 1e4, 2.0], [1e4, -1e4, 0.0]])
  where = jnp.array([[True, False, True], [False, False, False]])
  whole = lambda n: loss(Rows(positive, n, where)).sum()
  value, grad = jax.value_and_grad(whole)(negative)
  kept = loss(Rows(positive[:1], negative[:1, ::2], jnp.ones((1, 2), bool)))
  np.testing.assert_allclose(value, kept[0], rtol=1e-6)  # the second anchor counts 0
  np.testing.assert_array_equal(grad[~where], 0)
  assert np.all(np.isfinite(grad))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
  "loss",
  [contrastive.softmax_loss, contrastive.decoupled_loss, contrastive.flat_loss],
)
def test_logits_of_1e4_have_finite_values_and_gradients(loss, sign):
  positive = jnp.array([sign * 1e4])
  negative = jnp.array([[-sign * 1e4, sign * 1e4, 0.0]])
  where = jnp.ones((1, 3), bool)
  whole = lambda p, n: loss(Rows(p, n, where)).sum()
  value, grads = jax.value_and_grad(whole, (0, 1))(positive, negative)
  assert np.isfinite(value)
  assert all(np.all(np.isfinite(grad)) for grad in grads)


def test_von_mises_weights_have_mean_one_and_favour_hard_pairs():
  x = losses.batch()
  a, b = oracle.unit(x.a), oracle.unit(x.b)
  r = contrastive.two_view_rows(a.astype(np.float32), b.astype(np.float32), scale=7.0)
  weight = np.asarray(contrastive.von_mises_weight(r, 7.0, 0.5))[:6]
  np.testing.assert_allclose(weight.mean(), 1, rtol=1e-5)
  assert weight.max() < 2
  cosine = np.sum(a * b, axis=-1)
  np.testing.assert_array_equal(np.argsort(weight), np.argsort(-cosine))
  with pytest.raises(ValueError, match="sigma"):
    contrastive.von_mises_weight(r, 7.0, 0.0)


def test_weights_of_one_change_nothing():
  a, b = contrastive.unit(losses.batch().a), contrastive.unit(losses.batch().b)
  r = contrastive.two_view_rows(a, b, scale=3.0)
  np.testing.assert_array_equal(
    contrastive.decoupled_loss(r, jnp.ones(12)), contrastive.decoupled_loss(r)
  )
