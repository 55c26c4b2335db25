"""The tokenizer: every text comes back, words stay apart, merges are the frequent."""

import collections
import itertools
import pickle
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from multimodal import scenes, tokenizer

CAPTION = "a large red striped circle to the left of a small blue star"


@pytest.fixture(scope="module")
def bundled():
  return tokenizer.load()


@hypothesis.given(strategies.text())
@hypothesis.settings(max_examples=300, deadline=None)
def test_every_text_comes_back(bundled, text):
  ids = bundled.encode(text)
  assert bundled.decode(ids) == tokenizer.normalised(text)
  assert min(ids, default=4) >= 4  # nothing that a text says is a special token
  assert max(ids, default=4) < bundled.vocabulary_size
  assert tokenizer.normalised(tokenizer.normalised(text)) == tokenizer.normalised(text)


@pytest.mark.parametrize(
  "text",
  [
    "naïve café",
    "ein großer Hund",
    "一只狗",
    "שלום",
    "😀👍🏽 ok",
    "a_b/c-d's (x)",
    "<pad> </s>",
  ],
)
def test_any_script_comes_back(bundled, text):
  assert bundled.decode(bundled.encode(text)) == text.lower()


def test_case_white_space_and_composition_do_not_matter(bundled):
  expected = bundled.encode("a café dog")
  assert bundled.encode("  A\u00a0CAFÉ\n\tdog ") == expected
  assert bundled.encode("a cafe\u0301 dog") == expected  # accent as a character
  assert bundled.encode(" \n") == []


def test_tokens_do_not_cross_words(bundled):
  words = [bundled.encode(word) for word in CAPTION.split()]
  assert bundled.encode(CAPTION) == list(itertools.chain(*words))
  assert bundled.tokens("Dog's dog-12, cat") == [
    *(b" dog", b"'s", b" dog", b"-", b"1", b"2", b",", b" cat")
  ]


def test_words_of_scenes_are_single_tokens(bundled):
  for word in (*scenes.SHAPES, *scenes.COLOURS, *scenes.TEXTURES, "left", "above"):
    assert len(bundled.encode(word)) == 1, word
  captions = [c for row in scenes.captions(np.arange(50)) for c in row]
  ids = sum(len(bundled.encode(caption)) for caption in captions)
  assert ids < 1.3 * sum(len(caption.split()) for caption in captions)


def test_fewer_merges_give_a_smaller_vocabulary_of_the_same_tokens(bundled):
  assert bundled.vocabulary_size == 4096
  small = tokenizer.load(500)
  assert small.vocabulary_size == 4 + 256 + 500
  bytes_only = tokenizer.load(0)
  assert bytes_only.encode("Ab") == [4 + ord(" "), 4 + ord("a"), 4 + ord("b")]
  assert len(bundled.encode("zebra")) < len(small.encode("zebra")) < 6
  assert small.decode(small.encode(CAPTION)) == CAPTION
  assert [small.decode([i]) for i in range(4, 760)] == [
    bundled.decode([i]) for i in range(4, 760)
  ]


def test_batches_are_framed_padded_and_cut(bundled):
  rows, cut = bundled.batch(["A dog", "", CAPTION], 6)
  dog, long = bundled.encode("a dog"), bundled.encode(CAPTION)
  pad, start, end = tokenizer.PAD, tokenizer.START, tokenizer.END
  assert rows.dtype == np.int32 and cut == 1 and pad == 0
  assert rows.tolist() == [
    [start, *dog, end, pad, pad],
    [start, end, pad, pad, pad, pad],
    [start, *long[:4], end],
  ]
  assert bundled.decode(rows[0]) == "a dog"
  exact, cut = bundled.batch([CAPTION], len(long) + 2)
  assert cut == 0 and bundled.decode(exact[0]) == CAPTION
  assert bundled.batch([], 6)[0].shape == (0, 6)


