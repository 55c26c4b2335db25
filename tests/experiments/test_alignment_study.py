"""The alignment study: what arms share, what cells keep, what the numbers mean."""

import json

import jax
import ml_collections
import numpy as np
import pytest

from configs import alignment_study as study_config
from experiments import alignment_study
from experiments.engine import errors, record
from experiments.engine.reporting import curves
from experiments.engine.studies import (
  alignment_arms,
  alignment_cells,
  alignment_exact,
  alignment_probes,
  alignment_readings,
  alignment_summary,
  alignment_training,
)
from multimodal import alignment_loss, paired_factors
from multimodal.structures import (
  Bridge,
  Features,
  Geometry,
  Separation,
  Structures,
  structure_loss,
)

Knobs = alignment_training.Knobs
SIZES = paired_factors.Sizes(
  shared=2, specific=1, values=4, nuisances=2, hidden=32, width=16
)
PLAN = alignment_training.Plan(
  SIZES, (64, 32), 16, 64, 350, 30, 1e-2, 1.0, temperature=0.07
)
EXAM = alignment_readings.Examination(512, 512, (0.0,), 1.0, 0, 1, 1, 1, 4)


@pytest.fixture(scope="module")
def exact():
  return alignment_exact.measure(joints=60, symbols=4, classes=3, pairs=3, seed=1)


def test_no_bound_is_violated_and_the_edge_cases_are_what_they_are(exact):
  found = alignment_exact.numbers(exact)
  assert set(found["violations"].values()) == {0}
  assert found["encoders"] > found["joints"] and found["random_pairs"] == 180
  assert found["largest_difference_of_best_encoder_and_price"] < 1e-12
  assert found["tight_case"]["largest"] < 1e-12
  assert found["vacuous_case"]["gap"] < 1e-12
  assert found["vacuous_case"]["price"] == pytest.approx(2 * np.log(4))
  # With as many blocks as symbols one modality is the other: nothing is lost.
  assert found["by_blocks"]["4"]["price"] < 1e-12 < found["by_blocks"]["1"]["price"]


def test_violations_are_counted_not_assumed(exact):
  slack = exact.encoders.copy()
  slack[:3] = -0.1, np.nan, -1e-15
  found = alignment_exact.numbers(exact._replace(encoders=slack))
  assert found["violations"]["theorem"] == 2


def test_arms_share_world_start_and_examples_but_not_what_views_lose():
  first, second = (alignment_training.run_keys(0, 7) for _ in range(2))
  other = alignment_training.run_keys(0, 8)
  data = lambda keys: [np.asarray(jax.random.key_data(key)) for key in keys]
  np.testing.assert_array_equal(data(first), data(second))
  assert np.all(np.any(np.array(data(first)) != np.array(data(other)), axis=1))
  world = paired_factors.make_world(first.world, SIZES)
  whole, cut = (
    alignment_training.draw_batch(first.stream, world, PLAN, keep)
    for keep in (1.0, 0.0)
  )
  for name in ("image", "text"):
    np.testing.assert_array_equal(whole.inputs[name], cut.inputs[name])
    assert np.abs(whole.views[name] - cut.views[name]).max() > 0.1
    assert np.abs(whole.views[name] - whole.inputs[name]).max() > 0.1


@pytest.fixture(scope="module")
def step():
  """Towers, their start, a batch, and the features of both views."""
  keys = alignment_training.run_keys(0, 1)
  towers = alignment_training.make_towers(PLAN)
  params = alignment_training.initial(towers, PLAN, keys.start)
  world = paired_factors.make_world(keys.world, SIZES)
  batch = alignment_training.draw_batch(keys.stream, world, PLAN, 1.0)
  variables = {"params": params["towers"]}
  embed = lambda inputs: {n: towers.embed(variables, n, x) for n, x in inputs.items()}
  plain, views = embed(batch.inputs), embed(batch.views)
  features = Features(
    {n: e.shared for n, e in plain.items()},
    {n: e.shared for n, e in views.items()},
    {n: e.specific for n, e in plain.items()},
    {n: e.specific for n, e in views.items()},
  )
  return towers, params, batch, features


