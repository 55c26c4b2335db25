import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import contrastive
from contrastive import Rows
from tests import losses

N, SCALE = 5, 4.0


def _views(n=N, seed=0):
  x = losses.batch(n=n, seed=seed)
  return contrastive.unit(x.a), contrastive.unit(x.b)


def _rows(**knobs):
  return contrastive.two_view_rows(*_views(**knobs), scale=SCALE)


def _gradient(loss):
  """Gradient of the mean with respect to the first views (as raw rows) [n, d]."""
  a, b = _views()
  return jax.grad(lambda a: jnp.mean(loss(contrastive.unit(a), b)))(a)


@pytest.mark.parametrize("shape", [0.5, 1.0, 3.0])
def test_auxiliary_variables_follow_the_gamma_law_of_shape_and_rate(shape):
  rate, draws = 2.5, 4000
  noise = contrastive.log_gamma_noise(jax.random.key(0), draws, shape)
  u = shape * np.exp(np.asarray(noise, np.float64)) / rate  # u = shape * w, w = e / s
  law = stats.gamma(shape, scale=1 / rate)
  assert stats.kstest(u, law.cdf).pvalue > 1e-3
  margin = 4 / np.sqrt(draws)
  np.testing.assert_allclose(u.mean(), law.mean(), atol=margin * law.std())
  np.testing.assert_allclose(
    u.var() / law.var(), 1, atol=margin * np.sqrt(2 + law.stats("k"))
  )


def test_the_limit_of_a_large_shape_is_no_noise():
  silent = contrastive.log_gamma_noise(None, 100, None)
  np.testing.assert_array_equal(silent, np.zeros(100))
  noise = contrastive.log_gamma_noise(jax.random.key(0), 100, 1e8)
  np.testing.assert_allclose(noise, silent, atol=1e-3)


@pytest.mark.parametrize("shape", [1.0, 0.5])
def test_the_mean_over_draws_of_the_minibatch_form_is_decoupleds_gradient(shape):
  """The negative control: the minibatch's own rate removes no bias."""
  draws = 4000
  loss = lambda key: _gradient(
    lambda a, b: contrastive.augmented_nce(a, b, scale=SCALE, key=key, shape=shape)
  )
  program = jax.jit(jax.vmap(loss))
  grads = program(jax.random.split(jax.random.key(1), draws))
  expected = _gradient(lambda a, b: contrastive.decoupled(a, b, scale=SCALE))
  error = np.std(grads, axis=0) / np.sqrt(draws)
  assert np.all(np.abs(np.mean(grads, axis=0) - expected) < 4 * error + 1e-5)


def test_the_exact_rate_makes_minibatches_unbiased_and_decoupled_is_biased():
  """One anchor, 60 candidates, 3 a minibatch: exact gradient by softmax."""
  full, size, draws, dim = 60, 3, 60_000, 3
  rng = np.random.default_rng(0)
  keys = rng.standard_normal((full, dim)).astype(np.float32)
  anchor = jnp.array([1.0, -0.5, 2.0])
  positive = jnp.array([0.3, 0.1, 0.2])
  logits = keys.astype(np.float64) @ np.asarray(anchor)
  share = np.exp(logits) / np.exp(logits).sum()
  exact_gradient = share @ keys - positive
  log_s = jnp.log(jnp.mean(jnp.exp(keys @ anchor)))

  def one(key, decoupled):
    pick, draw = jax.random.split(key)
    chosen = jnp.asarray(keys)[jax.random.choice(pick, full, (size,), replace=False)]

    def loss(anchor):
      r = Rows(
        (positive @ anchor)[None], (chosen @ anchor)[None], jnp.ones((1, size), bool)
      )
      if decoupled:
        return contrastive.decoupled_loss(r)[0]
      noise = contrastive.log_gamma_noise(draw, 1, 1.0)
      return contrastive.augmented_loss(r, log_s[None], noise)[0]

    return jax.grad(loss)(anchor)

  split = jax.random.split(jax.random.key(2), draws)
  both = jax.vmap(lambda key: (one(key, False), one(key, True)))
  grads = jax.jit(both)(split)
  errors = [np.abs(np.mean(g, axis=0) - exact_gradient) for g in grads]
  margins = [4 * np.std(g, axis=0) / np.sqrt(draws) for g in grads]
  assert np.all(errors[0] < margins[0])
  assert np.any(errors[1] > 3 * margins[1])  # 12 standard errors


