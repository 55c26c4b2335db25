import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import augmented, bias, infonce, normalizer, numerics
from contrastive.rows import cross_rows
from tests.losses import AS_USERS

N, WIDTH, EMBEDDING, SCALE = 10, 4, 3, 4.0
Objective = bias.Objective


@pytest.fixture(scope="module")
def data():
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (N, WIDTH))
  y = x + 0.3 * jax.random.normal(keys[1], (N, WIDTH))
  return x, y, jax.random.normal(keys[2], (WIDTH, EMBEDDING))


@pytest.fixture(scope="module")
def rows_of(data):
  x, y, _ = data
  return lambda w: cross_rows(numerics.unit(x @ w), numerics.unit(y @ w), scale=SCALE)


def loss_in_float64(x, y, w, coupled):
  """The mean generalised loss by loops."""
  q, k = (np.asarray(v, np.float64) @ w for v in (x, y))
  q, k = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, k))
  total = 0.0
  for i in range(N):
    positive = SCALE * q[i] @ k[i]
    s = np.mean([np.exp(SCALE * q[i] @ k[j]) for j in range(N) if j != i])
    if coupled is not None:
      s = np.exp(positive) + coupled * s
    total += np.log(s) - positive
  return total / N


def gradient_in_float64(x, y, w, coupled):
  """Its gradient by central differences."""
  w = np.asarray(w, np.float64)
  out = np.zeros_like(w)
  for place in np.ndindex(w.shape):
    step = np.zeros_like(w)
    step[place] = 1e-5
    up, down = (loss_in_float64(x, y, w + s, coupled) for s in (step, -step))
    out[place] = (up - down) / 2e-5
  return out.reshape(-1)


@pytest.mark.parametrize("coupled", [None, 7])
def test_exact_gradient_is_that_of_the_full_loss_in_float64(data, rows_of, coupled):
  found = bias.gradients(
    rows_of, data[2], [lambda rows: bias.generalised_loss(rows, coupled)]
  )[0]
  expected = gradient_in_float64(*data, coupled)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_differentiating_each_loss_by_itself(data, rows_of):
  losses = [infonce.softmax_loss, infonce.decoupled_loss, bias.squared_variation]
  found = bias.gradients(rows_of, data[2], losses)
  for loss, gradient in zip(losses, found, strict=True):
    expected = jax.grad(lambda w, loss=loss: jnp.mean(loss(rows_of(w))))(data[2])
    np.testing.assert_allclose(gradient, expected.reshape(-1), rtol=1e-5, atol=1e-6)


def test_compiled_gradients_of_many_losses_on_a_large_batch_are_right():
  # A compiler's error once made those beyond the first 32,768 entries wrong.
  x, y, w = (jax.random.normal(jax.random.key(i), (512, 8)) for i in range(3))
  w = w[:8]
  rows_of = lambda w: cross_rows(numerics.unit(x @ w), numerics.unit(y @ w), scale=5.0)
  many = [lambda rows, c=c: c * infonce.softmax_loss(rows) for c in range(1, 15)]
  program = lambda w: bias.gradients(rows_of, w, many)
  found = jax.jit(program, compiler_options=AS_USERS)(w)
  expected = jnp.arange(1.0, 15.0)[:, None] * found[:1]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  "objective",
  [
    Objective("decoupled"),
    Objective("flat"),
    Objective("augmented", "minibatch"),
    Objective("augmented", "running", smoothing=0.1),
    Objective("augmented", "running", smoothing=0.9, boost=True),
    Objective("augmented", "exact"),
    Objective("softmax", coupled=True),
    Objective("augmented", "minibatch", coupled=True),
    Objective("augmented", "running", coupled=True),
    Objective("augmented", "exact", coupled=True),
  ],
  ids=str,
)
def test_full_batch_gradient_is_the_exact_one(data, rows_of, objective):
  # A running normaliser has seen nothing but full batches either.
  coupled = N - 1 if objective.coupled else None
  index = jnp.arange(N)
  full = augmented.log_normalizer(rows_of(data[2]), coupled=coupled)
  state, _ = normalizer.update(normalizer.init(N), index, full)
  log_exact = augmented.log_normalizer(rows_of(data[2]))

  def loss(rows):
    return bias.minibatch_loss(
      objective, rows, negatives=N - 1, log_exact=log_exact, state=state, index=index
    )

  found, exact = bias.gradients(
    rows_of, data[2], [loss, lambda rows: bias.generalised_loss(rows, coupled)]
  )
  np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


def weighted_gradient(x, y, w, weight):
  """Gradient of -p_i + sum_j weight_ij e^n_ij over i, in float64 by differences."""
  w = np.asarray(w, np.float64)

  def value(w):
    q, k = (np.asarray(v, np.float64) @ w for v in (x, y))
    q, k = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (q, k))
    logits = SCALE * q @ k.T
    return np.mean(np.sum(weight * np.exp(logits), axis=1) - np.diag(logits))

  out = np.zeros_like(w)
  for place in np.ndindex(w.shape):
    step = np.zeros_like(w)
    step[place] = 1e-5
    out[place] = (value(w + step) - value(w - step)) / 2e-5
  return out.reshape(-1)


def exponentials(rows_of, w):
  rows = rows_of(w)
  return np.where(rows.where, np.exp(np.asarray(rows.negative, np.float64)), 0)


