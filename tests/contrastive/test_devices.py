"""Values, gradients and states do not depend on the number of devices, nor on blocks
and on whether rows are gathered or walk.

One program a device count computes every objective: the batch is split over the
devices, the parameters (a linear encoder, scale, bias) are replicated.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import contrastive
from contrastive import axes, normalizer, queue
from tests import losses

N = 8
EXAMPLES = 20
AXIS = "data"

# Devices, block_size and ring, each program with all objectives. N = 8 images are 16
# anchors of the two-view pairing.
SHARD_MAP = [
  (1, {}),
  (2, {}),
  (8, {}),
  (2, dict(block_size=3, ring=True)),
  (4, dict(ring=True)),
  (8, dict(block_size=1)),
]
PMAP = [
  (1, dict(block_size=3, ring=True)),
  (2, dict(block_size=3)),
  (4, {}),
  (8, dict(block_size=1, ring=True)),
]


class Params(NamedTuple):
  encoder: jax.Array
  scale: jax.Array
  bias: jax.Array


class Shard(NamedTuple):
  """What is split over the devices, [n, ...]."""

  a: jax.Array
  b: jax.Array
  labels: jax.Array
  targets: jax.Array
  log_norm: jax.Array
  weight: jax.Array
  index: jax.Array


def _case():
  x = losses.batch(n=N, d=5)
  rng = np.random.default_rng(1)
  params = Params(rng.standard_normal((5, 3)).astype(np.float32), x.scale, x.bias)
  weight = np.linspace(0.5, 2.0, N).astype(np.float32)
  index = rng.permutation(EXAMPLES)[:N].astype(np.int32)
  shard = Shard(x.a, x.b, x.labels, x.targets, x.log_norm, weight, index)
  keys = losses.batch(d=3).queue
  # A state that has seen half of the batch's examples before.
  state = normalizer.init(EXAMPLES)
  seen, _ = normalizer.update(state, index[::2], jnp.linspace(-1.0, 2.0, N // 2))
  held = queue.push(queue.init(5, 3), keys[:3])
  return params, shard, seen, held


def _running(x, index, state, axis_name, how):
  """The augmented objective at the running normaliser, and the new state."""
  a, b = contrastive.unit(x.a), contrastive.unit(x.b)
  sums = contrastive.two_view_sums(a, b, scale=x.scale, axis_name=axis_name, **how)
  log_s = contrastive.fold_views(contrastive.log_normalizer(sums))
  state, log_v = normalizer.update(
    state, index, log_s, smoothing=normalizer.decreasing(), axis_name=axis_name
  )
  noise = contrastive.view_noise(losses.key(), index.shape[0], 1.0, axis_name)
  return contrastive.augmented_loss(sums, jnp.tile(log_v, 2), noise), state


def _every(params, shard, state, held, axis_name, how):
  """Values [n, views] or scalars by name, and the states after the batch."""
  n = shard.a.shape[0]
  a, b = shard.a @ params.encoder, shard.b @ params.encoder
  x = losses.Inputs(
    a,
    b,
    params.scale,
    params.bias,
    shard.labels,
    shard.targets,
    shard.log_norm,
    held.keys,
  )
  values = {
    name: loss(x, axis_name, **(how if name in losses.SCALED else {}))
    for name, loss in losses.LOSSES.items()
  }
  values["running"], state = _running(x, shard.index, state, axis_name, how)
  held = queue.push(held, contrastive.unit(b), axis_name)
  values = {k: v if v.ndim == 0 else losses.per_image(v, n) for k, v in values.items()}
  return values, (state, held)


def _reduced(values, weight):
  """[objectives] weighted means."""
  mean = lambda v: v if v.ndim == 0 else jnp.mean(weight[:, None] * v)
  return jnp.stack([mean(values[name]) for name in sorted(values)])


def _differentiated(forward, params, weight):
  """Gradients of all objectives at once, with the values and states."""

  def reduced(params):
    values, states = forward(params)
    return _reduced(values, weight), (values, states)

  grads, (values, states) = jax.jacrev(reduced, has_aux=True)(params)
  return values, grads, states


@jax.jit
def _plain(params, shard, state, held):
  forward = lambda p: _every(p, shard, state, held, None, {})
  return _differentiated(forward, params, shard.weight)


@functools.cache
def _on_one_device():
  return jax.device_get(_plain(*_case()))


def _check(values, grads, states):
  expected_values, expected_grads, expected_states = _on_one_device()
  for name, value in expected_values.items():
    np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
  for field in Params._fields:
    got, want = getattr(grads, field), getattr(expected_grads, field)
    for name, row, expected in zip(sorted(expected_values), got, want, strict=True):
      np.testing.assert_allclose(
        row, expected, rtol=1e-5, atol=1e-5, err_msg=f"{name}, {field}"
      )
  jax.tree.map(
    lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6),
    states,
    expected_states,
  )


def test_jit_of_a_sharded_batch_equals_one_device():
  """No axis name: the compiler places the collectives."""
  params, shard, state, held = _case()
  mesh = Mesh(np.array(jax.devices()), (AXIS,))
  shard = jax.device_put(shard, NamedSharding(mesh, PartitionSpec(AXIS)))
  rest = jax.device_put((params, state, held), NamedSharding(mesh, PartitionSpec()))
  _check(*jax.device_get(_plain(rest[0], shard, *rest[1:])))


@pytest.mark.parametrize("devices, how", SHARD_MAP)
def test_shard_map_equals_one_device(devices, how):
  params, shard, state, held = _case()
  mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
  split, same = PartitionSpec(AXIS), PartitionSpec()
  every = functools.partial(_every, axis_name=AXIS, how=how)
  scalar = ("barlow_twins", "vicreg")
  out = {name: same if name in scalar else split for name in _on_one_device()[0]}
  # out_specs `same` for the states: shard_map itself proves that they are replicated.
  mapped = jax.shard_map(
    every, mesh=mesh, in_specs=(same, split, same, same), out_specs=(out, same)
  )

  @jax.jit
  def program(params, shard, state, held):
    forward = lambda p: mapped(p, shard, state, held)
    return _differentiated(forward, params, shard.weight)

  _check(*jax.device_get(program(params, shard, state, held)))


@pytest.mark.parametrize("devices, how", PMAP)
def test_pmap_with_averaged_gradients_equals_one_device(devices, how):
  params, shard, state, held = _case()

  def device(params, shard, state, held):
    forward = lambda p: _every(p, shard, state, held, AXIS, how)
    values, grads, states = _differentiated(forward, params, shard.weight)
    return values, axes.mean(grads, AXIS), states

  mapped = jax.pmap(
    device,
    axis_name=AXIS,
    in_axes=(None, 0, None, None),
    devices=jax.devices()[:devices],
  )
  program = jax.jit(mapped)
  shards = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), shard)
  values, grads, states = jax.device_get(program(params, shards, state, held))
  for leaf in jax.tree.leaves(states):
    np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
  first = lambda tree: jax.tree.map(lambda x: x[0], tree)
  flat = {k: v[0] if v.ndim == 1 else v.reshape(N, -1) for k, v in values.items()}
  _check(flat, first(grads), first(states))


def test_gradients_of_pmap_are_wrong_without_the_average():
  """The danger that `axes` warns of: the value is right, the gradient is not."""
  x = losses.batch(n=4)

  def device(a, b, encoder):
    def loss(encoder):
      unit = contrastive.unit
      values = contrastive.info_nce(
        unit(a @ encoder), unit(b @ encoder), scale=3.0, axis_name=AXIS
      )
      return axes.mean(jnp.mean(values), AXIS)

    value, grad = jax.value_and_grad(loss)(encoder)
    return value, grad, axes.mean(grad, AXIS)

  encoder = np.random.default_rng(3).standard_normal((4, 3)).astype(np.float32)
  split = lambda z: z.reshape(2, 2, -1)
  program = jax.pmap(
    device, axis_name=AXIS, in_axes=(0, 0, None), devices=jax.devices()[:2]
  )
  value, raw, averaged = program(split(x.a), split(x.b), encoder)

  def reference(encoder):
    a, b = contrastive.unit(x.a @ encoder), contrastive.unit(x.b @ encoder)
    return jnp.mean(contrastive.info_nce(a, b, scale=3.0))

  expected, grad = jax.jit(jax.value_and_grad(reference))(encoder)
  np.testing.assert_allclose(value[0], expected, rtol=1e-5)
  np.testing.assert_allclose(averaged[0], grad, rtol=1e-4, atol=1e-6)
  assert np.linalg.norm(raw[0] - grad) > 0.1 * np.linalg.norm(grad)
