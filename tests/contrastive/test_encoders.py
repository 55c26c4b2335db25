"""Encoders: published sizes, types, independence of rows, and what training updates."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from contrastive import encoders
from contrastive.encoders import vit
from contrastive.encoders.activations import gelu, quick_gelu

KEY = jax.random.key(0)


def pictures(n=4, size=16, channels=3, seed=1):
  return jax.random.normal(jax.random.key(seed), (n, size, size, channels))


def count(model, size):
  """Number of parameters, from shapes alone."""
  image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(KEY, x, train=False), image)
  return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def filled(model, images):
  """Variables of the right shapes with random values: no compiled initialisation.

  All scales are away from zero, so every block takes part.
  """
  shapes = jax.eval_shape(lambda: model.init(KEY, images, train=False))
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    if path[0].key == "batch_stats" or leaf.ndim == 1:
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    fan_in = np.prod(leaf.shape[:-1])
    return jnp.asarray(rng.normal(size=leaf.shape) / fan_in**0.5, leaf.dtype)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def evaluate(model, variables, images):
  return jax.jit(lambda x: model.apply(variables, x, train=False))(images)


SMALL = {
  "mlp": encoders.MLP((12, 10)),
  "basic": encoders.ResNet((1, 1), width=8, stem="small"),
  "bottleneck": encoders.ResNet(
    (1, 1), encoders.Bottleneck, width=4, stem="patch", patch=4
  ),
  "group": encoders.ResNet((1,), width=8, stem="large", num_groups=4),
  "class": encoders.ViT(patch=8, width=16, depth=2, heads=2),
  "mean": encoders.ViT(patch=8, width=16, depth=2, heads=2, pool="mean", remat=True),
  "clip": vit.clip_vit_b32(patch=8, width=16, depth=2, heads=2),
}
WIDTHS = dict(zip(SMALL, (10, 16, 32, 8, 16, 16, 16), strict=True))


@pytest.mark.parametrize(
  ("model", "size", "expected"),
  [
    (encoders.resnet18(), 224, 11_176_512),
    (encoders.resnet18(), 32, 11_168_832),  # 3x3 stem: 9,408 - 1,728 fewer
    (encoders.resnet34(), 224, 21_284_672),
    (encoders.resnet50(), 224, 23_508_032),
    # Published counts of the ViTs have learned positions; these are computed.
    (encoders.vit_tiny(), 224, 5_524_416 - 197 * 192),
    (encoders.vit_small(), 224, 21_665_664 - 197 * 384),
    (encoders.vit_base(), 224, 85_798_656 - 197 * 768),
    # CLIP's towers: less the projection's 512 (768) columns, and patches have a bias.
    (vit.clip_vit_b32(), 224, 87_849_216 - 768 * 512 + 768),
    (vit.clip_vit_b16(), 224, 86_192_640 - 768 * 512 + 768),
    (vit.clip_vit_l14(), 224, 303_966_208 - 1024 * 768 + 1024),
  ],
)
def test_published_parameter_counts(model, size, expected):
  assert count(model, size) == expected


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_keeps_float32_parameters_and_features(name):
  model = SMALL[name].clone(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(lambda: model.init(KEY, pictures(), train=False))
  features = jax.eval_shape(lambda v: model.apply(v, pictures(), train=False), shapes)
  assert features.shape == (4, WIDTHS[name]) and features.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_bfloat16_is_close_to_float32():
  variables = filled(SMALL["mean"], pictures())

  full, half = (
    evaluate(SMALL["mean"].clone(dtype=dtype), variables, pictures())
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  error = float(jnp.linalg.norm(full - half) / jnp.linalg.norm(full))
  assert 1e-4 < error < 0.05  # it did compute in bfloat16, and well


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_treats_rows_alone(name):
  """Permuting the batch permutes the features; a row alone has the same features."""
  model, images = SMALL[name], pictures()
  variables = filled(model, images)
  apply = jax.jit(lambda x: model.apply(variables, x, train=False))
  features, order = apply(images), jnp.array([2, 0, 3, 1])
  assert float(jnp.std(features, axis=0).max()) > 1e-3
  np.testing.assert_allclose(apply(images[order]), features[order], atol=1e-5)
  other_company = images.at[1:].set(0.0)
  np.testing.assert_allclose(apply(other_company)[0], features[0], atol=1e-5)


def test_training_updates_batch_statistics():
  model, images = SMALL["basic"], 3 + 2 * pictures(8)
  variables = filled(model, images)
  train = jax.jit(lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]))
  features, updated = train(variables)
  kernel = variables["params"]["Conv_0"]["kernel"]
  before = jax.lax.conv_general_dilated(
    images, kernel, (1, 1), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  old, new = (v["batch_stats"]["BatchNorm_0"] for v in (variables, updated))
  for name, batch in (("mean", before.mean((0, 1, 2))), ("var", before.var((0, 1, 2)))):
    np.testing.assert_allclose(new[name], 0.9 * old[name] + 0.1 * batch, rtol=1e-3)
  evaluated = evaluate(model, variables, images)
  assert not jnp.allclose(features, evaluated, atol=1e-2)


def test_batch_statistics_are_global_under_pmap_and_jit():
  """With axis_name, eight devices of two images train as one device of sixteen."""
  model, images = encoders.ResNet((1,), width=4, stem="patch"), pictures(16, 8)
  variables = filled(model, images)

  def step(model, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"])

  features, updated = jax.jit(lambda x: step(model, x))(images)
  mapped = jax.pmap(lambda x: step(model.clone(axis_name="data"), x), axis_name="data")
  parts, stats = mapped(images.reshape(8, 2, *images.shape[1:]))
  np.testing.assert_allclose(parts.reshape(16, -1), features, atol=1e-5)
  for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(updated), strict=True):
    np.testing.assert_allclose(a[3], b, atol=1e-5)


def test_a_new_block_is_the_identity():
  """The last norm of each block starts at scale 0, so a block adds nothing at first."""
  model, images = encoders.ResNet((2,), width=4, stem="patch"), pictures()
  variables = jax.jit(lambda: model.init(KEY, images, train=False))()
  first_only = {
    kind: {name: part for name, part in parts.items() if name != "BasicBlock_1"}
    for kind, parts in variables.items()
  }
  np.testing.assert_allclose(
    evaluate(model.clone(stage_sizes=(1,)), first_only, images),
    evaluate(model, variables, images),
    atol=1e-6,
  )


@pytest.mark.parametrize(("size", "stem"), [(64, "small"), (65, "large")])
def test_the_stem_follows_the_image(size, stem):
  automatic = encoders.ResNet((1,), width=4)
  assert count(automatic, size) == count(automatic.clone(stem=stem), size)
  kernel = 3 if stem == "small" else 7
  assert count(automatic, size) == kernel**2 * 3 * 4 + 8 + 2 * (9 * 16 + 8)


def test_tiny_resnet_costs_about_ten_megaflops():
  model = encoders.resnet_tiny()
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  shapes = jax.eval_shape(lambda x: model.init(KEY, x, train=False), images)
  lowered = jax.jit(lambda v, x: model.apply(v, x, train=False)).lower(shapes, images)
  assert 5e6 < lowered.cost_analysis()["flops"] < 15e6


def test_positions_name_their_place():
  """Distinct rows of equal norm, whose products depend on the offset only."""
  rows, columns, width = 3, 5, 32
  positions = vit.sincos_positions(rows, columns, width).astype(np.float64)
  np.testing.assert_allclose((positions**2).sum(1), width / 2, rtol=1e-6)
  grid = positions.reshape(rows, columns, width)
  np.testing.assert_allclose(
    np.einsum("d,d->", grid[0, 1], grid[1, 3]),
    np.einsum("d,d->", grid[1, 2], grid[2, 4]),
    rtol=1e-5,
  )
  np.testing.assert_allclose(grid[2, 4, 0], np.sin(4.0), rtol=1e-5)  # column first
  np.testing.assert_allclose(grid[2, 4, width // 2], np.sin(2.0), rtol=1e-5)
  assert len(np.unique(positions.round(6), axis=0)) == rows * columns


def test_vit_sees_where_patches_are():
  """Without positions a mean-pooled ViT could not tell exchanged patches."""
  model, images = SMALL["mean"], pictures(2)
  exchanged = jnp.roll(images, 8, axis=1)
  variables = filled(model, images)
  one, two = evaluate(model, variables, jnp.stack([images[0], exchanged[0]]))
  difference = one - two
  assert float(jnp.abs(difference).max()) > 1e-3


def test_learned_positions_are_of_all_tokens_and_of_one_size_of_image():
  """With the fixed positions written into them, they change nothing."""
  for name, first in (("class", 1), ("mean", 0)):
    fixed, images = SMALL[name], pictures()
    learned = fixed.clone(positions="learned")
    params = filled(fixed, images)["params"]
    positions = np.zeros((first + 4, 16), np.float32)
    positions[first:] = vit.sincos_positions(2, 2, 16)
    same = {"params": params | {"positions": jnp.asarray(positions)}}
    np.testing.assert_allclose(
      evaluate(learned, same, images),
      evaluate(fixed, {"params": params}, images),
      atol=1e-6,
    )
    with pytest.raises(flax.errors.ScopeParamShapeError, match="positions"):
      learned.apply(same, pictures(size=24))


def test_vit_tokens_and_their_pooling():
  model, images = SMALL["class"], pictures(2)
  variables = filled(model, images)
  tokens = evaluate(model.clone(pool="none"), variables, images)
  assert tokens.shape == (2, 1 + 4, 16)
  pooled = evaluate(model, variables, images)
  np.testing.assert_allclose(tokens[:, 0], pooled, atol=1e-6)


def test_frozen_patches_get_no_gradient():
  model, images = SMALL["class"], pictures()
  params = filled(model, images)["params"]

  def patch_gradient(frozen):
    apply = model.clone(frozen_patches=frozen).apply
    value = lambda p: jnp.sum(apply({"params": p}, images)[:, 0])
    gradient = jax.jit(jax.grad(value))(params)
    assert all(
      float(jnp.abs(leaf).max()) > 0
      for name, part in gradient.items()
      for leaf in jax.tree.leaves(part)
      if name != "patches"
    )
    return float(jnp.abs(gradient["patches"]["kernel"]).max())

  assert patch_gradient(True) == 0
  assert patch_gradient(False) > 0


@pytest.mark.parametrize(
  ("name", "option"),
  [("class", {"remat": True}), ("basic", {"remat": True}), ("class", {"unroll": 2})],
)
def test_execution_options_change_no_number(name, option):
  variables = filled(SMALL[name], pictures())

  def result(option):
    model = SMALL[name].clone(**option)

    def value(params):
      features, changed = model.apply(
        variables | {"params": params}, pictures(), train=True, mutable="batch_stats"
      )
      return jnp.sum(features[:, 0]), changed

    return jax.jit(jax.value_and_grad(value, has_aux=True))(variables["params"])

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    result(option),
    result({}),
  )


def test_gelu_is_exact():
  x = np.linspace(-8, 8, 401)
  phi, density = scipy.stats.norm.cdf(x), scipy.stats.norm.pdf(x)
  narrow = x.astype(np.float32)
  value, slope = jax.vmap(jax.value_and_grad(gelu))(narrow)
  np.testing.assert_allclose(value, x * phi, rtol=1e-6, atol=5e-7)
  np.testing.assert_allclose(slope, phi + x * density, rtol=1e-6, atol=1e-6)
  curvature = jax.vmap(jax.grad(jax.grad(gelu)))(narrow)
  np.testing.assert_allclose(curvature, (2 - x**2) * density, rtol=1e-5, atol=1e-6)
  half = jnp.asarray(narrow, jnp.bfloat16)
  assert gelu(half).dtype == jnp.bfloat16
  exact = np.asarray(half, np.float64) * scipy.stats.norm.cdf(np.asarray(half, float))
  np.testing.assert_allclose(np.asarray(gelu(half), float), exact, rtol=4e-3, atol=1e-6)


def test_quick_gelu_is_near_gelu():
  x = np.linspace(-8, 8, 401).astype(np.float32)
  exact = x / (1 + np.exp(-1.702 * x.astype(np.float64)))
  np.testing.assert_allclose(quick_gelu(x), exact, rtol=1e-5, atol=1e-6)
  assert 0.01 < np.abs(quick_gelu(x) - gelu(x)).max() < 0.03


def test_gelu_keeps_one_array_for_the_gradient():
  x = jnp.ones((4, 8))
  kept = jax.eval_shape(lambda x: jax.vjp(gelu, x)[1], x)
  assert sum(leaf.size for leaf in jax.tree.leaves(kept)) == x.size


def test_grey_images_are_encoded():
  for name in ("basic", "mean"):
    shapes = jax.eval_shape(
      lambda m=SMALL[name]: m.init_with_output(KEY, pictures(channels=1), train=False)[
        0
      ]
    )
    assert shapes.shape == (4, WIDTHS[name])


def test_errors_name_the_cure():
  def init(model, size=16):
    return jax.eval_shape(lambda: model.init(KEY, pictures(size=size), train=False))

  with pytest.raises(ValueError, match="'patch', not 'tall'"):
    init(encoders.ResNet((1,), stem="tall"))
  with pytest.raises(ValueError, match="do not tile a 18 x 18 image"):
    init(SMALL["mean"], size=18)
  with pytest.raises(ValueError, match="'none', not 'max'"):
    init(encoders.ViT(pool="max"))
  with pytest.raises(ValueError, match="'sincos' or 'learned', not 'rotary'"):
    init(encoders.ViT(positions="rotary"))
  with pytest.raises(ValueError, match="'gelu' or 'quick_gelu', not 'relu'"):
    init(encoders.ViT(activation="relu"))
  with pytest.raises(ValueError, match="multiple of 4, not 18; try 20"):
    init(encoders.ViT(patch=8, width=18, heads=2))
