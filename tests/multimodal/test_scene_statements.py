"""Statements about two pictures: truth, balance, and what one picture tells."""

import collections
import itertools

import numpy as np
import pytest

from multimodal import scenes, tokenizer
from multimodal.scenes.statement_rules import RULES
from tests.multimodal.scene_reader import (
  NOUN,
  checksum,
  fitting,
  guesses,
  objects,
  read,
)

_IDS = scenes.split_ids("train", 15_000)
_TRAIN = 10_000


@pytest.fixture(scope="module")
def made():
  return scenes.pair_statements(_IDS)


@pytest.fixture(scope="module")
def pairs(made):
  """The objects of both pictures of the first 6,000."""
  return [objects(ids[:6000]) for ids in (made.left, made.right)]


_A = f"(an?) {NOUN}"
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
_NUMBER = f"({'|'.join(_NUMBERS)})"
_SIDE = "(left|right)"
_FACTORS = {"shape": "shape", "colour": "colour", "pattern": "texture"}


def _shown(rule):
  """A rule of whether the left and the right picture show a thing."""

  def truth(pair, article, phrase):
    assert article == ("an" if phrase[0] in "aeiou" else "a")
    return rule(*(bool(fitting(scene, phrase)) for scene in pair))

  return truth


_both = _shown(lambda one, other: one and other)
_neither = _shown(lambda one, other: not one and not other)
_any = _shown(lambda one, other: one or other)
_one = _shown(lambda one, other: one != other)
_alike = _shown(lambda one, other: one == other)


def _only(pair, side, article, phrase, other=None):
  assert other is None or other != side
  here, there = pair if side == "left" else pair[::-1]
  assert article == ("an" if phrase[0] in "aeiou" else "a")
  return bool(fitting(here, phrase)) and not fitting(there, phrase)


def _as_many(pair, phrase):
  return len(fitting(pair[0], phrase)) == len(fitting(pair[1], phrase))


def _more(pair, side, phrase, other):
  assert side != other
  here, there = pair if side == "left" else pair[::-1]
  return len(fitting(here, phrase)) > len(fitting(there, phrase))


def _total(pair, verb, number, phrase):
  assert (verb == "is") == (number == "one")
  return sum(len(fitting(x, phrase)) for x in pair) == _NUMBERS.index(number)


def _large(pair, what):
  """Whether the only large objects agree."""
  (one,), (other,) = (fitting(x, "large object") for x in pair)
  return one[_FACTORS[what]] == other[_FACTORS[what]]


_WHAT = "(shape|colour|pattern)"
_READINGS = {
  f"both pictures show {_A}\\.": _both,
  f"there is {_A} in each of the two pictures\\.": _both,
  f"one can see {_A} in both pictures\\.": _both,
  f"neither picture shows {_A}\\.": _neither,
  f"neither of the two pictures contains {_A}\\.": _neither,
  f"one can see {_A} in neither of the two pictures\\.": _neither,
  f"at least one of the two pictures shows {_A}\\.": _any,
  f"there is {_A} in at least one of the pictures\\.": _any,
  f"one can see {_A} in one picture or in both\\.": _any,
  f"exactly one of the two pictures shows {_A}\\.": _one,
  f"there is {_A} in one of the two pictures, but not in both\\.": _one,
  f"only one of the two pictures contains {_A}\\.": _one,
  f"either both pictures show {_A} or neither does\\.": _alike,
  f"there is {_A} in both pictures or in neither\\.": _alike,
  f"if one of the pictures shows {_A}, so does the other\\.": _alike,
  f"only the {_SIDE} picture shows {_A}\\.": _only,
  f"there is {_A} in the {_SIDE} picture, but not in the {_SIDE} one\\.": (
    lambda pair, article, phrase, side, other: _only(pair, side, article, phrase, other)
  ),
  f"the {_SIDE} picture contains {_A}, but the {_SIDE} one does not\\.": _only,
  f"both pictures show the same number of {NOUN}\\.": _as_many,
  f"there are exactly as many {NOUN} in the left picture as in the right one\\.": (
    _as_many
  ),
  f"the number of {NOUN} is the same in the two pictures\\.": _as_many,
  f"the {_SIDE} picture shows more {NOUN} than the {_SIDE} one\\.": _more,
  f"there are more {NOUN} in the {_SIDE} picture than in the {_SIDE} one\\.": (
    lambda pair, phrase, side, other: _more(pair, side, phrase, other)
  ),
  f"the number of {NOUN} is greater in the {_SIDE} picture than in the {_SIDE} "
  "one\\.": (lambda pair, phrase, side, other: _more(pair, side, phrase, other)),
  f"there (is|are) {_NUMBER} {NOUN} in the two pictures together\\.": _total,
  f"there (is|are) exactly {_NUMBER} {NOUN} in the two pictures together\\.": _total,
  f"the two pictures together show {_NUMBER} {NOUN}\\.": (
    lambda pair, number, phrase: _total(
      pair, "is" if number == "one" else "are", number, phrase
    )
  ),
  f"the large objects of the two pictures have the same {_WHAT}\\.": _large,
  f"the large object has the same {_WHAT} in both pictures\\.": _large,
  f"the {_WHAT} of the large object is the same in the two pictures\\.": _large,
}


