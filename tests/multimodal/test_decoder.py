"""The decoder: causal, by float64 loops, and started from the layers of a fusion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.encoders.vit import ViT
from multimodal.decoder import Decoder, decoder_like, start_from_fusion
from multimodal.fusion import Fusion, make_fusion
from multimodal.text_transformer import TextTransformer
from tests.multimodal import fusion_oracle

VOCABULARY, CONTEXT, WIDTH, HEADS = 30, 6, 16, 2
FUSION = Fusion(
  ViT(8, WIDTH, 1, 2, pool="none"),
  TextTransformer(VOCABULARY, 8, WIDTH, 1, HEADS, causal=False, pool="none"),
  depth=2,
  width=6,
  unroll=2,
)
MODEL = decoder_like(FUSION, context=CONTEXT)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(4, VOCABULARY, (3, CONTEXT)).astype(np.int32)
MEMORY = RNG.normal(size=(3, 7, WIDTH)).astype(np.float32)
MEMORY_MASK = np.arange(7)[None] < np.array([[7], [3], [1]])


def filled(model, *args):
  """Variables of the right shapes, all away from their defaults: nothing compiled."""
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *args))

  def fill(path, leaf):
    if path[-1].key in ("scale", "bias"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    return jnp.asarray(0.2 * rng.normal(size=leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


VARIABLES = filled(MODEL, TOKENS, MEMORY)


@functools.cache
def program(model):
  return jax.jit(model.apply)


def logits(tokens=TOKENS, memory=MEMORY, mask=MEMORY_MASK, model=MODEL):
  return np.asarray(program(model)(VARIABLES, tokens, memory, mask))


def test_logits_equal_the_float64_loops_on_what_counts():
  found = logits()
  assert found.shape == (3, CONTEXT, VOCABULARY) and found.dtype == np.float32
  params = VARIABLES["params"]
  table = np.asarray(params["tokens"]["embedding"], np.float64)
  for row, mask in enumerate(MEMORY_MASK):
    x = table[TOKENS[row]] + np.asarray(params["positions"], np.float64)
    memory = MEMORY[row, mask].astype(np.float64)
    states, _ = fusion_oracle.layers(params["layers"], x, memory, HEADS, causal=True)
    expected = fusion_oracle.words(params["token_head"], table, states)
    np.testing.assert_allclose(found[row], expected, atol=1e-3)


def test_a_place_sees_the_tokens_up_to_it():
  whole = logits()
  for place in range(CONTEXT):
    other = TOKENS.copy()
    other[:, place] = 3  # none of the tokens is
    moved = np.abs(logits(other) - whole).max(axis=-1) > 1e-4
    assert moved.tolist() == [[i >= place for i in range(CONTEXT)]] * 3
  short = logits(TOKENS[:1, :2], MEMORY[:1], MEMORY_MASK[:1])
  np.testing.assert_allclose(short, whole[:1, :2], atol=1e-5)


def test_masked_memory_has_no_influence():
  wild = np.where(MEMORY_MASK[:, :, None], MEMORY, 100).astype(np.float32)
  np.testing.assert_array_equal(logits(memory=wild), logits())
  assert np.abs(logits(mask=None) - logits()).max(axis=(1, 2))[1:].min() > 1e-3

  def value(memory):
    out = MODEL.apply(VARIABLES, TOKENS, memory, MEMORY_MASK)
    return jnp.sum(jnp.sin(out))

  size = np.abs(jax.jit(jax.grad(value))(MEMORY)).max(axis=-1)
  np.testing.assert_array_equal(size > 0, MEMORY_MASK)


def test_likelihoods_of_all_answers_sum_to_one():
  """Of two tokens over a small vocabulary: the logits are of the next token."""
  model = Decoder(5, context=3, width=8, depth=1, heads=2)
  start = np.array([[1, a, b] for a in range(5) for b in range(5)], np.int32)
  memory = np.repeat(MEMORY[:1, :, :8], 25, axis=0)
  variables = filled(model, start, memory)
  logs = jax.nn.log_softmax(jax.jit(model.apply)(variables, start, memory))
  picked = jnp.take_along_axis(logs[:, :2], start[:, 1:, None], axis=2)
  np.testing.assert_allclose(jnp.exp(picked.sum(axis=(1, 2))).sum(), 1, rtol=1e-5)


def test_it_starts_from_the_layers_of_the_fusion_model():
  """With one token nothing is causal: both then compute the same."""
  images = RNG.normal(size=(3, 16, 16, 3)).astype(np.float32)
  theirs = filled(FUSION, images, TOKENS)["params"]
  started = start_from_fusion(VARIABLES["params"], theirs)
  assert jax.tree.structure(started) == jax.tree.structure(VARIABLES["params"])
  jax.tree.map(
    np.testing.assert_array_equal,
    started["layers"]["blocks"],
    theirs["fusion"]["blocks"],
  )
  text = theirs["text"]
  states = text["tokens"]["embedding"][TOKENS[:, :1]] + text["positions"][None, :1]
  ones = np.ones((3, 1), bool)

  @jax.jit
  def expected(states):
    apply = functools.partial(FUSION.apply, {"params": theirs})
    fused = apply(states, ones, MEMORY, MEMORY_MASK, method="fuse")
    return apply(fused, method="predict_tokens")

  found = program(MODEL)({"params": started}, TOKENS[:, :1], MEMORY, MEMORY_MASK)
  np.testing.assert_allclose(found, expected(states), atol=1e-4)
  # A step may give up the memory of one tree; the other has to live on.
  kept, given = theirs["mask_head"]["bias"], started["token_head"]["bias"]
  assert kept.unsafe_buffer_pointer() != given.unsafe_buffer_pointer()


def test_it_fits_every_size_of_fusion_model():
  for size in ("micro", "tiny", "base"):
    model = make_fusion(50, size)
    decoder = decoder_like(model)
    shapes = [
      jax.eval_shape(lambda m=m, args=args: m.init(jax.random.key(0), *args))["params"]
      for m, args in (
        (model, (jnp.zeros((1, 16, 16, 3)), jnp.ones((1, 4), int))),
        (decoder, (jnp.ones((1, 4), int), jnp.zeros((1, 2, model.text.width)))),
      )
    ]
    assert shapes[0]["fusion"] == shapes[1]["layers"]
    assert shapes[0]["mask_head"] == shapes[1]["token_head"]


def test_execution_options_change_no_number():
  def result(model):
    def value(params):
      return jnp.sum(jnp.sin(model.apply({"params": params}, TOKENS, MEMORY)))

    return jax.jit(jax.value_and_grad(value))(VARIABLES["params"])

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    result(MODEL.clone(remat=True, unroll=1)),
    result(MODEL),
  )


def test_bfloat16_is_close_and_keeps_float32_logits():
  half, full = logits(model=MODEL.clone(dtype=jnp.bfloat16)), logits()
  assert half.dtype == np.float32
  assert 1e-4 < np.linalg.norm(half - full) / np.linalg.norm(full) < 0.05


def test_errors_name_the_cure():
  def check(model, tokens=TOKENS):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, MEMORY))

  with pytest.raises(ValueError, match=r"7 tokens are longer .* context of 6"):
    check(MODEL, np.ones((1, 7), np.int32))
  with pytest.raises(ValueError, match=r"1 rows of tokens .* 3 rows of memory"):
    check(MODEL, TOKENS[:1])
  with pytest.raises(ValueError, match="16 does not divide among 3 heads; take 18"):
    check(MODEL.clone(heads=3))
  with pytest.raises(ValueError, match="at least one block, not 0"):
    check(MODEL.clone(depth=0))
  theirs = filled(FUSION, np.zeros((3, 16, 16, 3), np.float32), TOKENS)["params"]
  deeper = filled(decoder_like(FUSION.clone(depth=3)), TOKENS, MEMORY)["params"]
  with pytest.raises(ValueError, match="cannot start from the 8 positions"):
    start_from_fusion(deeper, theirs)
  deeper["positions"] = deeper["positions"][:8]
  with pytest.raises(ValueError, match=r"other shapes .* decoder_like"):
    start_from_fusion(deeper, theirs)