def test_the_value_touches_log_s_at_v_equal_s_and_lies_above_elsewhere():
  r = _rows()
  log_s = contrastive.log_normalizer(r)
  touching = contrastive.augmented_loss(r, log_s)
  np.testing.assert_allclose(touching, log_s - r.positive, rtol=1e-5, atol=1e-6)
  for shift in (-2.0, -0.5, 0.5, 2.0):
    assert np.all(contrastive.augmented_loss(r, log_s + shift) > touching + 0.05)


def test_the_minibatch_form_without_noise_has_decoupleds_gradient():
  ours = _gradient(
    lambda a, b: contrastive.augmented_nce(a, b, scale=SCALE, shape=None)
  )
  dcl = _gradient(lambda a, b: contrastive.decoupled(a, b, scale=SCALE))
  np.testing.assert_allclose(ours, dcl, rtol=1e-4, atol=1e-6)


def test_coupled_with_all_negatives_is_nt_xent():
  """K = 2n - 2 nominal negatives, v the batch's own: value up to log K, gradient."""
  k = 2 * N - 2
  ours = lambda a, b: contrastive.augmented_nce(
    a, b, scale=SCALE, shape=None, coupled=k
  )
  nt_xent = lambda a, b: contrastive.nt_xent(a, b, scale=SCALE)
  np.testing.assert_allclose(ours(*_views()), nt_xent(*_views()), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(_gradient(ours), _gradient(nt_xent), rtol=1e-4, atol=1e-6)


def test_no_gradient_flows_through_the_normaliser_and_the_noise():
  r, norm = _rows(), jnp.linspace(-1.0, 1.0, 2 * N)
  total = lambda v, e: contrastive.augmented_loss(r, v, e).sum()
  for grad in jax.grad(total, (0, 1))(norm, norm):
    np.testing.assert_array_equal(grad, np.zeros(2 * N))


def test_the_gradient_is_that_of_minus_p_plus_w_s():
  r, norm = _rows(), jnp.linspace(-1.0, 1.0, 2 * N)
  weight = jnp.exp(-norm)
  plain = lambda r: jnp.sum(
    -r.positive + weight * jnp.mean(jnp.exp(r.negative), -1, where=r.where)
  )
  loss = lambda r: contrastive.augmented_loss(r, norm).sum()
  for ours, expected in zip(
    jax.grad(lambda p, n: loss(Rows(p, n, r.where)), (0, 1))(r.positive, r.negative),
    jax.grad(lambda p, n: plain(Rows(p, n, r.where)), (0, 1))(r.positive, r.negative),
    strict=True,
  ):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("log_norm", [-1e4, -30.0, 1e4])
@pytest.mark.parametrize("coupled", [None, 8.0])
def test_a_bad_normaliser_gives_a_finite_value_and_a_gradient_that_still_pushes(
  log_norm, coupled
):
  r = _rows()
  norms = jnp.full(2 * N, log_norm)
  loss = lambda n: contrastive.augmented_loss(
    r._replace(negative=n), norms, coupled=coupled
  ).sum()
  value, grad = jax.value_and_grad(loss)(r.negative)
  assert np.isfinite(value) and np.all(np.isfinite(grad))
  if log_norm < 0:  # far too small: the negatives are pushed away hard, not ignored
    assert np.all(grad[r.where] > 1e3)


@pytest.mark.parametrize("sign", [-1, 1])
def test_logits_of_1e4_are_finite(sign):
  def loss(p, n):
    r = Rows(p, n, jnp.ones((1, 3), bool))
    return contrastive.augmented_loss(r, jnp.zeros(1)).sum()

  logits = jnp.array([sign * 1e4]), jnp.array([[sign * 1e4, -sign * 1e4, 0.0]])
  value, grads = jax.value_and_grad(loss, (0, 1))(*logits)
  assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in grads)


