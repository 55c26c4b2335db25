"""Accuracies of the tasks on pictures with text, as the benchmarks' scorers have them.

VQA v2 (Goyal et al. 2017), NLVR (Suhr et al. 2017), NLVR2 (Suhr et al. 2019), SNLI-VE
(Xie et al. 2019). All are shares of 1, with Wilson's 95 % interval over the examples;
these are taken as independent, so that it is somewhat too narrow where they share a
picture.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.engine import errors
from experiments.engine.evaluation import metrics
from multimodal import answers as spelling

# By name, for each example the group that it is in.
Groups = Mapping[str, Sequence[str]]
# What SNLI has where its annotators did not agree; SNLI-VE leaves these out.
_NO_LABEL = "-"


def score_report(
  scores: np.ndarray, groups: Groups | None = None, *, name: str = "accuracy"
) -> dict[str, float]:
  """Means of scores over all examples and over those of each group.

  Args:
    scores: [n] in [0, 1], one for each example.
    groups: name -> group of each example, such as {"answer_type": ["CLOSED", ...]}.
    name: of the score.

  Returns:
    NAME, NAME_low and NAME_high (the interval), "examples" (n); and for each group
    NAME/KIND/GROUP with its interval and NAME/KIND/GROUP/examples.

  Raises:
    UserError: no example, or groups of another number of them.
  """
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 1 or not len(scores):
    raise errors.UserError(
      f"{name} is measured on one score for each of one or more examples, not on "
      f"scores of shape {scores.shape}"
    )
  report = _mean(scores, name) | {"examples": float(len(scores))}
  for kind, values in (groups or {}).items():
    _require_length(values, len(scores), f"groups '{kind}'")
    members = np.asarray(values)
    for group in np.unique(members):
      part = scores[members == group]
      place = f"{name}/{kind}/{group}"
      report |= _mean(part, place) | {f"{place}/examples": float(len(part))}
  return report


def answer_report(
  predicted: Sequence[str],
  given: Sequence[Sequence[str]],
  groups: Groups | None = None,
  *,
  as_published: bool = True,
) -> dict[str, float]:
  """VQA's accuracy of predicted answers; of one human each, exact match.

  Args:
    predicted: n answers.
    given: for each what the humans answered.
    groups: see `score_report`.
    as_published: see `multimodal.answers.vqa_accuracy`.

  Returns:
    As `score_report`.

  Raises:
    UserError: predictions of another number, no question, or one without answer.
  """
  _require_length(predicted, len(given), "predicted answers")
  try:
    scores = [
      spelling.vqa_accuracy(answer, humans, as_published=as_published)
      for answer, humans in zip(predicted, given, strict=True)
    ]
  except ValueError as error:
    raise errors.UserError(str(error)) from error
  return score_report(np.array(scores), groups)


def label_report(
  predicted: Any,
  labels: Any,
  label_names: Sequence[str],
  groups: Groups | None = None,
) -> dict[str, float]:
  """Accuracy of predicted labels, over all and over each true label.

  With the names `multimodal.answers.ENTAILMENTS` that of SNLI-VE.

  Args:
    predicted: [n] numbers of labels.
    labels: [n] the true ones.
    label_names: the name of each number.
    groups: see `score_report`.

  Returns:
    As `score_report`, with accuracy/label/NAME for each name that occurs.

  Raises:
    UserError: a label outside the names, another number of predictions, or no example.
  """
  found = _read_labels(predicted, label_names, "predicted label")
  true = _read_labels(labels, label_names, "label")
  _require_length(found, len(true), "predicted labels")
  named = [label_names[label] for label in true]
  return score_report(found == true, {"label": named, **(groups or {})})


def truth_report(
  predicted: Any, labels: Any, sentences: Sequence[str], groups: Groups | None = None
) -> dict[str, float]:
  """Accuracy and consistency of judgements, as NLVR and NLVR2 have them.

  Args:
    predicted: [n], or [n, v] for v drawings of each example (NLVR: the six orders of
      its boxes, which its scorer counts one by one): 1 for true, 0 for false.
    labels: [n] whether the sentence is true of the example.
    sentences: for each example the name of its sentence (`sentence_name`); other
      examples may share it.
    groups: see `score_report`.

  Returns:
    As `score_report` of the accuracy, which is the scorers' "precision": the share of
    right predictions, its interval over the n examples. And "consistency", with its
    interval: the share of sentences of which every prediction is right, on all their
    examples and drawings; "sentences", their number.

  Raises:
    UserError: values other than 0 and 1, numbers that differ, or no example.
  """
  found = _read_labels(predicted, spelling.TRUTHS, "prediction", most_axes=2)
  true = _read_labels(labels, spelling.TRUTHS, "label")
  _require_length(found, len(true), "predictions")
  _require_length(sentences, len(true), "names of sentences")
  right = found.reshape(len(found), -1) == true[:, None]
  report = score_report(right.mean(axis=1), groups)
  names, member = np.unique(np.asarray(sentences), return_inverse=True)
  consistent = np.ones(len(names), bool)
  np.logical_and.at(consistent, member.reshape(-1), right.all(axis=1))
  return (
    report
    | _mean(consistent.astype(np.float64), "consistency")
    | {"sentences": float(len(names))}
  )


def sentence_name(identifier: str) -> str:
  """Returns what the examples of one sentence have in common.

  Args:
    identifier: of NLVR, "presentation-place"; or of NLVR2, "split-set-pair-sentence".

  Returns:
    The presentation; or split, set and sentence.

  Raises:
    UserError: it is neither.
  """
  parts = identifier.split("-")
  if len(parts) == 2:
    return parts[0]
  if len(parts) == 4:
    return "-".join((parts[0], parts[1], parts[3]))
  raise errors.UserError(
    f"'{identifier}' is no identifier of NLVR (presentation-place, as 1572-0) or of "
    "NLVR2 (split-set-pair-sentence, as dev-850-0-1)"
  )


def entailment_labels(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Numbers gold labels of SNLI-VE: contradiction 0, neutral 1, entailment 2.

  Args:
    words: gold labels; "-", where the annotators did not agree, is left out, as in the
      official split.

  Returns:
    Labels, int32 [k], and the rows that they are of, int [k].

  Raises:
    UserError: another label.
  """
  known = spelling.ENTAILMENTS
  rows = [row for row, word in enumerate(words) if word != _NO_LABEL]
  for row in rows:
    if words[row] not in known:
      raise errors.unknown("entailment label", words[row], known)
  labels = [known.index(words[row]) for row in rows]
  return np.array(labels, np.int32), np.array(rows, np.int64)


