"""Questions: answers recomputed by a separate reader, and words that tell nothing."""

import collections

import numpy as np
import pytest

from multimodal import scenes, tokenizer
from multimodal.scenes import layout, search
from multimodal.scenes.question_forms import FORMS
from tests.multimodal.scene_reader import (
  NOUN,
  RELATION,
  RELATION_WORDS,
  VALUE,
  checksum,
  fitting,
  further,
  guesses,
  objects,
  read,
  said,
  stands,
  the,
  value,
)

_IDS = scenes.split_ids("train", 15_000)
_TRAIN = 10_000


@pytest.fixture(scope="module")
def asked():
  return scenes.ask(_IDS)


def _factor(word):
  return {"pattern": "texture"}.get(word, word)


def _beside(scene, way, phrase):
  """The one object that way of another; all others are clearly not."""
  anchor, way = the(scene, phrase), RELATION_WORDS[way]
  ways = {k: further(x, anchor, way) for k, x in enumerate(scene) if x is not anchor}
  (there,) = [k for k, distance in ways.items() if distance >= scenes.MARGIN]
  assert all(distance <= 0 for k, distance in ways.items() if k != there)
  return scene[there]


def _side(scene, one, other, ways):
  first, second = the(scene, one), the(scene, other)
  return ways[0] if stands(first, second, ways[0]) else ways[1]


_DEGREES = {
  "larger": 1,
  "bigger": 1,
  "smaller": -1,
  "further left": "left",
  "further to the left": "left",
  "further right": "right",
  "further to the right": "right",
  "higher": "above",
  "higher up": "above",
  "lower": "below",
  "further down": "below",
}


def _which(scene, degree, one, other):
  """The value that tells the winner from the other."""
  pair, way = [the(scene, one), the(scene, other)], _DEGREES[degree]
  if isinstance(way, str):
    first = stands(*pair, way)
  else:
    grades = [way * scenes.SIZES.index(thing["size"]) for thing in pair]
    assert grades[0] != grades[1]
    first = grades[0] > grades[1]
  ((_, name),) = said(one if first else other).items()
  return name


def _more(scene, one, other):
  return len(fitting(scene, one)) - len(fitting(scene, other))


def _same(scene, one, other, what):
  pair = [the(scene, one), the(scene, other)]
  assert pair[0] is not pair[1]
  return pair[0][_factor(what)] == pair[1][_factor(what)]


def _larger(scene, one, word, other):
  grades = [scenes.SIZES.index(the(scene, x)["size"]) for x in (one, other)]
  assert grades[0] != grades[1]
  return (grades[0] > grades[1]) == (word in ("larger", "bigger"))


def _is(scene, phrase, words):
  factor, name = value(words)
  return the(scene, phrase)[factor] == name


def _exists(scene, article, phrase):
  assert article == ("an" if phrase[0] in "aeiou" else "a")
  return bool(fitting(scene, phrase))


