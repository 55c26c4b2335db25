"""A batch in parts gives the gradient of the whole batch: encoder and temperature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import pretrain as pretrain_config
from experiments import pretrain
from experiments.engine import accumulate, errors, mesh, record, spread
from experiments.engine.accumulate import Parts
from experiments.engine.objective import Views
from experiments.engine.objectives import build_objective

N, WIDTH, EXAMPLES = 16, 6, 40


def _embed(params, stats, batch):
  """A linear tower with dropout that is a function of the example."""
  images, ids = batch

  def one(x, number):
    key = jax.random.fold_in(jax.random.key(1), number)
    keep = jax.random.bernoulli(key, 0.8, x.shape)
    return jnp.where(keep, x, 0) @ params

  a, b = (jax.vmap(one)(images[:, v], ids) for v in range(2))
  return (a, b, a, b), stats + images.shape[0]


def _gradient(name, parts, devices, **how):
  """Loss, aux and gradients of one batch of an objective on so many devices."""
  config = pretrain_config.get_config("smoke")
  config.objective.update(name=name, learn_temperature=True)
  config.mesh.update(**how)
  line = mesh.Mesh(np.array(jax.devices()[:devices]), (mesh.BATCH_AXIS,))
  how = spread.execution(config.mesh, line, anchors=2 * N, width=4)
  objective = build_objective(config.objective, "simclr", how)
  objective = spread.spread_objective(objective, line, how)
  rng = np.random.default_rng(0)
  images = rng.standard_normal((N, 2, WIDTH)).astype(np.float32)
  ids = rng.permutation(EXAMPLES)[:N].astype(np.int32)
  labels = (ids % 3).astype(np.int32)
  state = objective.init(EXAMPLES, 4)
  network = rng.standard_normal((WIDTH, 4)).astype(np.float32)

  def program(params, images, ids, labels, state):
    def judge(params, embedded):
      views = Views(*embedded, ids, labels)
      values, after, metrics = objective.loss(params, views, state, jax.random.key(3))
      return jnp.mean(values), (after, metrics)

    params = {"network": params, "objective": objective.params}
    return accumulate.value_and_grad(
      _embed, judge, params, jnp.zeros(()), (images, ids), Parts(parts, devices)
    )

  placed = spread.state_shardings(objective, line).objective
  state = jax.device_put(state, placed)
  split = NamedSharding(line, PartitionSpec(mesh.BATCH_AXIS))
  images, ids, labels = jax.device_put((images, ids, labels), split)
  return jax.device_get(jax.jit(program)(network, images, ids, labels, state))


@functools.cache
def _reference(name):
  return _gradient(name, 1, 1)


@pytest.mark.parametrize(
  "parts, devices, how",
  [
    (2, 1, {}),
    (4, 1, dict(block_size=7)),
    (1, 4, dict(negatives="gather", block_size=1)),
    (1, 8, dict(negatives="ring")),
    (2, 2, dict(negatives="ring", block_size=7)),
    (4, 4, dict(negatives="gather")),
  ],
)
@pytest.mark.parametrize("name", ["info_nce", "augmented"])
def test_parts_devices_and_blocks_do_not_change_the_gradient(name, parts, devices, how):
  loss, (state, metrics), stats, grads = _gradient(name, parts, devices, **how)
  expected_loss, (expected_state, expected_metrics), _, expected = _reference(name)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  assert stats == N
  np.testing.assert_allclose(
    grads["network"], expected["network"], rtol=1e-5, atol=1e-6
  )
  assert set(grads["objective"]) == {"log_scale"}
  np.testing.assert_allclose(
    grads["objective"]["log_scale"], expected["objective"]["log_scale"], rtol=1e-5
  )
  for name in metrics:
    np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    state,
    expected_state,
  )


def test_per_anchor_state_lies_divided_over_the_devices():
  config = pretrain_config.get_config("smoke")
  config.objective.name = "augmented"
  line = mesh.data_mesh()
  how = spread.execution(config.mesh, line, anchors=2 * N, width=4)
  objective = build_objective(config.objective, "simclr", how)
  placed = spread.state_shardings(objective, line).objective
  state = jax.device_put(objective.init(EXAMPLES, 4), placed)
  whole = state.log_v.shape[0]
  assert {s.data.shape for s in state.log_v.addressable_shards} == {(whole // 8,)}
  assert state.level.sharding.is_fully_replicated


@pytest.mark.parametrize("steps, devices", [(1, 1), (2, 1), (2, 4), (4, 2)])
def test_parts_are_taken_from_each_device_and_put_back(steps, devices):
  parts = Parts(steps, devices)
  x = np.arange(16 * 3).reshape(16, 3)
  cut = parts.cut(x)
  np.testing.assert_array_equal(parts.join(cut), x)
  device = np.arange(16) // (16 // devices)  # where each row lies
  for part in parts.cut(device):
    np.testing.assert_array_equal(
      part, np.repeat(np.arange(devices), 16 // steps // devices)
    )


def _config(**changes):
  config = pretrain_config.get_config("smoke")
  config.encoder = {"name": "mlp"}
  config.data.update(train_limit=32, test_limit=32, image_size=16)
  config.projector.update(hidden=16, out=8)
  config.update(batch=16, epochs=1, log_every=1)
  config.evaluate.update(few_shot=False, knn=False)
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.usefixtures("pageless")
def test_a_run_in_parts_warns_of_batch_norm_and_trains(tmp_path, capsys):
  run = _config(accum_steps=2, **{"mesh.block_size": 8, "mesh.negatives": "ring"})
  pretrain.run(run, str(tmp_path))
  assert "BatchNorm normalises over 8 images at a time" in capsys.readouterr().out
  values = [line["loss"] for line in record.read_metrics(f"{tmp_path}/metrics.jsonl")]
  assert len(values) == 2 and np.all(np.isfinite(values))


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"accum_steps": 0}, "at least 1, not 0"),
    ({"accum_steps": 3}, "8 devices times 3 parts .*--config.batch=24"),
    ({"mesh.negatives": "rign"}, "did you mean 'ring'"),
    ({"mesh.block_size": 33}, "between 1 and the 32 rows"),
    ({"mesh.block_size": -1}, "between 1 and the 32 rows"),
  ],
)
def test_executions_that_cannot_be_are_refused(changes, words, tmp_path):
  with pytest.raises(errors.UsageError, match=words):
    pretrain.run(_config(**changes), str(tmp_path))
