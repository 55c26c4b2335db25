"""Hard negatives: who is drawn and how often, rows fetched, the loss, devices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive import axes
from multimodal import matching
from tests import oracle

SPLIT, SAME = PartitionSpec("data"), PartitionSpec()
DRAWS = 4096
IDS = np.array([3, 1, 3, 0, 1, 2, 3, 8], np.int32)


def _rows(n=8, d=4, seed=0):
  rng = np.random.default_rng(seed)
  base = rng.standard_normal((n, d))
  near = lambda: oracle.unit(base + rng.standard_normal((n, d))).astype(np.float32)
  return near(), near()


@functools.partial(jax.jit, static_argnames="draws")
def _frequencies(query, candidate, scale, ids, draws=DRAWS):
  """[n, n] share of the draws, and [n] whether they are valid."""

  def draw(key):
    how = dict(scale=scale, ids=ids)
    number, valid = matching.hard_negatives(key, query, candidate, **how)
    return jax.nn.one_hot(number, query.shape[0]), valid

  drawn, valid = jax.vmap(draw)(jax.random.split(jax.random.key(0), draws))
  return jnp.mean(drawn, axis=0), jnp.all(valid, axis=0)


def _probabilities(query, candidate, scale, ids):
  n = len(query)
  table = np.zeros((n, n))
  for i in range(n):
    for j in range(n):
      if ids[i] != ids[j]:
        table[i, j] = math.exp(scale * oracle.dot(query[i], candidate[j]))
  return table / table.sum(1, keepdims=True)


def _within_four_errors(share, p):
  # Half a draw on top, for the smallest probabilities.
  margin = 4 * np.sqrt(p * (1 - p) / DRAWS) + 0.5 / DRAWS
  np.testing.assert_array_less(np.abs(share - p), margin)
  assert not share[p == 0].any()  # never, not only seldom


@pytest.mark.parametrize("ids", [None, IDS])
def test_draws_follow_the_softmax_without_the_own_row_and_its_id(ids):
  image, text = _rows()
  share, valid = _frequencies(image, text, 2.0, ids)
  names = np.arange(8) if ids is None else ids
  _within_four_errors(np.asarray(share), _probabilities(image, text, 2.0, names))
  assert valid.all()


def test_moving_the_batch_moves_the_probabilities():
  image, text = _rows()
  order = np.array([3, 0, 7, 5, 1, 4, 2, 6])
  share, _ = _frequencies(image[order], text[order], 2.0, IDS[order])
  p = _probabilities(image, text, 2.0, IDS)
  _within_four_errors(np.asarray(share), p[order][:, order])


def test_extreme_temperatures_are_the_nearest_and_an_even_draw():
  image, text = _rows()
  share, valid = _frequencies(image, text, 1e5, IDS)
  cosine = np.where(IDS[:, None] == IDS[None, :], -2, image @ text.T)
  np.testing.assert_array_equal(share.argmax(1), cosine.argmax(1))
  np.testing.assert_array_equal(share.max(1), 1)
  share, _ = _frequencies(image, text, 1e-3, IDS)
  _within_four_errors(np.asarray(share), _probabilities(image, text, 1e-3, IDS))
  for scale in (1e-3, 1e3):
    zero = np.zeros_like(image)
    share, valid = _frequencies(zero, text, scale, IDS)
    _within_four_errors(np.asarray(share), _probabilities(zero, text, 1.0, IDS))
    assert valid.all()


def test_rows_draw_independently_of_each_other():
  """Two rows with the same even candidates agree as often as chance has it."""
  draw = lambda key: matching.draw_negatives(key, jnp.zeros((8, 8))).number
  number = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), DRAWS))
  # Of 7 candidates each, rows 0 and 1 share the 6 that are neither.
  p = 6 / 49
  agree = float(np.mean(number[:, 0] == number[:, 1]))
  assert abs(agree - p) < 4 * math.sqrt(p * (1 - p) / DRAWS)


def test_rows_without_candidates_are_not_valid_and_draw_themselves():
  image, text = _rows()
  one = functools.partial(matching.hard_negatives, jax.random.key(0), scale=1.0)
  draw = jax.jit(one)
  number, valid = draw(image, text, ids=np.zeros(8, np.int32))
  np.testing.assert_array_equal(number, np.arange(8))
  assert not valid.any()
  number, valid = draw(image[:1], text[:1])
  assert number.tolist() == [0] and valid.tolist() == [False]
  number, valid = draw(image[:2], text[:2])
  assert number.tolist() == [1, 0] and valid.all()
  some = np.array([0, 0, 0, 0, 0, 0, 0, 1])
  number, valid = draw(image, text, ids=some)
  assert number[:7].tolist() == [7] * 7 and valid.all()


def test_a_draw_is_a_function_of_the_key_and_has_no_gradient():
  image, text = _rows()
  draw = lambda seed: matching.hard_negatives(
    jax.random.key(seed), image, text, scale=1.0
  ).number.tolist()
  assert draw(0) == draw(0)
  assert len({tuple(draw(seed)) for seed in range(5)}) == 5
  bfloat = jnp.asarray(image, jnp.bfloat16)
  number, _ = matching.hard_negatives(jax.random.key(0), bfloat, bfloat, scale=1e3)
  assert (number != np.arange(8)).all()

  def total(image, text):
    negatives = matching.hard_negatives(jax.random.key(0), image, text, scale=3.0)
    return jnp.sum(matching.take_global(jnp.arange(8.0), negatives.number))

  for grad in jax.grad(total, argnums=(0, 1))(image, text):
    assert not grad.any()


def test_what_a_batch_cannot_give_is_refused():
  image, text = _rows()
  draw = functools.partial(matching.hard_negatives, jax.random.key(0))
  with pytest.raises(ValueError, match="one shape"):
    draw(image, text[:4], scale=1.0)
  with pytest.raises(ValueError, match="scale=1 / t"):
    draw(image, text, scale=-1.0)
  with pytest.raises(ValueError, match="one for each of 8 rows"):
    draw(image, text, scale=1.0, ids=IDS[:4])
  with pytest.raises(ValueError, match="not from a queue"):
    matching.draw_negatives(jax.random.key(0), jnp.zeros((8, 20)))
  logits = np.zeros((4, 2))
  ones = dict(valid_image=np.ones(4, bool), valid_text=np.ones(4, bool))
  for wrong in (logits[:3], np.zeros((4, 3)), np.zeros(4)):
    with pytest.raises(ValueError, match=r"three logits \[n, 2\]"):
      matching.matching_loss(logits, wrong, logits, **ones)


def _cross_entropy(parts, valid):
  """Mean over the pairs that count, and how many are right."""
  values, right = [], []
  for number, logits in enumerate(np.asarray(x, np.float64) for x in parts):
    label = 1 if number == 0 else 0
    for i, row in enumerate(logits):
      if number and not valid[number - 1][i]:
        continue
      values.append(math.log(math.exp(row[0]) + math.exp(row[1])) - row[label])
      right.append(0.5 if row[0] == row[1] else float(row[label] == max(row)))
  return np.mean(values), np.mean(right)


def _logits(seed=0, n=8):
  rng = np.random.default_rng(seed)
  parts = rng.normal(scale=2, size=(3, n, 2)).astype(np.float32)
  parts[1, 2 % n] = 0.5  # a tie
  # Uneven over any division into devices.
  return parts, [np.arange(n) % 5 < 3, np.arange(n) < 2 * n // 3]


@jax.jit
def _losses(parts, valid):
  how = dict(valid_image=valid[0], valid_text=valid[1])
  loss = lambda parts: matching.matching_loss(*parts, **how)
  accuracy = matching.matching_accuracy(*parts, **how)
  return *jax.value_and_grad(loss)(parts), accuracy


def test_loss_and_accuracy_equal_the_double_loop():
  parts, valid = _logits()
  loss, grad, accuracy = _losses(parts, valid)
  expected, right = _cross_entropy(parts, valid)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(accuracy, right, rtol=1e-6)
  # The gradient is (softmax - label) / count, and 0 where a pair does not count.
  soft = np.exp(parts) / np.exp(parts).sum(-1, keepdims=True)
  label = np.array([[0, 1], [1, 0], [1, 0]])[:, None, :]
  count = np.stack([np.ones(8, bool), *valid])[:, :, None]
  np.testing.assert_allclose(
    grad, count * (soft - label) / count.sum(), rtol=1e-4, atol=1e-7
  )


def test_equal_logits_are_at_chance():
  parts, valid = _logits()
  loss, _, accuracy = _losses(0 * parts, valid)
  np.testing.assert_allclose(loss, math.log(2), rtol=1e-6)
  assert accuracy == 0.5


def test_what_does_not_count_may_be_anything():
  parts, valid = _logits()
  loss, grad, accuracy = _losses(parts, valid)
  for wrong in (np.nan, np.inf, -1e30):
    broken = parts.copy()
    broken[1, ~valid[0]], broken[2, ~valid[1]] = wrong, wrong
    other = _losses(broken, valid)
    for got, expected in zip(other, (loss, grad, accuracy), strict=True):
      np.testing.assert_array_equal(got, expected)


def test_a_batch_of_one_has_its_true_pair_only():
  parts, _ = _logits(n=1)
  none = [np.zeros(1, bool)] * 2
  loss, grad, _ = _losses(parts, none)
  np.testing.assert_allclose(loss, _cross_entropy(parts, none)[0], rtol=1e-6)
  assert grad[0].any() and not grad[1:].any()


def test_large_and_narrow_logits():
  parts, valid = _logits()
  loss, grad, _ = _losses(1e4 * parts, valid)
  assert np.isfinite(loss) and np.isfinite(grad).all()
  narrow = jnp.asarray(parts, jnp.bfloat16)
  loss, _, _ = _losses(narrow, valid)
  assert loss.dtype == jnp.float32
  expected, _ = _cross_entropy(np.asarray(narrow, np.float32), valid)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def _mapped(function, devices, in_specs, out_specs):
  mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
  return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)


@pytest.mark.parametrize(
  "devices, ring", [(1, False), (2, False), (8, False), (4, True)]
)
def test_rows_come_from_the_global_batch_and_gradients_go_back(devices, ring):
  rng = np.random.default_rng(0)
  states = rng.standard_normal((8, 3, 2)).astype(np.float32)
  rest = {"mask": rng.random((8, 3)) < 0.5, "tokens": rng.integers(0, 99, (8, 3))}
  # Rows of other devices, one that is wanted twice, and some that nobody wants.
  number = np.array([7, 3, 3, 0, 4, 6, 3, 1], np.int32)
  weight = rng.standard_normal(states.shape).astype(np.float32)

  def local(states, rest, number):
    rows = {"states": states, **rest}
    return matching.take_global(rows, number, "data", ring=ring)

  mapped = _mapped(local, devices, SPLIT, SPLIT)

  def total(states):
    taken = mapped(states, rest, number)
    return jnp.sum(taken["states"] * weight), taken

  grad, taken = jax.jit(jax.grad(total, has_aux=True))(states)
  for name, x in {"states": states, **rest}.items():
    np.testing.assert_array_equal(taken[name], x[number])
    assert taken[name].dtype == jnp.asarray(x).dtype
  expected = np.zeros_like(states)
  for i, j in enumerate(number):
    expected[j] += weight[i]
  np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-6)


def _step(encoder, image, text, ids, axis_name=None, ring=False):
  """Draws, fetches, "fuses" by a product, and judges; all of it."""
  image, text = image @ encoder, text @ encoder
  how = dict(scale=2.0, ids=ids, axis_name=axis_name)
  for_image, for_text = jax.random.split(jax.random.key(3))
  texts = matching.hard_negatives(for_image, image, text, **how)
  images = matching.hard_negatives(for_text, text, image, **how)
  hard_text = matching.take_global(text, texts.number, axis_name, ring=ring)
  hard_image = matching.take_global(image, images.number, axis_name, ring=ring)
  fused = lambda x, y: (x * y) @ jnp.array([[1.0, -1], [0, 2], [1, 1], [-1, 0.5]])
  logits = fused(image, text), fused(hard_image, text), fused(image, hard_text)
  valid = dict(valid_image=images.valid, valid_text=texts.valid, axis_name=axis_name)
  loss = matching.matching_loss(*logits, **valid)
  return loss, (texts, images, matching.matching_accuracy(*logits, **valid))


@pytest.mark.parametrize(
  "ids, ways",
  [
    (IDS, ((1, False), (2, True), (4, False), (8, True))),
    (np.zeros(8, np.int32), ((4, False),)),  # nobody has a candidate
  ],
)
def test_any_number_of_devices_draws_and_learns_the_same(ids, ways):
  image, text = _rows()
  encoder = np.eye(4, dtype=np.float32) + 0.1
  one = functools.partial(jax.value_and_grad(_step, has_aux=True), ids=ids)
  (loss, drawn), grad = jax.jit(one)(encoder, image, text)
  for devices, ring in ways:
    local = functools.partial(_step, axis_name="data", ring=ring)
    # out_specs `same` for the scalars: shard_map itself proves that they are.
    out = (SAME, (SPLIT, SPLIT, SAME))
    mapped = _mapped(local, devices, (SAME, SPLIT, SPLIT, SPLIT), out)
    program = jax.jit(jax.value_and_grad(mapped, has_aux=True))
    (other, others), other_grad = program(encoder, image, text, ids)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    np.testing.assert_allclose(other_grad, grad, rtol=1e-4, atol=1e-6)
    check = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(check, others, drawn)


@pytest.mark.parametrize("devices", [2, 8])
def test_devices_with_uneven_numbers_of_valid_rows(devices):
  parts, valid = _logits()
  loss, grad, accuracy = _losses(parts, valid)

  def local(parts, valid):
    how = dict(valid_image=valid[0], valid_text=valid[1], axis_name="data")
    loss = matching.matching_loss(*parts, **how)
    return loss, matching.matching_accuracy(*parts, **how)

  mapped = _mapped(local, devices, SPLIT, SAME)
  program = jax.jit(jax.value_and_grad(mapped, has_aux=True))
  (other, right), other_grad = program(list(parts), valid)
  np.testing.assert_allclose(other, loss, rtol=1e-6)
  np.testing.assert_allclose(right, accuracy, rtol=1e-6)
  np.testing.assert_allclose(other_grad, grad, rtol=1e-5, atol=1e-7)


def test_a_sharded_batch_under_jit_and_pmap_equal_one_device():
  image, text = _rows()
  encoder = np.eye(4, dtype=np.float32) + 0.1
  program = jax.jit(jax.value_and_grad(_step, has_aux=True))
  (loss, drawn), grad = program(encoder, image, text, IDS)
  mesh = Mesh(np.array(jax.devices()), ("data",))
  split = jax.device_put((image, text, IDS), NamedSharding(mesh, SPLIT))
  (other, others), other_grad = program(
    jax.device_put(encoder, NamedSharding(mesh, SAME)), *split
  )
  np.testing.assert_array_equal(others[0].number, drawn[0].number)
  np.testing.assert_allclose(other, loss, rtol=1e-6)
  np.testing.assert_allclose(other_grad, grad, rtol=1e-4, atol=1e-6)

  def device(encoder, *batch):
    local = functools.partial(_step, axis_name="data")
    (value, aux), grad = jax.value_and_grad(local, has_aux=True)(encoder, *batch)
    return value, aux, axes.mean(grad, "data")

  parts = [x.reshape(2, 4, *x.shape[1:]) for x in (image, text, IDS)]
  how = dict(in_axes=(None, 0, 0, 0), devices=jax.devices()[:2])
  value, aux, mean_grad = jax.pmap(device, axis_name="data", **how)(encoder, *parts)
  np.testing.assert_array_equal(aux[0].number.reshape(-1), drawn[0].number)
  np.testing.assert_allclose(value, loss, rtol=1e-6)
  np.testing.assert_allclose(mean_grad[0], grad, rtol=1e-4, atol=1e-6)
