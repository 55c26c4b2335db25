"""The real sets of questions: what is counted, divided and shared."""

import collections
import os
import pathlib

import numpy as np
import pytest

from experiments import prepare
from experiments.engine.datasets.question_sets import load_questions
from experiments.engine.evaluation import task_metrics

real = pytest.mark.skipif(
  not os.environ.get("CONTRASTIVE_DATA"),
  reason="CONTRASTIVE_DATA names no folder with the real vqa_rad, easy_vqa, ...",
)


def load_all(name, tmp_path, folder="", **options):
  source = pathlib.Path(os.environ["CONTRASTIVE_DATA"]) / (folder or name)
  if not source.is_dir():
    pytest.skip(f"no {source}")
  prepare.run(name, source=str(source), data_dir=str(tmp_path))
  return [
    load_questions(name, split, data_dir=str(tmp_path), **options)
    for split in ("train", "test")
  ]


def counts(part):
  assert part.skipped == 0 and part.images.std() > 10
  assert len(set(part.ids)) == len(part.ids) == len(part.texts)
  assert part.image_index.max() + 1 == len(part.images)
  return len(part.texts), len(part.images)


@real
def test_vqa_rad(tmp_path):
  train, test = load_all("vqa_rad", tmp_path, image_size=32)
  assert counts(train) == (1797, 313) and counts(test) == (451, 203)
  kinds = collections.Counter(
    (*train.groups["answer_type"], *test.groups["answer_type"])
  )
  assert kinds == {"CLOSED": 1299, "OPEN": 949}
  shown = [{image.tobytes() for image in part.images} for part in (train, test)]
  assert len(shown[0] & shown[1]) == 202  # as published: train and test share pictures
  groups = {"answer_type": test.groups["answer_type"]}
  yes = task_metrics.answer_report(["yes"] * 451, test.given, groups)
  assert yes["accuracy/answer_type/CLOSED"] > 0.4 > yes["accuracy/answer_type/OPEN"]


@real
def test_easy_vqa(tmp_path):
  train, test = load_all("easy_vqa", tmp_path)
  assert counts(train) == (38_575, 4000) and counts(test) == (9673, 1000)
  assert len(train.label_names) == 13 and set(train.labels) == set(range(13))
  shown = [{image.tobytes() for image in part.images} for part in (train, test)]
  assert not shown[0] & shown[1]


@real
def test_coco_entailment(tmp_path):
  train, test = load_all("coco_entailment", tmp_path, "coco_cc", image_size=32)
  assert counts(train) == (1262, 132) and counts(test) == (312, 44)
  labels = np.concatenate([train.labels, test.labels])
  assert np.bincount(labels).tolist() == [793, 781]
  sources = collections.Counter((*train.groups["source"], *test.groups["source"]))
  assert sources == {"sugar_crepe": 1528, "vsr": 46}
  # Whoever says "true" always is right of one sentence in each pair, and of no pair.
  paired = np.array(test.groups["source"]) == "sugar_crepe"
  part = test.take(np.flatnonzero(paired))
  said = np.ones(len(part.labels), int)
  report = task_metrics.truth_report(said, part.labels, part.groups["pair"])
  assert report["accuracy"] == 0.5 and report["consistency"] == 0


@real
def test_nlvr_v1(tmp_path):
  train, test = load_all("nlvr_v1", tmp_path, image_size=(10, 40))
  assert counts(train)[0] == 1974 and counts(test)[0] == 990
  assert train.image_index.shape == (1974, 6)
  assert int(train.labels.sum()) == 547 + 546 and int(test.labels.sum()) == 556
  presented = [set(part.groups["presentation"]) for part in (train, test)]
  assert [len(x) for x in presented] == [533, 266] and not presented[0] & presented[1]
  truth = test.labels[:, None] + np.zeros((1, 6), np.int32)
  report = task_metrics.truth_report(truth, test.labels, test.groups["presentation"])
  assert report["accuracy"] == report["consistency"] == 1
