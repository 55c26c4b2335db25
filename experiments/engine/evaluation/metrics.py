"""Accuracies of class scores, with the intervals that they deserve."""

import math

import numpy as np

# Two-sided 95 % quantile of the normal distribution.
_Z = 1.959963984540054


def top_k_hits(scores: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
  """Whether each true class is among the k best; ties count against it.

  A classifier that gives every class the same score is thus never right, whichever
  class comes first. A score that is not a number is never right either.

  Args:
    scores: [n, c], larger is better.
    labels: [n] integers below c.
    k: number of guesses.

  Returns:
    [n] booleans.
  """
  true = np.take_along_axis(scores, labels[:, None], axis=1)
  # `~(s < t)` also counts a NaN; the true class counts itself once.
  return np.sum(~(scores < true), axis=1) - 1 < k


def wilson_interval(hits: float, n: int) -> tuple[float, float]:
  """Wilson's 95 % interval of a proportion, `hits` successes of n > 0 trials.

  Of n scores in [0, 1] with the sum `hits` it covers the mean with at least that
  chance: no such scores vary more than hits and misses do.
  """
  share = hits / n
  centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
  half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + (_Z / n / 2) ** 2)
  # At no hit, or hits only, rounding would put an end inside the share itself.
  return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


def accuracy_report(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
  """Accuracies of scores [n, c] for labels [n], as shares of 1.

  Returns:
    top1, its Wilson 95 % interval over examples (top1_low, top1_high), mean_per_class
    (over the classes that occur in `labels`), and top5 if there are over five classes.
  """
  hits = top_k_hits(scores, labels, 1)
  low, high = wilson_interval(int(hits.sum()), len(hits))
  counts = np.bincount(labels)
  right = np.bincount(labels, weights=hits)
  report = {
    "top1": float(hits.mean()),
    "top1_low": low,
    "top1_high": high,
    "mean_per_class": float(np.mean(right[counts > 0] / counts[counts > 0])),
  }
  if scores.shape[1] > 5:
    report["top5"] = float(top_k_hits(scores, labels, 5).mean())
  return report
