"""Fusion against float64 loops; what is masked is not seen; parameters counted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.encoders import blocks
from contrastive.encoders.vit import ViT
from multimodal import tokenizer
from multimodal.fusion import SIZES, Fusion, make_fusion
from multimodal.fusion_parts import CrossTransformer
from multimodal.text_transformer import TextTransformer, token_mask
from tests.multimodal import fusion_oracle

PAD, START, END = tokenizer.PAD, tokenizer.START, tokenizer.END
VOCABULARY, CONTEXT, WIDTH, DEPTH, HEADS, SHARED = 30, 8, 16, 2, 2, 6
IMAGE_WIDTH, P = 12, 5
TOKENS = np.array(
  [
    [START, 9, 8, 7, END, PAD, PAD, PAD],
    [START, 11, 12, 13, 14, 15, 16, END],
    [START, END, PAD, PAD, PAD, PAD, PAD, PAD],
  ],
  np.int32,
)
LENGTHS = [5, 8, 2]
MASK = np.asarray(token_mask(TOKENS))
# The image tokens that count; the second row has all of them.
IMAGE_MASK = np.array([[1, 1, 0, 1, 0], [1] * 5, [0, 1, 0, 0, 0]], bool)
PLACES = np.array([[1, 3, 0], [7, 2, 2], [1, 0, 0]], np.int32)
IMAGES = np.random.default_rng(1).normal(size=(3, 16, 16, 3)).astype(np.float32)

MODEL = Fusion(
  ViT(8, IMAGE_WIDTH, 1, 2, pool="none"),
  TextTransformer(
    VOCABULARY, CONTEXT, WIDTH, 1, HEADS, causal=False, pool="none", unroll=1
  ),
  depth=DEPTH,
  width=SHARED,
  specific=True,
  unroll=DEPTH,
)


def filled(model=MODEL, seed=0):
  """Variables of the right shapes, all away from their defaults: nothing compiled."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, TOKENS))

  def fill(path, leaf):
    if path[-1].key in ("scale", "bias"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    return jnp.asarray(0.2 * rng.normal(size=leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


VARIABLES = filled()


@functools.cache
def program(model, method):
  return jax.jit(
    lambda variables, *args, **options: model.apply(
      variables, *args, method=method, **options
    )
  )


def run(method, *args, model=MODEL, **options):
  made = program(model, method)(VARIABLES, *args, **options)
  return jax.tree.map(np.asarray, made)


@functools.cache
def encoded():
  return run("encode_text", TOKENS), run("encode_image", IMAGES)


def fused(image_mask=None, **options):
  states, image_tokens = encoded()
  return run("fuse", states, MASK, image_tokens, image_mask, **options)


def example_oracle(row, image_mask):
  """One text without its padding, with the image tokens that count and no others."""
  states, image_tokens = (np.asarray(x, np.float64) for x in encoded())
  x = states[row, : LENGTHS[row]]
  memory = image_tokens[row, image_mask[row]]
  return fusion_oracle.layers(VARIABLES["params"]["fusion"], x, memory, HEADS)


@pytest.mark.parametrize("masked", [False, True])
def test_fused_states_and_attention_equal_the_float64_loops(masked):
  """Of each text alone, unpadded, and the image tokens that count."""
  mask = IMAGE_MASK if masked else np.ones_like(IMAGE_MASK)
  given = mask if masked else None
  states, image_tokens = encoded()
  found, words = fused(given), run("predict_tokens", fused(given))
  weights = run("cross_attention", states, MASK, image_tokens, given)
  match = run("match", found)
  assert found.shape == (3, 8, WIDTH) and found.dtype == np.float32
  assert weights.shape == (DEPTH, 3, HEADS, 8, P) and weights.dtype == np.float32
  assert words.shape == (3, 8, VOCABULARY) and match.shape == (3, 2)
  params = VARIABLES["params"]
  table = params["text"]["tokens"]["embedding"]
  for row, length in enumerate(LENGTHS):
    expected, looked = example_oracle(row, mask)
    np.testing.assert_allclose(found[row, :length], expected, atol=1e-4)
    part = weights[:, row, :, :length]
    np.testing.assert_allclose(part[..., mask[row]], looked, atol=1e-5)
    assert not part[..., ~mask[row]].any()
    logits = fusion_oracle.words(params["mask_head"], table, expected)
    np.testing.assert_allclose(words[row, :length], logits, atol=1e-3)
    pair = fusion_oracle.dense(
      expected[0], jax.tree.map(np.float64, params["match_head"])
    )
    np.testing.assert_allclose(match[row], pair, atol=1e-4)


def test_embeddings_are_unit_rows_of_the_first_tokens():
  states, image_tokens = encoded()
  assert image_tokens.shape == (3, P, IMAGE_WIDTH)
  made = {
    "image": (run("project_image", image_tokens), image_tokens[:, 0]),
    "text": (run("project_text", states), states[:, 0]),
  }
  for name, (embeddings, features) in made.items():
    np.testing.assert_array_equal(embeddings.features, features)
    heads = VARIABLES["params"][f"{name}_head"]
    for kind in ("shared", "specific"):
      rows = features @ heads[kind]["kernel"]
      rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
      np.testing.assert_allclose(getattr(embeddings, kind), rows, atol=1e-6)
  plain = MODEL.clone(specific=False)
  assert run("project_text", states, model=plain).specific is None


def test_all_outputs_in_one_call():
  out = program(MODEL, "__call__")(VARIABLES, IMAGES, TOKENS)
  states, image_tokens = encoded()
  np.testing.assert_allclose(out.match, run("match", fused()), atol=1e-5)
  words = run("predict_tokens", fused())
  for row, length in enumerate(LENGTHS):
    np.testing.assert_allclose(out.words[row, :length], words[row, :length], atol=1e-4)
  image, text = run("project_image", image_tokens), run("project_text", states)
  np.testing.assert_allclose(out.image.shared, image.shared, atol=1e-6)
  np.testing.assert_allclose(out.text.specific, text.specific, atol=1e-6)


def test_what_follows_the_end_has_no_influence():
  """Not other tokens there, not other states there, and it need not be there."""
  other = TOKENS.copy()
  other[0, 5:], other[2, 2:] = (20, END, 21), 22
  whole, changed = (
    program(MODEL, "__call__")(VARIABLES, IMAGES, x) for x in (TOKENS, other)
  )
  np.testing.assert_array_equal(changed.match, whole.match)
  np.testing.assert_array_equal(changed.text.shared, whole.text.shared)
  np.testing.assert_array_equal(changed.words[MASK], whole.words[MASK])
  states, image_tokens = encoded()
  wild = np.where(MASK[:, :, None], states, 100).astype(np.float32)
  again = run("fuse", wild, MASK, image_tokens, None)
  np.testing.assert_array_equal(again[MASK], fused()[MASK])
  short = run("fuse", states[:1, :5], MASK[:1, :5], image_tokens[:1], None)
  np.testing.assert_allclose(short, fused()[:1, :5], atol=1e-5)  # a batch of one, too


def test_masked_image_tokens_have_no_influence():
  states, image_tokens = encoded()
  wild = np.where(IMAGE_MASK[:, :, None], image_tokens, 100).astype(np.float32)
  again = run("fuse", states, MASK, wild, IMAGE_MASK)
  np.testing.assert_array_equal(again[MASK], fused(IMAGE_MASK)[MASK])
  assert np.abs(fused(IMAGE_MASK) - fused())[0, :5].max() > 1e-3
  # Two pictures in a row, the second of them absent; and their order is not seen.
  two = np.concatenate([image_tokens, wild[::-1]], axis=1)
  count = np.arange(2 * P)[None] < np.full((3, 1), P)
  only_first = run("fuse", states, MASK, two, count)
  np.testing.assert_allclose(only_first[MASK], fused()[MASK], atol=1e-5)
  turned = run("fuse", states, MASK, two[:, ::-1], count[:, ::-1])
  np.testing.assert_allclose(turned[MASK], fused()[MASK], atol=1e-5)


def test_a_text_without_a_picture_is_fused_with_nothing():
  states, image_tokens = encoded()
  nothing = IMAGE_MASK.copy()
  nothing[1] = False
  found = run("fuse", states, MASK, image_tokens, nothing)
  other = run("fuse", states, MASK, image_tokens[::-1], nothing)
  np.testing.assert_array_equal(found[1], other[1])
  assert np.isfinite(found).all()
  weights = run("cross_attention", states, MASK, image_tokens, nothing)
  assert not weights[:, 1].any()
  np.testing.assert_allclose(weights[:, [0, 2]].sum(-1), 1, atol=1e-5)


def test_gradients_reach_what_counts_and_nothing_else():
  states, image_tokens = encoded()
  mask = IMAGE_MASK.copy()
  mask[2] = False

  def value(states, image_tokens):
    out = MODEL.apply(VARIABLES, states, MASK, image_tokens, mask, method="fuse")
    wave = jnp.sin(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)
    return jnp.sum(jnp.where(MASK[:, :, None], wave * out, 0))

  grads = jax.jit(jax.grad(value, argnums=(0, 1)))(states, image_tokens)
  for gradient, counts in zip(grads, (MASK, mask), strict=True):
    size = np.abs(gradient).max(axis=-1)
    assert np.isfinite(size).all()
    np.testing.assert_array_equal(size > 0, counts)


def test_every_parameter_takes_part():
  def value(params):
    out = MODEL.apply({"params": params}, IMAGES, TOKENS)
    parts = (*out.image[1:], *out.text[1:], out.match, out.words[MASK])
    return sum(jnp.sum(jnp.sin(part + 1) ** 2) for part in parts)

  grads = jax.jit(jax.grad(value))(VARIABLES["params"])
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    # A key's bias adds the same to all logits: the softmax does not see it.
    unseen = [getattr(k, "key", "") for k in path[-2:]] == ["key", "bias"]
    assert (np.abs(leaf).max() > 1e-5) != unseen, path


def test_predictions_at_places_equal_those_among_all():
  states = fused()
  words = run("predict_tokens", states)
  some = run("predict_tokens", states, PLACES)
  rows = np.arange(3)[:, None]
  np.testing.assert_allclose(some, words[rows, PLACES], atol=1e-5)
  outside = run("predict_tokens", states, PLACES + 5)
  np.testing.assert_array_equal(np.isnan(outside).any(-1), PLACES + 5 >= 8)


@pytest.mark.parametrize("unroll", [1, DEPTH])
@pytest.mark.parametrize("places", [PLACES, np.zeros((3, 1), np.int32)])
def test_states_at_places_equal_those_among_all(unroll, places):
  some = fused(IMAGE_MASK, at=places, model=MODEL.clone(unroll=unroll))
  rows = np.arange(3)[:, None]
  np.testing.assert_allclose(some, fused(IMAGE_MASK)[rows, places], atol=1e-5)
  match = run("match", fused(IMAGE_MASK))
  if places.shape[1] == 1:
    np.testing.assert_allclose(run("match", some), match, atol=1e-5)


def test_states_at_places_cost_less_and_attention_nothing_unasked():
  states, image_tokens = encoded()
  args = (states, MASK, image_tokens)

  def flops(**options):
    lowered = program(MODEL, "fuse").lower(VARIABLES, *args, **options)
    return lowered.cost_analysis()["flops"]

  assert flops(at=np.zeros((3, 1), np.int32)) < 0.7 * flops()
  kept = f"f32[{DEPTH},3,{HEADS},8,{P}]"
  trace = lambda method, **options: str(
    jax.make_jaxpr(lambda: MODEL.apply(VARIABLES, *args, method=method, **options))()
  )
  assert kept in trace("cross_attention") and kept not in trace("fuse")


def test_execution_options_change_no_number():
  states, image_tokens = encoded()

  def result(model):
    def value(params):
      apply = functools.partial(model.apply, {"params": params})
      some = apply(states, MASK, image_tokens, IMAGE_MASK, at=PLACES, method="fuse")
      words = apply(some, method="predict_tokens")
      return jnp.sum(jnp.sin(words)) + jnp.sum(apply(some, method="match")[:, 0])

    return jax.jit(jax.value_and_grad(value))(VARIABLES["params"])

  plain = result(MODEL)
  for option in ({"remat": True}, {"unroll": 1, "remat": True}):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
      result(MODEL.clone(**option)),
      plain,
    )


def test_bfloat16_is_close_and_keeps_float32_parameters_and_outputs():
  half = MODEL.clone(
    image=MODEL.image.clone(dtype=jnp.bfloat16),
    text=MODEL.text.clone(dtype=jnp.bfloat16),
  )
  shapes = jax.eval_shape(lambda: half.init(jax.random.key(0), IMAGES, TOKENS))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
  low, full = (
    program(model, "__call__")(VARIABLES, IMAGES, TOKENS) for model in (half, MODEL)
  )
  for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(full), strict=True):
    assert a.dtype == jnp.float32
    counts = MASK if a.ndim == 3 else slice(None)
    a, b = np.asarray(a)[counts], np.asarray(b)[counts]
    assert 1e-4 < np.linalg.norm(a - b) / np.linalg.norm(b) < 0.05


def test_a_block_with_a_memory_has_the_parameters_of_one_without():
  x, memory = np.zeros((1, 3, 8)), np.zeros((1, 4, 12))
  block = blocks.Block(2, 4.0, "gelu", 1e-5, jnp.float32)
  shapes = [
    jax.eval_shape(lambda args=args: block.init(jax.random.key(0), *args))["params"]
    for args in ((x, None), (x, None, None, memory))
  ]
  added = {k: v for k, v in shapes[1].items() if k not in shapes[0]}
  assert set(added) == {"cross_norm", "cross_attention"}
  assert shapes[0] == {k: shapes[1][k] for k in shapes[0]}
  assert added["cross_attention"]["key"]["kernel"].shape == (12, 2, 4)


def test_layers_are_drawn_by_width_and_depth():
  model = CrossTransformer(3, 4)
  x, memory = np.zeros((1, 2, 128), np.float32), np.zeros((1, 2, 48), np.float32)
  params = jax.jit(model.init)(jax.random.key(0), x, None, memory)["params"]["blocks"]
  own, cross = params["MultiHeadDotProductAttention_0"], params["cross_attention"]
  out = 128**-0.5 * 9**-0.5
  expected = [
    *[(128**-0.5, own[k]) for k in ("query", "key", "value")],
    *[(48**-0.5, cross[k]) for k in ("key", "value")],
    (128**-0.5, cross["query"]),
    *[(out, part) for part in (own["out"], cross["out"], params["Dense_1"])],
    (256**-0.5, params["Dense_0"]),
  ]
  for deviation, part in expected:
    leaf, error = part["kernel"], deviation / np.sqrt(2 * part["kernel"].size)
    assert abs(float(jnp.std(leaf)) - deviation) < 4 * error
    assert float(jnp.abs(part["bias"]).max()) == 0


def counted(model, size):
  """Numbers of parameters by part, from shapes alone."""
  images = jnp.zeros((1, size, size, 3))
  shapes = jax.eval_shape(
    lambda: model.init(jax.random.key(0), images, jnp.ones((1, 8), int))
  )
  return {
    part: sum(leaf.size for leaf in jax.tree.leaves(tree))
    for part, tree in shapes["params"].items()
  }


def test_published_parameter_counts():
  """ALBEF: 85.8 M image encoder, 123.7 M text and fusion (Li et al. 2021, 3.1)."""
  d, hidden, vocabulary, context = 768, 3072, 30_522, 512
  norm, attention = 2 * d, 4 * (d * d + d)
  layer = attention + d * hidden + hidden + hidden * d + d + 2 * norm
  embeddings = (vocabulary + context + 2) * d + norm
  masked_words = d * d + d + norm + vocabulary  # logits by the token embeddings
  bert = embeddings + 12 * layer
  assert bert == 109_482_240 - (d * d + d)  # BERT-base without its pooler
  albef = bert + 6 * (attention + norm) + masked_words
  assert albef == 123_697_722
  parts = counted(make_fusion(vocabulary, "base", text={"context": context}), 256)
  ours = parts["text"] + parts["fusion"] + parts["mask_head"]
  # Not ours: embeddings of two token types, and a LayerNorm of the embeddings. Not
  # BERT's: a last LayerNorm above the text layers, and one above the fusion layers.
  assert ours == albef - 2 * d - norm + norm + norm
  # ViT-B/16 with a class token, whose 16 x 16 + 1 positions are learned: 85.8 M.
  image = 85_798_656 + (257 - 197) * d
  assert round(image / 1e5) == 858 and parts["image"] == image - 257 * d
  learned = make_fusion(vocabulary, "base", image={"positions": "learned"})
  assert counted(learned, 256)["image"] == image
  # ALBEF's two heads into the shared space have a bias.
  heads = parts["image_head"] + parts["text_head"]
  assert heads == 2 * (d * 256 + 256) - 2 * 256
  assert parts["match_head"] == 2 * d + 2
  default = counted(make_fusion(4096, "base"), 256)
  assert sum(parts.values()) - sum(default.values()) == (
    (vocabulary - 4096) * (d + 1) + (context - 77) * d
  )


@pytest.mark.parametrize("size", SIZES)
def test_sizes_take_changes_of_any_part(size):
  model = make_fusion(50, size, image={"patch": 4}, specific=True, width=7, remat=True)
  assert model.image.patch == 4 and model.image.width == SIZES[size]["image"]["width"]
  assert model.image.remat and model.text.remat and model.remat
  out = jax.eval_shape(
    lambda: model.init_with_output(jax.random.key(0), IMAGES, TOKENS)[0]
  )
  assert out.image.specific.shape == out.text.shared.shape == (3, 7)
  assert out.words.shape == (3, 8, 50)


def test_errors_name_the_cure():
  def check(model):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, TOKENS))

  for changes, sentence in (
    ({"image": MODEL.image.clone(pool="class")}, "set pool='none', not 'class'"),
    ({"text": MODEL.text.clone(pool="first")}, "set pool='none', not 'first'"),
    ({"text": MODEL.text.clone(causal=True)}, "causal=False"),
    ({"text": MODEL.text.clone(heads=3)}, "16 does not divide among 3 heads; take 18"),
    (
      {"image": MODEL.image.clone(heads=5)},
      "12 does not divide among 5 heads; take 15",
    ),
    ({"text": MODEL.text.clone(depth=0)}, "at least one text layer, not 0"),
    ({"depth": 0}, "at least one fusion layer, not 0"),
  ):
    with pytest.raises(ValueError, match=sentence):
      check(MODEL.clone(**changes))
  with pytest.raises(ValueError, match="micro, tiny, base, not 'huge'"):
    make_fusion(50, "huge")
