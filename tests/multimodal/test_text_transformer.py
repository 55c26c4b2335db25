"""Text transformers against float64 loops and CLIP's; what may not be seen is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from multimodal import tokenizer
from multimodal.text_transformer import (
  SIZES,
  TextTransformer,
  pool_tokens,
  token_mask,
)

PAD, START, END = tokenizer.PAD, tokenizer.START, tokenizer.END
VOCABULARY, CONTEXT, WIDTH, DEPTH, HEADS = 30, 8, 16, 2, 2
TOKENS = np.array(
  [
    [START, 9, 8, 7, END, PAD, PAD, PAD],
    [START, 11, 12, 13, 14, 15, 16, END],
    [START, END, PAD, PAD, PAD, PAD, PAD, PAD],
  ],
  np.int32,
)
LENGTHS = [5, 8, 2]

CAUSAL = TextTransformer(VOCABULARY, CONTEXT, WIDTH, DEPTH, HEADS)
MODELS = {
  "clip": CAUSAL,
  "quick": CAUSAL.clone(activation="quick_gelu"),
  "causal mean": CAUSAL.clone(pool="mean"),
  "mean": CAUSAL.clone(causal=False, pool="mean"),
  "first": CAUSAL.clone(causal=False, pool="first"),
}


def filled(model=CAUSAL, seed=0):
  """Variables of the right shapes, all away from their defaults: nothing compiled."""
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), TOKENS))

  def fill(path, leaf):
    if path[-1].key in ("scale", "bias"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    # Small enough for attention to look at all tokens.
    return jnp.asarray(0.2 * rng.normal(size=leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


VARIABLES = filled()


@functools.cache
def program(model):
  return jax.jit(model.apply)


def features(model, tokens=TOKENS):
  return np.asarray(program(model)(VARIABLES, tokens))


def oracle(model, tokens):
  """One text [t] in float64, head by head; the states of its tokens."""
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), VARIABLES["params"])

  def norm(x, weights):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * weights["scale"] + weights["bias"]

  def activation(x):
    if model.activation == "gelu":
      return x * scipy.special.ndtr(x)
    return x / (1 + np.exp(-1.702 * x))

  t = len(tokens)
  x = p["tokens"]["embedding"][tokens] + p["positions"][:t]
  for layer in range(DEPTH):
    block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], p["blocks"])
    attention = block["MultiHeadDotProductAttention_0"]
    y, added = norm(x, block["LayerNorm_0"]), 0
    for head in range(HEADS):
      query, key, value = (
        y @ attention[name]["kernel"][:, head] + attention[name]["bias"][head]
        for name in ("query", "key", "value")
      )
      logits = query @ key.T / np.sqrt(WIDTH // HEADS)
      if model.causal:
        logits[np.triu_indices(t, 1)] = -np.inf
      weights = scipy.special.softmax(logits, axis=-1)
      added = added + weights @ value @ attention["out"]["kernel"][head]
    x = x + added + attention["out"]["bias"]
    y = norm(x, block["LayerNorm_1"])
    y = activation(y @ block["Dense_0"]["kernel"] + block["Dense_0"]["bias"])
    x = x + y @ block["Dense_1"]["kernel"] + block["Dense_1"]["bias"]
  return norm(x, p["norm"])


@pytest.mark.parametrize("name", MODELS)
def test_features_equal_the_float64_loops(name):
  """Each text alone and without padding: padding can then have no influence."""
  model = MODELS[name]
  pool = {"end": lambda x: x[-1], "first": lambda x: x[0], "mean": lambda x: x.mean(0)}
  expected = [
    pool[model.pool](oracle(model, row[:length]))
    for row, length in zip(TOKENS, LENGTHS, strict=True)
  ]
  np.testing.assert_allclose(features(model), expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_what_follows_the_end_has_no_influence(name):
  model, other = MODELS[name], TOKENS.copy()
  other[0, 5:], other[2, 2:] = (20, END, 21), 22
  np.testing.assert_array_equal(features(model, other), features(model))
  short = features(model, TOKENS[:1, :5])  # and the padding need not be there
  np.testing.assert_allclose(short, features(model)[:1], atol=1e-5)


def test_tokens_before_the_end_have_influence():
  for model in (MODELS["clip"], MODELS["mean"], MODELS["first"]):
    whole = features(model)
    for place in range(4):
      other = TOKENS.copy()
      other[0, place] = 25
      changed = np.abs(features(model, other) - whole).max(axis=1)
      assert changed[0] > 1e-3 and changed[1] == changed[2] == 0
    order = TOKENS.copy()
    order[0, 1:4] = order[0, 3:0:-1]
    assert np.abs(features(model, order)[0] - whole[0]).max() > 1e-3


def test_causal_states_do_not_see_what_comes_later():
  """The state at a place depends on the tokens up to it, and on each of these."""
  for causal in (True, False):
    model = CAUSAL.clone(causal=causal, pool="none")
    states = features(model)[1]
    for place in range(1, 7):
      other = TOKENS.copy()
      other[1, place] = 25
      moved = np.abs(features(model, other)[1] - states).max(axis=-1) > 1e-4
      expected = [not causal or i >= place for i in range(8)]
      assert moved.tolist() == expected


def test_states_and_their_pooling():
  states = features(CAUSAL.clone(pool="none"))
  mask = token_mask(TOKENS)
  assert mask.sum(axis=1).tolist() == LENGTHS
  assert states.shape == (3, 8, WIDTH)
  np.testing.assert_allclose(
    pool_tokens(states, mask, "end"), features(CAUSAL), atol=1e-6
  )
  mean = features(MODELS["causal mean"])
  np.testing.assert_allclose(pool_tokens(states, mask, "mean"), mean, atol=1e-6)
  np.testing.assert_array_equal(pool_tokens(states, mask, "first"), states[:, 0])


def test_the_mask_of_unusual_rows():
  rows = np.array(
    [
      [START, END, END, 7],  # the first end counts
      [START, 5, 6, PAD],  # no end: up to the last token
      [5, PAD, 6, END],  # padding before the end is a token like any other
      [PAD] * 4,
      [5, 6, 7, 8],
    ]
  )
  assert token_mask(rows).sum(axis=1).tolist() == [2, 3, 4, 0, 4]
  for model in (CAUSAL, MODELS["mean"]):
    assert np.isfinite(features(model, rows)).all()
  assert token_mask(rows, end=8, pad=7).sum(axis=1).tolist() == [3, 4, 4, 4, 4]


def test_other_vocabularies_have_other_ends():
  """Marks of another tokenizer, say CLIP's, whose padding is also a word."""
  tokens = np.array([[28, 0, 4, 29, 0, 0, 0, 0]])
  model = CAUSAL.clone(end=29)
  states = features(model.clone(pool="none"), tokens)
  np.testing.assert_allclose(features(model, tokens), states[:, 3], atol=1e-6)


