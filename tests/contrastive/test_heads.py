"""Heads: layers, norms and the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import heads

KEY = jax.random.key(0)


def features(n=16, d=6):
  return 2 + 3 * jax.random.normal(jax.random.key(1), (n, d))


def shapes_of(model, **sizes):
  shapes = jax.eval_shape(lambda: model.init(KEY, features(**sizes), train=False))
  return shapes.get("params", {}), shapes.get("batch_stats", {})


def test_no_layers_is_the_identity():
  model = heads.Projector(layers=0)
  assert shapes_of(model) == ({}, {})
  assert jnp.array_equal(model.apply({}, features()), features())


def test_a_single_layer_is_linear():
  model = heads.Projector(out=4, layers=1)
  variables = model.init(KEY, features())
  kernel = variables["params"]["Dense_0"]["kernel"]
  np.testing.assert_allclose(
    model.apply(variables, features()), features() @ kernel, rtol=1e-5
  )


def test_parameters_of_moco_v3_and_simclr():
  """No bias before a norm, and no scale or offset in MoCo-v3's last one."""
  params, stats = shapes_of(heads.Projector(32, 8, layers=3, last_norm=True))
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == (
    6 * 32 + 32 * 32 + 32 * 8 + 2 * 2 * 32
  )
  assert sorted(stats) == ["BatchNorm_0", "BatchNorm_1", "BatchNorm_2"]
  params, stats = shapes_of(heads.Projector(32, 8))
  assert params["Dense_1"].keys() == {"kernel"} and sorted(stats) == ["BatchNorm_0"]


def test_without_batch_norm_layers_have_biases_and_no_state():
  params, stats = shapes_of(heads.Projector(32, 8, batch_norm=False))
  assert stats == {} and "bias" in params["Dense_0"] and "bias" in params["Dense_1"]


def test_last_norm_standardises_the_batch():
  model = heads.Projector(32, 8, layers=2, last_norm=True)
  variables = model.init(KEY, features())
  out, updated = model.apply(variables, features(), train=True, mutable=["batch_stats"])
  np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(out.std(0), 1, atol=1e-3)
  moved = updated["batch_stats"]["BatchNorm_0"]["mean"]
  assert float(jnp.abs(moved).max()) > 1e-3


@pytest.mark.parametrize("head", [heads.Projector(8, 4), heads.Predictor(8)])
def test_evaluation_treats_rows_alone(head):
  variables = head.init(KEY, features())
  out = head.apply(variables, features(), train=False)
  alone = head.apply(variables, features()[3:4], train=False)
  np.testing.assert_allclose(alone[0], out[3], atol=1e-5)


def test_predictor_keeps_the_width():
  model = heads.Predictor(hidden=16)
  out = jax.eval_shape(lambda: model.init_with_output(KEY, features(d=7))[0])
  assert out.shape == (16, 7)


@pytest.mark.parametrize("head", [heads.Projector, heads.Predictor])
def test_bfloat16_keeps_float32_parameters_and_outputs(head):
  model = head(hidden=8, dtype=jnp.bfloat16, last_norm=True)
  out, variables = jax.eval_shape(lambda: model.init_with_output(KEY, features()))
  dtypes = {leaf.dtype for leaf in jax.tree.leaves((out, variables))}
  assert dtypes == {jnp.dtype("float32")}
