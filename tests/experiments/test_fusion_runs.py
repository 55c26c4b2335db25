"""Runs of fusion models: every loss trains, resumes, spreads, and is measured."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import fusion as fusion_config
from experiments import pretrain
from experiments.engine import errors, loop, mesh, record, session, task_run
from experiments.engine.pretraining import fusion_evaluation, tower_objective
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.step import Batch
from multimodal import (
  fusion,
  masking,
  matching,
  momentum_contrast,
  structures,
  text_transformer,
)
from tests.experiments.test_trust import at_step, lines

pytestmark = pytest.mark.usefixtures("pageless")

STRUCTURES = {
  "structures.separation.weight": 0.5,
  "structures.bridge.weight": 0.5,
  "structures.geometry.weight": 2.0,
}


def _encoder(**options):
  return {"width": 24, "depth": 1, "heads": 2, "unroll": 4, **options}


@pytest.fixture(scope="module", autouse=True)
def nano():
  """A size that compiles in no time."""
  image, text = _encoder(patch=8), _encoder(context=24)
  size = {"image": image, "text": text, "depth": 1, "width": 16, "unroll": 4}
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(fusion.SIZES, "nano", size)
    yield


def config(**changes):
  c = fusion_config.get_config("smoke")
  c.data.update(train_limit=48, test_limit=24, image_size=16)
  c.update(batch=16, epochs=2, log_every=1, save_minutes=0.0, rerank=4)
  c.model.size = "nano"
  c.objective.queue_size = 24
  c.evaluate.update(few_shot=False, attributes=("pose",))
  c.update_from_flattened_dict(changes)
  return c


def _first(c):
  """The task, its state, and the first batch."""
  task = task_run.build_task(c, mesh.data_mesh())
  state, compiled, key, plan = session.begin(c, task)
  return task, state, compiled, key, plan


@pytest.fixture(scope="module", autouse=True)
def every_device():
  """All of them; tests see the first, as compiling for eight takes most of the time."""
  every = jax.devices()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "devices", lambda *args: every[:1])
    yield every


@pytest.fixture(scope="module")
def whole(nano, every_device, tmp_path_factory):
  folder = tmp_path_factory.mktemp("fusion")
  return folder, pretrain.run(config(**STRUCTURES), str(folder))


def test_a_run_has_recall_reranked_recall_and_probes(whole):
  folder, final = whole
  assert record.read_json(folder / "summary.json")["zero_shot/top1"] == pytest.approx(
    final["zero_shot/top1"]
  )
  for way in ("image_to_text", "text_to_image"):
    for name in (f"{way}/recall", f"reranked/{way}/recall"):
      assert 0 <= final[f"{name}@1"] <= final[f"{name}@5"] <= 1
    # The first four in another order.
    assert final[f"reranked/{way}/recall@5"] >= final[f"{way}/recall@1"]
  for part in ("shared", "specific", "both", "features"):
    assert np.isfinite(final[f"probe/image/pose/{part}"])
  last = lines(folder)[-1]
  for name in ("contrast", "matching", "masking"):
    assert np.isfinite(last[f"term/{name}"]), name
  for name in ("orthogonality", "bridge", "geometry", "scale", "match_accuracy"):
    assert np.isfinite(last[name]), name
  assert last["alpha"] == pytest.approx(0.4)
  assert lines(folder)[0]["alpha"] == 0


UNMEASURED = {f"evaluate.{k}": False for k in ("probe", "zero_shot", "geometry")}


def test_a_stopped_run_goes_on_to_the_same_numbers(whole, tmp_path, monkeypatch):
  folder, final = whole
  c = config(**STRUCTURES, **UNMEASURED)
  with monkeypatch.context() as patch:
    at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Stopped):
      pretrain.run(c, str(tmp_path))
  again = pretrain.run(c, str(tmp_path))
  assert lines(tmp_path) == lines(folder)
  same = [name for name in again if not name.startswith("minutes")]
  assert len(same) > 20 and {k: again[k] for k in same} == {k: final[k] for k in same}


@pytest.mark.parametrize("change", [{}, {"accum_steps": 2}])
def test_several_devices_and_parts_of_a_batch_change_nothing(
  whole, every_device, change, tmp_path, monkeypatch
):
  """Hard negatives, queues and hidden words are those of the global batch."""
  folder, _ = whole
  if not change:
    monkeypatch.setattr(jax, "devices", lambda *args: every_device[:2])
  c = config(**STRUCTURES, **UNMEASURED, **change)
  c.evaluate.retrieval = False
  pretrain.run(c, str(tmp_path))
  for name in ("loss", "term/matching", "term/masking", "bridge", "grad_norm"):
    found, expected = ([x[name] for x in lines(f)] for f in (tmp_path, folder))
    np.testing.assert_allclose(found, expected, rtol=3e-4, atol=3e-5, err_msg=name)


# Without decay, and with a copy that moves: one step for the tests of both.
LEARNING = {"optimizer.weight_decay": 0.0, "target_momentum": 0.9}


@pytest.mark.parametrize(
  "changes, absent",
  [
    ({"objective.matching": 0.0}, {"fusion": False, "match_head": True}),
    ({"objective.masking": 0.0}, {"mask_head": True}),
    ({"objective.contrast": 0.0}, {"image_head": True, "text_head": True}),
    ({"objective.queue_size": 0, "objective.alpha": 0.0, "view": ""}, {}),
  ],
)
def test_what_is_left_out_learns_nothing(changes, absent):
  c = config(**LEARNING, **changes)
  task, state, compiled, key, plan = _first(c)
  before = jax.device_get(state.params["network"])
  for step in range(2):
    state, metrics = compiled(state, loop.draw(task.train_set, plan, step), key)
  assert np.isfinite(metrics["loss"]) and metrics["grad_norm"] > 0
  for part, leaves in before.items():
    same = jax.tree.map(np.array_equal, leaves, state.params["network"][part])
    assert all(jax.tree.leaves(same)) == absent.get(part, False), part


def test_the_momentum_copy_follows_at_a_constant_rate():
  task, state, compiled, key, plan = _first(
    config(**LEARNING, **{"objective.masking": 0.0})
  )
  for step in range(3):
    old = jax.device_get(state.target["params"])
    state, _ = compiled(state, loop.draw(task.train_set, plan, step), key)
    expected = jax.tree.map(
      lambda a, b: 0.9 * a + 0.1 * b, old, jax.device_get(state.params["network"])
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
      jax.device_get(state.target["params"]),
      expected,
    )
  held = jax.device_get(state.objective.queues.image.keys)
  np.testing.assert_allclose(np.linalg.norm(held, axis=1), 1, rtol=1e-5)
  assert int(state.objective.step) == 3


def test_the_loss_is_that_of_the_formulas():
  """A step's terms against the functions of `multimodal`, called by hand."""
  c = config(**STRUCTURES, view="", **{"objective.ramp_epochs": 0.0})
  task = task_run.build_task(c, mesh.data_mesh())
  params = session.initial_variables(c, task)["params"]
  # The copy differs from the model, as it does after some steps.
  target = jax.tree.map(lambda x: x + 0.01, params)
  state = task.objective.init(48, 16)
  rows = np.arange(16)
  inputs = task.train_set.inputs(rows, 0, 0)
  batch = Batch(inputs, jnp.asarray(rows, jnp.int32), jnp.zeros(16, jnp.int32))
  key, loss_key = jax.random.split(jax.random.key(5))

  @jax.jit
  def program(params, target, knobs, state):
    made, _ = task.method.embed(params, ({}, {}), {"params": target}, batch, key)
    compared = task.method.compared(params, made, batch)
    return made, *task.objective.loss(knobs, compared, state, loss_key)

  knobs = task.objective.params
  made, total, after, metrics = program(params, target, knobs, state)
  by_hand = jax.jit(
    lambda *args: _by_hand(c, task.network, batch, key, loss_key, *args)
  )
  expected, keys = by_hand(params, target, knobs, state)
  for name in ("contrast", "matching", "masking"):
    np.testing.assert_allclose(metrics[f"term/{name}"], expected[name], rtol=1e-5)
  np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-5)
  pushed = after.queues.text.keys[:16]
  np.testing.assert_allclose(pushed, keys["text"], rtol=1e-4, atol=1e-6)
  assert made.words.where.any(axis=1).all()  # of each caption a word is hidden