def test_anchors_without_negatives_count_zero_and_pass_no_gradient():
  r = _rows()
  r = r._replace(where=r.where.at[0].set(False))
  norms = contrastive.log_normalizer(r)
  assert norms[0] == -np.inf

  def loss(p, n):
    return contrastive.augmented_loss(Rows(p, n, r.where), norms)

  assert loss(r.positive, r.negative)[0] == 0
  grads = jax.grad(lambda p, n: loss(p, n).sum(), (0, 1))(r.positive, r.negative)
  assert grads[0][0] == 0 and not np.any(grads[1][0])
  assert np.all(np.isfinite(grads[1]))


def test_the_normaliser_of_an_image_is_the_mean_over_its_views():
  both = np.exp(np.asarray(contrastive.log_normalizer(_rows()), np.float64))
  folded = contrastive.two_view_log_normalizer(*_views(), scale=SCALE)
  np.testing.assert_allclose(folded, np.log((both[:N] + both[N:]) / 2), rtol=1e-5)


def test_draws_differ_between_anchors_and_repeat_with_the_key():
  noise = contrastive.view_noise(jax.random.key(0), N, 1.0)
  assert len(set(np.asarray(noise).tolist())) == 2 * N
  np.testing.assert_array_equal(
    contrastive.view_noise(jax.random.key(0), N, 1.0), noise
  )
  assert np.all(contrastive.view_noise(jax.random.key(1), N, 1.0) != noise)


def test_metrics_of_equal_negatives():
  r = Rows(jnp.zeros(3), jnp.full((3, 4), 2.0), jnp.ones((3, 4), bool))
  metrics = contrastive.augmented_metrics(r, jnp.full(3, 1.0))
  np.testing.assert_allclose(metrics["log_norm"], 1, rtol=1e-5)
  np.testing.assert_allclose(metrics["lag"], 1, rtol=1e-5)
  np.testing.assert_allclose(metrics["cv2"], 0, atol=1e-5)
  np.testing.assert_allclose(metrics["weight_max"], np.e, rtol=1e-5)
  np.testing.assert_allclose(metrics["effective_negatives"], 4, rtol=1e-5)


def test_metrics_against_numpy_and_without_empty_rows():
  r = _rows()
  r = r._replace(where=r.where.at[3].set(False))
  norms = jnp.linspace(0.0, 1.0, 2 * N)
  metrics = contrastive.augmented_metrics(r, norms)
  cv2, effective = [], []
  for i in range(2 * N):
    values = np.exp(np.asarray(r.negative[i], np.float64))[np.asarray(r.where[i])]
    if len(values):
      cv2.append(values.var() / values.mean() ** 2)
      effective.append(values.sum() ** 2 / (values**2).sum())
  np.testing.assert_allclose(metrics["cv2"], np.mean(cv2), rtol=1e-4)
  np.testing.assert_allclose(
    metrics["effective_negatives"], np.mean(effective), rtol=1e-4
  )


def test_knobs_out_of_range_are_refused():
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="Gamma shape"):
    contrastive.log_gamma_noise(key, 3, 0.0)
  with pytest.raises(ValueError, match="key"):
    contrastive.log_gamma_noise(None, 3, 1.0)
  with pytest.raises(ValueError, match="nominal negatives"):
    contrastive.log_normalizer(_rows(), coupled=0.0)


def test_every_copy_of_an_example_has_a_row_of_its_own():
  rows = contrastive.copy_index(np.array([4, 0, 2]), 3)
  np.testing.assert_array_equal(rows, [12, 0, 6, 13, 1, 7, 14, 2, 8])
  every = contrastive.copy_index(np.arange(5), 4)
  assert sorted(every.tolist()) == list(range(20))
