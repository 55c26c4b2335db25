"""Questions and statements about one object a picture: truth, balance, refusals."""

import collections
import re

import numpy as np
import pytest
from scipy import stats

from multimodal import scenes, tokenizer
from multimodal.scenes import search
from multimodal.scenes.statement_rules import LONE_RULES
from tests.multimodal.scene_reader import (
  NOUN,
  VALUE,
  WORDS,
  checksum,
  fitting,
  guesses,
  objects,
  read,
  said,
  the,
  value,
)

_LEVEL = scenes.Crowd(counts=(1, 1), zoom=1.7)
_IDS = scenes.split_ids("train", 15_000)
_TRAIN = 10_000
_KINDS = ("both", "neither", "any", "one", "alike", "only", "large")


@pytest.fixture(scope="module")
def asked():
  return scenes.ask(_IDS, level=_LEVEL)


@pytest.fixture(scope="module")
def made():
  return scenes.pair_statements(_IDS, level=_LEVEL)


_FACTORS = {"shape": "shape", "colour": "colour", "pattern": "texture"}
_WHAT = "(shape|colour|pattern)"


def _attribute(scene, what, phrase):
  assert _FACTORS[what] not in said(phrase)
  return the(scene, phrase)[_FACTORS[what]]


def _exists(scene, article, phrase):
  assert article == ("an" if phrase[0] in "aeiou" else "a")
  return "yes" if fitting(scene, phrase) else "no"


def _is(scene, phrase, words):
  factor, name = value(words)
  assert factor not in said(phrase)
  return "yes" if the(scene, phrase)[factor] == name else "no"


_QUESTIONS = {
  f"what {_WHAT} is the {NOUN}\\?": _attribute,
  f"what is the {_WHAT} of the {NOUN}\\?": _attribute,
  f"wh(?:at|ich) {_WHAT} does the {NOUN} have\\?": _attribute,
  f"is the {NOUN} plain, striped or chequered\\?": lambda scene, phrase: _attribute(
    scene, "pattern", phrase
  ),
  f"(?:is there|does the picture show|can one see) (an?) {NOUN}\\?": _exists,
  f"is there (an?) {NOUN} in this picture\\?": _exists,
  f"is the {NOUN} {VALUE}\\?": _is,
  f"(?:is it true that|would you say that) the {NOUN} is {VALUE}\\?": _is,
}
_A = f"an? {NOUN}"
_HERE = "the (left|right) picture"
# Whether a statement holds of the left and the right picture, each showing it or not.
_SHOWN = {
  f"(?:both pictures show|there is) {_A}(?: in each of the two pictures)?\\.": "and",
  f"one can see {_A} in both pictures\\.": "and",
  f"neither (?:picture shows|of the two pictures contains) {_A}\\.": "nor",
  f"one can see {_A} in neither of the two pictures\\.": "nor",
  f"at least one of the two pictures shows {_A}\\.": "or",
  f"there is {_A} in at least one of the pictures\\.": "or",
  f"one can see {_A} in one picture or in both\\.": "or",
  f"(?:exactly|only) one of the two pictures (?:shows|contains) {_A}\\.": "xor",
  f"there is {_A} in one of the two pictures, but not in both\\.": "xor",
  f"either both pictures show {_A} or neither does\\.": "same",
  f"there is {_A} in both pictures or in neither\\.": "same",
  f"if one of the pictures shows {_A}, so does the other\\.": "same",
}
_HOLDS = {
  "and": lambda one, other: one and other,
  "nor": lambda one, other: not (one or other),
  "or": lambda one, other: one or other,
  "xor": lambda one, other: one != other,
  "same": lambda one, other: one == other,
}


def _shown(holds):
  return lambda pair, phrase: holds(*(bool(fitting(x, phrase)) for x in pair))


def _only(pair, side, phrase):
  here, there = pair if side == "left" else pair[::-1]
  return bool(fitting(here, phrase)) and not fitting(there, phrase)


def _agree(pair, what):
  (one,), (other,) = pair
  return one[_FACTORS[what]] == other[_FACTORS[what]]


_STATEMENTS = {
  **{pattern: _shown(_HOLDS[how]) for pattern, how in _SHOWN.items()},
  f"only {_HERE} shows {_A}\\.": _only,
  f"{_HERE} contains {_A}, but the (?:left|right) one does not\\.": _only,
  f"there is {_A} in {_HERE}, but not in the (?:left|right) one\\.": (
    lambda pair, phrase, side: _only(pair, side, phrase)
  ),
  f"the objects of the two pictures have the same {_WHAT}\\.": _agree,
  f"the object has the same {_WHAT} in both pictures\\.": _agree,
  f"the {_WHAT} of the object is the same in the two pictures\\.": _agree,
}


def _pairs(made, count):
  sides = [objects(ids[:count], level=_LEVEL) for ids in (made.left, made.right)]
  return list(zip(*sides, strict=True))


