"""Judging pictures by a fusion model: what counts, what does not, where it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import fusion, tasks, tokenizer

V = 50


def _fusion(**options):
  small = {"width": 24, "depth": 1, "heads": 2, "unroll": 4}
  image, text = {**small, "patch": 8}, {**small, "context": 8}
  return fusion.make_fusion(
    V, "micro", image=image, text=text, depth=1, width=8, **options
  )


def _inputs(n=4, v=2):
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.standard_normal((n, v, 16, 16, 3)), jnp.float32)
  words = rng.integers(4, V, (n, 8))
  words[:, 0], words[:, 5], words[:, 6:] = tokenizer.START, tokenizer.END, 0
  return images, jnp.asarray(words, jnp.int32)


@pytest.fixture(scope="module")
def pair():
  judge = tasks.Judge(_fusion(), answers=3, pictures=2)
  images, words = _inputs()
  params = jax.jit(judge.init)(jax.random.key(0), images, words)["params"]
  # The last layers start small; here they are to be seen.
  params = jax.tree.map(lambda x: x * 5, params)
  call = jax.jit(lambda *args: judge.apply({"params": params}, *args))
  return judge, params, call


def test_it_is_the_models_first_states_through_two_layers(pair):
  _, params, call = pair
  images, words = _inputs()
  model = _fusion()
  use = lambda method, *args: model.apply(
    {"params": params["model"]}, *args, method=method
  )

  @jax.jit
  def by_hand(images, words):
    mask = jnp.cumsum(words == tokenizer.END, axis=1) - (words == tokenizer.END) == 0
    states = use("encode_text", words)
    seen = [use("encode_image", images[:, i]) for i in (0, 1)]
    fused = [use("fuse", states, mask, tokens)[:, 0] for tokens in seen]
    layer = lambda x, name: x @ params[name]["kernel"] + params[name]["bias"][None]
    return layer(jnp.maximum(layer(jnp.hstack(fused), "hidden"), 0), "answer")

  with jax.numpy_rank_promotion("allow"):
    expected = by_hand(images, words)
  np.testing.assert_allclose(call(images, words), expected, rtol=1e-4, atol=1e-5)


def test_pictures_are_told_apart_and_may_be_absent(pair):
  _, _, call = pair
  images, words = _inputs()
  there = lambda *x: jnp.broadcast_to(jnp.array(x), (len(words), 2))
  both = call(images, words, there(True, True))
  np.testing.assert_allclose(both, call(images, words), rtol=1e-5, atol=1e-6)
  swapped = call(images[:, ::-1], words)
  assert np.abs(swapped - both).max() > 1e-3
  left = call(images, words, there(True, False))
  other = images.at[:, 1].set(7.0)
  np.testing.assert_array_equal(left, call(other, words, there(True, False)))
  assert np.abs(call(other, words) - both).max() > 1e-3
  blind = call(images, words, there(False, False))
  np.testing.assert_array_equal(blind, call(-images, words, there(False, False)))
  assert np.isfinite(blind).all() and np.abs(blind[0] - blind[1]).max() > 1e-4


def test_it_starts_from_a_pretrained_model(pair):
  judge, params, _ = pair
  images, words = _inputs()
  model = _fusion()
  made = jax.jit(model.init)(jax.random.key(7), images[:, 0], words)["params"]
  started = tasks.start_from(params, made)
  assert jax.tree.structure(started) == jax.tree.structure(params)
  for part, leaves in started["model"].items():
    jax.tree.map(np.testing.assert_array_equal, leaves, made[part])
  np.testing.assert_array_equal(started["hidden"]["kernel"], params["hidden"]["kernel"])
  assert "match_head" not in started["model"]  # no head of pretraining is carried along
  larger = _fusion()
  larger = larger.clone(text=larger.text.clone(context=9))
  words = jnp.pad(words, ((0, 0), (0, 1)))
  shapes = jax.eval_shape(larger.init, jax.random.key(0), images[:, 0], words)
  wrong = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"])
  with pytest.raises(ValueError, match=r"'positions'.*\(9, 24\).*\(8, 24\)"):
    tasks.start_from(params, wrong)
  del made["fusion"]
  with pytest.raises(ValueError, match="has no parameter"):
    tasks.start_from(params, made)
  assert judge.pictures == 2


def test_what_does_not_fit_is_refused():
  images, words = _inputs()
  one = tasks.Judge(_fusion(), answers=2)
  with pytest.raises(ValueError, match="2 pictures of each text were given"):
    jax.eval_shape(one.init, jax.random.key(0), images, words)
  with pytest.raises(ValueError, match="at least 2 answers, not 1"):
    none = tasks.Judge(_fusion(), answers=1)
    jax.eval_shape(none.init, jax.random.key(0), images[:, 0], words)
  shapes = jax.eval_shape(one.init, jax.random.key(0), images[:, 0], words)["params"]
  assert shapes["hidden"]["kernel"].shape == (24, 24)
  assert shapes["answer"]["kernel"].shape == (24, 2)
