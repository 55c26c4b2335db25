"""Contrast with momentum keys and queues: values against double loops, edges, devices.

One program of fixed shapes serves most tests: the values and all gradients.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import contrastive
from contrastive import axes
from contrastive.queue import Queue
from multimodal import momentum_contrast as mc
from tests import oracle

SCALE = 3.0
WEIGHT = np.linspace(0.5, 2.0, 8)


class Rows(NamedTuple):
  image: np.ndarray
  text: np.ndarray
  image_key: np.ndarray
  text_key: np.ndarray


def _rows(n=8, d=4, seed=0, dtype=np.float32):
  rng = np.random.default_rng(seed)
  base = rng.standard_normal((n, d))
  near = lambda: oracle.unit(base + 0.8 * rng.standard_normal((n, d))).astype(dtype)
  return Rows(near(), near(), near(), near())


def _queues(k, filled, *, d=4, ids=None, dtype=np.float32):
  """Queues of k slots, of which the first `filled` hold keys."""
  if k is None:
    return None
  rng = np.random.default_rng(k)
  parts = []
  for _ in range(2):
    keys = oracle.unit(rng.standard_normal((k, d))).astype(dtype)
    keys[filled:] = 0
    parts.append(Queue(jnp.asarray(keys), jnp.int32(filled % k)))
  numbers = None
  if ids is not None:
    numbers = Queue(jnp.asarray(ids, jnp.int32)[:k, None], jnp.int32(filled % k))
  return mc.PairQueues(*parts, numbers)


def _one_way(query, query_key, keys, held, ids, held_ids, scale, alpha):
  """One direction's double loop."""
  n = len(query)
  filled = [j for j in range(len(held)) if any(held[j])]
  candidates = [*keys, *(held[j] for j in filled)]
  names = [*ids, *(held_ids[j] for j in filled)]
  values = []
  for i in range(n):
    logits = [scale * oracle.dot(query[i], c) for c in candidates]
    teacher = [scale * oracle.dot(query_key[i], c) for c in candidates]
    total, taught = (sum(math.exp(s) for s in x) for x in (logits, teacher))
    positive = [1.0 if name == ids[i] else 0.0 for name in names]
    value = 0.0
    for j in range(len(candidates)):
      target = alpha * math.exp(teacher[j]) / taught
      target += (1 - alpha) * positive[j] / sum(positive)
      value -= target * (logits[j] - math.log(total))
    values.append(value)
  return np.array(values)


def _oracle(rows, queues, scale, alpha, ids=None):
  image, text, image_key, text_key = (np.asarray(x, np.float64) for x in rows)
  images = texts = np.zeros((0, image.shape[1]))
  if queues is not None:
    images, texts = (np.asarray(q.keys, np.float64) for q in queues[:2])
  held = [f"queue {j}" for j in range(len(texts))]
  if ids is not None and queues is not None:
    held = [int(x) for x in queues.ids.keys[:, 0]]
  ids = list(range(len(image))) if ids is None else [int(x) for x in ids]
  forward = _one_way(image, image_key, text_key, texts, ids, held, scale, alpha)
  back = _one_way(text, text_key, image_key, images, ids, held, scale, alpha)
  return (forward + back) / 2


@jax.jit
def _evaluate(rows, queues, scale, alpha, ids):
  """Values, and the gradients of their weighted mean by all that is of floats."""

  def mean(floats):
    rows, keys, scale, alpha = floats
    held = queues
    if queues is not None:
      held = mc.PairQueues(
        Queue(keys[0], queues.image.start),
        Queue(keys[1], queues.text.start),
        queues.ids,
      )
    values = mc.momentum_nce(*rows, held, scale=scale, alpha=alpha, ids=ids)
    return jnp.mean(values * WEIGHT[: values.shape[0]].astype(values.dtype)), values

  keys = None if queues is None else (queues.image.keys, queues.text.keys)
  (_, values), grads = jax.value_and_grad(mean, has_aux=True)(
    (rows, keys, scale, alpha)
  )
  return values, grads


def _run(rows, queues=None, scale=SCALE, alpha=0.4, ids=None):
  floats = (jnp.asarray(scale, jnp.float32), jnp.asarray(alpha, jnp.float32))
  ids = None if ids is None else jnp.asarray(ids)
  return jax.device_get(_evaluate(rows, queues, *floats, ids))


IDS = np.array([5, 2, 5, 9, 2, 5, 7, 1], np.int32)
HELD = np.array([5, 9, 9, 4, 2, 0, 5, 5, 3, 8, 1], np.int32)


@pytest.mark.parametrize(
  "k, filled, with_ids",
  [
    (None, 0, False),
    (None, 0, True),
    (1, 1, False),
    (3, 0, True),
    (3, 3, True),
    (11, 6, False),
    (11, 6, True),
  ],
)
def test_values_equal_the_double_loop(k, filled, with_ids):
  rows = _rows()
  ids, held = (IDS, HELD) if with_ids else (None, None)
  queues = _queues(k, filled, ids=held)
  for alpha in (0.0, 0.4, 1.0):
    got, _ = _run(rows, queues, alpha=alpha, ids=ids)
    expected = _oracle(rows, queues, SCALE, alpha, ids)
    np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=f"alpha={alpha}")