_WHAT = "(shape|colour|pattern|size)"
_CHOICE = r"(?:is it true that|would you say that) the"
_DEGREE = f"({'|'.join(_DEGREES)})"
_H, _V = ("left", "right"), ("above", "below")
_READINGS = {
  f"what {_WHAT} is the {NOUN}\\?": lambda s, f, a: the(s, a)[_factor(f)],
  f"what is the {_WHAT} of the {NOUN}\\?": lambda s, f, a: the(s, a)[_factor(f)],
  f"wh(?:at|ich) {_WHAT} does the {NOUN} have\\?": lambda s, f, a: the(s, a)[
    _factor(f)
  ],
  f"is the {NOUN} plain, striped or chequered\\?": lambda s, a: the(s, a)["texture"],
  f"is the {NOUN} small, medium or large\\?": lambda s, a: the(s, a)["size"],
  f"how many {NOUN} are there\\?": lambda s, a: len(fitting(s, a)),
  f"how many {NOUN} does the picture show\\?": lambda s, a: len(fitting(s, a)),
  f"what is the number of {NOUN} in this picture\\?": lambda s, a: len(fitting(s, a)),
  f"what is {RELATION} the {NOUN}\\?": lambda s, r, a: _beside(s, r, a)["shape"],
  f"which shape is {RELATION} the {NOUN}\\?": lambda s, r, a: _beside(s, r, a)["shape"],
  f"what is the {_WHAT} of the object {RELATION} the {NOUN}\\?": lambda s, f, r, a: (
    _beside(s, r, a)[_factor(f)]
  ),
  f"wh(?:at|ich) {_WHAT} does the (?:object|thing) {RELATION} the {NOUN} have\\?": (
    lambda s, f, r, a: _beside(s, r, a)[_factor(f)]
  ),
  f"is the {NOUN} (?:left or right of|to the left or to the right of) the {NOUN}\\?": (
    lambda s, a, b: _side(s, a, b, _H)
  ),
  f"on which side of the {NOUN} is the {NOUN}, left or right\\?": lambda s, b, a: _side(
    s, a, b, _H
  ),
  f"is the {NOUN} above or below the {NOUN}\\?": lambda s, a, b: _side(s, a, b, _V),
  f"is the {NOUN} above the {NOUN} or below it\\?": lambda s, a, b: _side(s, a, b, _V),
  f"where is the {NOUN}, above or below the {NOUN}\\?": lambda s, a, b: _side(
    s, a, b, _V
  ),
  f"which is {_DEGREE}, the {NOUN} or the {NOUN}\\?": _which,
  f"which one is {_DEGREE}: the {NOUN} or the {NOUN}\\?": _which,
  f"of the {NOUN} and the {NOUN}, which is {_DEGREE}\\?": lambda s, a, b, d: _which(
    s, d, a, b
  ),
  f"are there more {NOUN} than {NOUN}\\?": lambda s, a, b: _more(s, a, b) > 0,
  f"does the picture show more {NOUN} than {NOUN}\\?": lambda s, a, b: (
    _more(s, a, b) > 0
  ),
  f"is the number of {NOUN} greater than the number of {NOUN}\\?": lambda s, a, b: (
    _more(s, a, b) > 0
  ),
  f"are there exactly as many {NOUN} as {NOUN}\\?": lambda s, a, b: _more(s, a, b) == 0,
  f"does the picture show equally many {NOUN} and {NOUN}\\?": lambda s, a, b: (
    _more(s, a, b) == 0
  ),
  f"is the number of {NOUN} the same as the number of {NOUN}\\?": lambda s, a, b: (
    _more(s, a, b) == 0
  ),
  f"do the {NOUN} and the {NOUN} have the same {_WHAT}\\?": _same,
  f"does the {NOUN} have the same {_WHAT} as the {NOUN}\\?": lambda s, a, f, b: _same(
    s, a, b, f
  ),
  f"is the {_WHAT} of the {NOUN} the same as that of the {NOUN}\\?": (
    lambda s, f, a, b: _same(s, a, b, f)
  ),
  f"is the {NOUN} (larger|bigger|smaller|less large) than the {NOUN}\\?": _larger,
  f"(?:is there|does the picture show|can one see) (an?) {NOUN}\\?": _exists,
  f"is there (an?) {NOUN} in this picture\\?": _exists,
  f"is the {NOUN} {VALUE}\\?": _is,
  f"{_CHOICE} {NOUN} is {VALUE}\\?": _is,
  f"is the {NOUN} {RELATION} the {NOUN}\\?": lambda s, a, r, b: stands(
    the(s, a), the(s, b), RELATION_WORDS[r]
  ),
  f"{_CHOICE} {NOUN} is {RELATION} the {NOUN}\\?": lambda s, a, r, b: stands(
    the(s, a), the(s, b), RELATION_WORDS[r]
  ),
}


def test_answers_are_those_of_the_factors(asked):
  """Names fit one object, what stands where is clear, and the answer is right."""
  assert _check(objects(asked.scenes[:3000]), asked) == set(_READINGS.values())


def test_answers_hold_for_every_take(asked):
  _check(objects(asked.scenes[:500], take=1), asked)


def _check(there, asked):
  """Asks of the objects of the first scenes; the functions of the patterns it met."""
  used = set()
  for scene, text, answer in zip(there, asked.texts, asked.answers, strict=False):
    meaning, groups = read(text, _READINGS)
    found = meaning(scene, *groups)
    if isinstance(found, bool | np.bool_):
      found = "yes" if found else "no"
    assert str(found) == scenes.ANSWERS[answer], text
    used.add(meaning)
  return used


def test_questions_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  found = scenes.ask(scenes.split_ids("test", 200))
  assert checksum(found.texts) == "355e8ef6" and found.answers.sum() == 4584


def test_questions_depend_on_their_ids_and_the_seed_alone(asked):
  rows = np.array([14_000, 3, 8191, 8192, 3])
  again = scenes.ask(_IDS[rows])
  for part, whole in zip(again, asked, strict=True):
    np.testing.assert_array_equal(part, np.asarray(whole)[rows])
  other = scenes.ask(_IDS[:50], seed=1)
  assert (other.scenes != asked.scenes[:50]).all()
  none = scenes.ask(_IDS[:0])
  assert [len(field) for field in none] == [0] * 5


def test_scenes_are_of_the_split_of_the_questions(asked):
  ids = scenes.split_ids("test", 400, start=2**31 - 400)
  for split, found in (("train", asked.scenes), ("test", scenes.ask(ids).scenes)):
    start, stop = scenes.SPLITS[split]
    assert start <= found.min() and found.max() < stop
    assert len(set(found.tolist())) == len(found)
    assert abs((found - start).mean() / 2**31 - 0.5) < 4 * np.sqrt(1 / 12 / len(found))


