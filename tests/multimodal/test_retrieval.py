"""Retrieval: brute force over orders of ties, chance for collapse, bad input."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import retrieval


def drawn(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def brute_force(queries, keys, query_group, key_group, ks):
  """Averages over every order of the keys, equal cosines sorted in that order.

  Cosines are rounded to 9 digits, which makes ties of those equal in exact arithmetic.
  """
  hits, ranks = {k: [] for k in ks}, []
  for query, group in zip(unit(queries), query_group, strict=True):
    cosines = np.round([float(query @ key) for key in unit(keys)], 9)
    places = []
    for order in itertools.permutations(range(len(keys))):
      ranked = sorted(order, key=lambda j: -cosines[j])  # a stable sort
      places.append(next(r for r, j in enumerate(ranked, 1) if key_group[j] == group))
    for k in ks:
      hits[k].append(np.mean(np.array(places) <= k))
    ranks.append(np.mean(places))
  report = {f"recall@{k}": np.mean(hits[k]) for k in ks}
  return report | {"median_rank": np.median(ranks)}


@pytest.mark.parametrize("seed", range(6))
def test_ties_count_as_their_mean_over_all_orders(seed):
  """Sign vectors, whose cosines take five values only, and duplicates."""
  rng = np.random.default_rng(seed)
  keys = rng.choice([-1.0, 1.0], (6, 4))
  queries = rng.choice([-1.0, 1.0], (5, 4)) * 0.3
  key_group = np.array([0, 1, 1, 2, 2, 2])
  query_group = rng.integers(0, 3, 5)
  arguments = (queries, keys, query_group, key_group)
  expected = brute_force(*arguments, ks=(1, 2, 4, 6))
  found = retrieval.recall_at(*arguments, ks=(1, 2, 4, 6))
  assert found == pytest.approx(expected, abs=1e-12)


def test_without_ties_it_is_sorting():
  """Against a float64 sort of the whole matrix, n = 60, m = 90, groups of all sizes."""
  queries, keys = drawn(60, 8), drawn(90, 8, seed=1)
  rng = np.random.default_rng(2)
  key_group = rng.integers(0, 20, 90)
  query_group = rng.choice(key_group, 60)
  order = np.argsort(-unit(queries) @ unit(keys).T, axis=1)
  match = key_group[order] == query_group[:, None]
  rank = match.argmax(axis=1) + 1
  found = retrieval.recall_at(queries, keys, query_group, key_group, ks=(1, 5, 10, 40))
  for k in (1, 5, 10, 40):
    assert found[f"recall@{k}"] == pytest.approx(np.mean(rank <= k))
  assert found["median_rank"] == np.median(rank)


@pytest.mark.parametrize("block", [1, 7, 60, 1000])
def test_the_block_does_not_matter(block):
  queries, keys = drawn(60, 4).astype(np.float32), drawn(90, 4, seed=1)
  keys[30:60] = keys[:30]  # exact ties
  groups = (np.arange(60) % 9, np.arange(90) % 9)
  places = retrieval.first_places(queries, keys, *groups)
  other = retrieval.first_places(queries, keys, *groups, block=block)
  for a, b in zip(places, other, strict=True):
    np.testing.assert_array_equal(a, b)
  assert places.tied.max() > 1


def test_collapsed_embeddings_give_chance():
  """Equal, all zero, or equal up to float32's rounding; with 1 and with 5 captions."""
  n = 40
  point = drawn(1, 64).astype(np.float32)
  noise = 1e-8 * drawn(n, 64).astype(np.float32)
  for images in (np.repeat(point, n, 0), np.zeros((n, 64)), point + noise):
    texts = np.repeat(point, n, 0)
    found = retrieval.image_text_recall(images, texts, np.arange(n))
    for way, k in itertools.product(("i2t", "t2i"), (1, 5, 10)):
      assert found[f"{way}/recall@{k}"] == pytest.approx(k / n)
      assert found[f"{way}/median_rank"] == pytest.approx((n + 1) / 2)
  texts = np.repeat(point, 5 * n, 0)
  owners = np.repeat(np.arange(n), 5)
  found = retrieval.image_text_recall(np.repeat(point, n, 0), texts, owners)
  missed = np.prod([(195 - i) / (200 - i) for i in range(10)])
  assert found["i2t/recall@10"] == pytest.approx(1 - missed)
  assert found["t2i/recall@10"] == pytest.approx(10 / n)
  assert found["i2t/median_rank"] == pytest.approx(201 / 6)


def test_rounding_neither_makes_nor_breaks_ties():
  """Keys that are equal after scaling tie; a difference of 1e-6 counts."""
  key = drawn(1, 300)
  keys = np.concatenate([key * scale for scale in (1, 3, 0.1, 1 / 7)])
  places = retrieval.first_places(drawn(1, 300, seed=1), keys, [2], range(4))
  assert (places.above[0], places.tied[0], places.relevant[0]) == (0, 4, 1)
  near = np.array([[1.0, 0.0], [np.cos(2e-3), np.sin(2e-3)]])
  places = retrieval.first_places(near[:1], near, [1], [0, 1])
  assert (places.above[0], places.tied[0]) == (1, 1)


