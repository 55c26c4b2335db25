"""Masked language modelling: which tokens, what they become, the loss, devices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from contrastive import axes
from multimodal import masking, tokenizer

SPLIT, SAME = PartitionSpec("data"), PartitionSpec()
V = 12
T = 20
DRAWS = 4096


def _tokens(lengths=(18, 7, 1, 0, 10, 3, 12, 5), t=T):
  """Rows START, words, END, PAD, ... as the tokenizer makes them."""
  rng = np.random.default_rng(0)
  rows = np.full((len(lengths), t), tokenizer.PAD, np.int32)
  for row, m in zip(rows, lengths, strict=True):
    words = rng.integers(4, V, m)
    row[: m + 2] = [tokenizer.START, *words, tokenizer.END]
  return rows


@functools.partial(jax.jit, static_argnames=("rate", "count", "special", "draws"))
def _draws(tokens, *, rate=0.3, count=None, special=masking.SPECIAL, draws=DRAWS):
  """Many independent maskings, [draws, n, ...]."""
  how = dict(vocabulary_size=V, rate=rate, count=count, special=special)
  mask = lambda key: masking.mask_tokens(key, tokens, **how)
  return jax.vmap(mask)(jax.random.split(jax.random.key(0), draws))


def test_every_row_has_its_share_of_positions_and_the_rest_is_as_it_was():
  tokens = _tokens()
  made = jax.device_get(_draws(tokens))
  assert made.positions.shape == made.where.shape == (DRAWS, 8, 6)
  # round(0.3 m), at least one of any: of 18, 7, 1, 0, 10, 3, 12 and 5 words.
  np.testing.assert_array_equal(made.where.sum(-1), [[5, 2, 1, 0, 3, 1, 4, 2]] * DRAWS)
  every = np.broadcast_to(tokens, made.inputs.shape)
  there = np.take_along_axis(every, made.positions, axis=-1)
  np.testing.assert_array_equal(made.targets, there)
  chosen = np.zeros(made.inputs.shape, bool)
  np.put_along_axis(chosen, made.positions, made.where, axis=-1)
  # Different positions in a row: as many are chosen as positions count.
  np.testing.assert_array_equal(chosen.sum(-1), made.where.sum(-1))
  assert not chosen[:, tokens < 4].any()
  np.testing.assert_array_equal(made.inputs[~chosen], every[~chosen])
  read = made.inputs[chosen]
  assert set(read.tolist()) == {tokenizer.MASK, *range(4, V)}


def test_hidden_replaced_and_kept_tokens_have_their_shares():
  tokens = _tokens((18,))
  made = jax.device_get(_draws(tokens))
  where = made.where
  read = np.take_along_axis(made.inputs, made.positions, axis=-1)[where]
  was = made.targets[where]
  count = where.sum()
  hidden = read == tokenizer.MASK
  # Another token is the same one in 1 of 8 draws.
  for share, p in ((hidden, 0.8), (read == was, 0.1 + 0.1 / 8)):
    assert abs(share.mean() - p) < 4 * math.sqrt(p * (1 - p) / count)
  other = read[~hidden & (read != was)]
  # Evenly over the words: each is drawn from the 7 that are not the original.
  p = np.array([(was != v).mean() / 7 for v in range(4, V)])
  share = np.array([(other == v).mean() for v in range(4, V)])
  assert (abs(share - p) < 4 * np.sqrt(p * (1 - p) / other.size)).all()


def test_all_words_are_chosen_equally_often_and_not_in_blocks():
  tokens = _tokens((10,))
  made = jax.device_get(_draws(tokens))
  chosen = np.zeros((DRAWS, T))
  np.put_along_axis(chosen, made.positions[:, 0], made.where[:, 0], axis=-1)
  share = chosen.mean(0)[1:11]
  assert (abs(share - 0.3) < 4 * math.sqrt(0.3 * 0.7 / DRAWS)).all()
  # Pairs of words, of which 3 of 10 hold 3 of 45.
  p = 3 / 45
  together = (chosen.T @ chosen / DRAWS)[1:11, 1:11][np.triu_indices(10, 1)]
  assert (abs(together - p) < 4 * math.sqrt(p * (1 - p) / DRAWS)).all()


def test_rates_and_counts():
  tokens = _tokens()
  share = lambda **knobs: _draws(tokens, draws=3, **knobs).where.sum(-1)[0].tolist()
  assert share(rate=0.15) == [3, 1, 1, 0, 2, 1, 2, 1]
  assert share(rate=1.0) == [18, 7, 1, 0, 10, 3, 12, 5]
  assert share(rate=1e-3) == [1, 1, 1, 0, 1, 1, 1, 1]
  assert share(rate=1.0, count=4) == [4, 4, 1, 0, 4, 3, 4, 4]
  wide = _draws(tokens, rate=0.15, count=T, draws=1)
  assert wide.positions.shape == (1, 8, T)
  assert wide.where.sum(-1)[0].tolist() == [3, 1, 1, 0, 2, 1, 2, 1]
  assert _draws(tokens, rate=0.15, draws=1).positions.shape == (1, 8, 3)


def test_special_ids_are_the_callers_choice():
  tokens = np.array([[5, 6, 7, 8, 9, 10]], np.int32)
  made = jax.device_get(_draws(tokens, rate=1.0, special=(0, 5, 7, 11), draws=512))
  assert (made.inputs[:, 0, [0, 2]] == [5, 7]).all()
  # Drawn from what is left: 3 is MASK, which is special without being named.
  assert set(made.inputs[:, 0, [1, 3]].ravel().tolist()) == {1, 2, 3, 4, 6, 8, 9, 10}


def test_a_draw_is_a_function_of_key_and_row():
  tokens = _tokens((10,) * 8)
  mask = jax.jit(
    lambda seed, tokens: masking.mask_tokens(
      jax.random.key(seed), tokens, vocabulary_size=V, rate=0.5
    )
  )
  first = mask(0, tokens)
  jax.tree.map(np.testing.assert_array_equal, first, mask(0, tokens))
  chosen = np.sort(np.where(first.where, first.positions, T), axis=1)
  assert len({tuple(row) for row in chosen.tolist()}) > 4
  assert (first.positions != mask(1, tokens).positions).any()
  # A row does not know the others.
  alone = mask(0, tokens[:1])
  jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, y[:1]), alone, first)


def test_what_cannot_be_masked_is_refused():
  mask = functools.partial(masking.mask_tokens, jax.random.key(0), _tokens())
  for rate in (0.0, 1.5, -0.1):
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
      mask(vocabulary_size=V, rate=rate)
  for count in (0, T + 1):
    with pytest.raises(ValueError, match="1 to 20"):
      mask(vocabulary_size=V, count=count)
  with pytest.raises(ValueError, match="in the vocabulary of 3 tokens"):
    mask(vocabulary_size=3)
  with pytest.raises(ValueError, match="no token to mask"):
    mask(vocabulary_size=4)
  with pytest.raises(ValueError, match=r"\[n, t\]"):
    masking.mask_tokens(jax.random.key(0), jnp.arange(3), vocabulary_size=V)
  logits, two = np.zeros((2, 3, V)), np.zeros((2, 3), int)
  loss = functools.partial(masking.masked_loss, logits, two)
  with pytest.raises(ValueError, match=r"logits \[n, k, V\]"):
    loss(np.ones((2, 2), bool))
  with pytest.raises(ValueError, match=r"logits \[n, k, V\]"):
    loss(two == 0, momentum_logits=np.zeros((2, 3, V + 1)), alpha=0.4)
  with pytest.raises(ValueError, match="there are none"):
    loss(two == 0, alpha=0.4)


def _case(n=8, k=3):
  rng = np.random.default_rng(1)
  logits, teacher = rng.normal(scale=2, size=(2, n, k, V)).astype(np.float32)
  targets = rng.integers(0, V, (n, k)).astype(np.int32)
  # Uneven over any division into devices.
  return logits, teacher, targets, np.arange(n * k).reshape(n, k) % 7 < 3


def _oracle(logits, teacher, targets, where, alpha):
  values = []
  for place in np.ndindex(where.shape):
    if where[place]:
      soft, taught = (np.exp(np.float64(x[place])) for x in (logits, teacher))
      soft, taught = soft / soft.sum(), taught / taught.sum()
      hard = -math.log(soft[targets[place]])
      distilled = -sum(q * math.log(p) for q, p in zip(taught, soft, strict=True))
      values.append((1 - alpha) * hard + alpha * distilled)
  return np.mean(values)


@jax.jit
def _evaluate(logits, teacher, targets, where, alpha):
  def loss(logits, teacher):
    how = dict(momentum_logits=teacher, alpha=alpha)
    return masking.masked_loss(logits, targets, where, **how)

  return jax.value_and_grad(loss, argnums=(0, 1))(logits, teacher)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_loss_equals_the_double_loop(alpha):
  logits, teacher, targets, where = _case()
  value, (grad, none) = _evaluate(logits, teacher, targets, where, alpha)
  expected = _oracle(logits, teacher, targets, where, alpha)
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  soft, taught = (
    np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (logits, teacher)
  )
  mixed = (1 - alpha) * np.eye(V)[targets] + alpha * taught
  expected = where[:, :, None] * (soft - mixed) / where.sum()
  np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-7)
  assert not none.any()


def test_without_a_momentum_model_it_is_the_cross_entropy():
  logits, teacher, targets, where = _case()
  value = masking.masked_loss(logits, targets, where)
  np.testing.assert_allclose(
    value, _oracle(logits, teacher, targets, where, 0.0), rtol=1e-5
  )
  chance = masking.masked_loss(0 * logits, targets, where)
  np.testing.assert_allclose(chance, math.log(V), rtol=1e-6)


def test_what_is_not_masked_may_be_anything():
  logits, teacher, targets, where = _case()
  expected = _evaluate(logits, teacher, targets, where, 0.4)
  logits[~where], teacher[~where], targets[~where] = np.nan, np.inf, -1
  got = _evaluate(logits, teacher, targets, where, 0.4)
  jax.tree.map(np.testing.assert_array_equal, got, expected)
  value, (grad, _) = _evaluate(logits, teacher, targets, where & False, 0.4)
  assert value == 0 and not grad.any()
  targets[where] = V
  assert np.isnan(_evaluate(logits, teacher, targets, where, 0.4)[0])


def test_large_and_narrow_logits():
  logits, teacher, targets, where = _case()
  value, (grad, _) = _evaluate(1e4 * logits, 1e4 * teacher, targets, where, 0.4)
  assert np.isfinite(value) and np.isfinite(grad).all()
  narrow = jnp.asarray(logits, jnp.bfloat16)
  value, _ = _evaluate(narrow, teacher, targets, where, 0.4)
  assert value.dtype == jnp.float32
  wide = np.asarray(narrow, np.float32)
  expected = _oracle(wide, teacher, targets, where, 0.4)
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def _step(table, teacher, tokens, axis_name=None):
  """Masks, reads logits from a table by what stands at the positions, and judges."""
  key = jax.random.key(2)
  how = dict(vocabulary_size=V, rate=0.3, axis_name=axis_name)
  made = masking.mask_tokens(key, tokens, **how)
  read = jnp.take_along_axis(made.inputs, made.positions, axis=1)
  how = dict(momentum_logits=teacher[read], alpha=0.4, axis_name=axis_name)
  return masking.masked_loss(table[read], made.targets, made.where, **how), made


def test_any_number_of_devices_masks_and_learns_the_same():
  tokens = _tokens()
  table, teacher = np.random.default_rng(4).standard_normal((2, V, V)).astype("f4")
  program = jax.jit(jax.value_and_grad(_step, has_aux=True))
  (loss, made), grad = program(table, teacher, tokens)
  for devices in (1, 2, 4, 8):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    mapped = jax.shard_map(
      functools.partial(_step, axis_name="data"),
      mesh=mesh,
      in_specs=(SAME, SAME, SPLIT),
      out_specs=(SAME, SPLIT),
    )
    program = jax.jit(jax.value_and_grad(mapped, has_aux=True))
    (other, others), other_grad = program(table, teacher, tokens)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    np.testing.assert_allclose(other_grad, grad, rtol=1e-4, atol=1e-7)
    jax.tree.map(np.testing.assert_array_equal, others, made)


def test_pmap_with_averaged_gradients_equals_one_device():
  tokens = _tokens()
  table, teacher = np.random.default_rng(4).standard_normal((2, V, V)).astype("f4")
  grads = jax.value_and_grad(_step, has_aux=True)
  (loss, _), grad = jax.jit(grads)(table, teacher, tokens)

  def device(table, teacher, tokens):
    (value, _), grad = grads(table, teacher, tokens, "data")
    return value, axes.mean(grad, "data")

  how = dict(in_axes=(None, None, 0), devices=jax.devices()[:2])
  program = jax.pmap(device, axis_name="data", **how)
  value, mean_grad = program(table, teacher, tokens.reshape(2, 4, T))
  np.testing.assert_allclose(value, loss, rtol=1e-6)
  np.testing.assert_allclose(mean_grad[0], grad, rtol=1e-4, atol=1e-7)