@pytest.mark.parametrize("name", ["clip", "mean"])
@pytest.mark.parametrize("option", [{"remat": True}, {"unroll": 2}])
def test_execution_options_change_no_number(name, option):
  def result(model):
    value = lambda params: jnp.sum(model.apply({"params": params}, TOKENS)[:, 0])
    return jax.jit(jax.value_and_grad(value))(VARIABLES["params"])

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    result(MODELS[name].clone(**option)),
    result(MODELS[name]),
  )


def test_remat_keeps_less_for_the_gradient():
  def kept(model):
    residuals = jax.eval_shape(
      lambda p: jax.vjp(lambda p: model.apply(p, TOKENS), p)[1], VARIABLES
    )
    return sum(leaf.size for leaf in jax.tree.leaves(residuals))

  assert kept(CAUSAL.clone(remat=True)) < 0.7 * kept(CAUSAL)


def test_bfloat16_is_close_and_keeps_float32_parameters_and_features():
  for model in (MODELS["clip"], MODELS["mean"]):
    half, full = features(model.clone(dtype=jnp.bfloat16)), features(model)
    assert half.dtype == np.float32
    error = np.linalg.norm(half - full) / np.linalg.norm(full)
    assert 1e-4 < error < 0.05  # it did compute in bfloat16, and well
  model = CAUSAL.clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), TOKENS))
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_it_is_drawn_as_clip_draws_it():
  model = TextTransformer(500, context=32, width=128, depth=3, heads=4)
  params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 32), int))["params"]
  blocks = params["blocks"]
  attention = blocks["MultiHeadDotProductAttention_0"]
  expected = {
    0.02: [params["tokens"]["embedding"]],
    0.01: [params["positions"]],
    128**-0.5: [attention[k]["kernel"] for k in ("query", "key", "value")],
    128**-0.5 * 6**-0.5: [attention["out"]["kernel"], blocks["Dense_1"]["kernel"]],
    256**-0.5: [blocks["Dense_0"]["kernel"]],
  }
  for deviation, leaves in expected.items():
    for leaf in leaves:
      error = deviation / np.sqrt(2 * leaf.size)
      assert abs(float(jnp.std(leaf)) - deviation) < 4 * error
      assert abs(float(jnp.mean(leaf))) < 4 * deviation / np.sqrt(leaf.size)
  assert all(float(jnp.abs(b["bias"]).max()) == 0 for b in attention.values())


