"""Evaluation of frozen features: equal to oracles, and blind to the test split."""

import json
import math

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy import optimize, special

from experiments.engine import data
from experiments.engine.errors import UsageError, UserError
from experiments.engine.evaluation import (
  evaluate,
  metrics,
  neighbours,
  probing,
  softmax_regression,
  tables,
)


def blobs(n=240, d=12, k=4, spread=1.5, seed=0):
  """Overlapping Gaussian classes with correlated features of very unequal scales."""
  rng = np.random.default_rng(seed)
  centres = rng.normal(size=(k, d))
  mix = rng.normal(size=(d, d)) * np.logspace(0, -2, d)[None, :]
  labels = np.arange(n) % k
  x = (centres[labels] + spread * rng.normal(size=(n, d))) @ mix
  scales = np.logspace(-2, 2, d)
  return tables.Table((x * scales + 3 * scales).astype(np.float32), labels)


def _objective(flat, x, labels, c, k):
  """Float64 oracle: value and gradient of mean loss + |W|^2 / (2 C n)."""
  n = len(x)
  weights = flat.reshape(-1, k)
  logits = x @ weights[:-1] + weights[-1]
  log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
  value = -log_p[np.arange(n), labels].mean() + (weights[:-1] ** 2).sum() / (2 * c * n)
  residual = (np.exp(log_p) - np.eye(k)[labels]) / n
  gradient = np.vstack([x.T @ residual + weights[:-1] / (c * n), residual.sum(0)])
  return value, gradient.ravel()


def _centred(weights):
  """Softmax does not see a shift of all classes' intercepts."""
  return weights - weights.mean(axis=-1, keepdims=True)


# --- linear probe


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_probe_reaches_the_minimum_that_a_float64_solver_finds(c):
  train = blobs()
  probe = probing.fit_probe(train, grid=(c,))
  x = probe.standardise(train.features).astype(np.float64)
  best = optimize.minimize(
    _objective,
    np.zeros(13 * 4),
    args=(x, train.labels, c, 4),
    jac=True,
    method="L-BFGS-B",
    options={"maxiter": 5000, "gtol": 1e-9, "ftol": 1e-16},
  )
  mine = np.vstack([probe.weights, probe.bias]).astype(np.float64)
  value, _ = _objective(mine.ravel(), x, train.labels, c, 4)
  assert value == pytest.approx(best.fun, rel=1e-6)
  assert probe.objective == pytest.approx(best.fun, rel=1e-5)
  np.testing.assert_allclose(
    _centred(mine), _centred(best.x.reshape(-1, 4)), atol=2e-3, rtol=1e-3
  )


def test_probe_equals_scikit_learn():
  linear_model = pytest.importorskip("sklearn.linear_model")
  train, test = blobs(), blobs(seed=1)
  probe = probing.fit_probe(train, grid=(0.3,))
  x = probe.standardise(train.features).astype(np.float64)
  peer = linear_model.LogisticRegression(C=0.3, tol=1e-8, max_iter=5000)
  peer.fit(x, train.labels)
  np.testing.assert_allclose(_centred(probe.weights), peer.coef_.T, atol=1e-3)
  np.testing.assert_allclose(_centred(probe.bias), peer.intercept_, atol=1e-3)
  guesses = probe.scores(test.features).argmax(axis=1)
  np.testing.assert_array_equal(
    guesses, peer.predict(probe.standardise(test.features).astype(np.float64))
  )


def test_probe_of_two_classes_is_scikit_learn_at_twice_the_c():
  linear_model = pytest.importorskip("sklearn.linear_model")
  train = blobs(k=2)
  probe = probing.fit_probe(train, grid=(0.5,))
  x = probe.standardise(train.features).astype(np.float64)
  peer = linear_model.LogisticRegression(C=1.0, tol=1e-8, max_iter=5000)
  peer.fit(x, train.labels)
  np.testing.assert_allclose(
    probe.weights[:, 1] - probe.weights[:, 0], peer.coef_[0], atol=1e-3
  )


def test_probe_does_not_depend_on_units_or_constant_columns():
  train = blobs()
  scaled = np.concatenate(
    [train.features * np.float32(1e3), np.full((240, 1), 7.3, np.float32)], axis=1
  )
  plain = probing.fit_probe(train, grid=(1.0,))
  other = probing.fit_probe(tables.Table(scaled, train.labels), grid=(1.0,))
  np.testing.assert_allclose(
    plain.scores(train.features), other.scores(scaled), atol=5e-3
  )


