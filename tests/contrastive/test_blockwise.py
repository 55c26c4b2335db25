"""Linear memory changes nothing: value and gradient equal those of the plain forms."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

import contrastive
from contrastive import tiles
from tests import losses

MOVING = ("a", "b", "scale", "bias")


def _value_and_grads(x, **how):
  """Values, and gradients of their weighted means, of all objectives at once."""

  def reduced(moving):
    moved = x._replace(**moving)
    values = {k: losses.LOSSES[k](moved, None, **how) for k in losses.SCALED}
    weight = jnp.linspace(0.5, 2.0, x.a.shape[0]).astype(x.a.dtype)
    means = [losses.weighted_mean(values[k], weight) for k in losses.SCALED]
    return jnp.stack(means), values

  return jax.jacrev(reduced, has_aux=True)({k: getattr(x, k) for k in MOVING})


@functools.cache
def _program(**how):
  program = functools.partial(_value_and_grads, **how)
  return jax.jit(program)


def _equal(got, expected, tolerance):
  (grads, values), (wanted_grads, wanted) = jax.device_get((got, expected))
  for name in losses.SCALED:
    size = max(1.0, np.abs(wanted[name]).max())
    np.testing.assert_allclose(
      values[name], wanted[name], rtol=tolerance, atol=tolerance * size, err_msg=name
    )
  for field in MOVING:
    for name, row, want in zip(
      losses.SCALED, grads[field], wanted_grads[field], strict=True
    ):
      size = max(1.0, np.abs(want).max())
      np.testing.assert_allclose(
        row, want, rtol=tolerance, atol=tolerance * size, err_msg=f"{name}, {field}"
      )


# 9 images are 18 anchors of the two-view pairing: 7 and 4 leave an uneven last block.
@pytest.mark.parametrize("block_size", [1, 4, 7, 18, 128])
def test_blocks_equal_one_matrix(block_size):
  x = losses.batch(n=9)
  _equal(_program(block_size=block_size)(x), _program()(x), 1e-5)


def test_keys_in_pieces_equal_one_matrix(monkeypatch):
  """As with more than 16,384 keys: here 9 and 18 keys in pieces of at most 4."""
  monkeypatch.setattr(tiles, "_WIDEST", 4)
  x = losses.batch(n=9)
  pieces = _program.__wrapped__(block_size=7)
  _equal(pieces(x), _program()(x), 1e-5)


@pytest.mark.parametrize("block_size", [1, 7])
def test_blocks_equal_one_matrix_in_float64(block_size):
  with jax.enable_x64(True):
    x = losses.batch(n=9, dtype=np.float64)
    got, expected = _program(block_size=block_size)(x), _program()(x)
  assert got[1]["nt_xent"].dtype == np.float64
  for name in ("augmented", "augmented_minibatch"):  # their draw is in float32
    got[1][name] = expected[1][name]
  _equal(got, expected, 1e-12)


@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0, 200.0])
def test_blocks_equal_one_matrix_at_temperatures_from_5e_minus_3_to_100(scale):
  x = losses.batch(n=9, scale=scale)
  _equal(_program(block_size=4)(x), _program()(x), 3e-5)


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_equal_and_zero_rows_have_the_plain_values_and_finite_gradients(scale):
  x = losses.batch(n=9, scale=scale)
  same, zeros = np.broadcast_to(x.a[:1], x.a.shape), np.zeros_like(x.a)
  for case in (
    x._replace(a=x.a * (np.arange(9) > 2)[:, None]),
    x._replace(a=same, b=same),
    x._replace(a=zeros, b=zeros),
  ):
    grads, values = _program(block_size=4)(case)
    expected = _program()(case)
    # `unit` multiplies rounding at a zero row by 1e6: gradients there are not compared.
    _equal((expected[0], values), expected, 3e-5)
    assert all(np.all(np.isfinite(grad)) for grad in grads.values())


def test_a_batch_of_one_has_the_plain_value_and_gradient():
  x = losses.batch(n=1)
  _equal(_program(block_size=1)(x), _program()(x), 1e-6)


def test_bfloat16_rows_are_multiplied_in_float32():
  rows = [np.asarray(contrastive.unit(z)) for z in losses.batch(n=9)[:2]]
  half = [jnp.asarray(z, jnp.bfloat16) for z in rows]

  def value_and_grad(a, b, **how):
    loss = lambda a, b: jnp.mean(contrastive.info_nce(a, b, scale=20.0, **how))
    return jax.value_and_grad(loss, (0, 1))(a, b)

  value, grads = value_and_grad(*half, block_size=4)
  assert value.dtype == jnp.float32 and grads[0].dtype == jnp.bfloat16
  expected, wanted = value_and_grad(*(z.astype(jnp.float32) for z in half))
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  for grad, want in zip(grads, wanted, strict=True):
    # What comes back is rounded to 8 bits, up to three times on its way through a sum.
    np.testing.assert_allclose(grad.astype(jnp.float32), want, rtol=0.01, atol=0.01)


def test_vmap_over_seeds_equals_one_at_a_time():
  parts = [losses.batch(n=9, seed=seed) for seed in range(3)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
  program = jax.vmap(functools.partial(_value_and_grads, block_size=4))
  together = jax.jit(program)(stacked)
  for i, part in enumerate(parts):
    one = jax.tree.map(lambda leaf, i=i: leaf[i], together)
    _equal(one, _program()(part), 1e-5)


def test_vmap_of_the_gradient_through_unit_at_a_compiler_sensitive_size():
  # XLA of jaxlib 0.10 once got such a program wrong beyond 2^15 entries.
  rng = np.random.default_rng(0)
  a, b = rng.standard_normal((2, 3, 160, 80)).astype(np.float32)

  def grads(a, b, **how):
    unit = contrastive.unit
    loss = lambda a: jnp.mean(contrastive.info_nce(unit(a), unit(b), scale=9.0, **how))
    return jax.grad(loss)(a)

  program = jax.vmap(functools.partial(grads, block_size=64))
  together = jax.jit(program, compiler_options=losses.AS_USERS)(a, b)
  for i in range(3):
    np.testing.assert_allclose(together[i], grads(a[i], b[i]), rtol=1e-4, atol=1e-7)


def test_second_derivatives_by_reverse_mode_equal_the_plain_form():
  a, b = (contrastive.unit(z) for z in losses.batch(n=5)[:2])

  def curvature(**how):
    def loss(a):
      values = contrastive.info_nce(a, b, scale=4.0, **how)
      return jnp.sum(values) + jnp.sum(contrastive.nt_xent(a, b, scale=4.0, **how))

    slope = lambda a: jnp.sum(jnp.sin(jnp.arange(a.size)) * jax.grad(loss)(a).ravel())
    return jax.jit(jax.grad(slope))(a)

  np.testing.assert_allclose(curvature(block_size=2), curvature(), rtol=1e-4, atol=1e-5)


def test_forward_mode_is_refused_by_jax():
  a, b = (contrastive.unit(z) for z in losses.batch()[:2])
  loss = lambda a: contrastive.info_nce(a, b, scale=4.0, block_size=2)
  with pytest.raises(TypeError, match="custom_vjp"):
    jax.jvp(loss, (a,), (a,))


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "pairwise_sigmoid", "sup_con"])
def test_memory_grows_with_the_batch_and_not_with_its_square(name):
  def temporary(n):
    x = jax.eval_shape(lambda: losses.batch(n=8, d=16))
    wide = lambda leaf: jax.ShapeDtypeStruct((n, *leaf.shape[1:]), leaf.dtype)
    x = x._replace(a=wide(x.a), b=wide(x.b), labels=wide(x.labels))

    def mean(a, b, scale):
      moved = x._replace(a=a, b=b, scale=scale, bias=scale, labels=jnp.arange(n) // 4)
      return jnp.mean(losses.LOSSES[name](moved, None, block_size=16))

    program = jax.jit(jax.grad(mean, (0, 1, 2)), compiler_options=losses.AS_USERS)
    lowered = program.lower(x.a, x.b, x.scale)
    return lowered.compile().memory_analysis().temp_size_in_bytes

  small, large = temporary(8192), temporary(32768)
  assert large < 4.5 * small
  assert large < 32768**2 / 10  # one matrix would take 40 times as much


@functools.partial(jax.jit, static_argnames=("block_size",))
def _both_pools(a, b, scale, block_size):
  def loss(a):
    how = dict(scale=scale, block_size=block_size)
    pairs, pool = contrastive.info_nce(a, b, **how), contrastive.nt_xent(a, b, **how)
    return jnp.mean(pairs) + jnp.mean(pool)

  return jax.value_and_grad(loss)(a)


# Few shapes, so few programs; rows, temperature, seed and zeros are drawn freely.
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
  n=strategies.sampled_from([1, 2, 5]),
  block_size=strategies.sampled_from([1, 3, 16]),
  scale=strategies.floats(0.0625, 200.0, width=32),
  seed=strategies.integers(0, 9999),
  zeros=strategies.integers(0, 2),
)
def test_any_batch_and_any_block_agree(n, block_size, scale, seed, zeros):
  a, b = (contrastive.unit(z) for z in losses.batch(n=n, seed=seed)[:2])
  a = a * (jnp.arange(n) >= zeros)[:, None]
  got, expected = (_both_pools(a, b, scale, size) for size in (block_size, None))
  for x, y in zip(got, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6 * max(1, scale))


@pytest.mark.parametrize("block_size", [0, -3, 2.5, True])
def test_a_block_that_is_no_number_of_rows_is_refused(block_size):
  with pytest.raises(ValueError, match="number of rows of a tile"):
    losses.LOSSES["info_nce"](losses.batch(), None, block_size=block_size)
