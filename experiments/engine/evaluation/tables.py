"""A table of frozen features with labels, which every evaluator takes; its checks."""

from typing import NamedTuple

import numpy as np

from experiments.engine.errors import UserError


class Table(NamedTuple):
  """One split, embedded: features [n, d] float32 and labels [n] integers from 0."""

  features: np.ndarray
  labels: np.ndarray


class Standardiser(NamedTuple):
  """Mean [d] and deviation [d] of a training split; constant columns have deviation 1.

  A constant column becomes zero, so no classifier can lean on it.
  """

  mean: np.ndarray
  deviation: np.ndarray

  def __call__(self, features: np.ndarray) -> np.ndarray:
    """Features [n, d] with mean 0 and deviation 1 on the training split, float32."""
    return ((features - self.mean) / self.deviation).astype(np.float32)


def standardiser(features: np.ndarray) -> Standardiser:
  """Measures mean and deviation of the columns of features [n, d]."""
  mean = np.asarray(np.mean(features, axis=0, dtype=np.float64))
  deviation = np.asarray(np.std(features, axis=0, dtype=np.float64))
  # Below this, the column varies by the rounding of its own mean and by nothing else.
  constant = deviation <= 1e-6 * np.abs(mean)
  deviation = np.where(constant, 1.0, deviation)
  return Standardiser(mean.astype(np.float32), deviation.astype(np.float32))


def require_finite(features: np.ndarray, split: str) -> None:
  """Refuses features [n, d] with NaN or infinity in any row.

  Raises:
    UserError: naming the split and the number of bad rows.
  """
  bad = int(np.sum(~np.all(np.isfinite(features), axis=1)))
  if bad:
    raise UserError(
      f"{bad} of {len(features)} {split} rows have features that are not finite: the "
      "model has diverged or its checkpoint is damaged; take an earlier checkpoint, or "
      "train with a lower learning rate"
    )


def require_labels(labels: np.ndarray, split: str) -> None:
  """Refuses labels that are not a non-empty vector of integers from 0.

  Raises:
    UserError: naming the split and what is wrong with its labels.
  """
  if labels.ndim != 1 or not len(labels):
    raise UserError(
      f"the {split} split needs labels [n] of at least one example, but they have "
      f"shape {labels.shape}"
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise UserError(
      f"the {split} labels are {labels.dtype}, but classes are integers from 0; number "
      "them so"
    )
  unlabelled = int(np.sum(labels < 0))
  if unlabelled:
    raise UserError(
      f"{unlabelled} of {len(labels)} {split} examples have no label (a number below "
      "0); evaluate on a split that is labelled throughout"
    )


def require_features(table: Table, split: str) -> None:
  """Refuses features that are not finite or not one row a label.

  Raises:
    UserError: naming the split and what is wrong with its features.
  """
  features, labels = table
  if features.ndim != 2 or len(features) != len(labels):
    raise UserError(
      f"the {split} split needs features [n, d], one row for each of {len(labels)} "
      f"labels, but they have shape {features.shape}"
    )
  require_finite(features, split)


def require_classes(labels: np.ndarray, num_classes: int) -> None:
  """Refuses training labels [n] from which `num_classes` cannot be learnt.

  Raises:
    UserError: one class only, fewer examples than classes, or a class without example.
  """
  if num_classes < 2:
    raise UserError(
      "the labels have one class only; evaluation needs at least two, so check which "
      "label field the data set was read with"
    )
  if len(labels) < num_classes:
    raise UserError(
      f"{len(labels)} training examples are fewer than the {num_classes} classes; "
      "give at least one example a class"
    )
  absent = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
  if len(absent):
    named = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
    raise UserError(
      f"{len(absent)} of {num_classes} classes have no training example ({named}); "
      "take a larger training split, or number the classes without gaps"
    )