def test_a_row_of_weight_zero_is_not_there():
  train = blobs()
  features = tables.standardiser(train.features)(train.features)
  problem = softmax_regression.pose(jnp.asarray(features))
  weight = (np.arange(240) < 120).astype(np.float32)
  start = jnp.zeros((4, 13))
  masked, spoilt = (
    softmax_regression.minimise(problem, labels, weight, 1.0, start, tolerance=1e-5)
    for labels in (train.labels, np.where(weight > 0, train.labels, 0))
  )
  np.testing.assert_array_equal(masked.weights, spoilt.weights)
  assert masked.gradient_norm <= 1e-5


def test_principal_axes_change_the_path_but_not_the_end(monkeypatch):
  train = blobs()
  rotated = probing.fit_probe(train, grid=(1.0,))
  monkeypatch.setattr(softmax_regression, "_ROTATE_UP_TO", 0)
  softmax_regression.pose.clear_cache()
  plain = probing.fit_probe(train, grid=(1.0,))
  softmax_regression.pose.clear_cache()
  assert plain.objective == pytest.approx(rotated.objective, rel=1e-5)
  assert rotated.iterations < plain.iterations


def test_separable_classes_stay_finite_under_a_weak_penalty():
  train = blobs(spread=0.01)
  probe = probing.fit_probe(train, grid=(1e4,))
  assert np.isfinite(probe.weights).all()
  assert (probe.scores(train.features).argmax(1) == train.labels).all()


def test_penalty_is_the_one_with_best_validation_accuracy():
  rng = np.random.default_rng(0)
  labels = np.arange(240) % 3
  # Three informative columns among a hundred of noise need a strong penalty.
  x = rng.normal(size=(240, 100)).astype(np.float32)
  x[:, :3] += 1.5 * np.eye(3, dtype=np.float32)[labels]
  probe = probing.fit_probe(tables.Table(x, labels), grid=(100.0, 0.01, 1.0))
  assert probe.grid == (0.01, 1.0, 100.0)
  assert probe.c == probe.grid[int(np.argmax(probe.validation_accuracies))]
  assert probe.c < 100


def test_stratified_split_takes_its_share_of_every_class():
  labels = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
  held_out = data.stratified_split(labels, 0.2, seed=3)
  assert np.bincount(labels[held_out], minlength=4).tolist() == [10, 2, 1, 0]
  assert (held_out == data.stratified_split(labels, 0.2, seed=3)).all()
  assert (held_out != data.stratified_split(labels, 0.2, seed=4)).any()


@pytest.mark.parametrize(
  ("labels", "num_classes", "sentence"),
  [
    ([0] * 6, None, "one class only"),
    ([0, 0, 2, 2, 2, 2], None, r"1 of 3 classes have no training example \(1\)"),
    ([0, 1, 0, 1, 0, 1], 7, "fewer than the 7 classes"),
    ([0, 1, 2, 3, 4, 5], None, "two training examples"),
    ([0, 1, -1, 1, 0, 1], None, "1 of 6 train examples have no label"),
  ],
)
def test_labels_that_cannot_be_learnt_are_refused(labels, num_classes, sentence):
  train = tables.Table(np.eye(6, dtype=np.float32), np.array(labels))
  with pytest.raises(UserError, match=sentence):
    probing.fit_probe(train, num_classes=num_classes)


def test_features_that_are_not_finite_are_counted():
  train = blobs()
  train.features[[3, 8], 0] = np.nan, np.inf
  with pytest.raises(UserError, match="2 of 240 train rows have"):
    probing.fit_probe(train)


# --- nearest neighbours


def _vote_oracle(rows, labels, query, k, temperature, num_classes, skip=None):
  unit = lambda v: v / np.linalg.norm(v)
  cosines = [
    -np.inf if i == skip else float(unit(row) @ unit(query))
    for i, row in enumerate(rows.astype(np.float64))
  ]
  scores = np.zeros(num_classes)
  for i in np.argsort(cosines)[::-1][:k]:
    scores[labels[i]] += math.exp(cosines[i] / temperature)
  return scores


@pytest.mark.parametrize("temperature", [0.07, float("inf")])
@pytest.mark.parametrize("entries", [2**24, 100])
def test_votes_equal_loops(monkeypatch, temperature, entries):
  monkeypatch.setattr(neighbours, "_BLOCK_ENTRIES", entries)
  train, test = blobs(n=40), blobs(n=15, seed=1)
  found = neighbours.find_neighbours(*train, test.features, k=7)
  scores = neighbours.vote(found, k=5, temperature=temperature, num_classes=4)
  expected = np.stack(
    [_vote_oracle(*train, query, 5, temperature, 4) for query in test.features]
  )
  np.testing.assert_allclose(
    scores / scores.sum(1, keepdims=True),
    expected / expected.sum(1, keepdims=True),
    atol=1e-4,
  )


