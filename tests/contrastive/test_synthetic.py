import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import synthetic

KEY = jax.random.key(0)
PROBLEMS = {
  "gaussian": synthetic.gaussian_problem(KEY),
  "heavy_tails": synthetic.heavy_tailed_problem(KEY),
}
exact_loss = jax.jit(synthetic.exact_loss)
draw_batch = jax.jit(synthetic.draw_batch, static_argnums=(2, 3))
recovery = jax.jit(synthetic.recovery)
both = pytest.mark.parametrize("name", list(PROBLEMS))


def four_errors(samples):
  return 4 * samples.std(ddof=1) / np.sqrt(len(samples))


@both
def test_the_optimum_is_a_stationary_point_of_the_exact_loss(name):
  problem = PROBLEMS[name]
  gradient = jax.jit(jax.grad(exact_loss, argnums=1))(problem, problem.optimum)
  assert float(jnp.abs(gradient).max()) < 1e-6


@both
def test_the_optimum_lies_below_any_perturbation(name):
  problem = PROBLEMS[name]
  best = np.asarray(problem.optimum)
  directions = np.random.default_rng(0).standard_normal((60, *best.shape))
  sizes = np.repeat([0.03, 0.3, 3.0], 20)[:, None, None]
  losses = jax.vmap(exact_loss, (None, 0))(problem, best + sizes * directions)
  assert losses.min() > exact_loss(problem, best)


@both
def test_injected_error_moves_the_loss_by_a_constant(name):
  problem = PROBLEMS[name]
  for critic in (problem.optimum, 2 * problem.optimum, jnp.zeros_like(problem.optimum)):
    raised = exact_loss(problem, critic, 1.5) - exact_loss(problem, critic, 0.0)
    np.testing.assert_allclose(raised, 1.5**2 / 2, rtol=1e-5)


@both
def test_drawn_rows_have_the_exact_normaliser_as_their_mean(name):
  problem, sd = PROBLEMS[name], 0.5
  # Half the optimum: light enough tails for an honest standard error.
  critic, index = problem.optimum / 2, jnp.arange(4)
  draws = draw_batch(KEY, problem, 4, 100_000)
  rows = synthetic.batch_rows(problem, critic, index, draws, sd)
  exact = synthetic.exact_log_normalizer(problem, critic, sd)
  spread = synthetic.relative_variance(problem, critic, sd)
  for i in range(4):
    ratio = np.exp(np.asarray(rows.negative[i] - exact[i], np.float64))
    assert abs(ratio.mean() - 1) < four_errors(ratio)
    squares = (ratio - 1) ** 2
    assert abs(squares.mean() - spread[i]) < four_errors(squares)
  assert bool(rows.where.all())


def test_heavy_tails_by_enumeration_equal_a_loop_over_features():
  problem = PROBLEMS["heavy_tails"]
  query = np.asarray(problem.anchors @ problem.optimum, np.float64)
  expected = np.zeros(len(query))
  for k, c in enumerate(synthetic.TAILS):  # independent features: logs add
    move = np.sqrt(c) * query[:, k]
    expected += np.log(1 - 1 / c + (np.exp(move) + np.exp(-move)) / (2 * c))
  got = synthetic.exact_log_normalizer(problem, problem.optimum)
  np.testing.assert_allclose(got, expected, rtol=2e-5)


def test_heavy_tailed_features_have_unit_variance_and_their_kurtosis():
  problem = PROBLEMS["heavy_tails"]
  prob, atoms = np.exp(problem.log_prob), np.asarray(problem.atoms)
  assert abs(prob.sum() - 1) < 1e-6
  np.testing.assert_allclose(prob @ atoms**2, 1.0, rtol=1e-5)
  np.testing.assert_allclose(prob @ atoms**4, synthetic.TAILS, rtol=1e-5)


def test_error_is_added_to_positives_with_its_standard_deviation():
  problem = PROBLEMS["gaussian"]
  index = jnp.zeros(20_000, jnp.int32)
  draws = draw_batch(KEY, problem, 20_000, 1)
  rows = synthetic.batch_rows(problem, problem.optimum, index, draws, 2.0)
  noise = np.asarray(rows.positive, np.float64)
  expected = problem.anchors[0] @ problem.optimum @ problem.positives[0]
  assert abs(noise.mean() - expected) < four_errors(noise)
  assert abs(noise.std() - 2) < 4 * 2 / np.sqrt(2 * len(noise))


@both
def test_recovery_is_perfect_at_the_optimum_and_sees_a_wrong_scale(name):
  problem = PROBLEMS[name]
  best = recovery(problem, problem.optimum)
  values = [best[k] for k in ("x", "relative_error", "alignment", "loss_gap")]
  np.testing.assert_allclose(values, [1, 0, 1, 0], atol=1e-6)
  double = recovery(problem, 2 * problem.optimum)
  np.testing.assert_allclose(
    [double[k] for k in ("x", "relative_error", "alignment")], [2, 1, 1], rtol=1e-5
  )
  assert double["loss_gap"] > 0.05


def test_gaussian_loss_gap_is_a_quadratic_form():
  problem = PROBLEMS["gaussian"]
  move = 0.1 * np.random.default_rng(2).standard_normal(problem.optimum.shape)
  gap = recovery(problem, problem.optimum + move)["loss_gap"]
  expected = np.mean(np.sum(np.square(np.asarray(problem.anchors) @ move), axis=1)) / 2
  np.testing.assert_allclose(gap, expected, rtol=1e-4)


def test_problems_are_functions_of_their_key():
  again = synthetic.heavy_tailed_problem(KEY)
  np.testing.assert_array_equal(again.optimum, PROBLEMS["heavy_tails"].optimum)
  other = synthetic.heavy_tailed_problem(jax.random.key(1))
  assert not np.allclose(other.anchors, again.anchors)
  lengths = np.linalg.norm(PROBLEMS["gaussian"].anchors, axis=1)
  np.testing.assert_allclose(lengths, 1.2, rtol=1e-6)


def test_refusals_are_sentences():
  with pytest.raises(ValueError, match="at least as many anchors"):
    synthetic.gaussian_problem(KEY, anchors=3, width=4)
  with pytest.raises(ValueError, match="radius must be positive"):
    synthetic.gaussian_problem(KEY, radius=0.0)
  with pytest.raises(ValueError, match="view_noise not negative"):
    synthetic.heavy_tailed_problem(KEY, view_noise=-1.0)
  with pytest.raises(ValueError, match="kurtoses of at least 1"):
    synthetic.heavy_tailed_problem(KEY, tails=(0.5, 8.0))
  with pytest.raises(ValueError, match="no finite critic is best"):
    synthetic.heavy_tailed_problem(KEY, radius=4.0)