def test_truth_is_that_of_the_factors(made, pairs):
  used = collections.Counter()
  for left, right, text, truth in zip(*pairs, made.texts, made.truths, strict=False):
    meaning, groups = read(text, _READINGS)
    assert meaning((left, right), *groups) == bool(truth), text
    used[meaning] += 1
  assert set(used) == set(_READINGS.values())


def test_statements_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  found = scenes.pair_statements(scenes.split_ids("test", 200))
  assert checksum(found.texts) == "c9a84ff7" and found.truths.sum() == 91


def test_statements_depend_on_their_ids_and_the_seed_alone(made):
  rows = np.array([14_000, 3, 8191, 8192, 3])
  again = scenes.pair_statements(_IDS[rows])
  for part, whole in zip(again, made, strict=True):
    np.testing.assert_array_equal(part, np.asarray(whole)[rows])
  other = scenes.pair_statements(_IDS[:50], seed=1)
  assert (other.left != made.left[:50]).all()
  assert [len(field) for field in scenes.pair_statements(_IDS[:0])] == [0] * 6


def test_scenes_are_of_the_split_of_the_statements(made):
  start, stop = scenes.SPLITS["test"]
  test = scenes.pair_statements(scenes.split_ids("test", 100))
  for found in (test.left, test.right):
    assert start <= found.min() and found.max() < stop
  assert max(made.left.max(), made.right.max()) < start
  assert (made.left != made.right).all()


def test_half_of_each_kind_is_true(made):
  share = np.bincount(made.kinds) / len(_IDS)
  expected = 1 / len(scenes.STATEMENT_KINDS)
  assert np.abs(share - expected).max() < 4 * np.sqrt(expected / len(_IDS))
  for kind in range(len(scenes.STATEMENT_KINDS)):
    truths = made.truths[made.kinds == kind]
    assert abs(truths.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(truths))


def test_words_alone_are_at_chance(made):
  """A linear model of words and pairs of words, learnt from 10,000, on 5,000 others."""
  right = guesses(made.texts, made.truths, _TRAIN) == made.truths[_TRAIN:]
  assert abs(right.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(right))