def test_lengths_do_not_matter_not_even_extreme_ones():
  queries, keys = drawn(20, 4), drawn(20, 4, seed=1)
  groups = (np.arange(20), np.arange(20))
  expected = retrieval.recall_at(queries, keys, *groups)
  scales = 10.0 ** np.linspace(-200, 200, 20)[:, None]
  assert retrieval.recall_at(queries * scales, keys / scales, *groups) == expected


def test_one_image_with_many_captions():
  """The best caption of an image counts; each caption looks for its one image."""
  images = np.eye(3)
  texts = np.array([[1, 0.1, 0], [0, 1, 0.2], [0, 0.9, 1], [0.5, 0.6, 0.4], [0, 0, 1]])
  owners = [0, 1, 1, 1, 2]
  found = retrieval.image_text_recall(images, texts, owners, ks=(1, 2))
  # Caption 2 (of image 1) is nearest to image 2, caption 4 is image 2's own.
  assert found["i2t/recall@1"] == 1
  assert found["t2i/recall@1"] == pytest.approx(4 / 5)
  assert found["t2i/recall@2"] == 1
  order = [4, 2, 0, 3, 1]
  shuffled = [owners[i] for i in order]
  assert retrieval.image_text_recall(images, texts[order], shuffled, ks=(1, 2)) == found
  assert found["i2t/median_rank"] == found["t2i/median_rank"] == 1


def test_k_beyond_the_keys_finds_all():
  found = retrieval.recall_at(
    drawn(5, 3), drawn(4, 3), [0] * 5, [0, 1, 1, 1], ks=(4, 9)
  )
  assert found["recall@4"] == found["recall@9"] == 1


def test_recall_grows_with_k_and_with_agreement():
  texts, owners = drawn(200, 16), np.arange(200) // 2
  images = texts[::2] + texts[1::2]
  noisy = [
    retrieval.image_text_recall(images + s * drawn(100, 16, seed=1), texts, owners)
    for s in (0.0, 1.0, 3.0, 100.0)
  ]
  for way in ("i2t", "t2i"):
    for report in noisy:
      ks = [report[f"{way}/recall@{k}"] for k in (1, 5, 10)]
      assert ks == sorted(ks)
    firsts = [report[f"{way}/recall@1"] for report in noisy]
    assert firsts == sorted(firsts, reverse=True) and firsts[0] > 0.7


def test_zero_shot_weights_are_means_of_directions():
  """A prompt counts by its direction, however long it is."""
  prompts = drawn(3, 4, 5)
  expected = unit(unit(prompts).mean(axis=1))
  np.testing.assert_allclose(retrieval.zero_shot_weights(prompts), expected)
  scaled = prompts * np.array([1, 10, 0.1, 3])[None, :, None]
  np.testing.assert_allclose(retrieval.zero_shot_weights(scaled), expected)
  opposite = np.stack([prompts[:, 0], -prompts[:, 0]], axis=1)
  assert np.all(np.isfinite(retrieval.zero_shot_weights(opposite)))


def test_zero_shot_accuracy_with_ties_and_collapse():
  weights = np.eye(4)
  images = np.array([[3, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0.9, 1, 0.8, 0.7]])
  found = retrieval.zero_shot_accuracy(images, weights, [0, 1, 2, 3], ks=(1, 2, 3, 9))
  # Right; right; right by half; last of four.
  assert found == pytest.approx(
    {"top1": 2.5 / 4, "top2": 0.75, "top3": 0.75, "top9": 1}
  )
  labels = np.arange(1000) % 10
  same = retrieval.zero_shot_accuracy(np.ones((1000, 3)), drawn(10, 3), labels)
  assert same == pytest.approx({"top1": 0.1, "top3": 0.3, "top5": 0.5})
  flat = retrieval.zero_shot_accuracy(drawn(1000, 3), np.ones((10, 3)), labels)
  assert flat == pytest.approx({"top1": 0.1, "top3": 0.3, "top5": 0.5})


def test_arrays_of_jax_are_taken():
  images = jnp.asarray(drawn(6, 4), jnp.bfloat16)
  found = retrieval.image_text_recall(images, images, jnp.arange(6))
  assert found["t2i/recall@1"] == 1 and isinstance(found["t2i/recall@1"], float)


def test_errors_name_the_cure():
  a, b = drawn(3, 2), drawn(3, 2)
  nan = a.copy()
  nan[1] = np.nan
  groups = (np.arange(3), np.arange(3))
  for arguments, message in (
    ((nan, b, *groups), "1 of 3 queries are not finite"),
    ((a, nan, *groups), "1 of 3 keys are not finite"),
    ((a, drawn(3, 4), *groups), "width 2 and keys 4"),
    ((a, b, [0, 1, 7], groups[1]), "1 of 3 queries have no relevant key"),
    ((a, b, groups[0], [0, 1]), r"shapes are \(3, 2\) and \(2,\)"),
    ((a[:0], b, [], groups[1]), "n >= 1"),
  ):
    with pytest.raises(ValueError, match=message):
      retrieval.recall_at(*arguments)
  with pytest.raises(ValueError, match="k at least 1, not 0"):
    retrieval.recall_at(a, b, *groups, ks=(0,))
  with pytest.raises(ValueError, match="at least 1 query, not 0"):
    retrieval.recall_at(a, b, *groups, block=0)
  with pytest.raises(ValueError, match=r"not of shape \(3, 2\)"):
    retrieval.zero_shot_weights(a)
  with pytest.raises(ValueError, match="prompts are not finite"):
    retrieval.zero_shot_weights(nan[None])
