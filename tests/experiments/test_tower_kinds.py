"""Towers of any kind: two languages, two pictures, three modalities, vectors."""

import numpy as np
import pytest

from configs import retrieval as retrieval_config
from configs import towers as towers_config
from experiments import pretrain, retrieval
from experiments.engine import errors
from experiments.engine.datasets import captioned, factor_vectors
from experiments.engine.evaluation import paired_settings
from experiments.engine.pretraining import (
  pair_loading,
  pairs,
  tower_evaluation,
  tower_task,
  trained,
)
from multimodal import scenes, tokenizer
from tests.experiments.test_trust import lines

pytestmark = pytest.mark.usefixtures("pageless")

PRESETS = ("two_languages", "two_pictures", "three", "vectors")
_ENCODERS = {
  "image": {"name": "mlp"},
  "text": {"name": "text_micro", "depth": 1, "width": 24},
  "vector": {"name": "mlp", "widths": (24,)},
}


def config(preset, **changes):
  c = towers_config.get_config(preset)
  c.data.update(train_limit=48, test_limit=32, image_size=16)
  for tower in c.towers.values():
    context = tower.encoder.get("context", 40)
    tower.encoder = _ENCODERS[tower.kind].copy()
    if tower.kind == "text":
      tower.encoder.context = context
  c.update(batch=16, epochs=2, log_every=1, width=16, save_minutes=0.0)
  c.evaluate.update(few_shot=False, attributes=c.evaluate.attributes[-1:])
  c.evaluate.parts, c.evaluate.geometry = ("shared",), False
  c.update_from_flattened_dict(changes)
  return c


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_trains_every_tower_and_measures_each_pair(preset, tmp_path, monkeypatch):
  monkeypatch.setattr(tower_task, "illustrate_towers", lambda *args: None)
  three, probed = preset == "three", preset in ("two_pictures", "vectors")
  c = config(preset, **{"objective.terms": "two" if three else "four"})
  c.evaluate.probe = probed
  final = pretrain.run(c, str(tmp_path / "run"))
  names = list(c.towers)
  logged = lines(tmp_path / "run")
  assert len(logged) == 6 and np.all(np.isfinite([line["loss"] for line in logged]))
  for name in names:
    for other in names if not three else set(names) - {name}:
      assert np.isfinite(logged[-1][f"term/{name}_to_{other}"])
    for other in set(names) - {name}:
      assert 0 <= final[f"{name}_to_{other}/recall@1"] <= 1
    probe = f"probe/{name}/{c.evaluate.attributes[0]}/shared"
    assert (probe in final) == probed
  assert ("zero_shot/top1" in final) == three
  trained_now, _ = trained.trained_variables(str(tmp_path / "run"))
  assert list(trained_now["params"]) == names
  if preset == "vectors":  # the cheapest: the restored towers give the same numbers
    asked = retrieval_config.get_config()
    asked.update(run=str(tmp_path / "run"))
    found = retrieval.run(asked, str(tmp_path / "r"))
    assert found["text_to_image/recall@5"] == final["text_to_image/recall@5"]


def test_towers_are_probed_for_their_own_labels():
  """An identity tower of a label finds that label, where it is its own."""
  train, test = pair_loading.load_pairs(config("two_pictures"))
  ids = scenes.split_ids("test", 4000)
  poses = [scenes.attributes(ids, take=take)["pose"] for take in (0, 1)]
  first, second = (test.columns[name] for name in ("image", "image_2"))
  whole = captioned.load_captioned("scenes_text", "test", limit=32, image_size=16)
  rows = np.array([int(x) for x in whole.ids]) - ids[0]
  np.testing.assert_array_equal(test.attributes["pose"], poses[0][rows])
  np.testing.assert_array_equal(second.attributes["pose"], poses[1][rows])
  assert not first.attributes and set(second.attributes) == {"pose", "background"}
  np.testing.assert_array_equal(first.pixels, whole.images)
  assert (first.pixels != second.pixels).mean() > 0.9

  def split(found):
    own = [found.attributes["pose"], found.columns["image_2"].attributes["pose"]]
    tables = {
      name: tower_evaluation.paired.TowerTable(
        {"shared": np.eye(4, dtype=np.float32)[labels]}, np.arange(len(labels))
      )
      for name, labels in zip(("image", "image_2"), own, strict=True)
    }
    return tower_evaluation.paired.Split(tables, found.attributes)

  settings = paired_settings.Settings(
    attributes=("pose",), parts=("shared",), few_shot=False
  )
  found = tower_evaluation._probes((train, test), (split(train), split(test)), settings)
  assert found["probe/image/pose/shared"] == 1.0
  assert found["probe/image_2/pose/shared"] == 1.0
  labels = second.attributes["pose"]
  commonest = np.bincount(train.columns["image_2"].attributes["pose"]).argmax()
  assert found["chance/image_2/pose"] == pytest.approx(np.mean(labels == commonest))
  assert "chance/pose" in found and "chance/image/pose" not in found