def _by_hand(c, network, batch, key, loss_key, params, target, knobs, state):
  """The terms of the loss by name, and the momentum copy's rows."""
  images = (jnp.asarray(batch.inputs["image"]["base"], jnp.float32) / 255 - 0.5) / 0.25
  words = jnp.asarray(batch.inputs["text"]["base"])
  scale = jnp.exp(knobs["log_scale"])
  tokens, states, shared, specific = zip(
    *(_encode(network, p, images, words) for p in (params, target)), strict=True
  )
  terms = {}
  pairs = [found[kind] for found in shared for kind in ("image", "text")]
  terms["contrast"] = momentum_contrast.momentum_nce(
    *pairs, state.queues, scale=scale, alpha=0.4
  ).mean()

  match_key, structure_key = jax.random.split(loss_key)
  by_image, by_text = jax.random.split(match_key)
  (image, text), (image_key, text_key) = pairs[:2], pairs[2:]
  texts = matching.hard_negatives(by_image, image, text_key, scale=scale).number
  pictures = matching.hard_negatives(by_text, text, image_key, scale=scale).number
  own, mask = np.arange(len(words)), text_transformer.token_mask(words)

  def log_odds(i, j, right):
    call = network.bind(params)
    logits = call("match", call("fuse", states[0][j], mask[j], tokens[0][i]))
    return -jax.nn.log_softmax(logits)[:, right]

  told = [log_odds(own, own, 1), log_odds(pictures, own, 0), log_odds(own, texts, 0)]
  terms["matching"] = jnp.concatenate(told).mean()

  hidden = jax.tree.map(
    lambda *x: jnp.concatenate(x),
    *(
      masking.mask_tokens(
        jax.random.fold_in(jax.random.split(key)[1], number),
        row[None],
        vocabulary_size=network.vocabulary_size,
        rate=c.objective.mask_rate,
      )
      for number, row in enumerate(words)
    ),
  )
  logits = []
  for p, seen in zip((params, target), tokens, strict=True):
    call = network.bind(p)
    there = text_transformer.token_mask(hidden.inputs)
    fused = call("fuse", call("encode_text", hidden.inputs), there, seen)
    logits.append(call("predict_tokens", fused, hidden.positions))
  terms["masking"] = masking.masked_loss(
    logits[0], hidden.targets, hidden.where, momentum_logits=logits[1], alpha=0.4
  )
  terms["structures"], _ = structures.structure_loss(
    structures.Features(*shared, *specific),
    tower_objective.read_structures(c.structures),
    scale=scale,
    key=structure_key,
  )
  return terms, shared[1]


