"""Exact retrieval and zero-shot classification of frozen embeddings, in blocks.

Memory is linear in the number of keys; no n x m matrix is held. A query may have many
relevant keys: both sides have group numbers, and equal numbers belong together.

Ties are fair: a figure is its expectation when keys of equal cosine are put in random
order. Embeddings that have collapsed to a point thus score chance, in whichever order
they come. Cosines are computed in float64 and compared on a grid of 2^-24 (6e-8, what
float32 resolves near 1), so that rounding neither makes ties nor breaks them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_GRID = 2.0**24
# Cosines held at once: 32 MiB of float64.
_BLOCK_ENTRIES = 2**22


class Places(NamedTuple):
  """Where the first relevant key of each query stands.

  Attributes:
    above: [n] number of keys with a higher cosine than all relevant ones.
    tied: [n] number of keys with the cosine of the best relevant one, that one too.
    relevant: [n] how many of the tied ones are relevant, at least 1.
  """

  above: np.ndarray
  tied: np.ndarray
  relevant: np.ndarray


def first_places(
  queries: Any, keys: Any, query_group: Any, key_group: Any, *, block: int | None = None
) -> Places:
  """Finds where the best relevant key of each query stands among all keys.

  Args:
    queries: [n, d] embeddings, n >= 1, of any length (cosines are compared).
    keys: [m, d] embeddings, m >= 1.
    query_group: [n] integers; a key is relevant to the queries of its group.
    key_group: [m] integers.
    block: queries at a time, for block * m cosines in memory; None for about four
      million cosines. It changes no result.

  Raises:
    ValueError: for a query without relevant key, embeddings that are not finite or
      whose widths differ, groups that are not one number a row, or a block below 1.
  """
  queries, query_group = _unit_rows(queries, query_group, "queries")
  keys, key_group = _unit_rows(keys, key_group, "keys")
  n, m = len(queries), len(keys)
  if queries.shape[1] != keys.shape[1]:
    raise ValueError(
      f"queries have width {queries.shape[1]} and keys {keys.shape[1]}; embed both "
      "into one space"
    )
  alone = int(np.sum(~np.isin(query_group, key_group)))
  if alone:
    raise ValueError(
      f"{alone} of {n} queries have no relevant key, so no rank; leave them out, or "
      "check the group numbers"
    )
  block = max(1, _BLOCK_ENTRIES // m) if block is None else block
  if block < 1:
    raise ValueError(f"a block holds at least 1 query, not {block}")
  places = Places(*np.empty((3, n), np.int64))
  for start in range(0, n, block):
    part = slice(start, start + block)
    cosines = np.rint(queries[part] @ keys.T * _GRID)
    relevant = query_group[part, None] == key_group[None, :]
    best = np.max(cosines, axis=1, where=relevant, initial=-np.inf)[:, None]
    tied = cosines == best
    places.above[part] = np.count_nonzero(cosines > best, axis=1)
    places.tied[part] = np.count_nonzero(tied, axis=1)
    places.relevant[part] = np.count_nonzero(tied & relevant, axis=1)
  return places


def hit_probability(places: Places, k: int) -> np.ndarray:
  """Probability [n] that a relevant key is among the first k, ties in random order.

  With k' = k - above places left for the tied ones, of which r of t are relevant, it
  is 1 - C(t - r, k') / C(t, k'), and 0 or 1 wherever there is no tie.

  Raises:
    ValueError: for k below 1.
  """
  if k < 1:
    raise ValueError(f"recall looks at the first k keys, k at least 1, not {k}")
  left = k - places.above
  missed = np.ones(len(left))
  # All are decided once as many places are filled as there are tied irrelevant keys.
  for i in range(int(min(k, np.max(places.tied - places.relevant, initial=0) + 1))):
    irrelevant = np.maximum(places.tied - places.relevant - i, 0)
    factor = irrelevant / np.maximum(places.tied - i, 1)
    missed *= np.where(i < left, factor, 1.0)
  return 1 - missed


def expected_rank(places: Places) -> np.ndarray:
  """Expected rank [n] of the first relevant key, from 1, ties in random order."""
  return places.above + (places.tied + 1) / (places.relevant + 1)


def recall_at(
  queries: Any,
  keys: Any,
  query_group: Any,
  key_group: Any,
  *,
  ks: Sequence[int] = (1, 5, 10),
  block: int | None = None,
) -> dict[str, float]:
  """Recall at k and the median rank.

  Args:
    queries: as in `first_places`, like all that follow.
    keys: [m, d].
    query_group: [n].
    key_group: [m].
    ks: numbers of keys to look at; beyond the number of keys recall is 1.
    block: queries at a time.

  Returns:
    "recall@k" for each k, the share in [0, 1] of queries with a relevant key among
    their first k; "median_rank" of the first relevant key, at least 1.

  Raises:
    ValueError: as `first_places` and `hit_probability`.
  """
  places = first_places(queries, keys, query_group, key_group, block=block)
  report = {f"recall@{k}": float(hit_probability(places, k).mean()) for k in ks}
  return report | {"median_rank": float(np.median(expected_rank(places)))}


def image_text_recall(
  images: Any,
  texts: Any,
  image_of_text: Any,
  *,
  ks: Sequence[int] = (1, 5, 10),
  block: int | None = None,
) -> dict[str, float]:
  """Recall both ways: the texts of an image ("i2t"), the image of a text ("t2i").

  Args:
    images: [n, d] embeddings.
    texts: [m, d] embeddings, one or more for each image.
    image_of_text: [m] number of each text's image, from 0.
    ks: as in `recall_at`.
    block: queries at a time.

  Returns:
    "i2t/recall@k", "t2i/recall@k", "i2t/median_rank" and "t2i/median_rank".

  Raises:
    ValueError: as `recall_at`, for example where an image has no text.
  """
  own = np.arange(len(images))
  i2t = recall_at(images, texts, own, image_of_text, ks=ks, block=block)
  t2i = recall_at(texts, images, image_of_text, own, ks=ks, block=block)
  return {f"i2t/{k}": v for k, v in i2t.items()} | {
    f"t2i/{k}": v for k, v in t2i.items()
  }


def zero_shot_weights(prompt_embeddings: Any) -> np.ndarray:
  """Classifiers [c, d] of unit length: the mean over the unit embeddings of prompts.

  Args:
    prompt_embeddings: [c, p, d], p sentences about each of c classes.

  Raises:
    ValueError: for embeddings of another rank, or that are not finite.
  """
  embeddings = np.asarray(prompt_embeddings, np.float64)
  if embeddings.ndim != 3:
    raise ValueError(
      "zero-shot weights are made of embeddings [classes, prompts, width], not of "
      f"shape {embeddings.shape}"
    )
  _require_finite(embeddings.reshape(-1, embeddings.shape[-1]), "prompts")
  return _unit(_unit(embeddings).mean(axis=1))


def zero_shot_accuracy(
  images: Any,
  weights: Any,
  labels: Any,
  *,
  ks: Sequence[int] = (1, 3, 5),
  block: int | None = None,
) -> dict[str, float]:
  """Share of images whose class is among the k of highest cosine, ties in random order.

  Args:
    images: [n, d] embeddings.
    weights: [c, d] of `zero_shot_weights`.
    labels: [n] integers below c.
    ks: numbers of guesses; with c or more all are right.
    block: images at a time.

  Returns:
    "topk" for each k, in [0, 1]: k / c for features that say nothing.

  Raises:
    ValueError: as `recall_at`, for example for a label without weights.
  """
  classes = np.arange(len(weights))
  report = recall_at(images, weights, labels, classes, ks=ks, block=block)
  return {f"top{k}": report[f"recall@{k}"] for k in ks}


def _unit(x: np.ndarray) -> np.ndarray:
  """Rows [..., d] of length 1; a zero row stays zero."""
  # The largest entry first: squares of very small or large ones leave float64.
  top = np.max(np.abs(x), axis=-1, keepdims=True, initial=0)
  x = x / np.where(top > 0, top, 1)
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1)


def _unit_rows(rows: Any, group: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
  """Unit float64 rows [n, d] and their group numbers [n], checked."""
  rows, group = np.asarray(rows, np.float64), np.asarray(group)
  if rows.ndim != 2 or not len(rows) or group.shape != rows.shape[:1]:
    raise ValueError(
      f"{name} are embeddings [n, d], n >= 1, with one group number each; their shapes "
      f"are {rows.shape} and {group.shape}"
    )
  _require_finite(rows, name)
  return _unit(rows), group


def _require_finite(rows: np.ndarray, name: str) -> None:
  bad = int(np.sum(~np.isfinite(rows).all(axis=1)))
  if bad:
    raise ValueError(
      f"{bad} of {len(rows)} {name} are not finite: the model has diverged, or its "
      "checkpoint is damaged; take an earlier one"
    )
