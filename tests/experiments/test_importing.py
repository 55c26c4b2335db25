"""Weights of files in a network: our exports, and CLIP towers against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs import pretrain as pretrain_config
from contrastive.encoders import vit
from experiments.engine import build, errors, importing
from experiments.engine.exporting import programs, weights

WIDTH, DEPTH, HEADS, PATCH, SIZE = 16, 2, 2, 8, 16
SIZES = {"patch": PATCH, "width": WIDTH, "depth": DEPTH, "heads": HEADS}
IMAGES = np.random.default_rng(1).normal(size=(3, SIZE, SIZE, 3)).astype(np.float32)


def drawn(init, seed=0):
  """Random values in the shapes that `init` gives: nothing is compiled."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype),
    jax.eval_shape(init),
  )


def tower(**options):
  """A small CLIP image tower and its variables as the network names them."""
  model = vit.clip_vit_b32(**{**SIZES, **options})
  params = drawn(lambda: model.init(jax.random.key(0), IMAGES)["params"])
  return model, {"encoder": params, "projector": {"kernel": jnp.ones((2, 2))}}


def features(model, params):
  return jax.jit(model.apply)({"params": params["encoder"]}, IMAGES)


def open_clip_tensors(seed=0, depth=DEPTH):
  """Random arrays under exactly open_clip's names, scales far from their defaults."""
  rng = np.random.default_rng(seed)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32) / shape[-1] ** 0.5
  w = WIDTH
  tensors = {
    "visual.class_embedding": draw(w),
    "visual.positional_embedding": draw(1 + (SIZE // PATCH) ** 2, w),
    "visual.proj": draw(w, 12),
    "visual.conv1.weight": draw(w, 3, PATCH, PATCH),
  }
  norms = ["visual.ln_pre", "visual.ln_post"]
  for i in range(depth):
    block = f"visual.transformer.resblocks.{i}"
    norms += [f"{block}.ln_1", f"{block}.ln_2"]
    for name, shape in (
      ("attn.in_proj_weight", (3 * w, w)),
      ("attn.in_proj_bias", (3 * w,)),
      ("attn.out_proj.weight", (w, w)),
      ("attn.out_proj.bias", (w,)),
      ("mlp.c_fc.weight", (4 * w, w)),
      ("mlp.c_fc.bias", (4 * w,)),
      ("mlp.c_proj.weight", (w, 4 * w)),
      ("mlp.c_proj.bias", (w,)),
    ):
      tensors[f"{block}.{name}"] = draw(*shape)
  for norm in norms:
    tensors[f"{norm}.weight"], tensors[f"{norm}.bias"] = 1 + draw(w), draw(w)
  text = {"token_embedding.weight": draw(5, w), "logit_scale": draw(1)[0]}
  return tensors | {name: np.asarray(value) for name, value in text.items()}


def save(path, tensors):
  safetensors.numpy.save_file(tensors, path)
  return path


@pytest.mark.parametrize("part", ("encoder", "network"))
def test_an_export_of_ours_comes_back(part, tmp_path):
  config = pretrain_config.get_config("smoke")
  config.encoder = {"name": "resnet_tiny", "width": 8}
  network = build.build_network(config)
  init = lambda: network.init(jax.random.key(0), jnp.zeros((2, 16, 16, 3)), train=False)
  saved, fresh = drawn(init, seed=1), drawn(init, seed=2)
  path = tmp_path / "a.safetensors"
  weights.save_weights(path, programs.select_part(config, saved, part), {})
  params, stats = importing.init_from(fresh["params"], fresh["batch_stats"], path)
  new = {"params": params, "batch_stats": stats}
  assert jax.tree.structure(new) == jax.tree.structure(fresh)
  other = saved if part == "network" else fresh
  expected = {
    kind: {
      name: (saved if name == "encoder" else other)[kind][name] for name in fresh[kind]
    }
    for kind in fresh
  }
  jax.tree.map(np.testing.assert_array_equal, new, expected)


def test_an_export_of_another_network_is_refused(tmp_path):
  config = pretrain_config.get_config("smoke")
  config.encoder = {"name": "mlp"}
  network = build.build_network(config)
  init = lambda side: jax.eval_shape(
    lambda: network.init(jax.random.key(0), jnp.zeros((2, side, side, 3)), train=False)
  )["params"]
  small = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), init(8))
  path = tmp_path / "a.safetensors"
  weights.save_weights(path, {"params": small}, {})
  words = r"encoder/Dense_0/kernel is \(768, 512\), but .* gives \(192, 512\)"
  with pytest.raises(errors.UserError, match=words):
    importing.init_from(init(16), {}, path)


def test_what_does_not_fit_is_listed_and_the_list_is_cut(tmp_path):
  tensors = open_clip_tensors()
  tensors["visual.ln_3.weight"] = np.ones(3, np.float32)
  path = save(tmp_path / "a.safetensors", tensors)
  _, params = tower()
  with pytest.raises(errors.UserError, match=r"visual.ln_3.weight has no place"):
    importing.init_from(params, {}, path)
  _, wide = tower(width=24)
  with pytest.raises(errors.UserError) as caught:
    importing.init_from(wide, {}, path)
  lines = str(caught.value).splitlines()
  assert len(lines) == 1 + 8 + 1 and lines[-1].startswith("and ")
  assert all(", but visual." in line for line in lines[2:-1])
  assert "but visual.transformer.resblocks.*.mlp.c_fc.bias gives (2, 64)" in lines[2]