def _mean(scores: np.ndarray, name: str) -> dict[str, float]:
  low, high = metrics.wilson_interval(float(scores.sum()), len(scores))
  return {name: float(scores.mean()), f"{name}_low": low, f"{name}_high": high}


def _require_length(values: Sequence | np.ndarray, count: int, what: str) -> None:
  if len(values) != count:
    raise errors.UserError(
      f"there are {len(values)} {what} for {count} examples; each needs one"
    )


def _read_labels(
  labels: Any, names: Sequence[str], what: str, most_axes: int = 1
) -> np.ndarray:
  """Labels as integers below the number of names."""
  array = np.asarray(labels)
  whole = array.dtype == bool or np.issubdtype(array.dtype, np.integer)
  if not whole or not 1 <= array.ndim <= most_axes:
    raise errors.UserError(
      f"a {what} is a whole number for each example, but what was given has the type "
      f"{array.dtype} and the shape {array.shape}"
    )
  array = array.astype(np.int64)
  wrong = np.flatnonzero(((array < 0) | (array >= len(names))).reshape(len(array), -1))
  if len(wrong):
    place = np.unravel_index(wrong[0], array.shape)
    raise errors.UserError(
      f"{what} {array[place]} of example {place[0]} is none of 0 to {len(names) - 1} "
      f"({', '.join(names)})"
    )
  return array
