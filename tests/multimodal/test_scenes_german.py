"""German captions are true and well-formed: a parser of their own reads them back.

The lexicon, the endings and what governs which case are written down here once more.
"""

import itertools
import re
import zlib

import numpy as np
import pytest

from multimodal import scenes, wording
from multimodal.scenes import german

_IDS = scenes.split_ids("train", 1200)

_NOUNS = {
  "m": "kreis=0 stern=3 ring=5 reifen=5 halbmond=6",
  "f": "scheibe=0 mondsichel=6 sichel=6",
  "n": "quadrat=1 viereck=1 dreieck=2 kreuz=4 pluszeichen=4 herz=7 herzen=7",
}
_NOUN = {
  word: (gender, int(index))
  for gender, words in _NOUNS.items()
  for word, index in (pair.split("=") for pair in words.split())
}
_STEMS = {
  "colour": "rot karminrot scharlachrot, orangefarben bernsteinfarben, gelb goldgelb "
  "zitronengelb, grün jadegrün, türkisfarben cyanfarben, blau kobaltblau, violett "
  "lilafarben, rosafarben pinkfarben",
  "texture": "einfarbig ungemustert, gestreift, kariert gewürfelt",
  "size": "klein winzig, mittelgroß, groß riesig",
}
_STEM = {
  stem: (kind, index)
  for kind, groups in _STEMS.items()
  for index, group in enumerate(groups.split(", "))
  for stem in group.split()
}
# Article and ending by case and gender.
_MIXED = {
  "nom": {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")},
  "acc": {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")},
  "dat": {"m": ("einem", "en"), "f": ("einer", "en"), "n": ("einem", "en")},
}
_AFTER = {"ohne muster": 0, "mit streifen": 1, "mit karomuster": 2}
_RELATION = {
  "links von": 0,
  "zur linken von": 0,
  "rechts von": 1,
  "zur rechten von": 1,
  "über": 2,
  "oberhalb von": 2,
  "unter": 3,
  "unterhalb von": 3,
}
_LINKS = {",", " und", " sowie", " und auch", "; außerdem"}
_GOVERNED = {
  "das bild zeigt": ("acc", "."),
  "auf dieser abbildung sieht man": ("acc", "."),
  "ein bild mit": ("dat", "."),
  "die szene enthält": ("acc", "."),
  "eine aufnahme, darauf": ("nom", "."),
  "die illustration präsentiert": ("acc", "."),
  "eine zeichnung mit": ("dat", "."),
  "wir betrachten": ("acc", "."),
  "schau mal,": ("nom", "!"),
  "ich seh hier": ("acc", ", cool"),
  "oh schön,": ("nom", "!"),
  "krass, ein bild mit": ("dat", "!"),
  "wow,": ("nom", "!"),
  "rat mal, ich entdecke": ("acc", "!"),
  "na so was,": ("nom", "!"),
  "hier gibt's": ("acc", "."),
}
_FORMAL = list(_GOVERNED)[:8]
_COUNT = re.compile(r"(\w+) (objekte?n?|form|formen|dinge?n?)(:|, darunter) ")
_COUNTED = {
  "objekt": ("n", "objekte", "objekten"),
  "form": ("f", "formen", "formen"),
  "ding": ("n", "dinge", "dingen"),
}
_POSE = r"(?: \((rechts|unten|links|oben) heller\))?"
_PHRASE = re.compile(
  rf"(?<=\s)(ein\w*)((?: \w+)*?) ({'|'.join(_NOUN)})\b(?: ({'|'.join(_AFTER)}))?{_POSE}"
)
_BACKGROUND = re.compile(
  r", vor (?:(dunklem|hellem) hintergrund|einem (farbverlauf)|(wellen))(?=\W|$)"
)
_KINDS = {"dunklem": 0, "hellem": 1, "farbverlauf": 2, "wellen": 3}


def _count(words, case: str) -> int:
  """What a number and its noun say, which are to stand in the case."""
  number, noun, _ = words
  if number in ("zwei", "drei", "vier"):
    forms = [x[2 if case == "dat" else 1] for x in _COUNTED.values()]
    assert noun in forms, words
    return ["zwei", "drei", "vier"].index(number) + 2
  assert number == _MIXED[case][_COUNTED[noun][0]][0], words
  return 1


def _thing(match: re.Match, case: str) -> dict:
  """What a phrase says, which is to stand in the case."""
  article, words, noun, after, _ = match.groups()
  gender, shape = _NOUN[noun]
  expected, ending = _MIXED[case][gender]
  assert article == expected, (match[0], case)
  assert noun not in ("herz", "herzen") or (noun == "herzen") == (case == "dat"), match
  thing = {"shape": shape}
  for word in words.split():
    stem = word.removesuffix(ending)
    assert stem != word and stem in _STEM, (match[0], case, word)
    kind, index = _STEM[stem]
    assert kind not in thing, match[0]
    thing[kind] = index
  if after:
    assert "texture" not in thing
    thing["texture"] = _AFTER[after]
  return thing


def _parse(caption: str) -> dict:
  """What a caption says; an assertion fails where its grammar is wrong."""
  said = {"count": None, "relation": None, "pose": None, "background": None}
  (frame,) = (x for x in _GOVERNED if caption.startswith(x + " "))
  case, stop = _GOVERNED[frame]
  assert caption.endswith(stop)
  said["frame"], said["formal"] = (frame, stop), frame in _FORMAL
  caption = caption[len(frame) : -len(stop)]
  found = _BACKGROUND.search(caption)
  if found:
    said["background"] = _KINDS[next(filter(None, found.groups()))]
    assert found.end() == len(caption)
    caption = caption[: found.start()]
  found = _COUNT.match(caption[1:])
  if found:
    said["count"], said["all"] = _count(found.groups(), case), found[3] == ":"
    caption = caption[found.end() :]
  matches = list(_PHRASE.finditer(caption))
  assert matches and matches[0].start() == 1 and matches[-1].end() == len(caption)
  gaps = itertools.pairwise(matches)
  between = [caption[a.end() : b.start()].rstrip() for a, b in gaps]
  cases = [case] * len(matches)
  if between and between[0].strip() in _RELATION:
    said["relation"] = _RELATION[between[0].strip()]
    between, cases[1] = between[1:], "dat"
  assert set(between) <= _LINKS, caption
  said["objects"] = [_thing(*pair) for pair in zip(matches, cases, strict=True)]
  for number, match in enumerate(matches):
    if match[5]:
      assert said["pose"] is None
      said["pose"] = ["rechts", "unten", "links", "oben"].index(match[5])
      said["posed"] = number
  return said


def _is_true(said: dict, layout, holds, row: int) -> bool:
  """Some choice of different objects is as the caption says."""
  count, named = int(layout.number[row]), len(said["objects"])
  if said["count"] is not None:
    if said["count"] != count or said["all"] != (named == count):
      return False
  fits = lambda thing, k: all(getattr(layout, f)[row, k] == i for f, i in thing.items())
  return any(
    all(fits(t, k) for t, k in zip(said["objects"], chosen, strict=True))
    and (said["relation"] is None or holds[row, chosen[0], chosen[1], said["relation"]])
    for chosen in itertools.permutations(range(count), named)
  )


@pytest.fixture(scope="module")
def world():
  layout = scenes.compose(_IDS)
  return layout, scenes.relations(layout), scenes.captions(_IDS, language="de")


@pytest.fixture(scope="module")
def parsed(world):
  return [[_parse(caption) for caption in captions] for captions in world[2]]


def test_captions_are_true_and_well_formed(world, parsed):
  layout, holds, texts = world
  for row, several in enumerate(parsed):
    for said, caption in zip(several, texts[row], strict=True):
      assert _is_true(said, layout, holds, row), (row, caption)
  lies = [_is_true(parsed[row - 1][0], layout, holds, row) for row in range(len(_IDS))]
  assert np.mean(lies) < 0.08


@pytest.mark.parametrize(
  "wrong",
  [
    "das bild zeigt ein roten kreis.",
    "das bild zeigt einen roter kreis.",
    "das bild zeigt eine rote kreis.",
    "schau mal, einen roten kreis!",
    "ein bild mit einem roten herz.",
    "das bild zeigt einen kreis links von einen stern.",
    "das bild zeigt einen kreis links von einer stern.",
    "ein bild mit zwei objekte: einem kreis und einem stern.",
    "schau mal, einem form: ein kreis!",
  ],
)
def test_the_parser_refuses_wrong_grammar(wrong):
  with pytest.raises(AssertionError):
    _parse(wrong)


def test_every_case_gender_and_word_occurs(world):
  _, _, texts = world
  words = set(re.findall(r"\w+", " ".join(itertools.chain(*texts))))
  assert set(_NOUN) <= words
  for stem in _STEM:
    assert {stem + ending for ending in ("e", "er", "es", "en")} <= words, stem
  assert {"ein", "eine", "einen", "einem", "einer"} <= words
  assert {x for forms in _COUNTED.values() for x in forms[1:]} <= words


def test_captions_are_partial_as_often_as_the_english_ones(world, parsed):
  layout, *_ = world
  flat = [said for several in parsed for said in several]
  things = [thing for said in flat for thing in said["objects"]]
  for name, share in (("colour", 0.8), ("texture", 0.7), ("size", 0.4)):
    found = np.mean([name in thing for thing in things])
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / len(things))
  told = np.mean([said["count"] is not None for said in flat])
  assert abs(told - 0.3) < 4 * np.sqrt(0.21 / len(flat))
  pairs = [said for said in flat if len(said["objects"]) > 1]
  related = np.mean([said["relation"] is not None for said in pairs])
  assert abs(related - 0.6) < 4 * np.sqrt(0.24 / len(pairs))
  others = np.mean([len(said["objects"]) - 1 for said in flat])
  assert abs(others - 0.7 * (layout.number - 1).mean()) < 0.04


def test_captions_differ_and_depend_on_seed_id_and_number_alone(world):
  *_, texts = world
  assert all(len(set(captions)) == 5 for captions in texts)
  more = scenes.captions(_IDS[:100], which=range(8), language="de")
  assert all(len(set(captions)) == 8 for captions in more)
  letters = set("abcdefghijklmnopqrstuvwxyzäöüß .,:;!'")
  assert set("".join(itertools.chain(*texts))) <= letters
  rows = np.array([9, 4, 1100, 9])
  found = scenes.captions(_IDS[rows], which=(3, 0), language="de")
  assert found == [[texts[row][3], texts[row][0]] for row in rows]
  level = scenes.Crowd(poses=("left",), backgrounds=("waves",))
  assert scenes.captions(_IDS, level=level, language="de") == texts
  assert scenes.captions(_IDS[:50], seed=1, language="de") != texts[:50]
  with pytest.raises(ValueError, match=r"no language 'fr'; choose from \['en', 'de'\]"):
    scenes.captions(_IDS[:2], language="fr")
  with pytest.raises(ValueError, match="no language"):
    scenes.caption_styles(_IDS[:2], language="fr")


def test_styles_are_those_of_the_frames(parsed):
  styles = scenes.attributes(_IDS, language="de")["style"]
  np.testing.assert_array_equal(
    styles, scenes.caption_styles(_IDS, language="de"), strict=True
  )
  for several, row in zip(parsed, styles, strict=True):
    for said, style in zip(several, row, strict=True):
      assert said["formal"] == (style == 0)
      assert said["frame"] in german.FRAMES[style]
  assert abs(styles.mean() - 0.5) < 4 * 0.5 / np.sqrt(styles.size)


def test_languages_are_drawn_apart(parsed):
  """Style and what is left out of one say nothing of the other."""
  own = scenes.caption_styles(_IDS, language="de")
  agree = np.mean(own == scenes.caption_styles(_IDS))
  assert abs(agree - 0.5) < 4 * 0.5 / np.sqrt(own.size)
  english = scenes.captions(_IDS)
  numbers = re.compile(r"\b(objects?|shapes?|things?)\b")
  told = np.array([[bool(numbers.search(x)) for x in several] for several in english])
  sagt = np.array([[said["count"] is not None for said in x] for x in parsed])
  assert abs(np.mean(told & sagt) - 0.09) < 4 * np.sqrt(0.09 * 0.91 / told.size)


def test_captions_reveal_what_they_are_told_to(world, parsed):
  layout, holds, _ = world
  found = scenes.captions(_IDS[:200], reveal=scenes.UNSAID, language="de")
  for row, captions in enumerate(found):
    for caption, plain in zip(captions, parsed[row], strict=True):
      said = _parse(caption)
      assert _is_true(said, layout, holds, row)
      assert said["objects"] == plain["objects"] and plain["pose"] is None
      assert said["pose"] == layout.pose[row, 0]
      assert said["background"] == layout.background[row]
      assert said["objects"][said["posed"]]["shape"] == layout.shape[row, 0]


def test_synonyms_leave_truth_and_grammar_whole(world):
  layout, holds, texts = world
  table = wording.synonym_table(german.synonym_groups())
  rates = wording.Rates(synonym=0.7, insertion=0.0, swap=0.0, deletion=0.0)
  plain = [captions[0] for captions in texts]
  other = wording.reword(
    plain, range(len(plain)), seed=0, epoch=0, rates=rates, synonyms=table
  )
  for row, caption in enumerate(other):
    assert _is_true(_parse(caption), layout, holds, row), caption
  assert np.mean([a != b for a, b in zip(plain, other, strict=True)]) > 0.9


def test_english_captions_are_those_of_earlier_runs():
  """The checksum is from before there were German ones."""
  text = "\n".join(itertools.chain(*scenes.captions(np.arange(64))))
  assert f"{zlib.crc32(text.encode()):08x}" == "997b89d2"
