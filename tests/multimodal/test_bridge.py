"""Bridge: value, the corrected identity, weights of sampled times, opposite rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import bridge
from tests import oracle


def _rows(n=6, d=4, dtype=np.float32):
  rng = np.random.default_rng(4)
  return [oracle.unit(rng.standard_normal((n, d))).astype(dtype) for _ in range(3)]


def _distance(own, other, view, times):
  """The definition, a row at a time."""
  values = []
  for v, o, a, t in zip(own, other, view, times, strict=True):
    mean = [t * x + (1 - t) * y for x, y in zip(v, o, strict=True)]
    length = sum(m * m for m in mean) ** 0.5
    values.append(sum((x - m / length) ** 2 for x, m in zip(a, mean, strict=True)))
  return np.array(values)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_value_equals_the_definition(t):
  rows = _rows()
  got = bridge.bridge_loss(*rows, t=t)
  np.testing.assert_allclose(got, _distance(*rows, [t] * 6), rtol=1e-5)


def test_the_published_time_weighs_the_other_tower_three_to_one():
  own, other, _ = _rows()
  default = bridge.bridge_loss(own, other, other)
  np.testing.assert_array_equal(default, bridge.bridge_loss(own, other, other, t=0.25))
  assert np.all(default < bridge.bridge_loss(own, other, own))


def test_the_corrected_expansion_not_the_printed_one():
  """2 - 2 (t v.a + (1 - t) o.a) / sqrt(t^2 + (1-t)^2 + 2 t (1-t) v.o)."""
  rows = _rows()
  t = 0.25
  corrected, printed = [], []
  for v, o, a in zip(*rows, strict=True):
    top = t * oracle.dot(v, a) + (1 - t) * oracle.dot(o, a)
    square = t**2 + (1 - t) ** 2 + 2 * t * (1 - t) * oracle.dot(v, o)
    corrected.append(2 - 2 * top / square**0.5)
    printed.append(top / square)
  got = bridge.bridge_loss(*rows, t=t)
  np.testing.assert_allclose(got, corrected, rtol=1e-5)
  assert np.min(np.abs(got - np.array(printed))) > 0.05


def test_a_view_on_the_mean_costs_nothing_and_one_opposite_costs_four():
  own, other, _ = _rows()
  mean = np.asarray(bridge.bridge_mean(own, other, 0.3))
  np.testing.assert_allclose(np.linalg.norm(mean, axis=1), 1, rtol=1e-6)
  np.testing.assert_allclose(bridge.bridge_loss(own, other, mean, t=0.3), 0, atol=1e-12)
  np.testing.assert_allclose(bridge.bridge_loss(own, other, -mean, t=0.3), 4, rtol=1e-6)


def test_either_tower_can_be_the_augmented_one():
  """Swapping the towers reverses time."""
  own, other, view = _rows()
  forth = bridge.bridge_loss(own, other, view, t=0.2)
  back = bridge.bridge_loss(other, own, view, t=0.8)
  np.testing.assert_allclose(forth, back, rtol=1e-6)


def test_weights_of_sampled_times():
  rows = _rows()
  times = np.array([0.1, 0.3, 0.5, 0.7, 0.2, 0.9], np.float32)
  plain = _distance(*rows, times)
  got = functools.partial(bridge.bridge_loss, *rows, t=times)
  np.testing.assert_allclose(got(), plain, rtol=1e-5)
  middle = times * (1 - times)
  np.testing.assert_allclose(got(weighted="variance"), middle * plain, rtol=1e-5)
  likely = got(weighted="likelihood")
  np.testing.assert_allclose(likely, plain / (2 * middle), rtol=1e-5)


def test_the_likelihood_weight_is_the_normal_density_up_to_its_log_variance():
  own, other, view = _rows(dtype=np.float64)
  d, times = own.shape[1], np.linspace(0.2, 0.7, 6)
  density = []
  for i, t in enumerate(times):
    variance = t * (1 - t)
    squared = _distance(own[i : i + 1], other[i : i + 1], view[i : i + 1], [t])[0]
    density.append(0.5 * squared / variance + d / 2 * np.log(2 * np.pi * variance))
  got = bridge.bridge_loss(own, other, view, t=times, weighted="likelihood")
  constant = d / 2 * np.log(2 * np.pi * times * (1 - times))
  np.testing.assert_allclose(got + constant, density, rtol=1e-5)


def test_variance_weight_is_a_draw_from_beta_2_2():
  """Over uniform times: E[t (1-t) f(t)] = E_beta[f] / 6, on a fine grid of times."""
  own, other, view = (z[:1] for z in _rows())
  t = ((np.arange(2000) + 0.5) / 2000).astype(np.float32)
  many = [np.repeat(z, 2000, axis=0) for z in (own, other, view)]
  weighted = np.mean(bridge.bridge_loss(*many, t=t, weighted="variance"))
  density = 6 * t * (1 - t)
  expected = np.mean(density * bridge.bridge_loss(*many, t=t))
  np.testing.assert_allclose(6 * weighted, expected, rtol=1e-4)


@pytest.mark.parametrize("weighted", [None, "variance", "likelihood"])
def test_gradient_equals_finite_differences(weighted):
  rng = np.random.default_rng(1)
  raw = [rng.standard_normal((3, 3)) for _ in range(3)]
  times = np.array([0.2, 0.5, 0.7])
  weight = {None: 1.0, "variance": times * (1 - times)}.get(weighted)
  weight = 1 / (2 * times * (1 - times)) if weight is None else weight

  def loss(rows):
    rows = [z / jnp.linalg.norm(z, axis=1)[:, None] for z in rows]
    return jnp.sum(bridge.bridge_loss(*rows, t=times, weighted=weighted))

  with jax.enable_x64(True):
    grads = jax.device_get(jax.jit(jax.grad(loss))(raw))
  for place in range(3):

    def expected(moved, place=place):
      rows = [oracle.unit(moved if i == place else z) for i, z in enumerate(raw)]
      return np.sum(weight * _distance(*rows, times))

    numeric = oracle.gradient(expected, raw[place])
    np.testing.assert_allclose(grads[place], numeric, rtol=1e-6, atol=1e-8)


def test_stopped_gradients():
  own, other, view = rows = _rows()
  grads = lambda **knobs: jax.grad(
    lambda rows: jnp.sum(bridge.bridge_loss(*rows, **knobs))
  )(rows)
  free = grads()
  assert all(np.linalg.norm(g) > 0.1 for g in free)
  stopped = grads(stop_gradient=("own", "other"))
  assert np.all(stopped[0] == 0) and np.all(stopped[1] == 0)
  np.testing.assert_array_equal(stopped[2], free[2])
  np.testing.assert_array_equal(
    bridge.bridge_loss(own, other, view, stop_gradient=["view"]),
    bridge.bridge_loss(own, other, view),
  )


@pytest.mark.parametrize("t", [0.5, 0.5 + 1e-4, 0.499])
def test_opposite_rows_have_a_bounded_gradient(t):
  own, _, view = _rows()
  value, grads = jax.value_and_grad(
    lambda rows: jnp.sum(bridge.bridge_loss(*rows, t=t)), argnums=0
  )([own, -own, view])
  if t == 0.5:
    np.testing.assert_allclose(value, 6, rtol=1e-6)  # |view - 0|^2 each
  for grad in grads:
    assert np.all(np.linalg.norm(grad, axis=1) <= 2.01 / 1e-3)
  zeros = np.zeros_like(own)
  np.testing.assert_allclose(bridge.bridge_loss(zeros, zeros, view, t=t), 1, rtol=1e-6)


def test_times_are_uniform_and_reproducible():
  key = jax.random.key(3)
  times = np.asarray(bridge.sample_times(key, 4000))
  assert times.min() >= 0 and times.max() < 1
  # Four standard errors of the mean and of the mean square.
  assert abs(times.mean() - 0.5) < 4 * np.sqrt(1 / 12 / 4000)
  assert abs(np.mean(times**2) - 1 / 3) < 4 * np.sqrt(4 / 45 / 4000)
  np.testing.assert_array_equal(bridge.sample_times(key, 4000), times)
  narrow = bridge.sample_times(key, 100, low=0.2, high=0.4)
  assert np.all((narrow >= 0.2) & (narrow < 0.4))
  with jax.enable_x64(True):
    np.testing.assert_array_equal(bridge.sample_times(key, 4000), times)


def test_errors_name_the_cure():
  own, other, view = rows = _rows()
  loss = bridge.bridge_loss
  with pytest.raises(ValueError, match="known: variance, likelihood"):
    loss(*rows, weighted="t")
  with pytest.raises(ValueError, match="among own, other, view"):
    loss(*rows, stop_gradient=("image",))
  with pytest.raises(ValueError, match="a collection of names"):
    loss(*rows, stop_gradient="view")
  with pytest.raises(ValueError, match=r"in \[0, 1\], not 1.5"):
    loss(*rows, t=1.5)
  with pytest.raises(ValueError, match="one time or 6"):
    loss(*rows, t=np.full(5, 0.5))
  with pytest.raises(ValueError, match="no likelihood at its end"):
    loss(*rows, t=1.0, weighted="likelihood")
  with pytest.raises(ValueError, match="give all heads one width"):
    loss(own, other[:, :2], view)
  with pytest.raises(ValueError, match="low < high"):
    bridge.sample_times(jax.random.key(0), 3, low=0.5, high=0.5)