@pytest.mark.parametrize(
  "knobs, terms, structures",
  [
    (Knobs(), "two", Structures()),
    (Knobs(four=1.0), "four", Structures()),
    (
      Knobs(four=1.0, orthogonality=2.0, contrast=2.0, uniformity=2.0),
      "four",
      Structures(separation=Separation(weight=2.0)),
    ),
    (
      Knobs(orthogonality=0.5, literal=0.5),
      "two",
      Structures(separation=Separation(weight=0.5, uniformity=0.0, literal=True)),
    ),
    (
      Knobs(bridge=0.3, time=0.75),
      "two",
      Structures(bridge=Bridge(weight=0.3, t=0.75, augmented=("image",))),
    ),
    (
      Knobs(four=1.0, bridge=0.3, time=-1.0, geometry=0.1),
      "four",
      Structures(
        bridge=Bridge(weight=0.3, t=None, augmented=("image",)),
        geometry=Geometry(weight=0.1, reduction="paper"),
      ),
    ),
    (
      Knobs(cyclic=0.25),
      "two",
      Structures(geometry=Geometry(weight=0.25, augmented=0.0, reduction="paper")),
    ),
  ],
)
def test_knobs_make_the_librarys_losses(step, knobs, terms, structures):
  towers, params, batch, features = step
  key, scale = jax.random.key(3), 1 / 0.07
  value = alignment_training.total_loss(params, towers, batch, knobs, key)
  aligned = alignment_loss(
    features.shared, features.shared_view, scale=scale, terms=terms
  )
  added, _ = structure_loss(features, structures, scale=scale, key=key)
  assert float(value) == pytest.approx(float(aligned.mean() + added.mean()), rel=1e-5)


def test_plain_alignment_loses_what_only_one_modality_knows():
  train = alignment_training.make_train(PLAN)
  reader = alignment_readings.make_reader(PLAN, EXAM)
  keys = alignment_training.run_keys(0, 300)
  found = []
  for knobs in (Knobs(penalty=2.0), Knobs(four=1.0)):
    params = train(keys, Knobs(*map(np.float32, knobs)))
    found.append(reader(keys, params))
  plain, four = found
  for metrics in found:  # both are intact, so that the loss can be read
    assert metrics["shared_image/z/linear"] > 0.95
    assert metrics["recall@1"] > 0.8  # chance is 1/16
    assert metrics["zero_shot"] > 0.8
  gain = four["specific_image/z/linear"] - plain["specific_image/z/linear"]
  assert gain > 0.2
  assert plain["specific_image/pair/linear/nats"] > 0.7
  assert four["specific_image/pair/linear/nats"] < 0.3
  assert plain["paired_cosine"] > four["paired_cosine"]


def test_noise_is_relative_to_the_spread_of_the_features():
  rng = np.random.default_rng(0)
  # A constant offset, as between modalities, adds no noise.
  x = 5 + 0.1 * rng.standard_normal((4000, 8)).astype(np.float32)
  split = alignment_readings.Split({"image.z": x}, {})
  train, test = alignment_readings.noisy(split, split, 0.5, rng)
  for part in (train, test):
    added = part.features["image.z"] - x
    assert np.std(added) == pytest.approx(0.05, rel=4 / np.sqrt(2 * x.size) + 0.01)
  assert np.abs(train.features["image.z"] - test.features["image.z"]).max() > 0.05
  assert alignment_readings.noisy(split, split, 0.0, rng)[0] is split


def test_quality_is_accuracy_and_cross_entropy():
  logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]) + 1000
  accuracy, nats = alignment_probes.quality(logits, np.array([0, 2]))
  assert accuracy == 0.5
  assert nats == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2)


def test_the_criterion_is_0_at_chance_and_1_if_perfect():
  names = alignment_arms.CRITERION
  chance = dict.fromkeys(names, 0.25) | {"mixed/all/linear": 1 / 16, "recall@1": 1 / 9}
  assert alignment_arms.score(chance, 4, 9) == pytest.approx(0)
  assert alignment_arms.score(dict.fromkeys(names, 1.0), 4, 9) == pytest.approx(1)
  one = chance | {"zero_shot": 1.0}
  assert alignment_arms.score(one, 4, 9) == pytest.approx(1 / 6)


def test_every_tuned_arm_has_as_many_trials():
  config = study_config.get_config()
  numbers = dict.fromkeys(alignment_arms.ARMS, 1.0)
  counts = {}
  for stage in (1, 2, 3):
    for cell in alignment_arms.tuning_cells(config, stage, numbers):
      assert not set(cell.seeds) & set(config.seeds)
      arm = cell.name.rpartition("_")[0]
      counts[arm] = counts.get(arm, 0) + 1
  assert set(counts) == set(alignment_arms.ARMS) - {"untrained"}
  assert set(counts.values()) == {3}