def test_leave_one_out_weighs_each_negative_by_the_mean_of_the_others(data, rows_of):
  terms = exponentials(rows_of, data[2])
  weight = np.zeros((N, N))
  for i, j in itertools.permutations(range(N), 2):
    others = [terms[i, k] for k in range(N) if k not in (i, j)]
    weight[i, j] = 1 / np.mean(others) / (N - 1)
  found = bias.gradients(
    rows_of, data[2], [lambda rows: bias.leave_one_out_loss(rows, negatives=N - 1)]
  )[0]
  expected = weighted_gradient(*data, weight)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_other_half_takes_the_rate_from_the_candidates_it_does_not_use(data, rows_of):
  terms = exponentials(rows_of, data[2])
  weight = np.zeros((N, N))
  halves = [range(N // 2), range(N // 2, N)]
  for i, (mine, theirs) in itertools.product(range(N), (halves, halves[::-1])):
    mine, theirs = ([j for j in half if j != i] for half in (mine, theirs))
    for j in mine:
      weight[i, j] = 1 / np.mean(terms[i, theirs]) / len(mine) / 2
  found = bias.gradients(rows_of, data[2], [bias.other_half_loss])[0]
  expected = weighted_gradient(*data, weight)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_leading_bias_is_minus_the_gradient_of_half_the_relative_variance():
  # log-normal negatives: CV^2 = e^V - 1 at logits of variance V = v^2.
  variation = lambda v: jnp.expm1(jnp.square(v))
  v = jnp.array([0.5, 1.0])
  found = bias.leading_bias(variation, v, negatives=20)
  expected = -(2 * v * jnp.exp(v**2)) / 2 / 40
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  # All of a finite set of negatives: nothing is left to chance.
  assert not jnp.any(bias.leading_bias(variation, v, negatives=20, population=20))


def test_squared_variation_is_the_squared_coefficient_of_variation(data, rows_of):
  terms = exponentials(rows_of, data[2])
  expected = [
    np.var(np.delete(terms[i], i)) / np.mean(np.delete(terms[i], i)) ** 2
    for i in range(N)
  ]
  found = bias.squared_variation(rows_of(data[2]))
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_split_half_bias_is_the_average_over_all_splits():
  means = np.random.default_rng(0).normal(size=(6, 3))
  target = np.array([0.1, 0.2, 0.3])
  products = []
  for half in itertools.combinations(range(6), 3):
    other = [i for i in range(6) if i not in half]
    a, b = (means[list(part)].mean(0) - target for part in (half, other))
    products.append(a @ b)
  found = bias.split_half_bias(means, target)
  np.testing.assert_allclose(found.squared, np.mean(products), rtol=1e-10)


@pytest.mark.parametrize("length", [0.0, 0.3, 2.0])
def test_split_half_bias_is_unbiased_and_knows_its_error(length):
  rng = np.random.default_rng(1)
  scale = np.array([1.0, 0.5, 2.0, 1.0, 0.1])
  truth = length * np.ones(5) / np.sqrt(5)
  found = [
    bias.split_half_bias(truth + scale * rng.normal(size=(16, 5))) for _ in range(2000)
  ]
  squared = np.array([f.squared for f in found])
  error = squared.std() / np.sqrt(len(squared))
  assert abs(squared.mean() - length**2) < 4 * error
  claimed = np.sqrt(np.mean([f.squared_error**2 for f in found]))
  assert 0.9 < claimed / squared.std() < (1.1 if length > 1 else 1.5)
  if length == 0:  # the naive |average|^2 would be 6.26 / 16 here, never below zero
    assert 0.4 < np.mean(squared < 0) < 0.75
    assert all(f.bias == 0 for f in found if f.squared < 0)
    null = np.sqrt(np.mean([f.null_error**2 for f in found]))
    np.testing.assert_allclose(null, squared.std(), rtol=0.1)


def test_split_half_bias_needs_some_units():
  with pytest.raises(ValueError, match="at least 4 units"):
    bias.split_half_bias(np.zeros((3, 2)))


def test_mean_cosine_is_freed_of_the_noise_of_the_average():
  rng = np.random.default_rng(2)
  means = np.array([3.0, 4.0] + [0.0] * 98) + 10 * rng.normal(size=(4000, 100))
  target = np.array([1.0] + [0.0] * 99)
  average = means.mean(0)
  naive = average[0] / np.linalg.norm(average)
  found = bias.mean_cosine(means, target)
  assert abs(found - 0.6) < 0.12
  assert naive < found
  assert np.isnan(bias.mean_cosine(means, np.zeros(100)))
  assert np.isnan(bias.mean_cosine(means - average, target))


def test_objectives_that_make_no_sense_are_refused():
  for wrong in (
    Objective("hinge"),
    Objective("augmented", "yesterday"),
    Objective("augmented", shape=0.0),
    Objective("augmented", "other_half", coupled=True),
  ):
    with pytest.raises(ValueError, match=r"unknown|positive"):
      bias.check_objective(wrong)


def test_rates_that_miss_their_normaliser_say_so(data, rows_of):
  for rate, missing in (("exact", "log_exact="), ("running", "state= and index=")):
    with pytest.raises(ValueError, match=missing):
      bias.minibatch_loss(
        Objective("augmented", rate), rows_of(data[2]), negatives=N - 1
      )
