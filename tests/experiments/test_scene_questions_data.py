"""Questions, statements and entailment on scenes, as sets in memory."""

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.datasets import scene_inputs
from experiments.engine.datasets.question_sets import load_questions
from multimodal import scenes


def test_questions_come_with_their_pictures():
  found = load_questions("scenes_questions", "test[10:40]", image_size=16)
  made = scenes.ask(scenes.split_ids("test", 40)[10:])
  assert found.texts == tuple(made.texts) and found.ids[0] == "10"
  assert found.answers == tuple(scenes.ANSWERS[i] for i in made.answers)
  painted = scenes.paint(made.scenes, size=16).images
  np.testing.assert_array_equal(found.pictures(np.arange(30)), painted)
  assert len(found.images) == len(np.unique(made.scenes))
  kinds = [scenes.QUESTION_KINDS[i] for i in made.kinds]
  assert found.groups["answer_type"] == tuple(kinds)
  assert "33 answers" in found.describe()


def test_statements_are_about_two_pictures_or_one_of_them():
  found = load_questions("scenes_statements", "train[:12]", image_size=16)
  made = scenes.pair_statements(scenes.split_ids("train", 12))
  assert found.image_index.shape == (12, 2)
  for column, ids in enumerate((made.left, made.right)):
    painted = scenes.paint(ids, size=16).images
    np.testing.assert_array_equal(found.pictures(np.arange(12))[:, column], painted)
    one = load_questions(
      "scenes_statements", "train[:12]", image_size=16, picture=column
    )
    np.testing.assert_array_equal(one.pictures(np.arange(12)), painted)
    assert one.texts == found.texts
  assert found.label_names == ("false", "true")
  np.testing.assert_array_equal(found.labels, made.truths)


def test_entailment_has_a_covered_object():
  found = load_questions("scenes_entailment", "train", image_size=16, limit=20, seed=3)
  ids = np.array(list(map(int, found.ids)))
  assert len(set(found.ids)) == 20 and (np.diff(ids) > 0).all() and ids.max() < 20_000
  made = scenes.entailments(scenes.split_ids("train", 20_000)[ids])
  painted = scenes.cover(scenes.paint(made.scenes, size=16).images, made.boxes)
  np.testing.assert_array_equal(found.pictures(np.arange(20)), painted)
  assert found.label_names == ("contradiction", "neutral", "entailment")


def test_easy_sets_have_the_level_and_the_side_of_their_own():
  level = scene_inputs.EMBEDDED["scenes_text_easy"]
  ids = scenes.split_ids("test", 30)
  found = load_questions("scenes_questions_easy", "test[:30]")
  made = scenes.ask(ids, level=level)
  assert found.texts == tuple(made.texts) and found.images.shape[1:] == (32, 32, 3)
  painted = scenes.paint(made.scenes, size=32, level=level).images
  np.testing.assert_array_equal(found.pictures(np.arange(30)), painted)
  assert set(found.groups["answer_type"]) == {"attribute", "yes/no"}

  found = load_questions("scenes_statements_easy", "test[:30]")
  assert set(found.groups["kind"]) == {"both", "any", "only", "one"}
  found = load_questions("scenes_statements_lone", "test[10:30]")
  assert {"neither", "large"} < set(found.groups["kind"])
  pair = scenes.pair_statements(ids[10:], level=level)
  assert found.texts == tuple(pair.texts) and found.image_index.shape == (20, 2)
  np.testing.assert_array_equal(found.labels, pair.truths)
  painted = scenes.paint(pair.right, size=32, level=level).images
  np.testing.assert_array_equal(found.pictures(np.arange(20))[:, 1], painted)
  one = load_questions(
    "scenes_statements_easy", "test[10:30]", image_size=40, picture=1
  )
  assert one.pictures(np.arange(20)).shape == (20, 40, 40, 3)


@pytest.mark.parametrize(
  "name, options, words",
  [
    ("scenes_questions", {"split": "val"}, "unknown split of 'scenes_questions' 'val'"),
    ("scenes_questions", {"image_size": 8}, "at least 16, not 8 x 8"),
    ("scenes_questions", {"image_size": (16, 32)}, "are squares"),
    ("scenes_questions", {"picture": 1}, "has 1, counted"),
    ("scenes_questions_easy", {"split": "val"}, "unknown split of 'scenes_questions_e"),
    ("scenes_questions_easy", {"image_size": 8}, "at least 16, not 8 x 8"),
    ("scenes_statements_easy", {"limit": 5}, "limit of 5 examples"),
    ("scenes_statements", {"picture": 2}, "has 2, counted"),
    ("scenes_question", {}, "did you mean 'scenes_questions'"),
  ],
)
def test_what_there_is_not_is_refused(name, options, words, tmp_path):
  options = {"split": "test[:4]", **options}
  with pytest.raises(errors.UserError, match=words):
    load_questions(name, options.pop("split"), data_dir=str(tmp_path), **options)