def test_settings_are_chosen_by_leaving_one_out():
  train = blobs(n=40, spread=0.8)
  ks, temperatures = (1, 3, 200), (0.02, float("inf"))
  choice = neighbours.choose_settings(
    *train, num_classes=4, ks=ks, temperatures=temperatures
  )
  assert choice.accuracies.shape == (3, 2)
  for i, k in enumerate((1, 3, 39)):
    for j, temperature in enumerate(temperatures):
      scores = np.stack(
        [
          _vote_oracle(*train, row, k, temperature, 4, skip=r)
          for r, row in enumerate(train.features)
        ]
      )
      hits = metrics.top_k_hits(scores, train.labels, 1)
      assert choice.accuracies[i, j] == pytest.approx(hits.mean(), abs=1e-9)
  assert choice.accuracy == choice.accuracies.max()


def test_a_row_is_not_its_own_neighbour():
  rng = np.random.default_rng(0)
  x, labels = rng.normal(size=(400, 8)).astype(np.float32), rng.integers(0, 2, 400)
  choice = neighbours.choose_settings(
    x, labels, num_classes=2, ks=(1,), temperatures=(0.07,)
  )
  # Labels are noise: 1/2, with a standard error of 1/40.
  assert abs(choice.accuracy - 0.5) < 4 / 40


def test_leaving_out_a_part_of_many_rows(monkeypatch):
  train = blobs(n=400)
  options = {"num_classes": 4, "ks": (5,), "temperatures": (0.07,)}
  every = neighbours.choose_settings(*train, **options)
  monkeypatch.setattr(neighbours, "_MAX_LEFT_OUT", 200)
  part = neighbours.choose_settings(*train, **options)
  assert abs(part.accuracy - every.accuracy) < 4 * 0.5 / math.sqrt(200)


def test_zero_rows_have_no_direction_and_do_no_harm():
  train = blobs(n=40)
  found = neighbours.find_neighbours(*train, np.zeros((2, 12), np.float32), k=3)
  np.testing.assert_array_equal(found.cosines, 0)


# --- accuracies


def test_ties_and_nan_count_against_the_classifier():
  labels = np.array([0, 1, 2])
  assert not metrics.top_k_hits(np.zeros((3, 3)), labels, 2).any()
  assert metrics.top_k_hits(np.zeros((3, 3)), labels, 3).all()
  scores = np.array([[np.nan, 1.0, 0.0], [0.0, 1.0, np.nan], [0.0, 1.0, 2.0]])
  assert metrics.top_k_hits(scores, labels, 1).tolist() == [False, False, True]


def test_accuracies_of_a_table_by_hand():
  scores = np.eye(6)[[0, 0, 0, 1, 1]] + 0.1 * np.arange(6)[None, :]
  labels = np.array([0, 0, 0, 0, 1])
  report = metrics.accuracy_report(scores, labels)
  assert report["top1"] == pytest.approx(4 / 5)
  assert report["mean_per_class"] == pytest.approx((3 / 4 + 1) / 2)
  # The fourth row's true class is the last of six.
  assert report["top5"] == pytest.approx(4 / 5)
  assert "top5" not in metrics.accuracy_report(scores[:, :5], labels)


@pytest.mark.parametrize(
  ("hits", "n", "low", "high"),
  # Newcombe (1998), table I: method 3, the score interval without correction.
  [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
  ],
)
def test_wilson_interval_has_published_values(hits, n, low, high):
  assert metrics.wilson_interval(hits, n) == pytest.approx((low, high), abs=6e-5)
  mirrored = metrics.wilson_interval(n - hits, n)
  assert mirrored == pytest.approx((1 - high, 1 - low), abs=6e-5)


# --- embedding


def _pool(weights, images):
  return images.astype(jnp.float32).reshape(len(images), -1) / 255 @ weights


def test_embedding_by_batches_equals_embedding_at_once():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (37, 4, 4, 3), np.uint8)
  weights = jnp.asarray(rng.normal(size=(48, 5)), jnp.float32)
  apply = jax.tree_util.Partial(_pool, weights)
  expected = np.asarray(_pool(weights, images))
  # 8 devices: 10 becomes 16, so the third batch has 5 rows and 11 fillers.
  for batch in (1, 10, 1000):
    features = evaluate.embed(apply, images, batch=batch)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
  closed = evaluate.embed(lambda x: _pool(weights, x), images[:3], batch=8)
  np.testing.assert_allclose(closed, expected[:3], rtol=1e-5, atol=1e-6)


def test_embedding_compiles_once_and_takes_trees():
  traces = []

  def apply(rows):
    traces.append(1)
    return rows["tokens"][:, :1] * rows["mask"].astype(jnp.bfloat16)[:, None]

  rows = {"tokens": np.arange(60).reshape(30, 2), "mask": np.ones(30, bool)}
  features = evaluate.embed(apply, rows, batch=8)
  np.testing.assert_array_equal(features[:, 0], np.arange(0, 60, 2))
  assert len(traces) == 1


