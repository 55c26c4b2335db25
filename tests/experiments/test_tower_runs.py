"""Runs of towers: every arm trains, resumes, spreads over devices, and is evaluated."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import probe as probe_config
from configs import retrieval as retrieval_config
from configs import towers as towers_config
from configs import zero_shot as zero_shot_config
from experiments import export, pretrain, probe, retrieval, zero_shot
from experiments.engine import build, errors, loop, mesh, record, session, task_run
from experiments.engine.evaluation import paired_settings
from experiments.engine.exporting import programs, weights
from experiments.engine.pretraining import (
  pair_loading,
  tower_objective,
  tower_task,
  trained,
)
from multimodal import structures, terms
from tests.experiments.test_pretrain import small_config
from tests.experiments.test_trust import at_step, lines

pytestmark = pytest.mark.usefixtures("pageless")

SEPARATION = {"objective.terms": "four", "structures.separation.weight": 1.0}
ALL = SEPARATION | {
  "structures.bridge.weight": 1.0,
  "structures.geometry.weight": 8.0,
  "structures.penalty.weight": 0.1,
}


def config(**changes):
  c = towers_config.get_config("smoke")
  c.data.update(train_limit=48, test_limit=32, image_size=16)
  c.towers.image.encoder = {"name": "mlp"}
  c.towers.text.encoder = {"name": "text_micro", "depth": 1, "width": 24, "context": 40}
  c.update(batch=16, epochs=2, log_every=1, width=16, save_minutes=0.0)
  c.evaluate.update(few_shot=False, attributes=("pose",))
  c.update_from_flattened_dict(changes)
  return c


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run with all structures, the augmented objective and a normaliser a term."""
  folder = tmp_path_factory.mktemp("towers")
  changes = ALL | {"objective.name": "augmented"}
  return changes, folder, pretrain.run(config(**changes), str(folder))


def test_a_run_has_recall_zero_shot_probes_and_geometry(whole):
  _, folder, final = whole
  assert record.read_json(folder / "summary.json")["zero_shot/top1"] == pytest.approx(
    final["zero_shot/top1"]
  )
  for name in (
    "image_to_text/recall@1",
    "text_to_image/median_rank",
    "probe/image/pose/shared",
    "probe/image/pose/specific",
    "probe/text/pose/both",
    "chance/pose",
    "geometry/image_text/modality_gap",
    "geometry/text/effective_rank",
  ):
    assert np.isfinite(final[name]), name
  assert 0 <= final["image_to_text/recall@1"] <= final["image_to_text/recall@5"] <= 1
  last = lines(folder)[-1]
  for name in ("orthogonality", "bridge", "geometry", "penalty", "scale", "cosine"):
    assert np.isfinite(last[name]), name
  assert np.isfinite(last["term/image_to_image"])


# Recall is left: what is not measured again has not to be compiled again.
UNMEASURED = {f"evaluate.{k}": False for k in ("probe", "zero_shot", "geometry")}


def test_a_stopped_run_goes_on_to_the_same_numbers(whole, tmp_path, monkeypatch):
  changes, folder, final = whole
  monkeypatch.setattr(tower_task, "illustrate_towers", lambda *args: None)
  c = config(**changes, **UNMEASURED)
  with monkeypatch.context() as patch:
    at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Stopped):
      pretrain.run(c, str(tmp_path))
  again = pretrain.run(c, str(tmp_path))
  assert lines(tmp_path) == lines(folder)
  same = [name for name in again if not name.startswith("minutes")]
  assert len(same) > 20 and {k: again[k] for k in same} == {k: final[k] for k in same}