def test_structures_take_the_rate_of_their_base_and_their_own_weight():
  chosen = {"clip": 0.1, "four": 0.2, "four_separation": 3.0}
  chosen |= {"four_bridge": 5.0, "four_geometry": 7.0}
  knobs = alignment_arms.knobs_of("cyclip", 0.5, chosen)
  assert knobs == Knobs(rate=0.1, cyclic=0.5)
  knobs = alignment_arms.knobs_of("four_all", 2.0, chosen)
  parts = dict(orthogonality=6.0, contrast=6.0, uniformity=6.0)
  assert knobs == Knobs(rate=0.2, four=1.0, bridge=10.0, geometry=14.0, **parts)
  with pytest.raises(errors.UsageError, match=r"chosen\.clip is missing"):
    alignment_arms.knobs_of("clip_bridge", 1.0, {})


def _result(group, name, values, place=None, **knobs):
  metrics = {
    metric: np.array(values, float)
    for metric in {*alignment_summary.HEADLINES, *alignment_arms.CRITERION}
  }
  cell = alignment_arms.Cell(group, name, name, Knobs(**knobs), (1, 2, 3), place)
  return alignment_cells.Result(cell, metrics)


def test_the_best_trial_of_each_arm_is_chosen():
  config = study_config.get_config()
  trials = [
    _result("tuning", "clip_0.1", [0.5, 0.6, 0.7], 0.1),
    _result("tuning", "clip_0.2", [0.5, 0.7, 0.9], 0.2),
    _result("tuning", "four_bridge_1", [0.4, 0.4, 0.4], 1.0),
    _result("tuning", "four_bridge_3", [0.4, 0.4, 0.4], 3.0),
  ]
  chosen = alignment_summary.choose(trials, config)
  assert chosen == {"clip": 0.2, "four_bridge": 1.0}  # the smaller of equals


def test_summary_numbers_by_hand():
  config = study_config.get_config("smoke")
  clip = _result("main", "clip", [0.5, 0.6, 0.7])
  four = _result("main", "four", [0.8, 0.9, 0.7])
  broken = _result("dose", "5", [0.5, 0.55, 0.6], 5.0)
  # Equal to its own control at this keep.
  cut = _result("destructive", "four_keep_0.5", [0.2, 0.3, 0.4], 0.5, keep=0.5)
  own = _result("destructive", "four_bridge_keep_0.5", [0.3, 0.3, 0.6], 0.5, keep=0.5)
  results = [clip, four, broken, cut, own]
  summary = alignment_summary.summarise({}, [], {"clip": 1}, results, config)
  name = "specific_image/z/linear"
  entry = summary["groups"]["main"]["four"]
  assert entry["metrics"][name]["mean"] == pytest.approx(0.8)
  half = 4.302653 * 0.1 / np.sqrt(3)  # t of 2 degrees of freedom
  assert entry["metrics"][name]["high"] == pytest.approx(0.8 + half)
  assert "four" not in entry["differences"]
  difference = entry["differences"]["clip"][name]
  assert difference["mean"] == pytest.approx(0.2) and difference["wins"] == 2
  raw = curves.paired_p_value(four.metrics[name], clip.metrics[name])
  assert difference["p"] == pytest.approx(raw)
  # One cell is tested against CLIP in this table, on all headlines alike.
  corrected = min(1.0, raw * len(alignment_summary.HEADLINES))
  assert difference["p_holm"] == pytest.approx(corrected)
  assert entry["intact"] and not summary["groups"]["dose"]["5"]["intact"]
  destructive = summary["groups"]["destructive"]
  found = destructive["four_bridge_keep_0.5"]["differences"]["four"][name]
  assert found["mean"] == pytest.approx(0.1)
  assert "four" not in destructive["four_keep_0.5"]["differences"]


def tiny(**changes) -> ml_collections.ConfigDict:
  config = study_config.get_config("smoke")
  config.joints, config.steps, config.warmup = 4, 3, 1
  config.mlp_hidden, config.feature_noise = 0, (0.0,)
  config.seeds = (100,)
  # The shapes of PLAN's probes, whose programs are there already.
  config.widths, config.width, config.probe_train = (32, 32), 16, 512
  config.update(changes)
  return config


class _Killed(Exception):
  pass


