import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import contrastive
from contrastive import axes

SPLIT, SAME = PartitionSpec("data"), PartitionSpec()


def _mapped(function, out_specs, devices=4):
  mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
  return jax.jit(
    jax.shard_map(function, mesh=mesh, in_specs=SPLIT, out_specs=out_specs)
  )


def test_without_an_axis_everything_is_the_identity():
  x = jnp.arange(6.0).reshape(3, 2)
  assert axes.size(None) == 1
  assert axes.row_offset(3, None) == 0
  for function in (
    axes.gather,
    axes.gather_replicated,
    axes.scatter_sum,
    axes.scatter_log_sum,
    axes.mean,
  ):
    assert function(x, None) is x


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_gathers_are_in_device_order(dtype):
  x = np.arange(16).reshape(8, 2).astype(dtype)

  def local(x):
    replicated = axes.gather_replicated(x, "data")
    return jnp.abs(axes.gather(x, "data") - replicated), replicated

  difference, replicated = _mapped(local, (SPLIT, SAME))(x)
  np.testing.assert_array_equal(replicated, x)
  assert difference.shape == (32, 2) and not difference.any()
  assert replicated.dtype == dtype


def test_minus_infinity_survives_the_replicated_gather():
  x = np.array([0.0, -np.inf, 2.0, -np.inf], np.float32)
  local = lambda x: axes.gather_replicated(x, "data")
  np.testing.assert_array_equal(_mapped(local, SAME)(x), x)


def test_offsets_and_means():
  x = np.arange(8.0, dtype=np.float32)

  def local(x):
    n = x.shape[0]
    return (
      jnp.arange(n) + axes.row_offset(n, "data"),
      axes.mean(x.mean(), "data") + 0 * axes.size("data"),
    )

  rows, mean = _mapped(local, (SPLIT, SAME))(x)
  np.testing.assert_array_equal(rows, np.arange(8))
  assert mean == 3.5


def test_gather_carries_the_gradient_of_other_devices():
  x = np.arange(1.0, 5.0, dtype=np.float32)
  local = lambda x: (x.sum() * axes.gather(x, "data").sum())[None]
  total = lambda x: jnp.sum(_mapped(local, SPLIT)(x))  # (sum x)^2
  np.testing.assert_allclose(jax.grad(total)(x), np.full(4, 2 * x.sum()), rtol=1e-6)


def test_scattered_log_sums_equal_those_of_the_whole():
  """Device r adds its row r of the table; each keeps its part of the columns' sums."""
  table = np.random.default_rng(0).normal(scale=30, size=(4, 8)).astype(np.float32)
  table[:, 3] = -np.inf
  table[1:, 5] = -np.inf
  with np.errstate(divide="ignore"):
    expected = np.log(np.exp(table.astype(np.float64)).sum(0))
  local = lambda row: axes.scatter_log_sum(row[0], "data")
  np.testing.assert_allclose(_mapped(local, SPLIT)(table), expected, rtol=1e-6)
  local = lambda row: axes.scatter_sum(row[0], "data")
  finite = np.maximum(table, -50)
  np.testing.assert_allclose(_mapped(local, SPLIT)(finite), finite.sum(0), rtol=1e-6)


@pytest.mark.parametrize("ring", [False, True])
def test_an_axis_that_is_not_there_is_named(ring):
  z = jnp.ones((2, 3))
  with pytest.raises(ValueError, match="axis_name='data' is not an axis of devices"):
    contrastive.info_nce(z, z, scale=1.0, axis_name="data", ring=ring)