def test_eight_devices_give_the_numbers_of_one(whole, tmp_path, monkeypatch):
  changes, folder, _ = whole
  one = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *args: one)
  monkeypatch.setattr(tower_task, "illustrate_towers", lambda *args: None)
  pretrain.run(config(**changes, **UNMEASURED), str(tmp_path))
  for name in ("loss", "bridge", "geometry", "cosine", "term/text_to_image"):
    found, expected = ([x[name] for x in lines(f)] for f in (tmp_path, folder))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
  "changes",
  [
    {"objective.name": "decoupled"},
    {"objective.name": "sogclr", "accum_steps": 2},
    {"objective.name": "pairwise_sigmoid", "objective.temperature": 0.1},
    {"mesh.block_size": 1, "mesh.negatives": "ring", **SEPARATION},
    {"structures.bridge.weight": 1.0, "structures.bridge.t": 0.0},
    {"structures.geometry.weight": 1.0, "structures.geometry.augmented": 0.0},
    {"towers.image.frozen": "encoder"},
  ],
)
def test_every_kind_of_run_moves_what_is_to_learn(changes, monkeypatch):
  c = config(**changes)
  if "mesh.negatives" not in changes:  # compiling for eight devices takes longer
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: one)
  task = task_run.build_task(c, mesh.data_mesh())
  before = session.initial_variables(c, task)
  state, compiled, key, plan = session.begin(c, task)
  for step in range(2):
    state, metrics = compiled(state, loop.draw(task.train_set, plan, step), key)
    assert np.isfinite(metrics["loss"]) and np.isfinite(metrics["grad_norm"])
  for tower, parts in before["params"].items():
    for part, leaves in parts.items():
      after = state.params["network"][tower][part]
      same = jax.tree.map(np.array_equal, leaves, after)
      still = c.towers[tower].frozen == "encoder" and part == "encoder"
      assert all(jax.tree.leaves(same)) == still, (tower, part)


def test_the_loss_is_that_of_the_formulas():
  """The engine's objective against the functions of `multimodal`, called by hand."""
  c = config(**ALL)
  draw = lambda i: np.random.default_rng(i).standard_normal((6, 8)).astype(np.float32)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  pair = lambda i: {"image": unit(draw(i)), "text": unit(draw(i + 1))}
  features = structures.Features(pair(0), pair(2), pair(4), pair(6))
  objective = tower_objective.build_tower_objective(c, ["image", "text"])
  batch = tower_objective.TowerBatch(features, jnp.arange(6))
  values, _, metrics = objective.loss(objective.params, batch, (), jax.random.key(0))

  def cross_entropy(query, key):
    logits = query @ key.T / 0.07
    return -np.diag(logits) + np.log(np.exp(logits).sum(1))

  shared, view = features.shared, features.shared_view
  expected = [
    cross_entropy(shared["image"], shared["text"]),
    cross_entropy(shared["text"], shared["image"]),
    cross_entropy(shared["image"], view["image"]),
    cross_entropy(shared["text"], view["text"]),
  ]
  parts, weights = metrics, c.structures
  added = (
    parts["orthogonality"]
    + parts["specific_contrast"]
    + parts["specific_uniformity"]
    + weights.bridge.weight * parts["bridge"]
    + weights.geometry.weight * parts["geometry"]
    + weights.penalty.weight * parts["penalty"]
  )
  assert values.shape == (6,)
  np.testing.assert_allclose(np.mean(values), np.mean(expected) + added, rtol=1e-5)
  np.testing.assert_allclose(
    metrics["term/image_to_image"], expected[2].mean(), rtol=1e-5
  )
  assert set(terms.alignment_terms(shared, "four")) == {
    ("image", "text"),
    ("text", "image"),
    ("image", "image"),
    ("text", "text"),
  }


def test_captions_are_drawn_by_epoch_and_example_and_reworded_for_views():
  train, _ = pair_loading.load_pairs(config(**SEPARATION))
  column = train.columns["text"]
  rows = np.arange(20)
  first = column.inputs(rows, 0, 0)
  np.testing.assert_array_equal(
    first["base"][::-1], column.inputs(rows[::-1], 0, 0)["base"]
  )
  np.testing.assert_array_equal(
    first["view"][5:], column.inputs(rows[5:], 0, 0)["view"]
  )
  assert not np.array_equal(first["base"], column.inputs(rows, 1, 0)["base"])
  assert not np.array_equal(first["base"], first["view"])
  own = [
    set(column.tokenizer.decode(t) for t in column.tokens[5 * i : 5 * i + 5])
    for i in rows
  ]
  assert all(column.tokenizer.decode(first["base"][i]) in own[i] for i in rows)


