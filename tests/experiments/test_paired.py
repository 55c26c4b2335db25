"""The evaluator of towers on tables whose answers are known."""

import dataclasses

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.evaluation import paired, paired_settings

N, CAPTIONS = 60, 3


def unit(x):
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def split_of(seed, *, noise=0.0, collapsed=False):
  """Images that carry a class in `specific`, and captions near their image."""
  rng = np.random.default_rng(seed)
  labels = np.arange(N) % 4
  images = unit(rng.standard_normal((N, 16)))
  owner = np.repeat(np.arange(N), CAPTIONS)
  texts = unit(images[owner] + noise * rng.standard_normal((len(owner), 16)))
  if collapsed:
    images, texts = (np.tile(images[:1], (len(x), 1)) for x in (images, texts))
  specific = unit(np.eye(8)[labels] + 0.1 * rng.standard_normal((N, 8)))
  image = {"shared": images, "specific": specific, "features": images[:, :5]}
  tables = {
    "image": paired.TowerTable(image, np.arange(N)),
    "text": paired.TowerTable({"shared": texts, "features": texts}, owner),
  }
  style = rng.integers(0, 2, (N, CAPTIONS))
  return paired.Split(tables, {"class": labels, "style": style})


SETTINGS = paired_settings.Settings(shots=(1, 5), draws=2)


def test_equal_embeddings_are_found_and_collapsed_ones_are_at_chance():
  found = paired.evaluate_split(None, split_of(0), SETTINGS)
  assert found["image_to_text/recall@1"] == found["text_to_image/recall@1"] == 1
  assert found["image_to_text/median_rank"] == 1
  assert found["geometry/image_text/cosine"] == pytest.approx(1, abs=1e-6)
  found = paired.evaluate_split(None, split_of(0, collapsed=True), SETTINGS)
  assert found["text_to_image/recall@1"] == pytest.approx(1 / N)
  assert found["text_to_image/recall@10"] == pytest.approx(10 / N)
  assert found["geometry/image/uniformity"] == pytest.approx(0, abs=1e-6)
  assert found["geometry/image/effective_rank"] == pytest.approx(1, abs=1e-3)


def test_probes_find_what_is_there_in_the_part_that_has_it():
  parts = ("shared", "specific", "both")
  settings = dataclasses.replace(
    SETTINGS, shots=(5,), parts=parts, retrieval=False, geometry=False
  )
  found = paired.evaluate_split(split_of(0, noise=0.2), split_of(1), settings)
  assert found["probe/image/class/specific"] > 0.95
  assert found["probe/image/class/both"] > 0.95
  assert found["fewshot_5/image/class/specific"] > 0.9
  assert found["fewshot_5_softmax/image/class/specific"] > 0.9
  assert found["probe/image/class/shared"] < 0.5 and found["chance/class"] == 0.25
  # The text tower has no specific head, and a style is nobody's business here.
  assert "probe/text/class/specific" not in found
  assert "fewshot_5/image/style/shared" not in found
  assert 0.2 < found["probe/text/style/shared"] < 0.8


def rows_of(split, rows):
  """The examples `rows` of a split, with their captions."""
  captions = (rows[:, None] * CAPTIONS + np.arange(CAPTIONS)).ravel()
  tables = {
    name: paired.TowerTable(
      {k: x[captions if name == "text" else rows] for k, x in table.parts.items()},
      np.repeat(np.arange(len(rows)), CAPTIONS if name == "text" else 1),
    )
    for name, table in split.towers.items()
  }
  return paired.Split(tables, {k: x[rows] for k, x in split.attributes.items()})


def unlabelled(split, examples, attribute="class"):
  """The split without the labels of `examples`."""
  labels = split.attributes[attribute].copy()
  labels[examples] = -1
  return split._replace(attributes={**split.attributes, attribute: labels})


