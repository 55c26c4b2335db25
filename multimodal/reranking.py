"""Retrieval in two steps: the first k by cosine, put in order by a slower score.

A fusion model tells better than two towers whether picture and text belong together,
but has to look at every pair. ALBEF therefore scores the k nearest of each query only
(Li et al. 2021, Align before Fuse, sec. 4; its k is 128 on Flickr30K and 256 on COCO),
and the others come behind, as if tied.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from multimodal.retrieval import Places, expected_rank, hit_probability


def nearest(queries: Any, keys: Any, k: int, *, block: int = 256) -> np.ndarray:
  """Numbers [n, k] of the keys with the largest cosines, the largest first.

  Of keys with equal cosines those with lower numbers come first.

  Args:
    queries: [n, d] unit rows.
    keys: [m, d] unit rows.
    k: at least 1; more than m are m.
    block: queries at a time, for block * m cosines in memory.

  Raises:
    ValueError: for k below 1, or widths that differ.
  """
  queries, keys = np.asarray(queries), np.asarray(keys)
  if k < 1:
    raise ValueError(f"reranking looks at the first k keys, k at least 1, not {k}")
  if queries.shape[1:] != keys.shape[1:]:
    raise ValueError(
      f"queries {queries.shape} and keys {keys.shape} differ in width; embed both "
      "into one space"
    )
  found = [
    np.argsort(-(queries[start : start + block] @ keys.T), axis=1, kind="stable")[:, :k]
    for start in range(0, len(queries), block)
  ]
  return np.concatenate(found)


def reranked_places(
  scores: Any, candidates: Any, query_group: Any, key_group: Any
) -> Places:
  """Where the best relevant key of each query stands, as `retrieval.first_places`.

  Candidates come in the order of their scores, then all other keys, which tie.

  Args:
    scores: [n, k] of the candidates, the larger the likelier to belong.
    candidates: [n, k] different numbers of keys, of `nearest`.
    query_group: [n] integers; a key is relevant to the queries of its group.
    key_group: [m] integers.

  Raises:
    ValueError: shapes that differ, scores that are not finite, or a query without
      relevant key.
  """
  scores, candidates = np.asarray(scores, np.float64), np.asarray(candidates)
  query_group, key_group = np.asarray(query_group), np.asarray(key_group)
  n, k = candidates.shape
  if scores.shape != (n, k) or query_group.shape != (n,):
    raise ValueError(
      f"{n} queries with {k} candidates need as many scores and {n} groups, not "
      f"{scores.shape} and {query_group.shape}"
    )
  if not np.isfinite(scores).all():
    raise ValueError("scores of candidates must be finite; the matching head diverged")
  groups, counts = np.unique(key_group, return_counts=True)
  place = np.clip(np.searchsorted(groups, query_group), 0, len(groups) - 1)
  total = np.where(groups[place] == query_group, counts[place], 0)
  if not total.all():
    raise ValueError(
      f"{np.sum(total == 0)} of {n} queries have no relevant key, so no rank; leave "
      "them out, or check the group numbers"
    )
  relevant = key_group[candidates] == query_group[:, None]
  best = np.max(scores, axis=1, where=relevant, initial=-np.inf)[:, None]
  tied = scores == best
  found = relevant.any(axis=1)
  above = np.where(found, np.count_nonzero(scores > best, axis=1), k)
  ties = np.where(found, np.count_nonzero(tied, axis=1), len(key_group) - k)
  right = np.where(found, np.count_nonzero(tied & relevant, axis=1), total)
  return Places(above, ties, right)


def reranked_recall(
  scores: Any,
  candidates: Any,
  query_group: Any,
  key_group: Any,
  *,
  ks: Sequence[int] = (1, 5, 10),
) -> dict[str, float]:
  """Recall at each of `ks` ("recall@k"), and the median rank ("median_rank").

  Args:
    scores: as in `reranked_places`, like the next three.
    candidates: [n, k].
    query_group: [n].
    key_group: [m].
    ks: numbers of keys to look at.
  """
  places = reranked_places(scores, candidates, query_group, key_group)
  report = {f"recall@{k}": float(hit_probability(places, k).mean()) for k in ks}
  return report | {"median_rank": float(np.median(expected_rank(places)))}