def _with_targets_held(moved, rows, queues, ids, scale):
  """Only the queries' logits move: keys and targets are those of `rows` at SCALE."""
  values = 0.0
  for side in (0, 1):
    held = np.asarray(queues[1 - side].keys)
    held = held[np.any(held != 0, axis=1)]
    candidates = np.concatenate([rows[3 - side], held])
    names = np.concatenate([ids, queues.ids.keys[: len(held), 0]])
    positive = (ids[:, None] == names[None, :]).astype(float)
    positive /= positive.sum(1, keepdims=True)
    soft = np.exp(SCALE * rows[2 + side] @ candidates.T)
    targets = 0.4 * soft / soft.sum(1, keepdims=True) + 0.6 * positive
    logits = scale * moved[side] @ candidates.T
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    values = values - (targets * logits).sum(1) / 2
  return values


def test_gradients_equal_finite_differences():
  n, step = 3, 1e-5
  ids = IDS[:n]
  with jax.enable_x64(True):
    rows = _rows(n=n, d=3, dtype=np.float64)
    queues = _queues(4, 3, d=3, ids=HELD, dtype=np.float64)
    values, grads = _evaluate(rows, queues, SCALE, 0.4, jnp.asarray(ids))
  fixed = lambda moved, scale: _with_targets_held(moved, rows, queues, ids, scale)
  np.testing.assert_allclose(values, fixed(rows, SCALE), rtol=1e-10)
  mean = lambda moved, scale: np.mean(WEIGHT[:n] * fixed(moved, scale))
  for side in (0, 1):
    for place in np.ndindex(rows[side].shape):
      ends = []
      for sign in (1, -1):
        moved = [x.copy() for x in rows]
        moved[side][place] += sign * step
        ends.append(mean(moved, SCALE))
      expected = (ends[0] - ends[1]) / (2 * step)
      got = grads[0][side][place]
      np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
  expected = (mean(rows, SCALE + step) - mean(rows, SCALE - step)) / (2 * step)
  np.testing.assert_allclose(grads[2], expected, rtol=1e-6)


def test_no_gradient_flows_to_momentum_quantities():
  _, (rows, held, scale, alpha) = _run(_rows(), _queues(11, 6))
  assert rows.image.any() and rows.text.any() and scale
  for grad in (rows.image_key, rows.text_key, *held, alpha):
    assert not np.any(grad)


def test_online_keys_without_distillation_are_info_nce():
  rows = _rows()
  got = mc.momentum_nce(rows.image, rows.text, *rows[:2], scale=SCALE)
  expected = contrastive.info_nce(rows.image, rows.text, scale=SCALE)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_order_of_the_batch_and_of_the_queue_do_not_matter():
  rows, queues = _rows(), _queues(11, 11, ids=HELD)
  values, _ = _run(rows, queues, ids=IDS)
  order = np.array([3, 0, 7, 5, 1, 4, 2, 6])
  moved = Rows(*(x[order] for x in rows))
  turned = jax.tree.map(lambda x: x[::-1] if x.ndim else x, queues)
  after, _ = _run(moved, turned, ids=IDS[order])
  np.testing.assert_allclose(after, values[order], rtol=1e-5)


def test_images_and_texts_play_the_same_part():
  rows, queues = _rows(), _queues(11, 6)
  values, _ = _run(rows, queues)
  swapped = Rows(rows.text, rows.image, rows.text_key, rows.image_key)
  other, _ = _run(swapped, mc.PairQueues(queues.text, queues.image, None))
  np.testing.assert_allclose(other, values, rtol=1e-6)


def test_equal_rows_are_at_chance():
  one = np.tile(_rows().image[:1], (8, 1))
  values, _ = _run(Rows(one, one, one, one), _queues(11, 0))
  np.testing.assert_allclose(values, math.log(8), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_finite_at_any_temperature_and_for_zero_rows(scale):
  rows = _rows()
  zero = Rows(*map(np.zeros_like, rows))
  mixed = rows._replace(image=zero.image, text_key=-rows.text)
  for queues in (None, _queues(11, 6)):
    for case in (rows, zero, mixed):
      values, grads = _run(case, queues, scale=scale)
      assert np.isfinite(values).all()
      assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))
  expected = _oracle(rows, None, 1e-3, 0.4)
  if scale == 1e-3:
    np.testing.assert_allclose(_run(rows, None, scale=scale)[0], expected, rtol=1e-5)


def test_a_batch_of_one():
  rows = _rows(n=1)
  values, (grads, *_) = _run(rows)
  np.testing.assert_allclose(values, 0, atol=1e-6)
  np.testing.assert_allclose(grads.image, 0, atol=1e-6)
  queues = _queues(3, 2)
  expected = _oracle(rows, queues, SCALE, 0.4)
  np.testing.assert_allclose(_run(rows, queues)[0], expected, rtol=1e-5)