def test_examples_without_label_are_left_out_of_what_asks_for_it():
  splits = [split_of(0, noise=0.2), split_of(1, noise=0.2)]
  known = np.flatnonzero(np.arange(N) % 7 > 1)
  lacking = np.setdiff1d(np.arange(N), known)
  measure = lambda parts, settings: paired.evaluate_split(
    *parts, settings, class_weights=np.eye(16)[:4], classified="image"
  )
  settings = dataclasses.replace(SETTINGS, knn=True, rows=30, parts=("specific",))
  found = measure([unlabelled(x, lacking) for x in splits], settings)
  alone = measure([rows_of(x, known) for x in splits], settings)
  asked = {x for x in alone if "class" in x or "fewshot" in x or "zero" in x}
  assert {x.partition("/")[0] for x in asked} >= {"zero_shot", "probe", "knn", "chance"}
  assert "fewshot_5/image/class/specific" in asked
  for name in asked:
    assert found[name] == pytest.approx(alone[name], abs=1e-6), name
  # Everything else sees all examples.
  whole = measure(splits, settings)
  others = {x for x in whole if "recall" in x or "geometry" in x or "style" in x}
  assert others and {x: found[x] for x in others} == {x: whole[x] for x in others}
  # Of labels for each caption, the first one's counts.
  style = dataclasses.replace(
    SETTINGS, attributes=("style",), few_shot=False, parts=("shared",)
  )
  found = measure([unlabelled(x, lacking, "style") for x in splits], style)
  alone = measure([rows_of(x, known) for x in splits], style)
  assert found["probe/text/style/shared"] == alone["probe/text/style/shared"]


def test_a_split_without_any_label_is_refused_before_training_too():
  full, bare = split_of(0), unlabelled(split_of(1), np.arange(N))
  for pair, name in (((full, bare), "test"), ((bare, full), "training")):
    words = f"no example of the {name} split has a label of 'class'"
    with pytest.raises(errors.UserError, match=words):
      paired.evaluate_split(*pair, SETTINGS)
    with pytest.raises(errors.UserError, match=words):
      paired.check_attributes(SETTINGS, *(x.attributes for x in pair))
  with pytest.raises(errors.UserError, match="of the test split has a label"):
    paired.evaluate_split(
      None, bare, SETTINGS, class_weights=np.eye(16)[:4], classified="image"
    )
  few = unlabelled(full, np.arange(16, N)).attributes
  with pytest.raises(errors.UserError, match="class 0 has 4"):
    paired.check_attributes(SETTINGS, few, full.attributes)
  # What asks for none takes it as it is.
  silent = paired_settings.Settings(probe=False, few_shot=False, zero_shot=False)
  paired.check_attributes(silent, bare.attributes, bare.attributes)
  assert "geometry/image/uniformity" in paired.evaluate_split(bare, bare, silent)


def test_zero_shot_takes_the_mean_of_the_prompts():
  test = split_of(0)
  centres = np.eye(8)[:4]
  tables = dict(test.towers)
  shared = {"shared": tables["image"].parts["specific"], "features": np.ones((N, 1))}
  tables["image"] = paired.TowerTable(shared, np.arange(N))
  sentences = []

  def embed(texts):
    sentences.extend(texts)
    per_class = len(texts) // 4
    rng = np.random.default_rng(0)
    rows = np.repeat(centres, per_class, axis=0)
    return rows + 0.3 * rng.standard_normal(rows.shape)

  names = ("cat", "dog", "owl", "fox")
  weights = paired.embed_prompts(embed, names, "photos")
  assert sentences[0] == "a photo of a cat." and len(sentences) == 4 * 9
  found = paired.evaluate_split(
    None,
    test._replace(towers=tables),
    paired_settings.Settings(retrieval=False, geometry=False),
    class_weights=weights,
    classified="image",
  )
  assert found["zero_shot/top1"] > 0.95 and found["zero_shot/top5"] == 1
  with pytest.raises(errors.UsageError, match="names of the classes"):
    paired.embed_prompts(embed, (), "photos")


@pytest.mark.parametrize(
  "config, words",
  [
    ({"probes": True}, "unknown evaluation setting 'probes'"),
    ({"parts": ("share",)}, "did you mean 'shared'"),
    ({"ks": ()}, "evaluate.ks must list numbers above 0"),
    ({"shots": (0,)}, "evaluate.shots must list numbers above 0"),
    ({"rows": 0}, "evaluate.rows must be at least 1"),
    ({"prompts": "photo"}, "did you mean 'photos'"),
  ],
)
def test_bad_settings_are_refused(config, words):
  with pytest.raises(errors.UsageError, match=words):
    paired_settings.read_settings(config)
