"""Scores of tasks: hand cases and recomputation in loops; every error a sentence."""

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.evaluation import metrics, task_metrics
from multimodal.answers import ENTAILMENTS, TRUTHS

raises = lambda words: pytest.raises(errors.UserError, match=words)


def test_scores_over_all_and_by_group():
  groups = {"answer_type": ["OPEN", "CLOSED", "OPEN", "OPEN"], "organ": ["x"] * 4}
  report = task_metrics.score_report([1.0, 0.0, 0.3, 0.5], groups)
  assert report["accuracy"] == pytest.approx(0.45) and report["examples"] == 4
  assert report["accuracy/answer_type/OPEN"] == pytest.approx(0.6)
  assert report["accuracy/answer_type/OPEN/examples"] == 3
  assert report["accuracy/answer_type/CLOSED"] == 0
  assert report["accuracy/organ/x"] == report["accuracy"]
  assert report["accuracy_low"] < 0.45 < report["accuracy_high"]
  low, high = metrics.wilson_interval(1.8, 4)
  assert (report["accuracy_low"], report["accuracy_high"]) == (low, high)
  assert all(type(value) is float for value in report.values())


def test_the_interval_covers_means_of_partial_scores():
  rng = np.random.default_rng(0)
  covered = 0
  for _ in range(400):
    report = task_metrics.score_report(rng.beta(0.5, 1.0, 40))
    covered += report["accuracy_low"] <= 1 / 3 <= report["accuracy_high"]
  assert covered / 400 > 0.95


def test_answers_of_ten_humans_and_of_one():
  ten = ["red"] * 3 + ["pink"] * 2 + [f"other {i}" for i in range(5)]
  report = task_metrics.answer_report(["red", "Pink.", "no"], [ten, ten, ["No"]])
  assert report["accuracy"] == pytest.approx((0.9 + 0.6 + 1.0) / 3)
  loud = [["YES"] * 10]
  assert task_metrics.answer_report(["yes"], loud)["accuracy"] == 0
  assert task_metrics.answer_report(["yes"], loud, as_published=False)["accuracy"] == 1


def test_entailment_by_label():
  predicted, labels = np.array([0, 1, 2, 2, 0]), np.array([0, 1, 2, 1, 1])
  report = task_metrics.label_report(predicted, labels, ENTAILMENTS)
  assert report["accuracy"] == pytest.approx(0.6)
  assert report["accuracy/label/neutral"] == pytest.approx(1 / 3)
  assert report["accuracy/label/entailment"] == 1
  assert report["accuracy/label/contradiction/examples"] == 1


def test_gold_labels_without_agreement_are_left_out():
  words = ["neutral", "-", "entailment", "contradiction", "-"]
  labels, rows = task_metrics.entailment_labels(words)
  assert labels.tolist() == [1, 2, 0] and rows.tolist() == [0, 2, 3]
  assert labels.dtype == np.int32
  with raises(r"unknown entailment label 'entailed' \(did you mean 'entailment'\?\)"):
    task_metrics.entailment_labels(["neutral", "entailed"])


def by_the_scorer(predicted, labels, sentences):
  """Precision and consistency in the loops of NLVR's script."""
  right, consistent = 0, {}
  for row, label, sentence in zip(predicted, labels, sentences, strict=True):
    consistent.setdefault(sentence, True)
    for value in row:
      if value == label:
        right += 1
      else:
        consistent[sentence] = False
  return right / np.size(predicted), sum(consistent.values()) / len(consistent)


@pytest.mark.parametrize("drawings", [1, 6])
def test_accuracy_and_consistency_of_nlvr(drawings):
  rng = np.random.default_rng(drawings)
  labels = rng.integers(0, 2, 60)
  # Mostly right, so that some sentences are right throughout.
  wrong = rng.random((60, drawings)) < 0.08
  predicted = labels[:, None] ^ wrong
  names = [f"{i}-{place}" for i in range(15) for place in range(4)]
  sentences = [task_metrics.sentence_name(name) for name in names]
  accuracy, consistency = by_the_scorer(predicted, labels, sentences)
  report = task_metrics.truth_report(predicted, labels.astype(bool), sentences)
  assert report["accuracy"] == pytest.approx(accuracy, abs=1e-12)
  assert report["consistency"] == pytest.approx(consistency) and 0 < consistency < 1
  assert report["sentences"] == 15 and report["examples"] == 60
  if drawings == 1:
    flat = task_metrics.truth_report(predicted[:, 0], labels, sentences)
    assert flat == report
  order = rng.permutation(60)
  shuffled = task_metrics.truth_report(
    predicted[order], labels[order], [sentences[i] for i in order]
  )
  assert shuffled == pytest.approx(report)


def test_the_interval_is_over_examples_not_drawings():
  six = task_metrics.truth_report(
    np.ones((9, 6), int), np.ones(9, int), list("aabbccdde")
  )
  one = task_metrics.truth_report(np.ones(9, int), np.ones(9, int), list("aabbccdde"))
  assert six == one and one["accuracy_low"] < 0.8


def test_names_of_sentences():
  name = task_metrics.sentence_name
  assert name("1572-0") == name("1572-3") == "1572"
  assert name("dev-850-0-1") == name("dev-850-3-1") == "dev-850-1"
  assert name("dev-850-0-0") != name("dev-850-0-1")
  with raises("'test-1572-0' is no identifier of NLVR"):
    name("test-1572-0")


@pytest.mark.parametrize(
  ("measure", "words"),
  [
    (lambda: task_metrics.score_report([]), "one or more examples"),
    (lambda: task_metrics.score_report([1.0], {"x": []}), "0 groups 'x' for 1 exam"),
    (lambda: task_metrics.answer_report(["a"], []), "1 predicted answers for 0"),
    (lambda: task_metrics.answer_report(["a"], [[]]), "one or more humans"),
    (
      lambda: task_metrics.label_report([0, 3], [0, 1], ENTAILMENTS),
      r"predicted label 3 of example 1 is none of 0 to 2 \(contradiction, neutral, ",
    ),
    (
      lambda: task_metrics.label_report([0, 1], [-1, 1], ENTAILMENTS),
      "^label -1 of example 0",
    ),
    (
      lambda: task_metrics.label_report([0], [0, 1], TRUTHS),
      "1 predicted labels for 2",
    ),
    (lambda: task_metrics.label_report([0.5], [0], TRUTHS), "a whole number for each"),
    (lambda: task_metrics.label_report([[0]], [0], TRUTHS), r"the shape \(1, 1\)"),
    (
      lambda: task_metrics.truth_report([[0, 1], [1, 2]], [0, 1], "ab"),
      "prediction 2 of example 1",
    ),
    (lambda: task_metrics.truth_report([0, 1], [0, 1], "a"), "1 names of sentences"),
  ],
)
def test_what_does_not_fit_is_one_sentence(measure, words):
  with raises(words) as raised:
    measure()
  assert "\n" not in str(raised.value)
