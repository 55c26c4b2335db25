"""Towers: unit rows, heads, freezing, batch statistics, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.encoders import mlp, resnet
from multimodal.text_transformer import TextTransformer
from multimodal.towers import Tower, Towers

D = 8
KEY = jax.random.key(0)


def vector_tower(**options):
  return Tower(mlp.MLP((12, 10)), width=D, **options)


def text_tower(**options):
  encoder = TextTransformer(50, context=7, width=16, depth=1, heads=2, end=49)
  return Tower(encoder, width=D, **options)


def inputs(n=4):
  rng = np.random.default_rng(0)
  return {
    "vector": rng.standard_normal((n, 5)).astype(np.float32),
    "text": rng.integers(4, 49, (n, 7)).astype(np.int32),
  }


def model(**options):
  return Towers({"vector": vector_tower(**options), "text": text_tower(**options)})


def test_towers_of_any_modality_give_unit_rows_in_one_space():
  towers = model(specific=True)
  variables = towers.init(KEY, inputs())
  made, stats = towers.forward(variables, inputs())
  assert stats == {} and towers.projection_width == D
  for name, width in (("vector", 10), ("text", 16)):
    assert made[name].features.shape == (4, width)
    for rows in (made[name].shared, made[name].specific):
      assert rows.shape == (4, D)
      np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert not np.allclose(made[name].shared, made[name].specific)
    again = towers.embed(variables, name, inputs()[name])
    np.testing.assert_allclose(again.shared, made[name].shared, atol=1e-6)


def test_the_shared_rows_are_the_unit_rows_of_a_linear_head():
  towers = model()
  variables = towers.init(KEY, inputs())
  made = towers.embed(variables, "vector", inputs()["vector"])
  assert made.specific is None
  rows = np.asarray(made.features) @ variables["params"]["vector"]["shared"]["kernel"]
  rows /= np.linalg.norm(rows, axis=1, keepdims=True)
  np.testing.assert_allclose(made.shared, rows, atol=1e-6)


def test_a_tower_is_drawn_by_its_name_whatever_the_others_are():
  two = model().init(KEY, inputs())["params"]
  others = {"text": text_tower(), "vector": vector_tower(), "third": vector_tower()}
  sample = inputs() | {"third": inputs()["vector"]}
  three = Towers(others).init(KEY, sample)["params"]
  jax.tree.map(np.testing.assert_array_equal, two, {k: three[k] for k in two})
  first, second = (
    three["vector"]["shared"]["kernel"],
    three["third"]["shared"]["kernel"],
  )
  assert not np.allclose(first, second)


def _gradient(towers, variables):
  def loss(params):
    made, _ = towers.forward({**variables, "params": params}, inputs())
    return sum(jnp.sum(x.shared[:, 0]) for x in made.values())

  return jax.jit(jax.grad(loss))(variables["params"])


@pytest.mark.parametrize("frozen, still", [("encoder", 1), ("tower", 2)])
def test_what_is_frozen_gets_no_gradient_and_is_marked(frozen, still):
  towers = Towers({"vector": vector_tower(frozen=frozen), "text": text_tower()})
  variables = towers.init(KEY, inputs())
  grads, marks = _gradient(towers, variables), towers.frozen(variables["params"])
  moved = {
    part: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(tree))
    for part, tree in grads["vector"].items()
  }
  assert moved["encoder"] == 0 and (moved["shared"] == 0) == (still == 2)
  for part, tree in marks["vector"].items():
    assert set(jax.tree.leaves(tree)) == {moved[part] == 0}
  assert not any(jax.tree.leaves(marks["text"]))
  assert max(float(jnp.abs(g).max()) for g in jax.tree.leaves(grads["text"])) > 0


def test_batch_statistics_move_unless_the_encoder_is_frozen():
  images = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
  sample = {"image": images, "text": inputs()["text"]}
  for frozen in ("", "encoder"):
    image = Tower(resnet.resnet_tiny(width=8), width=D, frozen=frozen)
    towers = Towers({"image": image, "text": text_tower()})
    variables = towers.init(KEY, sample)
    _, stats = towers.forward(variables, sample)
    before, after = (jax.tree.leaves(s) for s in (variables["batch_stats"], stats))
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    still = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert still == bool(frozen)


def test_zero_features_have_finite_rows_and_gradients():
  towers = model()
  variables = towers.init(KEY, inputs())
  zero = jax.tree.map(jnp.zeros_like, variables)
  made = towers.embed(zero, "vector", inputs()["vector"])
  assert np.all(np.isfinite(made.shared))
  assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(_gradient(towers, zero)))


def test_bad_models_are_refused_in_a_sentence():
  with pytest.raises(ValueError, match="two or more towers, not \\['text'\\]"):
    Towers({"text": text_tower()})
  with pytest.raises(ValueError, match="their widths are text 8, vector 9"):
    Towers({"text": text_tower(), "vector": Tower(mlp.MLP((4,)), width=9)})
  towers = Towers({"vector": vector_tower(frozen="head"), "text": text_tower()})
  with pytest.raises(ValueError, match="not 'head'"):
    towers.init(KEY, inputs())