@pytest.mark.usefixtures("one_device")
def test_long_captions_are_cut_and_counted(tmp_path, capsys):
  c = config(**{"towers.text.encoder.context": 8, "dry_run": True})
  pretrain.run(c, str(tmp_path / "run"))
  assert "captions of scenes_text are longer than 8 tokens and were cut" in (
    capsys.readouterr().err
  )


@pytest.mark.usefixtures("one_device")
def test_views_are_not_made_where_nothing_reads_them(tmp_path, monkeypatch):
  seen = []
  original = loop.draw

  def draw(train_set, plan, step):
    batch = original(train_set, plan, step)
    seen.append(sorted(batch.inputs["text"]))
    return batch

  monkeypatch.setattr(loop, "draw", draw)
  c = config(dry_run=True)
  pretrain.run(c, str(tmp_path / "run"))
  assert seen and set(map(tuple, seen)) == {("base",)}


REFUSED = [
  ({"objective.terms": "three"}, "unknown terms 'three'"),
  ({"objective.name": "moco"}, "moco"),
  ({"objective.name": "vicreg"}, "two views"),
  ({"towers.image.encoder.name": "resnet_tinny"}, "did you mean 'resnet_tiny'"),
  ({"towers.text.encoder.name": "text_tinny"}, "did you mean 'text_tiny'"),
  ({"towers.image.view": "pears"}, "did you mean 'pairs'"),
  ({"towers.text.view": "eta"}, "did you mean 'eda'"),
  ({"towers.text.frozen": "head"}, "towers.text.frozen"),
  ({"towers.text.kind": "sound"}, "towers.text.kind"),
  ({**SEPARATION, "towers.text.view": ""}, "text.*views are set by towers.NAME.view"),
  ({"structures.bridge.weight": 1.0, "towers.image.view": ""}, "image"),
  ({"structures.geometry.weight": -1.0}, "structures.geometry.weight is -1.0"),
  ({"structures.bridge.weight": 1.0, "structures.bridge.t": 1.5}, "t"),
  ({"evaluate.prompts": "scene"}, "did you mean 'scenes'"),
  ({"evaluate.attributes": ("poze",)}, "did you mean 'pose'"),
  ({"evaluate.draws": 0}, "evaluate.draws must be at least 1"),
  ({"data.name": "noto_emojis"}, "did you mean 'noto_emoji'"),
  ({"data.name": "noto_emoji", "data_dir": "/nowhere"}, "experiments.prepare"),
  ({"width": 0}, "width is 0"),
]


