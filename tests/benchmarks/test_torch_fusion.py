"""The fusion model in torch that ours is timed beside: the same losses."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import fusion, fusion_step
from contrastive.encoders import vit
from multimodal import masking, tokenizer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

BATCH, SIDE, CONTEXT, QUEUE = 2, 16, 8, 3
HIDDEN = 2  # words of each caption


def _config():
  config = fusion_step.read_config(
    types.SimpleNamespace(
      preset="smoke",
      batch=BATCH,
      size="micro",
      side=SIDE,
      context=CONTEXT,
      queue=QUEUE,
      dtype="float32",
      remat=False,
    )
  )
  # Ours decays the stacked biases and scales too, which are no kernels to torch.
  config.optimizer.weight_decay = 0.0
  return config


def _tensors(config, params):
  """Our parameters by torch's names."""
  named = {}

  def put(name, value):
    named[name] = torch.tensor(np.asarray(value))

  def dense(name, part):
    put(f"{name}.weight", part["kernel"].T)
    if "bias" in part:
      put(f"{name}.bias", part["bias"])

  def norm(name, part):
    put(f"{name}.weight", part["scale"])
    put(f"{name}.bias", part["bias"])

  def attention(name, part):
    each = [part[x] for x in ("query", "key", "value")]
    width = each[0]["kernel"].shape[0]
    kernels = [x["kernel"].reshape(width, -1).T for x in each]
    put(f"{name}.in_proj_weight", jnp.concatenate(kernels))
    put(f"{name}.in_proj_bias", jnp.concatenate([x["bias"].ravel() for x in each]))
    out = part["out"]["kernel"]
    put(f"{name}.out_proj.weight", out.reshape(-1, out.shape[-1]).T)
    put(f"{name}.out_proj.bias", part["out"]["bias"])

  def blocks(name, part, norms):
    for i in range(part["Dense_0"]["bias"].shape[0]):
      layer = jax.tree.map(lambda leaf, i=i: leaf[i], part)
      attention(f"{name}.{i}.self_attn", layer["MultiHeadDotProductAttention_0"])
      if "cross_attention" in layer:
        attention(f"{name}.{i}.multihead_attn", layer["cross_attention"])
      for j in (0, 1):
        dense(f"{name}.{i}.linear{j + 1}", layer[f"Dense_{j}"])
      for j, ours in enumerate(norms):
        norm(f"{name}.{i}.norm{j + 1}", layer[ours])

  image, text = params["image"], params["text"]
  put("image.patches.weight", image["patches"]["kernel"].transpose(3, 2, 0, 1))
  put("image.patches.bias", image["patches"]["bias"])
  put("image.token", image["class"])
  side = SIDE // fusion.torch_sizes(config).patch
  put(
    "image.positions", vit.sincos_positions(side, side, image["class"].shape[-1])[None]
  )
  put("text.tokens.weight", text["tokens"]["embedding"])
  put("text.positions", text["positions"])
  two = ("LayerNorm_0", "LayerNorm_1")
  blocks("image.blocks.layers", image["blocks"], two)
  blocks("text.blocks.layers", text["blocks"], two)
  three = ("LayerNorm_0", "cross_norm", "LayerNorm_1")
  blocks("fusion.layers", params["fusion"]["blocks"], three)
  for name in ("image", "text", "fusion"):
    norm(f"{name}.norm", params[name]["norm"])
  dense("image_head", params["image_head"]["shared"])
  dense("text_head", params["text_head"]["shared"])
  dense("match_head", params["match_head"])
  dense("word_head.0", params["mask_head"]["dense"])
  norm("word_head.2", params["mask_head"]["norm"])
  put("word_bias", params["mask_head"]["bias"])
  return named


def _hide_first_words(key, tokens, **knobs):
  """The first words of each caption become MASK, whatever the key."""
  places = jnp.broadcast_to(jnp.arange(1, 1 + HIDDEN)[None], (len(tokens), HIDDEN))
  targets = jnp.take_along_axis(tokens, places, axis=1)
  read = tokens.at[:, 1 : 1 + HIDDEN].set(tokenizer.MASK)
  return masking.MaskedTokens(read, places, targets, jnp.ones(places.shape, bool))


def _hide_in_torch(tokens, rate):
  where = torch.zeros(tokens.shape, dtype=torch.bool)
  where[:, 1 : 1 + HIDDEN] = True
  return tokens.masked_fill(where, tokenizer.MASK), where


def test_torch_has_our_losses_for_three_steps(monkeypatch):
  # With two pairs each has one other to be its hard negative, and nothing is drawn.
  from benchmarks import torch_fusion

  monkeypatch.setattr(masking, "mask_tokens", _hide_first_words)
  monkeypatch.setattr(torch_fusion, "hide", _hide_in_torch)
  config = _config()
  made = fusion_step.make(config, BATCH)
  state = fusion_step.fill_queues(jax.jit(made.init)(jax.random.key(0)))
  training = fusion.torch_training(config)
  given = _tensors(config, state.params["network"])
  for model in (training.net, training.copy):
    missing, unknown = model.load_state_dict(given, strict=False)
    assert (missing, unknown) == (["log_scale"], [])
  count = sum(p.numel() for p in training.net.parameters())
  assert count == sum(x.size for x in jax.tree.leaves(state.params))

  program = fusion_step.compiled(made)
  images, tokens = (made.batch.inputs[name]["base"] for name in ("image", "text"))
  pixels = torch.tensor(images).permute(0, 3, 1, 2)
  for _ in range(3):
    state, metrics = program(state, made.batch, made.key)
    ours = [float(metrics[f"term/{name}"]) for name in fusion.LOSSES]
    theirs = training.step(pixels, torch.tensor(tokens).long())
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
  for ours, theirs in zip(
    (state.objective.queues.image, state.objective.queues.text),
    training.queues,
    strict=True,
  ):
    np.testing.assert_allclose(ours.keys, theirs, atol=1e-4)
