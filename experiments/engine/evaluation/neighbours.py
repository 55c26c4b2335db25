"""Weighted k-nearest-neighbour classification of frozen features by cosine.

The classifier of Wu et al. (2018, arXiv:1805.01978), as used for DINO: each of the k
nearest training rows votes for its class with weight exp(cosine / T). T = infinity
gives every neighbour the same vote.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import numerics
from experiments.engine.evaluation import metrics

# Similarities held at once: a block of queries against all training rows, 64 MiB.
_BLOCK_ENTRIES = 2**24
# Training rows that are left out in turn to choose k and T.
_MAX_LEFT_OUT = 10_000


class Neighbours(NamedTuple):
  """The nearest training rows of each query, best first.

  Attributes:
    cosines: [q, k] float32.
    labels: [q, k] classes of these rows.
  """

  cosines: np.ndarray
  labels: np.ndarray


class Choice(NamedTuple):
  """Settings chosen by leave-one-out accuracy on the training split.

  Attributes:
    k: number of neighbours.
    temperature: T, infinity for equal votes.
    accuracy: leave-one-out accuracy of this choice.
    accuracies: [ks, temperatures] those of all.
  """

  k: int
  temperature: float
  accuracy: float
  accuracies: np.ndarray


@functools.partial(jax.jit, static_argnames="k")
def _block_neighbours(queries, rows, own, *, k):
  """Cosines and places [b, k] of the rows nearest to unit queries [b, d]."""
  cosines = numerics.similarity(queries, rows)
  itself = own[:, None] == jnp.arange(rows.shape[0])[None, :]
  return jax.lax.top_k(jnp.where(itself, -jnp.inf, cosines), k)


def find_neighbours(
  rows: np.ndarray,
  labels: np.ndarray,
  queries: np.ndarray,
  *,
  k: int,
  own: np.ndarray | None = None,
) -> Neighbours:
  """Finds the k training rows of largest cosine, exactly, in memory linear in n.

  Args:
    rows: [n, d] training features; rows need not be normalised.
    labels: [n] their classes.
    queries: [q, d].
    k: number of neighbours, at most n (n - 1 with `own`).
    own: [q] place of each query among `rows`, where it is not to find itself.
  """
  unit = jax.jit(numerics.unit)
  keys = unit(jnp.asarray(rows, jnp.float32))
  asking = unit(jnp.asarray(queries, jnp.float32))
  skipped = jnp.full(len(queries), -1) if own is None else jnp.asarray(own)
  count = len(queries)
  block = max(1, min(count, _BLOCK_ENTRIES // len(rows)))
  cosines = np.empty((count, k), np.float32)
  places = np.empty((count, k), np.int32)
  for start in range(0, count, block):
    # The last block reaches back over rows that are done: one shape, one program.
    start = min(start, count - block)
    part = slice(start, start + block)
    cosines[part], places[part] = _block_neighbours(
      asking[part], keys, skipped[part], k=k
    )
  return Neighbours(cosines, labels[places])


def vote(
  neighbours: Neighbours, *, k: int, temperature: float, num_classes: int
) -> np.ndarray:
  """Class scores [q, c]: the sum of exp(cosine / T) over the first k neighbours.

  Scores of a query share a factor, exp(-largest cosine / T), which keeps them finite.
  """
  cosines = neighbours.cosines[:, :k]
  weights = np.exp((cosines - cosines[:, :1]) / np.float32(temperature))
  q = len(cosines)
  # One flat bincount: class of query i is bin i * c + class.
  bins = np.arange(q)[:, None] * num_classes + neighbours.labels[:, :k]
  scores = np.bincount(bins.ravel(), weights.ravel(), minlength=q * num_classes)
  return scores.reshape(q, num_classes)


def choose_settings(
  rows: np.ndarray,
  labels: np.ndarray,
  *,
  num_classes: int,
  ks: tuple[int, ...],
  temperatures: tuple[float, ...],
  seed: int = 0,
) -> Choice:
  """Chooses k and T by leave-one-out accuracy on training rows [n, d], n >= 2.

  A k beyond n - 1 is cut to n - 1. Among equals the smallest k wins. Beyond 10,000
  rows, that many of them (drawn by `seed`) are left out in turn: their accuracy is
  known to half a per cent, and the search stays linear in n.
  """
  ks = tuple(sorted({min(k, len(rows) - 1) for k in ks}))
  asked = np.arange(len(rows))
  if len(rows) > _MAX_LEFT_OUT:
    asked = np.random.default_rng(seed).permutation(len(rows))[:_MAX_LEFT_OUT]
  found = find_neighbours(rows, labels, rows[asked], k=ks[-1], own=asked)

  def accuracy(k, temperature):
    scores = vote(found, k=k, temperature=temperature, num_classes=num_classes)
    return metrics.top_k_hits(scores, labels[asked], 1).mean()

  accuracies = np.array([[accuracy(k, t) for t in temperatures] for k in ks])
  i, j = np.unravel_index(np.argmax(accuracies), accuracies.shape)
  return Choice(ks[i], temperatures[j], float(accuracies[i, j]), accuracies)
