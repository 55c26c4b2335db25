"""Geometric consistency: both forms against the double loop, and their rounding."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import geometry
from tests import oracle

FORMS = ("gram", "pairs")


def _rows(count=4, n=7, d=4, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return [oracle.unit(rng.standard_normal((n, d))).astype(dtype) for _ in range(count)]


def _consistency(v, t, intra, inter):
  """Sum over k, by loops."""
  values = []
  for j in range(len(v)):
    value = 0.0
    for k in range(len(v)):
      value += intra * (oracle.dot(v[j], v[k]) - oracle.dot(t[j], t[k])) ** 2
      value += inter * (oracle.dot(v[j], t[k]) - oracle.dot(v[k], t[j])) ** 2
    values.append(value)
  return np.array(values)


def _paper(v, t, a, b, intra=1.0, inter=1.0, augmented=1.0, over=1):
  """The published loss [n], its sums over pairs divided by `over`."""
  pairs = _consistency(v, a, 1, 0) + _consistency(t, b, 1, 0)
  own = [(oracle.dot(v[j], t[j]) - oracle.dot(a[j], b[j])) ** 2 for j in range(len(v))]
  main = _consistency(v, t, intra, inter)
  return main / over + augmented * (pairs / over + np.array(own))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
  "weights", [{}, dict(intra=0.0), dict(intra=2.0, inter=0.5, augmented=0.25)]
)
def test_value_equals_the_double_loop(form, weights):
  rows = _rows()
  loss = functools.partial(geometry.geometry_loss, *rows, form=form, **weights)
  paper = loss(reduction="paper")
  np.testing.assert_allclose(paper, _paper(*rows, **weights), rtol=1e-5)
  np.testing.assert_allclose(loss(), _paper(*rows, **weights, over=6), rtol=1e-5)


def test_without_views_there_is_no_augmented_part():
  v, t, a, b = _rows()
  got = geometry.geometry_loss(v, t, reduction="paper")
  np.testing.assert_allclose(got, _consistency(v, t, 1, 1), rtol=1e-5)
  off = geometry.geometry_loss(v, t, a, b, reduction="paper", augmented=0.0)
  np.testing.assert_array_equal(off, got)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", [dict(), dict(inter=0.3)])
def test_gradient_equals_finite_differences(form, weights):
  rng = np.random.default_rng(1)
  raw = [rng.standard_normal((4, 3)) for _ in range(4)]

  def loss(rows):
    rows = [z / jnp.linalg.norm(z, axis=1)[:, None] for z in rows]
    return jnp.mean(geometry.geometry_loss(*rows, form=form, **weights))

  with jax.enable_x64(True):
    grads = jax.device_get(jax.jit(jax.grad(loss))(raw))
  for place in (0, 3):

    def expected(moved, place=place):
      rows = [oracle.unit(moved if i == place else z) for i, z in enumerate(raw)]
      return np.mean(_paper(*rows, **weights, over=3))

    numeric = oracle.gradient(expected, raw[place])
    np.testing.assert_allclose(grads[place], numeric, rtol=1e-6, atol=1e-8)


def test_the_known_d_by_d_identity():
  """(2 sum(A B) - 2 tr(C C) + |A|^2 + |B|^2 - 2 |C|^2) / N, of Gram matrices."""
  v, t = _rows(2, n=64, d=16)
  a, b, c = v.T @ v, t.T @ t, v.T @ t
  total = 2 * np.sum(a * b) - 2 * np.trace(c @ c) + np.sum(a * a) + np.sum(b * b)
  expected = (total - 2 * np.sum(c * c)) / 64
  for form in FORMS:
    got = geometry.geometry_loss(v, t, reduction="paper", form=form)
    np.testing.assert_allclose(np.mean(got), expected, rtol=1e-4)


def test_the_mean_over_pairs_does_not_depend_on_the_batch_size():
  """Over all batches of three it is that of all eight rows; the paper's grows."""
  rows = np.stack(_rows(4, n=8))
  batches = [list(b) for b in itertools.combinations(range(8), 3)]
  parts = np.stack([rows[:, b] for b in batches])
  for reduction, factor in (("pairs", 1.0), ("paper", 7 / 2)):
    loss = functools.partial(geometry.geometry_loss, reduction=reduction)
    mean = lambda rows, loss=loss: jnp.mean(loss(*rows))
    matched = np.mean(geometry.matched_consistency(*rows))
    whole = mean(rows) - matched
    each = np.mean(jax.vmap(mean)(parts)) - matched
    np.testing.assert_allclose(whole, factor * each, rtol=1e-4)