def test_german_captions_have_their_own_styles_synonyms_and_draws():
  c = config("two_languages", **{"objective.terms": "four"})
  train, _ = pair_loading.load_pairs(c)
  english, german = (train.columns[name] for name in ("text", "text_de"))
  assert english.language == "en" and german.language == "de" and not german.cut
  found = captioned.load_captioned(
    "scenes_text", "train", limit=48, seed=c.seed, inputs=["text_de"]
  )
  assert german.captions == found.inputs["text_de"] and "image" not in found.inputs
  ids = np.array([int(x) for x in found.ids])
  expected = scenes.attributes(ids, language="de")["style"]
  np.testing.assert_array_equal(german.attributes["style"], expected)
  rows = np.arange(48)
  batch = german.inputs(rows, 0, 0)
  base, view = (
    [german.tokenizer.decode(row) for row in batch[kind]] for kind in ("base", "view")
  )
  assert np.mean([a != b for a, b in zip(base, view, strict=True)]) > 0.5
  known = {
    word
    for texts in scenes.captions(np.arange(2000), language="de")
    for text in texts
    for word in text.split()
  }
  assert {word for text in view for word in text.split()} <= known
  # Which caption a tower draws says nothing of what the other draws.
  number = [
    [
      texts.index(column.tokenizer.decode(row))
      for texts, row in zip(
        column.captions, column.inputs(rows, 0, 0)["base"], strict=True
      )
    ]
    for column in (english, german)
  ]
  assert np.mean(np.equal(*number)) < 0.6


def test_rows_of_captions_are_no_longer_than_need_be_and_prompts_may_be():
  captions, words = [["a red disc"], ["a star"]], tokenizer.load()
  longest = len(words.encode("a red disc")) + 2
  texts = pairs.make_texts(captions, words, 16)
  assert texts.tokens.shape == (2, longest) and texts.sample().shape == (2, 16)
  assert texts.inputs(np.arange(2), 0, 0)["base"].shape == (2, longest)
  # Another wording may be longer than all captions.
  seen = pairs.make_texts(captions, words, 16, "eda").inputs(np.arange(2), 0, 0)
  assert seen["base"].shape == seen["view"].shape == (2, 16)


def test_two_towers_may_read_the_same_captions():
  """And then draw different ones: each other's paraphrases."""
  c = config("two_languages", **{"towers.text_de.input": "text"})
  train, _ = pair_loading.load_pairs(c)
  first, second = (train.columns[name] for name in ("text", "text_de"))
  assert first.captions is second.captions
  rows = np.arange(48)
  tables = [x.inputs(rows, 0, 0)["base"][:, :40] for x in (first, second)]
  same = np.mean([np.array_equal(*pair) for pair in zip(*tables, strict=True)])
  assert same < 0.6


def test_zero_shot_takes_the_first_image_and_the_first_english_tower():
  _, test = pair_loading.load_pairs(config("three"), train=False)
  assert tower_evaluation.zero_shot_towers(test) == ("image", "text")
  only = {name: test.columns[name] for name in ("image", "text_de")}
  german = pairs.PairSet(test.name, only, test.labels, test.class_names)
  assert tower_evaluation.zero_shot_towers(german) == ("image", "")


