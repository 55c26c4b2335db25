import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import normalizer
from tests import oracle

ROWS = 6
_update = jax.jit(normalizer.update, static_argnames=("smoothing", "boost"))


def _visits(batches=12, size=3, seed=0):
  """Batches of distinct anchors with estimates over several orders of magnitude."""
  rng = np.random.default_rng(seed)
  for _ in range(batches):
    index = rng.permutation(ROWS - 1)[:size]  # the last anchor is never visited
    estimates = np.exp(rng.normal(scale=2.0, size=size))
    estimates[rng.random(size) < 0.15] = 0  # a batch without negatives
    yield index, estimates


def _run(visits, **knobs):
  state = normalizer.init(ROWS)
  for index, estimates in visits:
    with np.errstate(divide="ignore"):
      log_s = np.log(estimates).astype(np.float32)
    state, after = _update(state, index.astype(np.int32), log_s, **knobs)
    np.testing.assert_allclose(after, state.log_v[index], rtol=1e-6)
  return state


DECREASING = normalizer.decreasing(4.0, 0.05, 0.5)


@pytest.mark.parametrize("boost", [False, True])
@pytest.mark.parametrize(
  ("smoothing", "reference"),
  [
    (0.9, lambda visit: 0.9),
    (0.1, lambda visit: 0.1),
    (1.0, lambda visit: 1.0),
    (DECREASING, lambda visit: min(max(4 / visit, 0.05), 0.5)),
  ],
)
def test_the_running_mean_equals_a_loop_in_linear_space(smoothing, reference, boost):
  visits = list(_visits())
  state = _run(visits, smoothing=smoothing, boost=boost)
  v, counts, level = oracle.normalizer_run(ROWS, visits, reference, boost)
  np.testing.assert_allclose(state.log_v, np.log(v), rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(state.count, counts)
  np.testing.assert_allclose(state.level, level, rtol=1e-4, atol=1e-5)
  assert counts[-1] == 0 and state.log_v[-1] == 0


def test_the_first_visit_takes_the_estimate_whatever_the_smoothing():
  index = jnp.array([4, 1], jnp.int32)
  state, after = _update(normalizer.init(ROWS), index, jnp.array([5.0, -300.0]))
  np.testing.assert_allclose(after, [5, -300], rtol=1e-6)
  np.testing.assert_array_equal(state.count, [0, 1, 0, 0, 1, 0])


def test_minus_infinity_leaves_the_anchor_and_the_level_alone():
  index = jnp.array([0, 1], jnp.int32)
  state, _ = _update(normalizer.init(ROWS), index, jnp.array([1.0, 3.0]))
  state, after = _update(state, index, jnp.array([-jnp.inf, 3.0]))
  np.testing.assert_allclose(after, [1, 3], rtol=1e-6)
  np.testing.assert_array_equal(state.count[:2], [1, 2])
  np.testing.assert_allclose(state.level, 0.9 * 2 + 0.1 * 3, rtol=1e-6)
  same, after = _update(state, index, jnp.full(2, -jnp.inf))
  jax.tree.map(np.testing.assert_array_equal, same, state)
  np.testing.assert_allclose(after, [1, 3], rtol=1e-6)


def test_the_update_bounds_the_weight_by_one_over_g():
  index = jnp.array([0], jnp.int32)
  state, _ = _update(normalizer.init(ROWS), index, jnp.array([-50.0]))
  new = jnp.array([80.0])
  _, after = _update(state, index, new, smoothing=0.1)
  np.testing.assert_allclose(np.exp(new - after), [10.0], rtol=1e-4)


def test_a_high_leftover_is_forgotten_in_one_visit_only_with_the_boost():
  index = jnp.arange(ROWS, dtype=jnp.int32)
  state, _ = _update(normalizer.init(ROWS), index, jnp.zeros(ROWS))
  stale = state._replace(log_v=state.log_v.at[2].set(30.0))
  log_v = {
    boost: _update(stale, index, jnp.zeros(ROWS), smoothing=0.01, boost=boost)[1]
    for boost in (True, False)
  }
  np.testing.assert_allclose(log_v[True], np.zeros(ROWS), atol=1e-3)
  np.testing.assert_allclose(log_v[False][2], 30 + np.log(0.99), rtol=1e-4)


def test_a_low_leftover_gets_no_boost():
  index = jnp.arange(ROWS, dtype=jnp.int32)
  state, _ = _update(normalizer.init(ROWS), index, jnp.zeros(ROWS))
  low = state._replace(log_v=state.log_v.at[2].set(-30.0))
  _, after = _update(low, index, jnp.zeros(ROWS), smoothing=0.01)
  np.testing.assert_allclose(after[2], np.log(0.01), rtol=1e-4)


def test_equal_estimates_are_a_fixed_point():
  index = jnp.arange(ROWS, dtype=jnp.int32)
  value = jnp.linspace(-200.0, 200.0, ROWS)
  state = normalizer.init(ROWS)
  for _ in range(3):
    state, after = _update(state, index, value, smoothing=0.1)
    np.testing.assert_allclose(after, value, rtol=1e-6)


def test_decreasing_with_numerator_one_is_the_plain_mean():
  plain = normalizer.decreasing(numerator=1.0, floor=0.0, ceiling=1.0)
  estimates = np.array([1.0, 5.0, 0.2, 9.0])
  visits = [(np.array([0]), np.array([s])) for s in estimates]
  state = _run(visits, smoothing=plain, boost=False)
  np.testing.assert_allclose(np.exp(state.log_v[0]), estimates.mean(), rtol=1e-5)


def test_read_gives_the_level_where_nothing_is_known():
  index = jnp.array([0, 1], jnp.int32)
  state, _ = _update(normalizer.init(ROWS), index, jnp.array([1.0, 3.0]))
  np.testing.assert_allclose(
    normalizer.read(state, jnp.array([1, 5])), [3, 2], rtol=1e-6
  )


def test_no_gradient_flows_through_the_estimates():
  index = jnp.array([0, 1], jnp.int32)
  state = normalizer.init(ROWS)
  total = lambda s: normalizer.update(state, index, s)[1].sum()
  np.testing.assert_array_equal(jax.grad(total)(jnp.array([1.0, 3.0])), [0, 0])


@pytest.mark.parametrize("smoothing", [0.0, -0.1, 1.5])
def test_a_smoothing_out_of_range_is_refused(smoothing):
  with pytest.raises(ValueError, match="smoothing"):
    normalizer.constant(smoothing)


@pytest.mark.parametrize(
  "knobs",
  [
    {"numerator": 0.0},
    {"floor": 0.6},
    {"ceiling": 1.5},
    {"floor": 0.0, "ceiling": 0.0},
  ],
)
def test_a_schedule_out_of_range_is_refused(knobs):
  with pytest.raises(ValueError, match="decreasing"):
    normalizer.decreasing(**knobs)


def test_a_state_without_anchors_is_refused():
  with pytest.raises(ValueError, match="at least 1"):
    normalizer.init(0)