def test_bfloat16_rows_give_float32_values():
  narrow = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), _rows())
  again = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
  queues = _queues(3, 3)
  got, expected = _run(narrow, queues)[0], _run(again, queues)[0]
  assert got.dtype == np.float32
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_pairs_move_through_the_queues_together():
  queues = mc.init_pairs(3, 4, ids=True)
  push = jax.jit(mc.push_pairs)
  rows = _rows(n=5)
  for part in (slice(0, 2), slice(2, 4), slice(4, 5)):
    queues = push(queues, rows.image_key[part], rows.text_key[part], IDS[part])
  slots = [3, 4, 2]
  np.testing.assert_array_equal(queues.image.keys, rows.image_key[slots])
  np.testing.assert_array_equal(queues.text.keys, rows.text_key[slots])
  np.testing.assert_array_equal(queues.ids.keys[:, 0], IDS[slots])
  assert {int(q.start) for q in queues} == {2}
  big = np.array([2**31 - 1, -7, 2**24 + 1, 0, 3], np.int32)  # no float32 in between
  queues = push(queues, rows.image_key, rows.text_key, big)
  assert set(queues.ids.keys[:, 0].tolist()) == {2**24 + 1, 0, 3}
  plain = mc.push_pairs(mc.init_pairs(2, 4), rows.image_key, rows.text_key)
  assert plain.ids is None
  np.testing.assert_array_equal(
    np.sort(plain.text.keys), np.sort(rows.text_key[[4, 3]])
  )


def _sharded(rows, queues, ids, scale, devices):
  mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
  split, same = PartitionSpec("data"), PartitionSpec()

  def local(rows, queues, ids, scale):
    how = dict(scale=scale, alpha=0.4, ids=ids, axis_name="data")
    values = mc.momentum_nce(*rows, queues, **how)
    return values, mc.push_pairs(queues, *rows[2:], ids, axis_name="data")

  # out_specs `same` for the queues: shard_map itself proves that they are replicated.
  mapped = jax.shard_map(
    local, mesh=mesh, in_specs=(split, same, split, same), out_specs=(split, same)
  )

  def mean(rows, scale):
    values, pushed = mapped(rows, queues, ids, scale)
    return jnp.mean(values * WEIGHT.astype(np.float32)), (values, pushed)

  return jax.jit(jax.value_and_grad(mean, argnums=(0, 1), has_aux=True))(rows, scale)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_any_number_of_devices_gives_the_same(devices):
  rows, queues = _rows(), _queues(11, 6, ids=HELD)
  (_, (values, pushed)), grads = _sharded(rows, queues, IDS, SCALE, devices)
  expected, (rows_grad, _, scale_grad, _) = _run(rows, queues, ids=IDS)
  np.testing.assert_allclose(values, expected, rtol=1e-5)
  np.testing.assert_allclose(grads[1], scale_grad, rtol=1e-5)
  check = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
  jax.tree.map(check, grads[0], rows_grad)
  plain = mc.push_pairs(queues, *rows[2:], IDS)
  jax.tree.map(np.testing.assert_array_equal, pushed, plain)


def test_pmap_with_averaged_gradients_equals_one_device():
  rows = _rows()

  def loss(encoder, rows, axis_name):
    image, text = (contrastive.unit(x @ encoder) for x in rows[:2])
    how = dict(scale=SCALE, alpha=0.4, axis_name=axis_name)
    return jnp.mean(mc.momentum_nce(image, text, *rows[2:], **how))

  def device(encoder, rows):
    return axes.mean(jax.value_and_grad(loss)(encoder, rows, "data"), "data")

  encoder = np.eye(4, dtype=np.float32) + 0.1
  parts = jax.tree.map(lambda x: x.reshape(2, 4, -1), rows)
  how = dict(axis_name="data", in_axes=(None, 0), devices=jax.devices()[:2])
  value, grad = jax.pmap(device, **how)(encoder, parts)
  expected = jax.jit(jax.value_and_grad(lambda e: loss(e, rows, None)))(encoder)
  np.testing.assert_allclose(value[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(grad[0], expected[1], rtol=1e-4, atol=1e-6)


def test_what_cannot_be_is_refused():
  rows = _rows(n=3)
  nce = functools.partial(mc.momentum_nce, *rows, scale=SCALE)
  with pytest.raises(ValueError, match="scale=1 / t"):
    nce(scale=0.0)
  with pytest.raises(ValueError, match=r"in \[0, 1\]"):
    nce(alpha=2.0)
  with pytest.raises(ValueError, match="hold no ids and ids were given"):
    nce(_queues(3, 3), ids=IDS[:3])
  with pytest.raises(ValueError, match="hold ids and ids were not given"):
    nce(_queues(3, 3, ids=HELD))
  with pytest.raises(ValueError, match="one for each of 3 pairs"):
    nce(ids=IDS)
  with pytest.raises(ValueError, match="of the queries' width 4"):
    nce(mc.init_pairs(3, 5))
  with pytest.raises(ValueError, match="of one size"):
    nce(mc.PairQueues(_queues(3, 3).image, _queues(4, 3).text, None))
  with pytest.raises(ValueError, match="2 rows"):
    mc.momentum_nce(rows.image, rows.text[:2], *rows[2:], scale=SCALE)
