"""Few-shot classifiers against closed forms and scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.engine import data
from experiments.engine.evaluation import few_shot, tables
from tests.experiments.test_evaluate import blobs


@pytest.mark.parametrize("n", [8, 40])
def test_ridge_solves_the_normal_equations_and_leaves_one_out(n):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(n, 12)).astype(np.float32)
  y = np.sign(rng.normal(size=(n, 3))).astype(np.float32)
  penalties = (0.01, 0.3, 1.0, 10.0)

  def solve(x, y, penalty):
    centre, level = x.mean(0), y.mean(0)
    z = x - centre
    weights = np.linalg.solve(z.T @ z + penalty * np.eye(12), z.T @ (y - level))
    return weights, level - centre @ weights

  x64, y64 = x.astype(np.float64), y.astype(np.float64)
  scale = np.mean(np.linalg.svd(x64 - x64.mean(0), compute_uv=False) ** 2)
  errors = []
  for multiple in penalties:
    error = 0.0
    for i in range(n):
      weights, bias = solve(
        np.delete(x64, i, 0), np.delete(y64, i, 0), multiple * scale
      )
      error += ((x64[i] @ weights + bias - y64[i]) ** 2).sum()
    errors.append(error)
  best = penalties[int(np.argmin(errors))] * scale
  weights, bias = few_shot.fit_ridge(x, y, jnp.array(penalties))
  expected = solve(x64, y64, best)
  np.testing.assert_allclose(weights, expected[0], atol=1e-4)
  np.testing.assert_allclose(bias, expected[1], atol=1e-4)


def test_shots_of_equal_features_give_no_weights():
  weights, bias = few_shot.fit_ridge(
    np.ones((4, 3), np.float32), np.eye(4, dtype=np.float32), jnp.ones(1)
  )
  np.testing.assert_array_equal(weights, 0)
  np.testing.assert_allclose(bias, 0.25)


def test_more_shots_are_better_and_draws_differ():
  train, test = blobs(n=400, spread=0.6), blobs(n=400, spread=0.6)
  one, twenty = (
    few_shot.draw_accuracies(train, test, num_classes=4, shots=shots, draws=4)
    for shots in (1, 20)
  )
  assert twenty.mean() > one.mean()
  assert len(set(one)) > 1
  again = few_shot.draw_accuracies(train, test, num_classes=4, shots=1, draws=3, seed=1)
  np.testing.assert_array_equal(again, one[1:])


def test_few_shots_by_softmax_regression_are_scikit_learns():
  linear_model = pytest.importorskip("sklearn.linear_model")
  train, test = blobs(n=200, spread=0.9), blobs(n=300, spread=0.9)
  found = few_shot.draw_accuracies(
    train, test, num_classes=4, shots=5, draws=3, seed=2, classifier="softmax"
  )
  standardise = tables.standardiser(train.features)
  x, queries = standardise(train.features), standardise(test.features)
  for draw, accuracy in enumerate(found):
    places = data.class_balanced_draw(train.labels, 5, 2 + draw)
    model = linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=2000)
    expected = model.fit(x[places], train.labels[places]).score(queries, test.labels)
    assert accuracy == pytest.approx(expected, abs=0.005)