def test_a_tower_of_other_depth_or_positions_is_refused(tmp_path):
  path = save(tmp_path / "a.safetensors", open_clip_tensors(depth=3))
  with pytest.raises(errors.UserError, match=r"bias is \(2, 64\), .* gives \(3, 64\)"):
    importing.init_from(tower()[1], {}, path)
  path = save(tmp_path / "b.safetensors", open_clip_tensors())
  _, params = tower(positions="sincos")
  with pytest.raises(errors.UserError, match="positional_embedding has no place"):
    importing.init_from(params, {}, path)
  tensors = open_clip_tensors()
  del tensors["visual.transformer.resblocks.0.ln_1.bias"]
  path = save(tmp_path / "c.safetensors", tensors)
  with pytest.raises(errors.UserError, match=r"lacks 'ln_1.bias' in some"):
    importing.init_from(tower()[1], {}, path)


def test_files_of_other_kinds_are_refused(tmp_path):
  _, params = tower()
  path = save(tmp_path / "a.safetensors", {"layer1.weight": np.ones(3, np.float32)})
  with pytest.raises(errors.UserError, match=r"names are layer1\.weight"):
    importing.init_from(params, {}, path)
  with pytest.raises(errors.UserError, match=r"cannot read .*No such file"):
    importing.init_from(params, {}, tmp_path / "b.safetensors")
  path = save(tmp_path / "c.safetensors", open_clip_tensors())
  with pytest.raises(errors.UserError, match=r"choose encoder\.name=clip_vit_b32"):
    importing.init_from({"encoder": {"Dense_0": {"bias": jnp.ones(2)}}}, {}, path)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(errors.UserError, match="not a whole safetensors file"):
    importing.init_from(params, {}, path)


def test_half_precision_is_widened(tmp_path):
  tensors = open_clip_tensors()
  half = {name: np.asarray(value, jnp.bfloat16) for name, value in tensors.items()}
  _, params = tower()
  new, _ = importing.init_from(params, {}, save(tmp_path / "a.safetensors", half))
  assert {leaf.dtype for leaf in jax.tree.leaves(new)} == {jnp.dtype("float32")}
  np.testing.assert_array_equal(
    new["encoder"]["class"][0, 0], half["visual.class_embedding"].astype(np.float32)
  )


def _open_clip_features(torch, tensors, activation):
  """The tower of open_clip in plain torch, before the projection."""
  functional = torch.nn.functional
  t = {name: torch.tensor(np.asarray(value)) for name, value in tensors.items()}

  def norm(x, name):
    scale, shift = t[f"visual.{name}.weight"], t[f"visual.{name}.bias"]
    return functional.layer_norm(x, (WIDTH,), scale, shift, eps=1e-5)

  pixels = torch.tensor(IMAGES).permute(0, 3, 1, 2)
  x = functional.conv2d(pixels, t["visual.conv1.weight"], stride=PATCH)
  x = x.flatten(2).transpose(1, 2)
  first = t["visual.class_embedding"].expand(len(x), 1, WIDTH)
  x = torch.cat([first, x], dim=1) + t["visual.positional_embedding"]
  x = norm(x, "ln_pre")
  for i in range(DEPTH):
    block = f"transformer.resblocks.{i}"
    attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    own = f"visual.{block}.attn."
    attention.load_state_dict(
      {k.removeprefix(own): v for k, v in t.items() if k.startswith(own)}
    )
    y = norm(x, f"{block}.ln_1")
    x = x + attention(y, y, y, need_weights=False)[0]
    mlp = lambda y, name, block=block: functional.linear(
      y, t[f"visual.{block}.mlp.{name}.weight"], t[f"visual.{block}.mlp.{name}.bias"]
    )
    x = x + mlp(activation(mlp(norm(x, f"{block}.ln_2"), "c_fc")), "c_proj")
  return norm(x, "ln_post")[:, 0].detach().numpy()


@pytest.mark.torch
@pytest.mark.parametrize("name", ["gelu", "quick_gelu"])
def test_a_tower_in_open_clip_naming_gives_the_same_features(name, tmp_path):
  torch = pytest.importorskip("torch")
  activations = {
    "gelu": torch.nn.functional.gelu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
  }
  tensors = open_clip_tensors()
  model, params = tower(activation=name)
  path = save(tmp_path / "a.safetensors", tensors)
  new, _ = importing.init_from(params, {}, path)
  expected = {k: _open_clip_features(torch, tensors, f) for k, f in activations.items()}
  ours = features(model, new)
  np.testing.assert_allclose(ours, expected.pop(name), atol=1e-4)
  (other,) = expected.values()
  assert np.abs(ours - other).max() > 1e-3  # the comparison can tell them apart


@pytest.mark.torch
@pytest.mark.parametrize("whole", [False, True], ids=["tower", "clip"])
def test_a_tower_of_transformers_gives_the_same_features(whole, tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  sizes = {
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
  }
  vision = {**sizes, "image_size": SIZE, "patch_size": PATCH}
  torch.manual_seed(0)
  if whole:
    text = {**sizes, "vocab_size": 30, "max_position_embeddings": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision)
    theirs = transformers.CLIPModel(config)
  else:
    theirs = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**vision))
  for parameter in theirs.parameters():  # norms and biases away from their defaults
    parameter.data.add_(0.1 * torch.randn_like(parameter))
  theirs.save_pretrained(tmp_path)
  model, params = tower()
  new, _ = importing.init_from(params, {}, tmp_path / "model.safetensors")
  seen = theirs.vision_model if whole else theirs
  pixels = torch.tensor(IMAGES).permute(0, 3, 1, 2)
  expected = seen(pixel_values=pixels).pooler_output.detach().numpy()
  np.testing.assert_allclose(features(model, new), expected, atol=1e-4)