def test_a_killed_study_goes_on_and_ends_the_same(tmp_path, monkeypatch):
  config = tiny()
  whole = alignment_study.run(config, str(tmp_path / "a"))
  measured = []
  real = alignment_cells.Runner._measure

  def spy(self, cell, seed, reader):
    measured.append((cell.name, seed))
    return real(self, cell, seed, reader)

  def die(self, cell, metrics):
    raise _Killed

  monkeypatch.setattr(alignment_cells.Runner, "_measure", spy)
  with monkeypatch.context() as patch:
    patch.setattr(alignment_cells.Runner, "_line", die)  # after the first cell's file
    with pytest.raises(_Killed):
      alignment_study.run(config, str(tmp_path / "b"))
  kept = [path.stem for path in (tmp_path / "b" / "cells").rglob("*.json")]
  assert kept == ["clip"] and not (tmp_path / "b" / "summary.json").exists()
  measured.clear()
  again = alignment_study.run(config, str(tmp_path / "b"))
  assert "clip" not in {name for name, _ in measured} and len(measured) == 3
  assert json.dumps(again) == json.dumps(whole)
  names = {path.name for path in (tmp_path / "b").iterdir()}
  assert names >= {"run.json", "report.html", "tables", "dose.svg", "slack.png"}
  lines = record.read_metrics(tmp_path / "b" / "metrics.jsonl")
  assert [line["cell"] for line in lines] == [
    "main/clip", "main/four", "main/four_separation", "dose/5",
  ]  # fmt: skip
  header, *rows = (tmp_path / "b/tables/minus_four.csv").read_text().splitlines()
  assert header.startswith("arm,") and len(rows) == 2
  assert "Violations" in (tmp_path / "b" / "report.html").read_text()


def test_cells_of_other_knobs_are_not_taken(tmp_path):
  config = tiny()
  plan = alignment_study.plan_of(config)
  exam = alignment_study.examination_of(config)
  make = lambda seed: alignment_cells.Runner(
    str(tmp_path), plan, seed=seed, workers=1, total=1, note=lambda *_: None
  )
  cell = alignment_arms.Cell("main", "clip", "CLIP", Knobs(), (1,))
  runner = make(0)
  runner._save(cell, exam, {"zero_shot": np.array([0.5])})
  assert runner._load(cell, exam)["zero_shot"] == [0.5]
  assert runner._load(cell._replace(knobs=Knobs(four=1.0)), exam) is None
  assert runner._load(cell._replace(seeds=(1, 2)), exam) is None
  assert runner._load(cell, exam._replace(train=300)) is None
  assert make(1)._load(cell, exam) is None


def test_every_preset_can_be_planned():
  for preset in study_config.PRESETS:
    config = study_config.get_config(preset)
    alignment_study.check(config)
    assert alignment_study.count_cells(config) >= 4
  with pytest.raises(ValueError, match=r"unknown preset 'ful'.*default"):
    study_config.get_config("ful")


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"arms": ("clip", "fuor")}, "unknown arm 'fuor'.*four"),
    ({"arms": ()}, "no arm chosen"),
    ({"ablations": ("no_contrst",)}, "unknown ablation.*no_contrast"),
    ({"seeds": (1, 1)}, "seeds must be distinct"),
    ({"tuning_seeds": (100,), "tune": True}, r"seeds \[100\] are in tuning_seeds"),
    ({"doses": (0.0,)}, "doses must be positive"),
    ({"keeps": (1.5,)}, "keeps must lie between 0 and 1"),
    ({"times": (2.0,)}, "times must be in"),
    ({"symbols": 6}, "at most 5"),
    ({"values": 1}, "values must be at least 2"),
    ({"batch": 1}, "at least 2 pairs"),
    ({"steps": 0}, "steps must be at least 1"),
    ({"temperature": 0.0}, "temperature must be positive"),
    ({"feature_noise": (0.5,)}, "must begin with 0"),
    ({"probe_train": 100}, "too few for five shots of 16 classes"),
    ({"widths": ()}, "widths are those"),
  ],
)
def test_bad_configs_are_one_sentence(tmp_path, changes, said):
  with pytest.raises(errors.UsageError, match=said) as caught:
    alignment_study.run(tiny(**changes), str(tmp_path / "run"))
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "run").exists()


def test_grids_of_different_lengths_are_refused(tmp_path):
  config = tiny()
  config.grids.bridge = (1.0,)
  with pytest.raises(errors.UsageError, match="arms get as many trials"):
    alignment_study.run(config, str(tmp_path / "run"))
