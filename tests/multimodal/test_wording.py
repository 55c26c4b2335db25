"""Text augmentation: what each operation does, how often, and what decides it."""

import collections
import time

import numpy as np
import pytest

from multimodal import scenes, wording

NONE = {"synonym": 0.0, "insertion": 0.0, "swap": 0.0, "deletion": 0.0}
CAPTION = "a large red circle to the left of a small blue star"
TABLE = {"large": ("big", "huge"), "circle": ("disc",), "star": ("five pointed shape",)}


def only(name, rate=1.0):
  return wording.Rates(**{**NONE, name: rate})


def reword(text=CAPTION, n=1, seed=0, epoch=0, **options):
  options = {"synonyms": TABLE, **options}
  return wording.reword([text] * n, range(n), seed=seed, epoch=epoch, **options)


def test_nothing_happens_at_rate_zero():
  assert reword(rates=wording.Rates(**NONE)) == [CAPTION]
  assert reword("  two   spaces ", rates=wording.Rates(**NONE)) == ["two spaces"]


def test_a_wording_is_a_function_of_seed_epoch_and_id():
  texts, ids = [f"{CAPTION} {i}" for i in range(64)], np.arange(100, 164)
  whole = wording.reword(texts, ids, seed=1, epoch=2)
  order = np.random.default_rng(0).permutation(64)
  shuffled = wording.reword([texts[i] for i in order], ids[order], seed=1, epoch=2)
  assert shuffled == [whole[i] for i in order]
  alone = wording.reword(texts[5:6], [105], seed=1, epoch=2)
  assert alone == whole[5:6]
  for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
    changed = wording.reword(texts, ids, **other)
    assert sum(a != b for a, b in zip(changed, whole, strict=True)) > 48
  assert wording.reword(texts, ids + 1, seed=1, epoch=2) != whole


def test_the_same_on_every_machine():
  text = "a large red to the left of small a blue"
  assert reword(seed=3, rates=wording.Rates(0.5, 0.2, 0.2, 0.2)) == [text]


def test_synonyms_keep_the_punctuation_around_them():
  found = set(reword("(Large) circle, star!", n=200, rates=only("synonym")))
  assert found == {
    "(big) disc, five pointed shape!",
    "(huge) disc, five pointed shape!",
  }


def test_insertions_add_synonyms_of_words_of_the_caption():
  for text in reword(n=50, rates=only("insertion", 0.5)):
    words = text.split()
    added = collections.Counter(words) - collections.Counter(CAPTION.split())
    assert set(added) <= {"big", "huge", "disc", "five", "pointed", "shape"}
    kept = iter(words)
    assert all(word in kept for word in CAPTION.split())  # the rest is in its order


def test_swaps_keep_the_words():
  texts = reword(n=50, rates=only("swap", 0.3))
  assert {tuple(sorted(text.split())) for text in texts} == {
    tuple(sorted(CAPTION.split()))
  }
  assert len(set(texts)) > 40
  assert reword("one two", rates=only("swap")) == ["two one"]


def test_deletion_leaves_a_part_and_never_nothing():
  for text in reword(n=50, rates=only("deletion", 0.5)):
    kept = iter(CAPTION.split())
    assert all(word in kept for word in text.split())
  last = collections.Counter(reword("a b c d", n=2000, rates=only("deletion")))
  assert set(last) == set("abcd")
  assert min(last.values()) > 500 - 4 * (2000 * 0.25 * 0.75) ** 0.5
  assert reword("word", n=9, rates=only("deletion")) == ["word"] * 9
  assert reword(" ", rates=only("deletion")) == [""]


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_words_change_at_their_rates(rate):
  n, words = 4000, 10
  text = " ".join(f"w{i}" for i in range(words))
  table = {f"w{i}": (f"s{i}",) for i in range(words)}
  sd = (n * words * rate * (1 - rate)) ** 0.5

  def result(name):
    return [t.split() for t in reword(text, n, synonyms=table, rates=only(name, rate))]

  expected = n * words * rate
  replaced = sum(word[0] == "s" for row in result("synonym") for word in row)
  assert abs(replaced - expected) < 4 * sd
  assert abs(sum(map(len, result("insertion"))) - n * words - expected) < 4 * sd
  assert abs(n * words - sum(map(len, result("deletion"))) - expected) < 4 * sd
  first_swapped = sum(row[0] == "w1" for row in result("swap"))  # the first exchange
  first_stays = sum(row[0] == "w0" for row in result("swap"))
  assert first_swapped + first_stays == n
  assert abs(first_swapped - n * rate) < 4 * (n * rate * (1 - rate)) ** 0.5


def test_operations_are_independent_of_each_other():
  """Whether a word is replaced says nothing about whether its neighbour is."""
  text, table = "x x", {"x": ("y",)}
  rows = reword(text, 4000, synonyms=table, rates=only("synonym", 0.5))
  counts = collections.Counter(rows)
  for pair in ("x x", "x y", "y x", "y y"):
    assert abs(counts[pair] - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


def test_tables_from_groups():
  table = wording.synonym_table([("large", "big"), ("left of", "further left than")])
  assert table == {"large": ("big",), "big": ("large",)}
  table = wording.synonym_table(scenes.SYNONYMS.values())
  assert table["crimson"] == ("red", "scarlet")
  assert "higher than" in table["above"]
  with pytest.raises(ValueError, match="'a' is in two groups"):
    wording.synonym_table([("a", "b"), ("c", "a")])
  for word, others in wording.CAPTION_SYNONYMS.items():
    assert all(word in wording.CAPTION_SYNONYMS[other] for other in others)


def test_it_is_quick():
  """Over 60,000 captions a second were measured; 20,000 are needed."""
  reword(n=100)
  start = time.perf_counter()
  reword(n=2000, rates=wording.EDA)
  assert time.perf_counter() - start < 0.4


def test_errors_name_the_cure():
  with pytest.raises(ValueError, match=r"rate of swap is a probability .* not 1\.5"):
    wording.Rates(swap=1.5)
  with pytest.raises(ValueError, match="2 captions have 1 ids"):
    wording.reword(["a", "b"], [1], seed=0, epoch=0)
  for table in ({"Large": ("big",)}, {"left of": ("beside",)}, {"x": ()}):
    with pytest.raises(ValueError, match="single word in lower case"):
      reword(synonyms=table)
