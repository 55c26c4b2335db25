"""Probe, retrieval, zero-shot and export read a run of a fusion model as towers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import fusion as fusion_config
from configs import probe as probe_config
from configs import retrieval as retrieval_config
from configs import towers as towers_config
from configs import zero_shot as zero_shot_config
from experiments import export, probe, retrieval, zero_shot
from experiments.engine import errors, mesh, task_run
from experiments.engine import state as states
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.exporting import parity, weights
from experiments.engine.pretraining import (
  fusion_evaluation,
  pair_loading,
  tower_evaluation,
  trained,
)
from experiments.engine.record import Recorder

WAYS = ("image_to_text", "text_to_image")


def _config():
  c = fusion_config.get_config("smoke")
  c.data.update(train_limit=48, test_limit=24, image_size=16)
  c.update(batch=16, rerank=4)
  c.model.update(context=24, width=16)
  c.structures.separation.weight = 0.5
  c.evaluate.update(few_shot=False, attributes=("pose",))
  return c


@pytest.fixture(scope="module", autouse=True)
def one_device():
  """Most of the time would go into compiling for eight."""
  every = jax.devices()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(jax, "devices", lambda *args: every[:1])
    patch.setattr(jax, "local_devices", lambda *args: every[:1])
    yield


@pytest.fixture(scope="module")
def whole(one_device, tmp_path_factory):
  """Folder and numbers of a run whose state is random, in place of a training."""
  config, folder = _config(), tmp_path_factory.mktemp("fusion")
  task = task_run.build_task(config, mesh.data_mesh())
  state = jax.eval_shape(
    lambda: states.init_state(
      jax.random.key(0),
      task.network,
      task.objective,
      optax.sgd(0.1),
      sample=task.sample,
      examples=48,
      with_target=False,
    )
  )
  rng = np.random.default_rng(0)
  draw = lambda leaf: jnp.asarray(rng.normal(0, 0.2, leaf.shape), leaf.dtype)
  state = jax.tree.map(draw, state).replace(step=jnp.asarray(2))
  variables = {"params": state.params["network"], "batch_stats": {}}
  with Recorder(str(folder), config) as recorder, Checkpoints(str(folder)) as saved:
    saved.save(2, state)
    final = task.evaluate(variables, None, folder)
    recorder.summary(final)
  return folder, final


@pytest.fixture(scope="module")
def read(whole):
  """The encoders as towers, and the test split."""
  towers = trained.trained_towers(str(whole[0]))
  towers.config.data_dir = ""
  return towers, pair_loading.load_pairs(towers.config, train=False)[1]


def _asked(module, folder, **changes):
  c = module.get_config(*(["linear"] if module is probe_config else []))
  c.run = str(folder)
  c.update_from_flattened_dict(changes)
  return c


def test_probe_and_zero_shot_give_the_numbers_of_the_run(whole, tmp_path):
  folder, final = whole
  c = _asked(probe_config, folder, attribute="pose")
  found = probe.run(c, str(tmp_path / "p"))
  for part in ("shared", "specific", "both", "features"):
    assert found[f"{part}/probe/top1"] == pytest.approx(
      final[f"probe/image/pose/{part}"]
    )
  c = _asked(zero_shot_config, folder, **{"data.test_limit": 24})
  found = zero_shot.run(c, str(tmp_path / "z"))
  for name in ("zero_shot/top1", "zero_shot/top5"):
    assert found[name] == final[name]
  assert found["classes"] == 24 and found["images"] == 24


def test_retrieval_gives_the_numbers_of_the_run_reranked_as_it_was(whole, tmp_path):
  folder, final = whole
  found = retrieval.run(_asked(retrieval_config, folder), str(tmp_path / "r"))
  names = [f"{start}{way}" for start in ("", "reranked/") for way in WAYS]
  for name in names:
    assert found[f"{name}/recall@5"] == final[f"{name}/recall@5"]
    assert found[f"{name}/median_rank"] == final[f"{name}/median_rank"]
  assert found["geometry/image/uniformity"] == pytest.approx(
    final["geometry/image/uniformity"]
  )
  assert not any(name.startswith(("zero_shot", "probe")) for name in found)


def test_reranking_is_overridden_or_left_out(whole, tmp_path):
  folder, final = whole
  first = retrieval.run(_asked(retrieval_config, folder, rerank=1), str(tmp_path / "a"))
  for way in WAYS:  # one key can stand nowhere else, the others tie behind it
    assert first[f"reranked/{way}/recall@1"] == first[f"{way}/recall@1"]
  none = retrieval.run(_asked(retrieval_config, folder, rerank=0), str(tmp_path / "b"))
  assert not any(name.startswith("reranked") for name in none)
  assert none["image_to_text/recall@5"] == final["image_to_text/recall@5"]


def test_pictures_encoded_once_have_the_rows_that_they_have_otherwise(read):
  towers, pairs = read
  how = (towers.network, towers.readings, towers.variables, pairs)
  split, seen = fusion_evaluation.embed_with_tokens(*how)
  expected = tower_evaluation.embed_split(*how)
  for name, table in expected.towers.items():
    np.testing.assert_array_equal(split.towers[name].example, table.example)
    for part, rows in table.parts.items():
      found = split.towers[name].parts[part]
      np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-6, err_msg=part)
  parts = expected.towers["image"].parts
  assert set(parts) == {"features", "shared", "specific"}
  # Four patches of 8 pixels and the class token, which is what features are.
  assert seen.shape == (24, 5, 96)
  np.testing.assert_allclose(seen[:, 0], parts["features"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("part", ["image", "text"])
def test_its_encoders_are_exported_checked_and_read_back(whole, read, part, tmp_path):
  towers, pairs = read
  asked = {} if part == "image" else {"part": part}  # images are the default
  told = export.run(str(whole[0]), out=str(tmp_path), **asked)
  assert sorted(told["differences"]) == [f"{part}.safetensors", f"{part}.stablehlo"]
  assert max(told["differences"].values()) < 1e-5
  inputs = pairs.columns[part].inputs(np.arange(3), 0, 0)["base"]
  live = tower_evaluation.embed_inputs(
    towers.network, towers.readings[part], towers.variables, part, inputs
  )
  if part == "text":  # a program reads rows of one length, the longest
    inputs = np.pad(inputs, ((0, 0), (0, 24 - inputs.shape[1])))
  for name in told["differences"]:
    found = parity.load_encoder(tmp_path / name)(inputs)
    assert set(found) == {"features", "shared", "specific"}
    for key, rows in found.items():
      np.testing.assert_allclose(rows, live[key], rtol=1e-4, atol=1e-5)
  saved, metadata = weights.load_weights(tmp_path / f"{part}.safetensors")
  assert set(saved) == {"params"} and set(saved["params"]) == {part, f"{part}_head"}
  assert metadata["objective"] == "contrast, matching, masking"
  card = (tmp_path / "MODEL_CARD.md").read_text()
  assert f"{part} encoder of a fusion model (micro) with its heads" in card
  assert "procedural, drawn by this repository" in card
  shape = {"image": "uint8 images [n, 16, 16, 3]", "text": "int32 ids [n, 24]"}
  assert shape[part] in card


def test_what_it_does_not_have_is_said_in_a_sentence(whole, tmp_path):
  folder, _ = whole
  with pytest.raises(errors.UsageError, match="unknown part 'fusion'; known: image, t"):
    export.run(str(folder), part="fusion", out=str(tmp_path))
  with pytest.raises(errors.UsageError, match="rerank is -1, but must be at least 0"):
    retrieval.run(_asked(retrieval_config, folder, rerank=-1), str(tmp_path))


def test_only_a_matching_head_reranks(tmp_path, monkeypatch):
  c = _asked(retrieval_config, "a", rerank=2)
  towers = trained.TrainedTowers(towers_config.get_config("smoke"), None, {}, {})
  monkeypatch.setattr(trained, "trained_towers", lambda folder: towers)
  with pytest.raises(errors.UsageError, match="towers have no matching head"):
    retrieval.run(c, str(tmp_path))


def test_a_run_of_images_alone_has_no_texts(tmp_path, monkeypatch):
  config = _config()
  config.method = "two_view"
  monkeypatch.setattr(trained, "trained_config", lambda folder: config)
  with pytest.raises(errors.UserError, match="two_view, neither of towers nor of a fu"):
    retrieval.run(_asked(retrieval_config, "a"), str(tmp_path))