def test_random_rows_give_four_over_d():
  v, t = _rows(2, n=400, d=16)
  got = np.mean(geometry.geometry_loss(v, t))
  assert abs(got - 4 / 16) < 0.02


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_towers_that_nearly_agree_keep_six_digits(distance, weights):
  """Where the Gram matrices of v and t themselves leave no digit."""
  rng = np.random.default_rng(0)
  v = oracle.unit(rng.standard_normal((96, 16)))
  t = oracle.unit(v + distance * oracle.unit(rng.standard_normal((96, 16))))
  v, t = v.astype(np.float32), t.astype(np.float32)
  wide_v, wide_t = v.astype(np.float64), t.astype(np.float64)
  intra = (wide_v @ wide_v.T - wide_t @ wide_t.T) ** 2
  inter = (wide_v @ wide_t.T - wide_t @ wide_v.T) ** 2
  expected = np.mean(np.sum(weights[0] * intra + weights[1] * inter, axis=1))
  knobs = dict(intra=weights[0], inter=weights[1], reduction="paper")
  for form in FORMS:
    got = np.mean(geometry.consistency(v, t, form=form, **knobs))
    np.testing.assert_allclose(got, expected, rtol=2e-6)
  if distance == 1e-4 and weights == (1.0, 1.0):
    a, b, c = v.T @ v, t.T @ t, v.T @ t
    naive = 2 * np.sum(a * b) - 2 * np.sum(c * c.T) + np.sum(a * a) + np.sum(b * b)
    naive = (naive - 2 * np.sum(c * c)) / 96
    assert abs(naive - expected) > 0.1 * expected


@pytest.mark.parametrize("form", FORMS)
def test_never_negative(form):
  """Also where only rounding is left: a turned tower, collapsed towers."""
  rng = np.random.default_rng(3)
  turn, _ = np.linalg.qr(rng.standard_normal((8, 8)))
  v = oracle.unit(rng.standard_normal((40, 8)))
  one = np.tile(v[:1], (40, 1))
  other = np.tile(v[1:2], (40, 1))
  for x, y in ((v, v @ turn), (v, v), (v, -v), (one, other), (0 * v, v)):
    x, y = x.astype(np.float32), y.astype(np.float32)
    for intra, inter in ((1.0, 1.0), (1.0, 0.0), (0.0, 1.0)):
      got = geometry.consistency(x, y, intra=intra, inter=inter, form=form)
      assert np.all(got >= 0)
  turned = geometry.consistency(v, v @ turn, inter=0.0, form=form)
  np.testing.assert_allclose(turned, 0, atol=1e-6)
  np.testing.assert_allclose(geometry.consistency(one, other, form=form), 0, atol=1e-6)


def test_auto_takes_pairs_up_to_twice_the_width():
  for n, form in ((8, "pairs"), (9, "gram")):
    v, t = _rows(2, n=n, d=4)
    np.testing.assert_array_equal(
      geometry.consistency(v, t), geometry.consistency(v, t, form=form)
    )


def test_towers_are_alike():
  v, t, a, b = _rows()
  forth = geometry.geometry_loss(v, t, a, b, inter=0.5)
  back = geometry.geometry_loss(t, v, b, a, inter=0.5)
  np.testing.assert_allclose(forth, back, rtol=1e-5)


def test_matched_pairs_that_nearly_agree():
  v, t, _, _ = _rows()
  step = np.float32(1e-5)
  a = v + step * np.roll(v, 1, axis=0)
  expected = (
    np.sum(v.astype(np.float64) * t, 1) - np.sum(a.astype(np.float64) * t, 1)
  ) ** 2
  got = geometry.matched_consistency(v, t, a, t)
  np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_errors_name_the_cure():
  v, t, a, b = _rows()
  loss = geometry.geometry_loss
  with pytest.raises(ValueError, match="of both towers or of neither"):
    loss(v, t, a)
  with pytest.raises(ValueError, match="known: pairs, paper"):
    loss(v, t, reduction="mean")
  with pytest.raises(ValueError, match="known: auto, gram, pairs"):
    loss(v, t, form="gram_d")
  for name in ("intra", "inter", "augmented"):
    with pytest.raises(ValueError, match=f"{name} is the weight of a penalty"):
      loss(v, t, a, b, **{name: -1.0})
  with pytest.raises(ValueError, match="give all heads one width"):
    loss(v, t[:, :2])