@pytest.mark.parametrize("take, count", [(0, 4000), (1, 500)])
def test_answers_are_those_of_the_factors(asked, take, count):
  used = set()
  there = objects(asked.scenes[:count], take=take, level=_LEVEL)
  for scene, text, answer in zip(there, asked.texts, asked.answers, strict=False):
    assert len(scene) == 1 and scene[0]["size"] == "large"
    meaning, groups = read(text, _QUESTIONS)
    assert meaning(scene, *groups) == scenes.ANSWERS[answer], text
    used.add(meaning)
  assert used == set(_QUESTIONS.values())


def test_truth_is_that_of_the_factors(made):
  used = set()
  pairs = _pairs(made, 4000)
  for pair, text, truth in zip(pairs, made.texts, made.truths, strict=False):
    assert [len(scene) for scene in pair] == [1, 1]
    meaning, groups = read(text, _STATEMENTS)
    assert meaning(pair, *groups) == bool(truth), text
    used.add(meaning)
  assert used == set(_STATEMENTS.values())


def test_both_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  ids = scenes.split_ids("test", 200)
  questions = scenes.ask(ids, level=_LEVEL)
  assert (checksum(questions.texts), questions.answers.sum()) == ("91b17d1e", 4174)
  statements = scenes.pair_statements(ids, level=_LEVEL)
  assert (checksum(statements.texts), statements.truths.sum()) == ("f352b565", 91)


@pytest.mark.parametrize("make", [scenes.ask, scenes.pair_statements])
def test_items_depend_on_their_ids_and_the_seed_alone(make, asked, made):
  whole = asked if make is scenes.ask else made
  rows = np.array([14_000, 3, 8191, 8192, 3])
  for part, of in zip(make(_IDS[rows], level=_LEVEL), whole, strict=True):
    np.testing.assert_array_equal(part, np.asarray(of)[rows])
  other = make(_IDS[:50], level=_LEVEL, seed=1)
  assert (other[0] != whole[0][:50]).all()
  assert {len(field) for field in make(_IDS[:0], level=_LEVEL)} == {0}
  plain = make(_IDS[:200], level=scenes.Crowd(counts=(1, 1), backgrounds=("dark",)))
  for one, of in zip(plain, whole, strict=True):  # a level changes the pictures alone
    np.testing.assert_array_equal(one, np.asarray(of)[:200])


def test_scenes_are_of_the_split_of_the_items(asked, made):
  last = scenes.split_ids("test", 400, start=2**31 - 400)
  tested = scenes.ask(last, level=_LEVEL), scenes.pair_statements(last, level=_LEVEL)
  start, stop = scenes.SPLITS["test"]
  for found in (tested[0].scenes, tested[1].left, tested[1].right):
    assert start <= found.min() and found.max() < stop
  for found in (asked.scenes, made.left, made.right):
    assert 0 <= found.min() and found.max() < start
    assert len(set(found.tolist())) == len(found)
  assert (made.left != made.right).all()


def test_kinds_and_answers_are_equally_often(asked, made):
  names = np.array(scenes.ANSWERS)[asked.answers]
  kinds = np.array(scenes.QUESTION_KINDS)[asked.kinds]
  _assert_even(kinds, ("attribute", "yes/no"))
  for group in (scenes.SHAPES, scenes.COLOURS, scenes.TEXTURES, ("no", "yes")):
    _assert_even(names[np.isin(names, group)], group)
  assert not set(names) & {*scenes.SIZES, "0", "1", "2", "3", "4", "left", "above"}
  kinds = np.array(scenes.STATEMENT_KINDS)[made.kinds]
  _assert_even(kinds, _KINDS)
  for kind in _KINDS:
    _assert_even(made.truths[kinds == kind], (0, 1))


def _assert_even(names, group):
  share = len(names) / len(group)
  counts = np.array([(names == name).sum() for name in group])
  assert counts.sum() == len(names)
  assert np.abs(counts - share).max() < 4 * np.sqrt(share * (1 - 1 / len(group)))


def test_chances_are_those_of_the_answers(asked, made):
  names = np.array(scenes.ANSWERS)[asked.answers]
  for group in (scenes.SHAPES, scenes.COLOURS, scenes.TEXTURES, ("no", "yes")):
    np.testing.assert_allclose(
      asked.chances[np.isin(names, group)], 1 / len(group), rtol=1e-6
    )
  # Half is yes/no, a sixth each are shapes, colours and patterns.
  expected = (1 / 2 + (1 / 8 + 1 / 8 + 1 / 3) / 3) / 2
  spread = asked.chances.std() / np.sqrt(len(_IDS))
  assert abs(asked.chances.mean() - expected) < 4 * spread
  alone = {rule.kind: rule.alone for rule in LONE_RULES}
  assert alone == pytest.approx(
    dict(zip(_KINDS, (25 / 32, 25 / 32, 25 / 32, 0.5, 0.5, 0.75, 0.5), strict=True))
  )


