import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import contrastive
from configs import pretrain as pretrain_config
from experiments.engine import errors
from experiments.engine.objective import Views
from experiments.engine.objectives import OBJECTIVES, build_objective

N, D = 6, 8


def objective_config(**changes):
  config = pretrain_config.get_config("smoke").objective
  config.queue_size = 16
  config.update(changes)
  return config


def views(key=0, cross=False):
  keys = jax.random.split(jax.random.key(key), 4)
  q_a, q_b, k_a, k_b = (jax.random.normal(k, (N, D)) for k in keys)
  if not cross:
    k_a, k_b = q_a, q_b
  return Views(q_a, q_b, k_a, k_b, jnp.arange(N), jnp.arange(N) % 3)


def pairs():
  for name in OBJECTIVES:
    for method in ("simclr", "moco_v3"):
      if (name, method) not in (("moco", "simclr"), ("sup_con", "moco_v3")):
        yield name, method


@pytest.mark.parametrize("name, method", list(pairs()))
def test_every_objective_has_finite_gradients_with_every_method(name, method):
  objective = build_objective(objective_config(name=name), method)
  state = objective.init(32, D)
  batch = views(cross=method == "moco_v3")

  def mean(params, batch, state):
    values, state, metrics = objective.loss(params, batch, state, jax.random.key(1))
    return jnp.mean(values), (state, metrics)

  grad = jax.jit(jax.grad(mean, argnums=(0, 1), has_aux=True, allow_int=True))
  for _ in range(2):  # the second time with state of the first
    (_, by_batch), (state, metrics) = grad(objective.params, batch, state)
  size = sum(float(jnp.abs(g).sum()) for g in by_batch[:2])
  assert np.isfinite(size) and size > 0
  assert all(np.all(np.isfinite(m)) for m in jax.tree.leaves(metrics))


def test_info_nce_is_nt_xent_over_the_pool_of_both_views():
  objective = build_objective(objective_config(name="info_nce"), "simclr")
  batch = views()
  values, _, _ = objective.loss({}, batch, (), jax.random.key(0))
  expected = contrastive.nt_xent(
    contrastive.unit(batch.query_a), contrastive.unit(batch.query_b), scale=5.0
  )
  np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["info_nce", "decoupled", "flat_nce", "augmented"])
@pytest.mark.parametrize("method", ["simclr", "moco_v3"])
def test_chance_is_the_loss_of_equal_embeddings(name, method):
  objective = build_objective(objective_config(name=name, shape=None), method)
  one = jnp.ones((N, D))
  batch = Views(one, one, one, one, jnp.arange(N), jnp.zeros(N, int))
  values, _, _ = objective.loss({}, batch, objective.init(N, D), jax.random.key(0))
  np.testing.assert_allclose(jnp.mean(values), objective.chance(N), atol=1e-5)


def test_sogclr_weighs_by_a_plain_moving_average_and_draws_nothing():
  objective = build_objective(objective_config(name="sogclr"), "simclr")
  state = objective.init(N, D)
  outcomes = [objective.loss({}, views(), state, jax.random.key(k))[0] for k in (0, 1)]
  np.testing.assert_array_equal(*outcomes)
  _, state, _ = objective.loss({}, views(0), state, jax.random.key(0))
  before = np.exp(state.log_v)
  fresh = objective.loss({}, views(1), objective.init(N, D), jax.random.key(0))[1]
  _, state, _ = objective.loss({}, views(1), state, jax.random.key(0))
  np.testing.assert_allclose(
    np.exp(state.log_v), 0.1 * before + 0.9 * np.exp(fresh.log_v), rtol=1e-5
  )


def test_minibatch_u_in_the_limit_has_the_gradient_of_the_decoupled_loss():
  batch = views()

  def gradient(config):
    objective = build_objective(config, "simclr")
    mean = lambda b: jnp.mean(
      objective.loss({}, b, objective.init(N, D), jax.random.key(0))[0]
    )
    return jax.grad(mean, allow_int=True)(batch).query_a

  control = objective_config(name="augmented", source="minibatch", shape=None)
  np.testing.assert_allclose(
    gradient(control), gradient(objective_config(name="decoupled")), atol=1e-6
  )


def test_a_learned_temperature_gets_a_gradient():
  config = objective_config(name="info_nce", learn_temperature=True)
  objective = build_objective(config, "simclr")
  mean = lambda p: jnp.mean(objective.loss(p, views(), (), jax.random.key(0))[0])
  assert float(jnp.abs(jax.grad(mean)(objective.params)["log_scale"])) > 0


@pytest.mark.parametrize(
  "changes, method, words",
  [
    (dict(name="infonce"), "simclr", "did you mean 'info_nce'"),
    (dict(temperature=0.0), "simclr", "temperature must be positive"),
    (dict(name="augmented", shape=-1.0), "simclr", "shape must be positive"),
    (dict(name="augmented", smoothing=1.5), "simclr", r"in \(0, 1\]"),
    (dict(name="augmented", source="batch"), "simclr", "objective.source"),
    (dict(name="moco"), "simclr", "moco_v3"),
    (dict(name="sup_con"), "moco_v3", "simclr"),
  ],
)
def test_a_bad_knob_is_one_sentence(changes, method, words):
  with pytest.raises(errors.UsageError, match=words):
    build_objective(objective_config(**changes), method)


def test_configs_are_not_changed_by_building():
  config = objective_config(name="sogclr")
  before = ml_collections.FrozenConfigDict(config)
  build_objective(config, "simclr")
  assert before == ml_collections.FrozenConfigDict(config)
