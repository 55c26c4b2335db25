"""What must hold for every loss over towers: edges, invariances, number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from contrastive import axes
from tests.multimodal import towers_losses
from tests.multimodal.towers_losses import LOSSES

AXIS = "data"
WEIGHT = np.linspace(0.5, 2.0, 8).astype(np.float32)
# Losses that see rows of other devices.
GATHERED = (
  "four_weighted",
  "four_printed",
  "augmented",
  "sigmoid",
  "separation_literal",
  "geometry_gram",
  "geometry_pairs",
)
# Devices, how the sums are executed, and which losses.
SHARD_MAP = [
  (
    2,
    dict(block_size=3, ring=True),
    ("four_weighted", "four_printed", "sigmoid", "separation_literal"),
  ),
  (2, {}, GATHERED[-2:]),
  (8, {}, ("augmented", "sigmoid", *GATHERED[-3:-1], "structures")),
]


def _differentiated(forward, x, weight, names=tuple(LOSSES)):
  """Values, and the gradients of their weighted means by every input."""

  def means(x):
    values = forward(x)
    return jnp.stack([jnp.mean(values[name] * weight) for name in names]), values

  grads, values = jax.jacrev(means, has_aux=True)(x)
  return values, grads


@functools.partial(jax.jit, static_argnames="names")
def _plain(x, weight, names):
  forward = functools.partial(towers_losses.every, names=names)
  return _differentiated(forward, x, weight, names)


def _evaluate(x, names=tuple(LOSSES)):
  return jax.device_get(_plain(x, WEIGHT[: x.shared["image"].shape[0]], names))


@functools.cache
def _usual(**knobs):
  return _evaluate(towers_losses.batch(n=8, **knobs))


def _close(got, want, names, order=tuple(LOSSES)):
  """The losses of these names; `order` is that of the rows of the wanted gradients."""
  for name in names:
    np.testing.assert_allclose(got[0][name], want[0][name], 1e-5, 1e-5, err_msg=name)

  def check(path, grad, expected):
    for name, row in zip(names, grad, strict=True):
      other = expected[order.index(name)]
      atol = 1e-5 * (1 + np.max(np.abs(other)))
      np.testing.assert_allclose(row, other, 1e-5, atol, err_msg=f"{name} {path}")

  jax.tree_util.tree_map_with_path(check, got[1], want[1])


def _finite(result, names=tuple(LOSSES)):
  for name in names:
    assert np.all(np.isfinite(result[0][name])), (name, result[0][name])

  def check(path, grad):
    for name, row in zip(names, grad, strict=True):
      assert np.all(np.isfinite(row)), (name, path, row)

  jax.tree_util.tree_map_with_path(check, result[1])


def test_one_value_an_anchor():
  for name, value in _usual()[0].items():
    assert value.shape == (8,), name
    assert value.dtype == np.float32, name


@pytest.mark.parametrize("devices, how, names", SHARD_MAP)
def test_shard_map_equals_one_device(devices, how, names):
  x = towers_losses.batch(n=8)
  mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
  split = PartitionSpec(AXIS)
  specs = jax.tree.map(lambda z: split if z.ndim == 2 else PartitionSpec(), x)
  knobs = dict(axis_name=AXIS, how=how, names=names)
  every = functools.partial(towers_losses.every, **knobs)
  mapped = jax.shard_map(every, mesh=mesh, in_specs=(specs,), out_specs=split)
  program = jax.jit(lambda x: _differentiated(mapped, x, WEIGHT, names))
  _close(jax.device_get(program(x)), _usual(), names)


def test_pmap_with_averaged_gradients_equals_one_device():
  """Of a parameter that all devices share."""
  x = towers_losses.batch(n=8)
  encoder = np.eye(4, dtype=np.float32) + 0.1
  names = ("separation_literal", "geometry_gram")

  def loss(encoder, x, axis_name):
    turned = jax.tree.map(lambda z: z @ encoder if z.ndim == 2 else z, x)
    return towers_losses.every(turned, axis_name, names=names)

  def device(encoder, x, weight):
    forward = lambda encoder: loss(encoder, x, AXIS)
    values, grads = _differentiated(forward, encoder, weight, names)
    return values, axes.mean(grads, AXIS)

  parts = jax.tree.map(
    lambda z: z.reshape(2, -1, *z.shape[1:]) if z.ndim else np.stack([z, z]), x
  )
  program = jax.pmap(
    device, axis_name=AXIS, in_axes=(None, 0, 0), devices=jax.devices()[:2]
  )
  values, grads = jax.device_get(program(encoder, parts, WEIGHT.reshape(2, 4)))
  one = lambda encoder: loss(encoder, x, None)
  plain = jax.jit(lambda encoder: _differentiated(one, encoder, WEIGHT, names))
  values = {name: value.reshape(-1) for name, value in values.items()}
  _close((values, grads[0]), jax.device_get(plain(encoder)), names, names)


def test_parts_of_the_structures_are_the_same_on_all_devices():
  x = towers_losses.batch(n=8)
  mesh = Mesh(np.array(jax.devices()[:2]), (AXIS,))
  specs = jax.tree.map(lambda z: PartitionSpec(*[AXIS] * (z.ndim // 2)), x)

  def parts(x, axis_name):
    return towers_losses.structured(towers_losses.units(x), axis_name, {})[1]

  # out_specs without an axis: shard_map itself proves that they are replicated.
  mapped = jax.shard_map(
    functools.partial(parts, axis_name=AXIS),
    mesh=mesh,
    in_specs=(specs,),
    out_specs=PartitionSpec(),
  )
  got, expected = jax.jit(mapped)(x), jax.jit(lambda x: parts(x, None))(x)
  for name, value in expected.items():
    np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("scale", [0.01, 100.0, 1e4])
def test_finite_at_any_temperature(scale):
  _finite(_usual(scale=scale))


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_finite_for_identical_opposite_and_zero_rows(scale):
  x = towers_losses.batch(n=8, scale=scale)
  row = x.shared["image"][:1]
  one = np.broadcast_to(row, (8, 4))
  everywhere = lambda z: jax.tree.map(lambda y: z if y.ndim else y, x)
  _finite(_evaluate(everywhere(one)))
  _finite(_evaluate(everywhere(np.zeros_like(one))))
  signs = lambda z: -z if z.ndim else z
  opposite = jax.tree.map(signs, x.shared | {"text": -x.shared["image"]})
  opposite["image"] = x.shared["image"]
  opposite["text"] = -x.shared["image"]
  _finite(_evaluate(x._replace(shared=opposite, shared_view=x.shared)))
  some = (np.arange(8) > 2)[:, None]
  _finite(_evaluate(jax.tree.map(lambda z: z * some if z.ndim else z, x)))


def test_a_batch_of_one_has_nothing_to_contrast():
  names = (*GATHERED, "structures")
  result = _evaluate(towers_losses.batch(n=1), names)
  _finite(result, names)
  for name in ("four_weighted", "augmented"):
    np.testing.assert_allclose(result[0][name], 0, atol=1e-6, err_msg=name)


def test_bfloat16_rows_give_float32_values():
  x = towers_losses.batch(n=8)
  narrow = lambda z: jnp.asarray(z, jnp.bfloat16) if z.ndim else z
  # Unit rows as a model in bfloat16 would hand them over.
  rows = jax.tree.map(narrow, jax.device_get(towers_losses.units(x)))
  again = jax.tree.map(lambda z: z.astype(jnp.float32), rows)
  losses = jax.jit(lambda x: {name: loss(x, None, {}) for name, loss in LOSSES.items()})
  got, expected = losses(rows), losses(again)
  for name, value in got.items():
    assert value.dtype == jnp.float32, name
    np.testing.assert_allclose(value, expected[name], 1e-5, 1e-5, err_msg=name)


def test_permuting_the_batch_permutes_the_values():
  order = np.array([3, 0, 7, 5, 1, 4, 2, 6])
  x = towers_losses.batch(n=8)
  moved = jax.tree.map(lambda z: z[order] if z.ndim else z, x)
  after = _evaluate(moved)[0]
  drawn = ("augmented", "bridge_likelihood", "structures")
  for name, value in _usual()[0].items():
    if name not in drawn:  # draws stay at their places
      np.testing.assert_allclose(after[name], value[order], 1e-5, 1e-5, err_msg=name)


def test_turning_the_space_changes_nothing():
  turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((4, 4)))
  turn = turn.astype(np.float32)
  x = towers_losses.batch(n=8)
  turned = jax.tree.map(lambda z: z @ turn if z.ndim else z, x)
  after = _evaluate(turned)[0]
  for name, value in _usual()[0].items():
    np.testing.assert_allclose(after[name], value, 1e-4, 1e-5, err_msg=name)


def test_the_order_of_the_towers_changes_nothing():
  x = towers_losses.batch(n=8)
  backwards = towers_losses.units(x)
  backwards = backwards._replace(
    **{
      field: dict(reversed(getattr(backwards, field).items()))
      for field in x._fields
      if field != "scale"
    }
  )
  # Not in jit, which would sort them.
  for name in ("four_weighted", "sigmoid", "structures"):
    value = LOSSES[name](backwards, None, {})
    np.testing.assert_allclose(value, _usual()[0][name], 1e-5, 1e-5, err_msg=name)