def _encode(network, params, images, words):
  call = network.bind(params)
  tokens, states = call("encode_image", images), call("encode_text", words)
  made = {"image": call("project_image", tokens), "text": call("project_text", states)}
  parts = [{k: getattr(x, kind) for k, x in made.items()} for kind in _KINDS]
  return tokens, states, *parts


_KINDS = ("shared", "specific")


def test_match_scores_are_those_of_the_pairs():
  c = config()
  task = task_run.build_task(c, mesh.data_mesh())
  params = session.initial_variables(c, task)["params"]
  column = task.train_set.columns
  pixels = column["image"].inputs(np.arange(5), 0, 0)["base"]
  image = Reading((0.5,) * 3, (0.25,) * 3)
  seen = fusion_evaluation.embed_pictures(task.network, image, params, pixels)
  tokens = column["text"].tokens[:7]
  pictures, texts = np.array([4, 0, 4, 2]), np.array([6, 6, 1, 0])
  scores = fusion_evaluation.match_scores(
    task.network, params, seen, tokens, pictures, texts
  )
  floats = jnp.asarray((pixels / 255.0 - 0.5) / 0.25, jnp.float32)
  out = jax.jit(task.network.model.apply)(
    {"params": params}, floats[pictures], tokens[texts]
  )
  gap = out.match[:, matching.MATCH] - out.match[:, matching.NO_MATCH]
  np.testing.assert_allclose(scores, gap, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"model.size": "huge"}, "unknown model.size 'huge'"),
    ({"objective.queue_size": -1}, "objective.queue_size is -1"),
    ({"objective.alpha": 1.5}, "objective.alpha is 1.5"),
    ({"objective.mask_rate": 0.0}, "objective.mask_rate is 0.0"),
    ({"objective.temperature": 0.0}, "temperature"),
    ({"objective.ramp_epochs": -1.0}, "objective.ramp_epochs is -1.0"),
    ({"rerank": -1}, "rerank is -1"),
    ({"model.context": -3}, "model.context is -3"),
    ({"batch": 64}, "batch"),
    (
      {f"objective.{x}": 0.0 for x in ("contrast", "matching", "masking")},
      "nothing would be trained",
    ),
    ({"model.patch": 5}, "patches of 5 pixels do not tile"),
    ({"view": "blurred"}, "unknown"),
    ({"target_momentum": 1.5}, "target_momentum lies in"),
    ({"dtype": "float8"}, "unknown dtype 'float8'"),
    ({"structures.bridge.weight": -1.0}, "structures.bridge.weight is -1.0"),
  ],
)
def test_bad_values_are_one_sentence(changes, words, tmp_path):
  folder = tmp_path / "run"
  with pytest.raises(errors.UserError, match=words):
    pretrain.run(config(**changes), str(folder))
  assert not folder.exists() or not list(folder.glob("run.json"))