def test_rows_are_as_long_as_the_longest_text_without_padding(bundled):
  rows, _ = bundled.batch(["a dog", "a big dog"], 9)
  kept = tokenizer.without_padding(rows)
  assert kept.tolist() == rows[:, : len(bundled.encode("a big dog")) + 2].tolist()
  assert tokenizer.without_padding(rows[:0]).shape == (0, 1)
  full, _ = bundled.batch([CAPTION], 4)
  np.testing.assert_array_equal(tokenizer.without_padding(full), full)


def test_merges_join_the_most_frequent_pair():
  """By hand: " a" 6 times, then "b " never (it crosses words), then what is left."""
  learnt = tokenizer.train_merges(["ab ab ab", "ac ac", "ad"], 10)
  assert learnt == [(b" ", b"a"), (b" a", b"b"), (b" a", b"c")]  # "ad" occurs once
  assert tokenizer.train_merges(["zx zx yw yw"], 1) == [(b" ", b"y")]  # first of equals
  assert tokenizer.train_merges([], 10) == []


def test_training_agrees_with_counting_anew_after_each_merge():
  rng = np.random.default_rng(0)
  letters = np.array(list("aabc"))
  words = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(300)]
  parts = [[bytes([b]) for b in (" " + word).encode()] for word in words]
  expected = []
  while len(expected) < 60:
    counts = collections.Counter(p for word in parts for p in itertools.pairwise(word))
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    if best not in expected:  # its first part was made in another way meanwhile
      expected.append(best)
    parts = [_join(word, best) for word in parts]
  assert tokenizer.train_merges([" ".join(words)], 60) == expected
  trained = tokenizer.Tokenizer(tuple(expected))
  for word, known in zip(words, parts, strict=True):
    assert trained.tokens(word) == known  # encoding takes the steps of training


def _join(parts, pair):
  """Joins a pair wherever it occurs, by way of the first occurrence."""
  for i in range(len(parts) - 1):
    if (parts[i], parts[i + 1]) == pair:
      return [*parts[:i], parts[i] + parts[i + 1], *_join(parts[i + 2 :], pair)]
  return parts


def test_training_depends_on_how_often_words_occur_only():
  texts = ["the dog sat", "the cat sat on the dog", "a cat"] * 3
  learnt = tokenizer.train_merges(texts, 20)
  assert tokenizer.train_merges(reversed(texts), 20) == learnt
  assert tokenizer.train_merges([" ".join(texts).upper()], 20) == learnt
  assert tokenizer.train_merges(texts, 5) == learnt[:5]


def test_merges_are_written_and_read():
  merges = [(b" ", b"#"), (b"%", b"\xc3"), (b"\n", b"'"), (b" #", b"%\xc3")]
  text = tokenizer.format_merges(merges, "why\n\nso")
  assert text.startswith("# why\n#\n# so\n%20 %23\n") and text.isascii()
  assert tokenizer.parse_merges(text) == merges


def test_a_tokenizer_travels_to_other_processes(bundled):
  copy = pickle.loads(pickle.dumps(bundled))
  assert copy.encode(CAPTION) == bundled.encode(CAPTION)
  with pytest.raises(AttributeError):
    bundled.merges = ()


def test_known_words_are_quick(bundled):
  """Over 300,000 captions a second were measured; a slow machine has a margin."""
  captions = [CAPTION] * 2000
  bundled.batch(captions, 32)
  start = time.perf_counter()
  bundled.batch(captions, 32)
  assert time.perf_counter() - start < 0.4


def test_errors_name_the_cure(bundled):
  with pytest.raises(ValueError, match="at least 3"):
    bundled.batch(["a"], 1)
  with pytest.raises(ValueError, match="put a single one into a list"):
    bundled.batch("a dog", 8)
  with pytest.raises(ValueError, match="id 4096 is not in the vocabulary"):
    bundled.decode([4096])
  with pytest.raises(ValueError, match="from 0 to 3836"):
    tokenizer.load(4000)
  with pytest.raises(ValueError, match="surrogate at character 2"):
    bundled.encode("ab\ud800")
  with pytest.raises(ValueError, match="merge 1 joins b'ab'"):
    tokenizer.Tokenizer(((b"ab", b"c"),))
  with pytest.raises(ValueError, match="line 2 of the merges is 'a b c'"):
    tokenizer.parse_merges("a b\na b c")