@pytest.mark.parametrize("changes, words", REFUSED)
def test_what_cannot_work_is_refused_before_training(changes, words, tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(errors.UserError, match=words) as found:
    pretrain.run(config(**changes), str(workdir))
  assert "\n" not in str(found.value)
  assert not workdir.exists()


def test_the_commands_give_the_numbers_of_the_run(whole, tmp_path):
  _, folder, final = whole
  c = zero_shot_config.get_config()
  c.update(run=str(folder))
  c.data.test_limit = 32
  found = zero_shot.run(c, str(tmp_path / "z"))
  assert found["zero_shot/top5"] == final["zero_shot/top5"]
  assert found["classes"] == 24 and found["images"] == 32
  c = retrieval_config.get_config()
  c.update(run=str(folder))
  found = retrieval.run(c, str(tmp_path / "r"))
  for name in ("image_to_text/recall@5", "text_to_image/median_rank"):
    assert found[name] == final[name]
  c = probe_config.get_config("linear")
  c.update(run=str(folder), attribute="pose")
  found = probe.run(c, str(tmp_path / "p"))
  for part in paired_settings.PARTS:
    assert found[f"{part}/probe/top1"] == pytest.approx(
      final[f"probe/image/pose/{part}"]
    )


def test_the_commands_refuse_what_they_cannot_do(whole, tmp_path):
  _, folder, _ = whole
  c = zero_shot_config.get_config()
  with pytest.raises(errors.UsageError, match="which run"):
    zero_shot.run(c, str(tmp_path))
  c.update(run=str(folder), prompts="scene")
  with pytest.raises(errors.UsageError, match="scenes"):
    zero_shot.run(c, str(tmp_path))
  c.update(prompts="", class_names=("circle", "square"))
  with pytest.raises(errors.UserError, match="2 class names"):
    zero_shot.run(c, str(tmp_path))
  c = probe_config.get_config("linear")
  c.update(run=str(folder), attribute="poze")
  with pytest.raises(errors.UsageError, match="did you mean 'pose'"):
    probe.run(c, str(tmp_path))
  with pytest.raises(errors.UsageError, match=r"unknown part 'encoder'; known: image"):
    export.run(str(folder), part="encoder")


def test_zero_shot_takes_any_labelled_image_set(whole, tmp_path):
  _, folder, _ = whole
  c = zero_shot_config.get_config()
  c.update(run=str(folder), prompts="plain")
  c.data.update(name="digits", test="test", test_limit=40)
  found = zero_shot.run(c, str(tmp_path))
  assert found["classes"] == 10 and 0 <= found["zero_shot/top1"] <= 1


@pytest.mark.usefixtures("one_device")
def test_an_image_tower_starts_from_an_exported_encoder(tmp_path):
  """And stays so where it is frozen, while the text tower learns (Zhai et al. 2022)."""
  network = build.build_network(small_config())
  theirs = network.init(jax.random.key(5), np.zeros((2, 16, 16, 3)), train=False)
  encoder = {"params": {"encoder": theirs["params"]["encoder"]}}
  weights.save_weights(tmp_path / "encoder.safetensors", encoder, {})
  c = config(**{"towers.image.frozen": "encoder"})
  c.init_from = str(tmp_path / "encoder.safetensors")
  task = task_run.build_task(c, mesh.data_mesh())
  state, compiled, key, plan = session.begin(c, task)
  state, _ = compiled(state, loop.draw(task.train_set, plan, 0), key)
  jax.tree.map(
    np.testing.assert_array_equal,
    state.params["network"]["image"]["encoder"],
    theirs["params"]["encoder"],
  )
  c.init_from = str(tmp_path / "none.safetensors")
  with pytest.raises(errors.UserError, match="cannot read"):
    session.begin(c, task)


def test_towers_are_exported_checked_and_read_back(whole, tmp_path):
  changes, folder, _ = whole
  for part in ("image", "text"):
    told = export.run(str(folder), part=part, out=str(tmp_path))
    files = [f"{part}.safetensors", f"{part}.stablehlo"]
    assert sorted(told["differences"]) == files
    assert max(told["differences"].values()) < 1e-5
  _, pairs = pair_loading.load_pairs(config(**changes), train=False)
  towers = trained.trained_towers(str(folder))
  tokens = pairs.columns["text"].inputs(np.arange(3), 0, 0)["base"]
  live = towers.network.embed(towers.variables, "text", tokens)
  found = programs.load_program(tmp_path / "text.stablehlo").call(tokens)
  assert set(found) == {"features", "shared", "specific"}
  np.testing.assert_allclose(found["shared"], live.shared, atol=1e-5)
  card = (tmp_path / "MODEL_CARD.md").read_text()
  assert "text tower (text_micro)" in card and "int32 ids [n, 40]" in card
  c = config(**changes)
  c.init_from = str(tmp_path / "image.safetensors")
  task = task_run.build_task(c, mesh.data_mesh())
  start = session.initial_variables(c, task)["params"]
  jax.tree.map(
    np.testing.assert_array_equal, start["image"], towers.variables["params"]["image"]
  )