def test_embedding_names_the_split_that_is_not_finite():
  images = np.arange(20, dtype=np.uint8).reshape(20, 1)
  apply = lambda x: jnp.where(x < 3, jnp.nan, x.astype(jnp.float32))
  with pytest.raises(UserError, match="3 of 20 test rows"):
    evaluate.embed(apply, images, batch=8, split="test")
  with pytest.raises(UserError, match="pool over space"):
    evaluate.embed(lambda x: x[:, None], images, batch=8)


# --- all of it

_FAST = {
  "probe_grid": (0.01, 1.0),
  "knn_ks": (1, 5),
  "knn_temperatures": (0.07, float("inf")),
  "shots": (2,),
  "draws": 3,
}


def test_report_has_every_family_as_plain_numbers():
  table = blobs(n=240, k=8)
  train = tables.Table(table.features[:160], table.labels[:160])
  test = tables.Table(table.features[160:], table.labels[160:])
  report = evaluate.evaluate_features(
    train, test, config=ml_collections.ConfigDict(_FAST)
  )
  assert all(type(value) is float for value in report.values())
  json.dumps(report, allow_nan=False)
  assert report["chance/top1"] == pytest.approx(1 / 8)
  for family in ("probe", "knn"):
    low, top1, high = (report[f"{family}/top1{x}"] for x in ("_low", "", "_high"))
    assert report["chance/top1"] < low < top1 < high
    assert top1 <= report[f"{family}/top5"]
  assert report["fewshot_2/top1_low"] < report["fewshot_2/top1"]
  assert report["fewshot_2/top1"] < report["fewshot_2/top1_high"]
  assert report["probe/c"] in _FAST["probe_grid"]
  assert report["knn/inverse_temperature"] in (pytest.approx(1 / 0.07), 0)
  assert report["diagnostics/uniformity"] < 0
  assert 1 <= report["diagnostics/effective_rank"] <= 12


def test_nothing_is_chosen_on_the_test_split():
  train, test = blobs(n=160), blobs(n=80, seed=1)
  rng = np.random.default_rng(0)
  shuffled = tables.Table(test.features, rng.permutation(test.labels))
  first, second = (
    evaluate.evaluate_features(train, t, config=_FAST) for t in (test, shuffled)
  )
  chosen = (
    "probe/c",
    "probe/validation_top1",
    "knn/k",
    "knn/inverse_temperature",
    "knn/leave_one_out_top1",
  )
  for name in chosen:
    assert first[name] == second[name]
  assert first["probe/top1"] != second["probe/top1"]


def test_switches_leave_families_out():
  off = dict.fromkeys(("probe", "knn", "few_shot", "diagnostics"), False)
  report = evaluate.evaluate_features(blobs(n=40), blobs(n=20), config=off)
  assert set(report) == {"chance/top1"}
  single = off | {"few_shot": True, "shots": (1,), "draws": 1}
  report = evaluate.evaluate_features(blobs(n=40), blobs(n=20), config=single)
  assert set(report) == {"chance/top1", "fewshot_1/top1"}


@pytest.mark.parametrize(
  ("config", "sentence"),
  [
    ({"knn_k": (5,)}, "did you mean 'knn_ks'"),
    ({"knn_temperatures": (0.0,)}, "numbers above 0"),
    ({"shots": ()}, "numbers above 0"),
    ({"probe_validation": 1.0}, "between 0 and 1"),
    ({"draws": 0}, "at least 1"),
    ({"untrained": True, "probe": False}, "set probe=True"),
  ],
)
def test_settings_that_make_no_sense_are_usage_errors(config, sentence):
  with pytest.raises(UsageError, match=sentence):
    evaluate.read_settings(config)


def test_splits_that_do_not_fit_are_refused_before_anything_runs():
  train, test = blobs(n=40), blobs(n=20)
  wider = tables.Table(np.ones((20, 13), np.float32), test.labels)
  fewer = tables.Table(test.features[1:], test.labels)
  unseen = tables.Table(test.features, test.labels + 1)
  for other, sentence in (
    (wider, "width 12 and test features 13"),
    (fewer, "one row for each of 20"),
    (unseen, r"no training example \(4\)"),
  ):
    with pytest.raises(UserError, match=sentence):
      evaluate.evaluate_features(train, other, config={"shots": (1,)})
  with pytest.raises(UserError, match="20-shot evaluation needs 20"):
    evaluate.check_labels(train.labels, test.labels, evaluate.Settings())
