import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from tests import losses, oracle

LABELS = np.array([0, 1, 0, 2, 1, 0])  # class 2 has a single row
SCALE = 4.0


def _units(seed=0):
  x = losses.batch(seed=seed)
  return oracle.unit(x.a).astype(np.float32), oracle.unit(x.b).astype(np.float32)


def test_rows_without_a_positive_count_zero():
  z, _ = _units()
  values = contrastive.sup_con(z, LABELS, scale=SCALE)
  np.testing.assert_allclose(
    values, oracle.sup_con(z, LABELS, SCALE), rtol=1e-5, atol=1e-6
  )
  assert values[3] == 0
  np.testing.assert_array_equal(
    contrastive.has_positive(LABELS), [True, True, True, False, True, True]
  )


def test_labels_of_pairs_make_it_nt_xent():
  a, b = _units()
  z, pairs = np.concatenate([a, b]), np.tile(np.arange(6), 2)
  np.testing.assert_allclose(
    contrastive.sup_con(z, pairs, scale=SCALE),
    contrastive.nt_xent(a, b, scale=SCALE),
    rtol=1e-5,
  )


def test_equal_embeddings_are_at_chance():
  z = np.full((6, 4), 0.5, np.float32)
  values = contrastive.sup_con(z, np.zeros(6, np.int32), scale=100.0)
  np.testing.assert_allclose(values, np.full(6, np.log(5)), rtol=1e-5)


def test_rows_that_are_left_out_are_neither_anchors_nor_candidates():
  z, _ = _units()
  where = np.array([True, True, True, False, True, False])
  values = contrastive.sup_con(z, LABELS, scale=SCALE, where=where)
  np.testing.assert_allclose(
    values, oracle.sup_con(z, LABELS, SCALE, where), rtol=1e-5, atol=1e-6
  )
  kept = contrastive.sup_con(z[where], LABELS[where], scale=SCALE)
  np.testing.assert_allclose(values[where], kept, rtol=1e-5)
  assert not np.any(values[~where])
  positive = contrastive.has_positive(LABELS, where=where)
  np.testing.assert_array_equal(positive, [True, True, True, False, True, False])


def test_left_out_rows_of_any_content_pass_no_gradient():
  z, _ = _units()
  z[3] = 1e4
  where = np.arange(6) != 3
  total = lambda z: contrastive.sup_con(z, LABELS, scale=100.0, where=where).sum()
  value, grad = jax.value_and_grad(total)(z)
  assert np.isfinite(value) and np.all(np.isfinite(grad))
  assert not np.any(grad[3])


def test_renaming_the_classes_changes_nothing():
  z, _ = _units()
  renamed = np.array([7, -2, 100])[LABELS]
  np.testing.assert_array_equal(
    contrastive.sup_con(z, renamed, scale=SCALE),
    contrastive.sup_con(z, LABELS, scale=SCALE),
  )


def test_tight_far_classes_have_the_closed_form():
  """Embeddings at class corners: log of the count of positives is what remains."""
  z = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
  values = contrastive.sup_con(z, np.array([0, 0, 0, 1, 1, 2]), scale=50.0)
  expected = [np.log(2)] * 3 + [0, 0, 0]
  np.testing.assert_allclose(values, expected, atol=1e-6)


def test_identity_targets_are_one_direction_of_info_nce():
  a, b = _units()
  forward = contrastive.soft_nce(a, b, np.eye(6, dtype=np.float32), scale=SCALE)
  rows = contrastive.cross_rows(a, b, scale=SCALE)
  np.testing.assert_allclose(forward, contrastive.softmax_loss(rows), rtol=1e-5)


def test_soft_targets_are_minimal_at_the_models_own_softmax():
  a, b = _units()
  own = jax.nn.softmax(contrastive.cross_rows(a, b, scale=SCALE).negative)
  total = lambda s: contrastive.soft_nce(a, b, own, scale=s)
  entropy = -np.sum(own * np.log(own), axis=-1)
  np.testing.assert_allclose(total(SCALE), entropy, rtol=1e-5)
  assert abs(jax.grad(lambda s: total(s).sum())(SCALE)) < 1e-4


def test_soft_targets_are_linear_and_zero_rows_count_zero():
  a, b = _units()
  t = np.random.default_rng(0).random((2, 6, 6)).astype(np.float32)
  t[0, 2] = t[1, 2] = 0
  values = [contrastive.soft_nce(a, b, x, scale=SCALE) for x in (*t, 2 * t[0] + t[1])]
  np.testing.assert_allclose(values[2], 2 * values[0] + values[1], rtol=1e-4)
  assert values[0][2] == 0
  expected = oracle.soft_nce(a, b, t[0], SCALE)
  np.testing.assert_allclose(values[0], expected, rtol=1e-4)


def test_soft_targets_take_a_pool_of_another_size():
  a, b = _units()
  pool = np.concatenate([b, a[:2]])
  targets = np.full((6, 8), 1 / 8, np.float32)
  values = contrastive.soft_nce(a, pool, targets, scale=SCALE)
  expected = oracle.soft_nce(a, pool, targets, SCALE)
  np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_logits_of_1e4_are_finite(sign):
  a, _ = _units()
  targets = losses.batch().targets

  def total(a):
    supervised = contrastive.sup_con(a, LABELS, scale=1e4).sum()
    return supervised + contrastive.soft_nce(a, sign * a, targets, scale=1e4).sum()

  value, grad = jax.value_and_grad(total)(jnp.asarray(a))
  assert np.isfinite(value) and np.all(np.isfinite(grad))


def test_wrong_shapes_are_refused():
  a, b = _units()
  with pytest.raises(ValueError, match="repeat the labels"):
    contrastive.sup_con(np.concatenate([a, b]), LABELS, scale=1.0)
  with pytest.raises(ValueError, match=r"targets .* \(6, 6\)"):
    contrastive.soft_nce(a, b, np.ones((6, 5), np.float32), scale=1.0)


def test_soft_targets_over_more_keys_than_queries_in_blocks():
  rng = np.random.default_rng(2)
  query, key = rng.standard_normal((3, 4)), rng.standard_normal((7, 4))
  query, key = (contrastive.unit(z.astype(np.float32)) for z in (query, key))
  targets = rng.dirichlet(np.ones(7), 3).astype(np.float32)
  value = lambda **how: contrastive.soft_nce(query, key, targets, scale=5.0, **how)
  np.testing.assert_allclose(value(block_size=2), value(), rtol=1e-5)