def test_the_parts_of_a_set_are_its_examples():
  """`take` keeps rows, labels and first captions together, for every kind."""
  rows = np.array([30, 2, 7])
  for preset in ("three", "vectors"):
    _, test = pair_loading.load_pairs(config(preset), train=False)
    part = tower_evaluation.take(test, rows)
    for name, column in test.columns.items():
      taken = part.columns[name]
      assert len(taken) == 3
      if isinstance(column, pairs.Texts):
        assert [x[0] for x in taken.captions] == [column.captions[i][0] for i in rows]
        np.testing.assert_array_equal(taken.tokens, column.tokens[5 * rows])
        np.testing.assert_array_equal(taken.example(), np.arange(3))
      else:
        found = taken.inputs(np.arange(3), 0, 0)["base"]
        np.testing.assert_array_equal(found, column.inputs(rows, 0, 0)["base"])
      for key, labels in column.attributes.items():
        np.testing.assert_array_equal(taken.attributes[key], labels[rows])
    for key, labels in test.attributes.items():
      np.testing.assert_array_equal(part.attributes[key], labels[rows])


def test_vectors_show_their_factors_and_views_are_of_the_same_example():
  train, test = (
    factor_vectors.load_vectors(f"{name}[:1500]") for name in ("train", "test")
  )

  def accuracy(kind, attribute):
    """Of least squares onto one-hot labels, fitted on training examples."""
    features = [
      np.c_[np.tanh(x.values[kind]), x.values[kind], np.ones(1500)]
      for x in (train, test)
    ]
    codes = np.eye(4)[train.attributes[attribute]]
    weights = np.linalg.lstsq(features[0], codes, rcond=None)[0]
    return np.mean((features[1] @ weights).argmax(1) == test.attributes[attribute])

  assert min(accuracy(x, "shared_0") for x in ("image", "text")) > 0.5
  assert accuracy("image", "image_0") > 0.5 and accuracy("text", "text_0") > 0.5
  chance = 0.25 + 4 * np.sqrt(0.25 * 0.75 / 1500)
  assert accuracy("image", "text_0") < chance and accuracy("text", "image_0") < chance

  for kind in ("image", "text"):
    values, views = test.values[kind], test.views[kind]
    assert values.shape == (1500, 64) and np.isfinite(values).all()
    own = np.linalg.norm(values - views, axis=1).mean()
    other = np.linalg.norm(values - np.roll(views, 1, axis=0), axis=1).mean()
    assert 0.1 < own < 0.8 * other
  assert not np.isin(train.values["image"][:, 0], test.values["image"][:, 0]).any()
  again = factor_vectors.load_vectors("train[10:20]", limit=0)
  np.testing.assert_array_equal(again.values["text"], train.values["text"][10:20])


REFUSED = [
  ("three", {"towers.text.input": "text_fr"}, "unknown input of 'scenes_text' 'text_f"),
  ("three", {"towers.text.input": "text_fr"}, "known: image, image_2, text, text_de"),
  ("three", {"towers.text.input": "image_2"}, "towers.text.kind is text, but its inpu"),
  ("three", {"towers.image.input": "text_de"}, "is for a tower of kind text"),
  ("vectors", {"towers.text.input": "text_2"}, "of 'paired_factors' 'text_2'.*image"),
  ("vectors", {"data.train": "trian"}, "did you mean 'train'"),
  ("vectors", {"data.test_limit": 3000}, "limit of 3000 .* has 2000"),
  ("vectors", {"towers.text.view": "eda"}, "towers.text.view"),
  ("vectors", {"data.name": "scenes_text"}, "kind is vector, but its input 'image'"),
  ("vectors", {"evaluate.attributes": ("shared_9",)}, "did you mean 'shared_"),
]


@pytest.mark.parametrize("preset, changes, words", REFUSED)
def test_what_cannot_work_is_refused(preset, changes, words, tmp_path):
  with pytest.raises(errors.UsageError, match=words) as found:
    pretrain.run(config(preset, **changes), str(tmp_path / "run"))
  assert "\n" not in str(found.value)
