import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from contrastive import rows
from tests import losses, oracle


def _units(n=4, d=3):
  x = losses.batch(n=n, d=d)
  return oracle.unit(x.a).astype(np.float32), oracle.unit(x.b).astype(np.float32)


def test_cross_rows_have_the_diagonal_as_positives():
  a, b = _units()
  r = contrastive.cross_rows(a, b, scale=2.0)
  np.testing.assert_allclose(r.negative, 2 * a @ b.T, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(r.positive, np.diag(2 * a @ b.T), rtol=1e-5)
  np.testing.assert_array_equal(r.where, ~np.eye(4, dtype=bool))


def test_two_view_rows_leave_out_both_views_of_the_own_image():
  a, b = _units()
  r = contrastive.two_view_rows(a, b, scale=2.0)
  z = np.concatenate([a, b])
  np.testing.assert_allclose(r.negative, 2 * z @ z.T, rtol=1e-5, atol=1e-6)
  image = np.tile(np.arange(4), 2)
  np.testing.assert_array_equal(r.where, image[:, None] != image[None, :])
  pair = np.sum(2 * a * b, axis=-1)
  np.testing.assert_allclose(r.positive, [*pair, *pair], rtol=1e-5)


def test_an_empty_slot_of_the_queue_is_no_negative():
  a, b = _units()
  held = np.concatenate([b[:2], np.zeros((1, 3), np.float32)])
  r = contrastive.queue_rows(a, b, held, scale=2.0)
  np.testing.assert_array_equal(r.where, np.tile([True, True, False], (4, 1)))
  np.testing.assert_allclose(r.positive, np.sum(2 * a * b, axis=-1), rtol=1e-5)


def test_an_empty_queue_gives_a_loss_of_zero():
  a, b = _units()
  empty = np.zeros((5, 3), np.float32)
  r = contrastive.queue_rows(a, b, empty, scale=2.0)
  np.testing.assert_array_equal(contrastive.softmax_loss(r), np.zeros(4))


def test_stacked_rows_have_the_losses_of_their_parts():
  a, b = _units()
  parts = [
    contrastive.cross_rows(a, b, scale=2.0),
    contrastive.cross_rows(b, a, scale=2.0),
  ]
  both = contrastive.softmax_loss(contrastive.stack_rows(*parts))
  apart = [contrastive.softmax_loss(part) for part in parts]
  np.testing.assert_allclose(both, np.concatenate(apart), rtol=1e-6)


def test_logits_are_float32_and_the_scale_may_be_a_parameter():
  a, b = (jnp.asarray(x, jnp.bfloat16) for x in _units())
  r = jax.jit(lambda s: contrastive.cross_rows(a, b, scale=s))(jnp.float32(2))
  assert r.positive.dtype == r.negative.dtype == jnp.float32


@pytest.mark.parametrize("build", [rows.cross_rows, rows.two_view_rows])
def test_unequal_shapes_are_refused(build):
  a, b = _units()
  with pytest.raises(ValueError, match="one shape"):
    build(a, b[:3], scale=1.0)
  with pytest.raises(ValueError, match="one shape"):
    build(a[0], b[0], scale=1.0)


def test_a_queue_of_another_width_is_refused():
  a, b = _units()
  with pytest.raises(ValueError, match="width"):
    contrastive.queue_rows(a, b, np.zeros((5, 7), np.float32), scale=1.0)
