"""Geometry of embeddings: closed forms, float64 loops, and the degenerate cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import diagnostics


def _rows(n=30, d=6, seed=0):
  return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def _unit(x):
  x = x.astype(np.float64)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.0])
def test_alignment_is_a_mean_power_of_distances(alpha):
  a, b = _rows(), _rows(seed=1)
  distances = np.linalg.norm(_unit(a) - _unit(b), axis=1) ** alpha
  assert diagnostics.alignment(a, b, alpha=alpha) == pytest.approx(
    np.mean(distances), rel=1e-5
  )


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment_of_equal_rows_is_zero_with_a_finite_gradient(alpha):
  a = _rows()
  a[3] = 0
  value, gradient = jax.value_and_grad(diagnostics.alignment)(a, 2 * a, alpha=alpha)
  assert value == pytest.approx(0, abs=1e-6)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize("block_size", [None, 1, 7, 30, 64])
def test_uniformity_equals_a_loop_over_distinct_pairs(block_size):
  z = _rows()
  z[5] = 0
  u = _unit(np.where(z == 0, 1, z))
  u[5] = 0
  kernel = [
    np.exp(-3.0 * ((u[i] - u[j]) ** 2).sum())
    for i in range(30)
    for j in range(30)
    if i != j
  ]
  value = diagnostics.uniformity(z, t=3.0, block_size=block_size)
  assert value == pytest.approx(np.log(np.mean(kernel)), rel=1e-5)


def test_blocks_change_no_gradient():
  z = _rows()
  whole = jax.grad(diagnostics.uniformity)(z)
  blocks = jax.grad(lambda x: diagnostics.uniformity(x, block_size=8))(z)
  np.testing.assert_allclose(whole, blocks, atol=1e-6)


def test_uniformity_of_known_arrangements():
  # Orthogonal rows are 2 apart in squared distance, equal rows 0, opposite rows 4.
  assert diagnostics.uniformity(jnp.eye(5)) == pytest.approx(-4.0, rel=1e-6)
  assert diagnostics.uniformity(jnp.ones((5, 3))) == pytest.approx(0, abs=1e-5)
  assert diagnostics.uniformity(jnp.zeros((5, 3))) == 0
  opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
  assert diagnostics.uniformity(opposite) == pytest.approx(-8.0, rel=1e-6)


@pytest.mark.parametrize("function", [diagnostics.uniformity, diagnostics.collapse])
def test_one_row_has_no_pair(function):
  with pytest.raises(ValueError, match="two or more"):
    function(jnp.ones((1, 4)))


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_effective_rank_is_the_exponential_of_an_entropy(shape):
  z = _rows(*shape) * np.logspace(0, -2, shape[1], dtype=np.float32)
  values = np.linalg.svd(z.astype(np.float64), compute_uv=False)
  share = values / values.sum()
  expected = np.exp(-(share * np.log(share)).sum())
  assert diagnostics.effective_rank(z) == pytest.approx(expected, rel=1e-4)


def test_ranks_of_known_matrices():
  assert diagnostics.effective_rank(jnp.eye(7)) == pytest.approx(7, rel=1e-5)
  assert diagnostics.energy_rank(jnp.eye(7)) == 7
  # Rank one in 64 dimensions: rounding must not look like rank.
  line = jnp.outer(jnp.arange(1.0, 200.0), jnp.linspace(0.3, 1.0, 64))
  assert diagnostics.effective_rank(line) == pytest.approx(1, abs=1e-3)
  assert diagnostics.energy_rank(line) == 1
  for rank in (diagnostics.effective_rank, diagnostics.energy_rank):
    assert rank(jnp.zeros((4, 3))) == 0
    assert rank(jnp.ones((1, 3))) == pytest.approx(1)


def test_energy_rank_counts_the_directions_that_hold_the_share():
  z = jnp.diag(jnp.sqrt(jnp.array([90.0, 8.0, 1.5, 0.5])))
  energies = (0.85, 0.95, 0.99, 0.999)
  assert [int(diagnostics.energy_rank(z, energy=e)) for e in energies] == [1, 2, 3, 4]


def test_collapse_measures_equal_loops():
  z = _rows()
  u = _unit(z)
  state = diagnostics.collapse(z)
  cosines = (u @ u.T)[~np.eye(30, dtype=bool)]
  np.testing.assert_allclose(state["std"], u.std(0), rtol=1e-5)
  assert state["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-5)
  assert state["std_ratio"] == pytest.approx(u.std(0).mean() * np.sqrt(6), rel=1e-5)
  assert not state["collapsed"]


def test_rows_that_fill_the_sphere_have_ratio_one():
  state = diagnostics.collapse(_rows(4000, 32))
  assert state["std_ratio"] == pytest.approx(1, abs=0.02)
  assert state["mean_cosine"] == pytest.approx(0, abs=4 / 4000)


def test_collapse_warns_of_a_point_a_line_and_nothing():
  rng = np.random.default_rng(0)
  point = np.ones((50, 32)) + 0.03 * rng.normal(size=(50, 32))
  line = rng.normal(size=(50, 1)) * rng.normal(size=(1, 32))
  plane = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 32))
  skewed = np.ones((50, 32)) + rng.normal(size=(50, 32))
  collapsed = [
    bool(diagnostics.collapse(x.astype(np.float32))["collapsed"])
    for x in (point, line, 0 * line, plane, skewed)
  ]
  assert collapsed == [True, True, True, False, False]


def test_diagnostics_are_jittable_in_half_precision():
  z = jnp.asarray(_rows(), jnp.bfloat16)
  for function in (
    diagnostics.uniformity,
    diagnostics.effective_rank,
    diagnostics.energy_rank,
  ):
    assert np.isfinite(jax.jit(function)(z))
  assert jax.jit(diagnostics.collapse)(z)["std"].dtype == jnp.float32