def test_answers_are_balanced(asked):
  """Answers of a kind: as often as their choices say, within 4 deviations."""
  for kind in range(len(scenes.QUESTION_KINDS)):
    answers, chance = (
      asked.answers[asked.kinds == kind],
      asked.chances[asked.kinds == kind],
    )
    names = np.array(scenes.ANSWERS)[answers]
    for group in (scenes.SHAPES, scenes.COLOURS, scenes.TEXTURES, scenes.SIZES):
      _assert_even(names[np.isin(names, group) & (chance < 0.5)], group)
    _assert_even(names, ("yes", "no"))
    _assert_even(names, ("left", "right", "above", "below"))
    of_three, of_four = (names[np.abs(chance - 1 / k) < 1e-6] for k in (3, 4))
    _assert_even(of_three, ("0", "1", "2"))
    counts = collections.Counter(of_four.tolist())  # 0 to 3, or one time in five 1 to 4
    if counts:
      assert abs(counts["4"] - counts["0"] / 4) < 4 * np.sqrt(counts["0"] / 4 * 1.25)


def _assert_even(names, group):
  counts = np.array([(names == name).sum() for name in group])
  if total := counts.sum():
    share = total / len(group)
    assert np.abs(counts - share).max() < 4 * np.sqrt(share * (1 - 1 / len(group)))


def test_words_alone_are_at_chance(asked):
  """A linear model of words and pairs of words, learnt from 10,000, on 5,000 others."""
  right = np.zeros(len(_IDS) - _TRAIN, bool)
  for kind in range(len(scenes.QUESTION_KINDS)):
    rows = np.flatnonzero(asked.kinds == kind)
    train = (rows < _TRAIN).sum()
    texts = [asked.texts[row] for row in rows]
    guess = guesses(texts, asked.answers[rows], train)
    right[rows[train:] - _TRAIN] = guess == asked.answers[rows[train:]]
  chance = asked.chances[_TRAIN:].astype(float)
  error = np.sqrt((chance * (1 - chance)).sum()) / len(chance)
  assert abs(right.mean() - chance.mean()) < 4 * error


def test_a_leak_of_the_words_would_be_found(asked):
  """One question in ten that hints at its answer lifts the linear model's guesses."""
  rows = np.flatnonzero(asked.chances == 0.5)[:4000]
  yes = (asked.answers[rows] % 2).astype(bool)
  texts = [asked.texts[row] for row in rows]
  for k in range(0, len(rows), 10):
    texts[k] += " really" if yes[k] else " perhaps"
  right = guesses(texts, yes, 3000) == yes[3000:]
  assert right[::10].mean() > 0.9


def test_every_wording_is_used(asked):
  heads = collections.Counter(text.split(" the ")[0] for text in asked.texts)
  templates = sum(len(group) for form in FORMS for group in form.templates)
  assert templates > 80 and len(heads) > 30
  words = {word.strip("?,:") for text in asked.texts for word in text.split()}
  spoken = {word for words in scenes.SYNONYMS.values() for word in words}
  assert {word for phrase in spoken for word in phrase.split()} <= words


def test_questions_are_short(asked):
  load = tokenizer.load()
  assert max(len(load.encode(text)) for text in asked.texts) <= 30


def test_kinds_are_equally_often_or_as_told(asked):
  share = np.bincount(asked.kinds) / len(_IDS)
  assert np.abs(share - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / len(_IDS))
  few = scenes.ask(_IDS[:300], kinds=("count", "yes/no"))
  assert {scenes.QUESTION_KINDS[kind] for kind in few.kinds} == {"count", "yes/no"}
  with pytest.raises(ValueError, match="no kinds"):
    scenes.ask(_IDS[:3], kinds=("why",))
  with pytest.raises(ValueError, match="no kinds"):
    scenes.ask(_IDS[:3], kinds=())


def test_ids_and_levels_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match="lie within"):
    scenes.ask(np.array([-1]))
  with pytest.raises(ValueError, match="lie within"):
    scenes.ask(np.array([2**32]))
  with pytest.raises(ValueError, match="leave it at"):
    scenes.ask(_IDS[:3], level=scenes.Crowd(counts=(1, 2)))


def test_a_level_changes_the_pictures_alone(asked):
  level = scenes.Crowd(backgrounds=("dark",), poses=("left",))
  found = scenes.ask(_IDS[:200], level=level)
  assert found.texts == asked.texts[:200]
  np.testing.assert_array_equal(found.answers, asked.answers[:200])


def test_a_quick_look_sees_what_compose_says():
  options = dict(seed=3, level=scenes.CROWD)
  quick, full = (search.look(_IDS[:2000], placed=x, **options) for x in (False, True))
  for name in ("number", "present", "values", "draws"):
    np.testing.assert_array_equal(getattr(quick, name), getattr(full, name))
  composed = layout.compose(_IDS[:2000], seed=3)
  np.testing.assert_array_equal(full.values[..., 0], composed.shape)
  np.testing.assert_array_equal(full.places[..., 1], composed.y)


def test_a_search_for_what_is_not_there_ends(monkeypatch):
  monkeypatch.setattr(search, "_TURNS", 3)
  nothing = lambda rows, view: np.zeros(len(rows), bool)
  with pytest.raises(ValueError, match="no scene of level"):
    search.seek(_IDS[:2], nothing, seed=0, level=scenes.CROWD, stream=7)
