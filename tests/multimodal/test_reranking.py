"""Retrieval in two steps, against rankings written out."""

import numpy as np
import pytest

from multimodal import reranking, retrieval


def _draw(n, m, d, seed=0):
  rng = np.random.default_rng(seed)
  unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
  return unit(rng.standard_normal((n, d))), unit(rng.standard_normal((m, d))), rng


def test_the_nearest_come_first_whatever_the_block():
  queries, keys, _ = _draw(7, 12, 5)
  expected = [sorted(range(12), key=lambda j, q=q: -(q @ keys[j]))[:4] for q in queries]
  for block in (1, 3, 100):
    found = reranking.nearest(queries, keys, 4, block=block)
    np.testing.assert_array_equal(found, expected)
  assert reranking.nearest(queries, keys, 99).shape == (7, 12)
  # Equal keys: the lower number first.
  assert reranking.nearest(queries[:1], keys[[3, 3, 3]], 2).tolist() == [[0, 1]]


def test_with_all_keys_and_cosines_it_is_plain_retrieval():
  queries, keys, rng = _draw(20, 30, 4, seed=1)
  groups = rng.integers(0, 20, 30)
  groups[:20] = np.arange(20)
  near = reranking.nearest(queries, keys, 30)
  cosines = np.take_along_axis(queries @ keys.T, near, axis=1)
  found = reranking.reranked_recall(cosines, near, np.arange(20), groups, ks=(1, 3, 9))
  plain = retrieval.recall_at(queries, keys, np.arange(20), groups, ks=(1, 3, 9))
  assert found == pytest.approx(plain)


def test_recall_is_the_expectation_over_orders_of_ties():
  """By drawing orders: candidates by score, then all others, ties at random."""
  rng = np.random.default_rng(2)
  n, m, k = 12, 9, 4
  queries, keys, _ = _draw(n, m, 3, seed=3)
  query_group, key_group = rng.integers(0, 3, n), np.arange(m) % 3
  near = reranking.nearest(queries, keys, k)
  scores = rng.integers(0, 3, (n, k)).astype(float)  # many ties
  places = reranking.reranked_places(scores, near, query_group, key_group)
  drawn = np.zeros((4000, n, 3))
  for trial in range(len(drawn)):
    for i in range(n):
      level = np.full(m, -np.inf)
      level[near[i]] = scores[i]
      order = np.lexsort((rng.random(m), -level))
      first = np.argmax(key_group[order] == query_group[i])
      drawn[trial, i] = [first < 1, first < 2, first < 6]
  for column, size in enumerate((1, 2, 6)):
    exact = retrieval.hit_probability(places, size)
    error = np.sqrt(exact * (1 - exact) / len(drawn))
    assert (abs(drawn[:, :, column].mean(0) - exact) <= 4 * error + 1e-12).all()


def test_a_key_that_is_no_candidate_ties_with_all_that_are_none():
  near, groups = np.array([[1, 2]]), np.arange(5)
  places = reranking.reranked_places([[9.0, 1.0]], near, [4], groups)
  assert [int(x[0]) for x in places] == [2, 3, 1]
  assert retrieval.hit_probability(places, 3)[0] == pytest.approx(1 / 3)
  perfect = reranking.reranked_recall([[1.0, 2.0]], near, [2], groups, ks=(1,))
  assert perfect == {"recall@1": 1.0, "median_rank": 1.0}


def test_what_cannot_be_ranked_is_refused():
  near, groups = np.array([[1, 0]]), np.arange(3)
  with pytest.raises(ValueError, match="k at least 1, not 0"):
    reranking.nearest(np.eye(2), np.eye(2), 0)
  with pytest.raises(ValueError, match="differ in width"):
    reranking.nearest(np.eye(2), np.eye(3), 1)
  with pytest.raises(ValueError, match="must be finite"):
    reranking.reranked_places([[np.nan, 1.0]], near, [1], groups)
  with pytest.raises(ValueError, match="1 of 1 queries have no relevant key"):
    reranking.reranked_places([[2.0, 1.0]], near, [7], groups)
  with pytest.raises(ValueError, match="need as many scores"):
    reranking.reranked_places([[2.0]], near, [1], groups)