def test_words_alone_are_at_chance(asked, made):
  """A linear model of words and pairs of words, learnt from 10,000, on 5,000 others."""
  right = []
  for kind in np.unique(asked.kinds):
    rows = np.flatnonzero(asked.kinds == kind)
    train = (rows < _TRAIN).sum()
    guess = guesses([asked.texts[row] for row in rows], asked.answers[rows], train)
    right.extend(guess == asked.answers[rows[train:]])
  chance = asked.chances[_TRAIN:].astype(float)
  error = np.sqrt((chance * (1 - chance)).sum()) / len(chance)
  assert abs(np.mean(right) - chance.mean()) < 4 * error
  found = guesses(made.texts, made.truths, _TRAIN) == made.truths[_TRAIN:]
  assert abs(found.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(found))


def _independence(texts, answers):
  """Chance of so great a chi-square of any word and the answers, were they apart."""
  names, answers = np.unique(answers, return_inverse=True)
  shares = np.bincount(answers) / len(answers)
  with_word = collections.defaultdict(list)
  for row, text in enumerate(texts):
    for word in set(re.findall("[a-z]+", text)):
      with_word[word].append(row)
  found = []
  for rows in with_word.values():
    if 50 <= len(rows) < len(texts):
      expected = shares * len(rows)
      counts = np.bincount(answers[rows], minlength=len(names))
      # The rows are drawn from the answers without replacement.
      rest = 1 - len(rows) / len(texts)
      square = ((counts - expected) ** 2 / expected).sum() / rest
      found.append(stats.chi2.sf(square, len(names) - 1))
  assert len(found) > 20
  return min(found) * len(found)


def test_no_word_goes_with_an_answer(asked, made):
  """At 4 deviations; a word in every fourth text that hints at its answer shows."""
  names = np.array(scenes.ANSWERS)[asked.answers]
  for group in (scenes.SHAPES, scenes.COLOURS, scenes.TEXTURES, ("no", "yes")):
    rows = np.flatnonzero(np.isin(names, group))
    texts = [asked.texts[row] for row in rows]
    assert _independence(texts, names[rows]) > 6e-5
    for k in range(0, len(rows), 4):
      texts[k] += f" {names[rows[k]]}"
    assert _independence(texts, names[rows]) < 1e-9
  assert _independence(made.texts, made.truths) > 6e-5


def test_what_is_not_there_often_has_a_part_that_is(asked, made):
  """Of two factors that are named, one must often fit, so that both must be read."""
  near = collections.defaultdict(list)
  there = objects(asked.scenes[:4000], level=_LEVEL)
  for (thing,), text in zip(there, asked.texts, strict=False):
    meaning, groups = read(text, _QUESTIONS)
    if meaning is _exists:
      _note(near["question"], thing, said(groups[-1]))
  for pair, text in zip(_pairs(made, 3000), made.texts, strict=False):
    _, groups = read(text, _STATEMENTS)
    phrase = next((x for x in groups if x not in ("left", "right", *_FACTORS)), None)
    for (thing,) in pair:
      if phrase is not None:
        _note(near["statement"], thing, said(phrase))
  assert np.mean(near["question"]) > 0.5 and np.mean(near["statement"]) > 0.5


def _note(found, thing, phrase):
  fits = [thing[factor] == name for factor, name in phrase.items()]
  assert "size" not in phrase
  if len(fits) == 2 and not all(fits):
    found.append(any(fits))


def test_every_word_of_the_factors_is_used_and_texts_are_short(asked, made):
  load = tokenizer.load()
  wanted = {word for word, (factor, _) in WORDS.items() if factor != "size"}
  for texts in (asked.texts, made.texts):
    words = {word.strip("?,.") for text in texts for word in text.split()}
    assert wanted <= words
    assert max(len(load.encode(text)) for text in texts) <= 30


def test_kinds_that_one_object_has_not_are_refused():
  few = scenes.ask(_IDS[:200], level=_LEVEL, kinds=("attribute",))
  assert {scenes.QUESTION_KINDS[kind] for kind in few.kinds} == {"attribute"}
  pairs = scenes.pair_statements(_IDS[:200], level=_LEVEL, kinds=("large", "any"))
  assert {scenes.STATEMENT_KINDS[kind] for kind in pairs.kinds} == {"large", "any"}
  with pytest.raises(
    ValueError, match=r"questions about one object have no kinds \['c"
  ):
    scenes.ask(_IDS[:3], level=_LEVEL, kinds=("count", "attribute"))
  with pytest.raises(ValueError, match=r"choose from \('attribute', 'yes/no'\)"):
    scenes.ask(_IDS[:3], level=_LEVEL, kinds=())
  with pytest.raises(ValueError, match=r"statements about one object have no kinds"):
    scenes.pair_statements(_IDS[:3], level=_LEVEL, kinds=("total",))
  with pytest.raises(ValueError, match=r"\(1, 4\), or choose \(1, 1\) for one object"):
    scenes.ask(_IDS[:3], level=scenes.Crowd(counts=(2, 2)))


def test_a_quick_look_sees_what_compose_says():
  options = dict(seed=3, level=_LEVEL)
  quick, full = (search.look(_IDS[:500], placed=x, **options) for x in (False, True))
  for name in ("number", "present", "values", "draws"):
    np.testing.assert_array_equal(getattr(quick, name), getattr(full, name))