def test_published_parameter_counts():
  """CLIP ViT-B/32: all, less image tower, text projection and temperature."""
  model = TextTransformer(49_408, **SIZES["base"])
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones((1, 77), int)))
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  assert count == 151_277_313 - 87_849_216 - 512 * 512 - 1
  for size in SIZES.values():
    assert size["width"] % size["heads"] == 0


def test_errors_name_the_cure():
  def check(model, tokens=TOKENS):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), tokens))

  with pytest.raises(ValueError, match=r"9 tokens are longer than the context of 8"):
    check(CAUSAL, np.ones((2, 9), np.int32))
  with pytest.raises(ValueError, match="'mean' or 'none', not 'max'"):
    check(CAUSAL.clone(pool="max"))
  with pytest.raises(ValueError, match="'gelu' or 'quick_gelu', not 'relu'"):
    check(CAUSAL.clone(activation="relu"))
  with pytest.raises(ValueError, match="sees nothing but itself"):
    check(CAUSAL.clone(pool="first"))
  outside = TOKENS.copy()
  outside[1, 2] = VOCABULARY
  assert np.isnan(features(CAUSAL, outside)[1]).all()


def _copied(state):
  """Weights of a CLIP text model of transformers, under our names."""
  t = {k.removeprefix("text_model."): v.numpy() for k, v in state.items()}
  stacked = lambda name: np.stack(
    [t[f"encoder.layers.{i}.{name}"] for i in range(DEPTH)]
  )
  norm = lambda name, get: {
    "scale": get(f"{name}.weight"),
    "bias": get(f"{name}.bias"),
  }

  def dense(name):
    kernel = stacked(f"{name}.weight").transpose(0, 2, 1)
    return {"kernel": kernel, "bias": stacked(f"{name}.bias")}

  attention = {}
  for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
    part = dense(f"self_attn.{theirs}_proj")
    attention[ours] = {
      "kernel": part["kernel"].reshape(DEPTH, WIDTH, HEADS, -1),
      "bias": part["bias"].reshape(DEPTH, HEADS, -1),
    }
  out = dense("self_attn.out_proj")
  out["kernel"] = out["kernel"].reshape(DEPTH, HEADS, -1, WIDTH)
  return {
    "tokens": {"embedding": t["embeddings.token_embedding.weight"]},
    "positions": t["embeddings.position_embedding.weight"],
    "norm": norm("final_layer_norm", t.__getitem__),
    "blocks": {
      "MultiHeadDotProductAttention_0": {**attention, "out": out},
      "LayerNorm_0": norm("layer_norm1", stacked),
      "LayerNorm_1": norm("layer_norm2", stacked),
      "Dense_0": dense("mlp.fc1"),
      "Dense_1": dense("mlp.fc2"),
    },
  }


@pytest.mark.torch
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_clip_of_transformers_gives_the_same_features(activation):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config = transformers.CLIPTextConfig(
    vocab_size=VOCABULARY,
    hidden_size=WIDTH,
    intermediate_size=4 * WIDTH,
    num_hidden_layers=DEPTH,
    num_attention_heads=HEADS,
    max_position_embeddings=CONTEXT,
    hidden_act=activation,
    bos_token_id=28,
    eos_token_id=29,
    pad_token_id=0,
  )
  torch.manual_seed(0)
  theirs = transformers.CLIPTextModel(config)
  for parameter in theirs.parameters():  # norms and biases away from their defaults
    parameter.data.add_(0.1 * torch.randn_like(parameter))
  tokens = np.where(TOKENS == END, 29, TOKENS)
  expected = theirs(input_ids=torch.tensor(tokens)).pooler_output.detach().numpy()
  ours = CAUSAL.clone(end=29, activation=activation)
  variables = {"params": jax.tree.map(jnp.asarray, _copied(theirs.state_dict()))}
  found = jax.jit(ours.apply)(variables, tokens)
  np.testing.assert_allclose(found, expected, atol=1e-4)
  other = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[activation]
  wrong = jax.jit(ours.clone(activation=other).apply)(variables, tokens)
  assert np.abs(wrong - expected).max() > 1e-3  # the comparison can tell them apart