def test_one_picture_tells_no_more_than_its_rule_says(made, pairs):
  """An oracle that knows one picture's factors, per kind: not above `chances`.

  It sees how many of the things that the statement speaks of the picture has, which is
  all that the truth depends on, and learns from one half which guess is best.
  """
  half = 3000
  keys = [[], []]
  for left, right, text in zip(*pairs, made.texts, strict=False):
    _, groups = read(text, _READINGS)
    phrases = [
      x for x in groups if x and x not in ("left", "right", "is", "are", "a", "an")
    ]
    for side, scene in enumerate((left, right)):
      if phrases[0] in _FACTORS:
        (large,) = fitting(scene, "large object")
        holds = large[_FACTORS[phrases[0]]]
      else:
        holds = len(fitting(scene, phrases[-1]))
      number = phrases[0] if phrases[0] in _NUMBERS else ""
      every = phrases[-1] in ("objects", "things")
      sides = [x for x in groups if x in ("left", "right")]
      keys[side].append((number, every, *sides, holds))
  kinds, chances = made.kinds[: 2 * half], made.chances[: 2 * half].astype(float)
  for side in (0, 1):
    votes = collections.defaultdict(lambda: np.zeros(2))
    for key, kind, truth in zip(keys[side][:half], kinds, made.truths, strict=False):
      votes[kind, key][truth] += 1
    guess = np.array(
      [votes[kind, key].argmax() for key, kind in zip(keys[side], kinds, strict=True)]
    )
    right = (guess == made.truths[: 2 * half])[half:]
    for kind in range(len(scenes.STATEMENT_KINDS)):
      rows = kinds[half:] == kind
      expected = chances[half:][rows].mean()
      error = np.sqrt(expected * (1 - expected) / rows.sum())
      assert right[rows].mean() < expected + 4 * error, scenes.STATEMENT_KINDS[kind]
      if expected > 0.7:  # and the oracle is a good one
        assert right[rows].mean() > expected - 4 * error


def test_chances_are_those_of_the_cells():
  """The best guess from one cell of the table, worked out from all of them."""
  chances = {rule.kind: rule.alone for rule in RULES}
  at_half = ("one", "alike", "as many", "total", "large")
  assert all(abs(chances[kind] - 0.5) < 1e-9 for kind in at_half)
  assert chances["both"] == chances["any"] == chances["neither"] == 0.78125
  assert chances["only"] == 0.75
  for rule in RULES:
    false, true = rule.cells
    assert not set(false) & set(true)
    best = []
    for side in (0, 1):
      held = {cell[side] for cell in itertools.chain(false, true)}
      share = lambda cells, value, side: np.mean([c[side] == value for c in cells])
      best.append(sum(max(share(x, v, side) for x in rule.cells) for v in held) / 2)
    assert abs(np.mean(best) - rule.alone) < 1e-9


def test_pictures_without_a_thing_often_have_its_parts(made, pairs):
  """Of two that are named together, half of the pictures must show each apart."""
  found = []
  for left, right, text in zip(*pairs, made.texts, strict=False):
    meaning, groups = read(text, _READINGS)
    if meaning in (_both, _neither, _any, _one, _alike):
      phrase = groups[-1]
      for scene in (left, right):
        parts = [word for word in phrase.split() if word not in ("object", "thing")]
        if len(parts) == 2 and not fitting(scene, phrase):
          alone = [fitting(scene, p if p in _NOUNS else f"{p} thing") for p in parts]
          found.append(all(alone))
  assert np.mean(found) > 0.5


_NOUNS = {word for shape in scenes.SHAPES for word in scenes.SYNONYMS[shape]}


def test_statements_are_short(made):
  load = tokenizer.load()
  assert max(len(load.encode(text)) for text in made.texts) <= 30


def test_kinds_are_as_told():
  few = scenes.pair_statements(_IDS[:200], kinds=("total",))
  assert {scenes.STATEMENT_KINDS[kind] for kind in few.kinds} == {"total"}
  for kinds in (("why",), ()):
    with pytest.raises(ValueError, match="no kinds"):
      scenes.pair_statements(_IDS[:3], kinds=kinds)
  with pytest.raises(ValueError, match="leave it at"):
    scenes.pair_statements(_IDS[:3], level=scenes.Crowd(counts=(2, 3)))
