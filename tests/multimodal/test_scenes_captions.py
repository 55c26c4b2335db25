"""Captions are true: a parser of their own reads them back and asks the factors."""

import itertools
import re

import numpy as np
import pytest

from multimodal import scenes

_IDS = scenes.split_ids("train", 1500)

# What the words mean, written down here once more.
_WORDS = {
  "shape": "circle disc, square box, triangle, star, cross plus, ring hoop, "
  "crescent moon, heart",
  "colour": "red crimson scarlet, orange amber, yellow golden lemon, green jade, "
  "cyan turquoise, blue cobalt, purple violet, pink rosy",
  "texture": "plain solid, striped stripy, chequered checkered checked",
  "size": "small little tiny, medium middling, large big huge",
}
_MEANING = {
  word: (kind, index)
  for kind, groups in _WORDS.items()
  for index, group in enumerate(groups.split(", "))
  for word in group.split()
}
_AFTER = {"without a pattern": 0, "with stripes": 1, "with checks": 2}
_RELATION = {
  "left of": 0,
  "to the left of": 0,
  "further left than": 0,
  "right of": 1,
  "to the right of": 1,
  "further right than": 1,
  "above": 2,
  "over": 2,
  "higher than": 2,
  "below": 3,
  "under": 3,
  "lower than": 3,
}
_COUNT = re.compile(
  r"(one|two|three|four) (?:(?:object|shape|thing)s?)(:|, among them) "
)
_POSE = r"(?: \(lighter at the (right|bottom|left|top)\))?"
_PHRASE = re.compile(
  rf"\b(an?) ((?:(?:{'|'.join(_MEANING)}) ?)+)(?<! )(?: ({'|'.join(_AFTER)}))?{_POSE}"
)
_BACKGROUND = re.compile(
  r", before (?:a (dark|light) background|a (gradient)|(waves))(?=\W|$)"
)
_LINKS = {",", " and", " as well as", " along with", "; also"}


def _parse(caption: str) -> dict:
  """What a caption says: objects, relation of the first two, count, and the rest."""
  said = {"count": None, "relation": None, "pose": None, "background": None}
  found = _BACKGROUND.search(caption)
  if found:
    said["background"] = next(filter(None, found.groups()))
    caption = caption[: found.start()] + caption[found.end() :]
  found = _COUNT.search(caption)
  if found:
    said["count"] = ["one", "two", "three", "four"].index(found[1]) + 1
    said["all"] = found[2] == ":"
    caption = caption[: found.start()] + caption[found.end() :]
  matches = list(_PHRASE.finditer(caption))
  assert matches, caption
  said["objects"] = []
  for match in matches:
    article, words, after, pose = match.groups()
    assert (article == "an") == (words[0] in "aeiou"), caption
    meant = [_MEANING[word] for word in words.split()]
    assert meant[-1][0] == "shape", caption
    thing = dict(meant)
    assert len(thing) == len(meant), f"said twice: {caption}"
    if after:
      assert "texture" not in thing, caption
      thing["texture"] = _AFTER[after]
    if pose:
      assert said["pose"] is None
      said["pose"], said["posed"] = pose, len(said["objects"])
    said["objects"].append(thing)
  between = [
    caption[a.end() : b.start()].rstrip() for a, b in itertools.pairwise(matches)
  ]
  if between and between[0].strip() in _RELATION:
    said["relation"] = _RELATION[between[0].strip()]
    between = between[1:]
  assert set(between) <= _LINKS, caption
  said["frame"] = caption[: matches[0].start()].rstrip(), caption[matches[-1].end() :]
  return said


def _is_true(said: dict, layout, holds, row: int) -> bool:
  """Some choice of different objects is as the caption says."""
  count = int(layout.number[row])
  named = len(said["objects"])
  if said["count"] is not None:
    if said["count"] != count or said["all"] != (named == count):
      return False
  fits = lambda thing, k: all(getattr(layout, f)[row, k] == i for f, i in thing.items())
  for chosen in itertools.permutations(range(count), named):
    if not all(fits(t, k) for t, k in zip(said["objects"], chosen, strict=True)):
      continue
    relation = said["relation"]
    if relation is None or holds[row, chosen[0], chosen[1], relation]:
      return True
  return False


@pytest.fixture(scope="module")
def world():
  layout = scenes.compose(_IDS)
  return layout, scenes.relations(layout), scenes.captions(_IDS)


def test_captions_are_true(world):
  layout, holds, texts = world
  for row, captions in enumerate(texts):
    for caption in captions:
      assert _is_true(_parse(caption), layout, holds, row), (row, caption)


def test_the_parser_finds_lies(world):
  """Captions of other scenes are false, nearly all: the test above can fail."""
  layout, holds, texts = world
  lies = [
    _is_true(_parse(texts[row - 1][0]), layout, holds, row) for row in range(len(_IDS))
  ]
  assert np.mean(lies) < 0.08


def test_the_main_object_is_always_named(world):
  layout, _, texts = world
  for row, captions in enumerate(texts):
    for caption in captions:
      objects = _parse(caption)["objects"]
      assert any(
        thing["shape"] == layout.shape[row, 0]
        and thing.get("size", 2) == 2
        and thing.get("colour", layout.colour[row, 0]) == layout.colour[row, 0]
        and thing.get("texture", layout.texture[row, 0]) == layout.texture[row, 0]
        for thing in objects
      ), caption


def test_captions_are_partial_as_often_as_stated(world):
  layout, _, texts = world
  parsed = [_parse(caption) for captions in texts for caption in captions]
  things = [thing for said in parsed for thing in said["objects"]]
  # Five captions of a scene are drawn apart, so each counts as a trial.
  for name, share in (("colour", 0.8), ("texture", 0.7), ("size", 0.4)):
    found = np.mean([name in thing for thing in things])
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / len(things))
  told = np.mean([said["count"] is not None for said in parsed])
  assert abs(told - 0.3) < 4 * np.sqrt(0.21 / len(parsed))
  pairs = [said for said in parsed if len(said["objects"]) > 1]
  related = np.mean([said["relation"] is not None for said in pairs])
  assert abs(related - 0.6) < 4 * np.sqrt(0.24 / len(pairs))
  others = np.mean([len(said["objects"]) - 1 for said in parsed])
  assert abs(others - 0.7 * (layout.number - 1).mean()) < 0.03


def test_captions_of_a_scene_differ(world):
  *_, texts = world
  assert all(len(set(captions)) == 5 for captions in texts)
  more = scenes.captions(_IDS[:200], which=range(8))
  assert all(len(set(captions)) == 8 for captions in more)
  everything = [caption for captions in texts for caption in captions]
  assert len(set(everything)) > 0.97 * len(everything)
  allowed = set("abcdefghijklmnopqrstuvwxyz .,:;!'")
  assert set("".join(everything)) <= allowed
  assert not any("  " in caption for caption in everything)


def test_a_caption_depends_on_seed_id_and_number_alone(world):
  *_, texts = world
  rows = np.array([9, 4, 1400, 9])
  found = scenes.captions(_IDS[rows], which=(3, 0))
  assert found == [[texts[row][3], texts[row][0]] for row in rows]
  assert scenes.captions(_IDS[:3], which=()) == [[], [], []]
  assert scenes.captions(_IDS[:0]) == []
  assert scenes.captions(_IDS[:50], seed=1) != texts[:50]


def test_pose_and_background_are_left_to_the_picture(world):
  """Other poses and backgrounds, the same captions word for word."""
  *_, texts = world
  level = scenes.Crowd(poses=("left",), backgrounds=("waves",))
  assert scenes.captions(_IDS, level=level) == texts


def test_captions_reveal_what_they_are_told_to(world):
  layout, holds, texts = world
  for reveal in (("pose",), ("background",), scenes.UNSAID):
    found = scenes.captions(_IDS[:300], reveal=reveal)
    for row, captions in enumerate(found):
      for caption, plain in zip(captions, texts[row], strict=True):
        said = _parse(caption)
        assert _is_true(said, layout, holds, row)
        assert _parse(plain)["objects"] == said["objects"]
        pose = scenes.POSES[layout.pose[row, 0]] if "pose" in reveal else None
        kind = scenes.BACKGROUNDS[layout.background[row]]
        assert said["pose"] == pose
        assert said["background"] == (kind if "background" in reveal else None)
        if pose:
          assert said["objects"][said["posed"]]["shape"] == layout.shape[row, 0]
  with pytest.raises(ValueError, match="cannot reveal"):
    scenes.captions(_IDS[:2], reveal=("shape",))
  with pytest.raises(ValueError, match="numbers from 0, not -1"):
    scenes.captions(_IDS[:2], which=(0, -1))


def test_styles_are_those_of_the_frames(world):
  *_, texts = world
  styles = scenes.caption_styles(_IDS)
  for captions, row in zip(texts, styles, strict=True):
    for caption, style in zip(captions, row, strict=True):
      frame = _parse(caption)["frame"]
      assert frame in scenes.FRAMES[style] and frame not in scenes.FRAMES[1 - style]
  assert abs(styles.mean() - 0.5) < 4 * 0.5 / np.sqrt(styles.size)


def test_style_is_independent_of_the_scene_and_of_the_words(world):
  layout, _, texts = world
  style = scenes.caption_styles(_IDS)[:, 0]
  for name in ("shape", "colour", "texture", "pose"):
    factor = getattr(layout, name)[:, 0]
    cells = np.bincount(factor * 2 + style).reshape(-1, 2)
    expected = cells.sum(1, keepdims=True) / 2
    chi_square = ((cells - expected) ** 2 / expected).sum()
    assert chi_square < len(cells) + 4 * np.sqrt(2 * len(cells)), name
  for word in ("disc", "tiny", "stripy", "under"):
    used = np.array([f" {word}" in captions[0] for captions in texts])
    gap = style[used].mean() - style[~used].mean()
    assert abs(gap) < 4 * 0.5 / np.sqrt(used.sum())


def test_synonyms_can_be_swapped():
  """Every word has one meaning; those of an entry take the same article."""
  words = [word for group in scenes.SYNONYMS.values() for word in group]
  assert len(set(words)) == len(words)
  for name, group in scenes.SYNONYMS.items():
    assert group[0] == name
    assert len({word[0] in "aeiou" for word in group}) == 1 or name in scenes.RELATIONS
    for word in group:
      if " " in name or word in _RELATION:
        assert scenes.RELATIONS[_RELATION[word]] == name
      else:
        kind, index = _MEANING[word]
        assert name == _MEANING_NAMES[kind][index]


_MEANING_NAMES = {
  "shape": scenes.SHAPES,
  "colour": scenes.COLOURS,
  "texture": scenes.TEXTURES,
  "size": scenes.SIZES,
}


def test_attributes_are_sorted_by_who_knows_them():
  found = scenes.attributes(_IDS, which=(0, 2))
  layout = scenes.compose(_IDS)
  names = {k: v for kind in scenes.ATTRIBUTES.values() for k, v in kind.items()}
  assert set(found) == {*names, "class"}
  assert tuple(scenes.ATTRIBUTES["image"]) == scenes.UNSAID
  for name, labels in found.items():
    assert labels.dtype == np.int32, name
    known = names.get(name, scenes.CLASS_NAMES)
    assert set(np.unique(labels)) == set(range(len(known)))
    assert labels.shape == ((len(_IDS), 2) if name == "style" else (len(_IDS),))
  np.testing.assert_array_equal(found["shape"], layout.shape[:, 0])
  np.testing.assert_array_equal(found["style"], scenes.caption_styles(_IDS)[:, [0, 2]])
  for row in range(50):
    words = scenes.CLASS_NAMES[found["class"][row]].split()
    assert words[0] == scenes.TEXTURES[layout.texture[row, 0]]
    assert words[1] == scenes.SHAPES[layout.shape[row, 0]]
    assert scenes.ATTRIBUTES["shared"]["count"][found["count"][row]] == str(
      layout.number[row]
    )


def test_prompts_read_like_captions():
  assert len(scenes.PROMPTS) == 16
  for prompt in scenes.PROMPTS:
    said = _parse(prompt.format(scenes.CLASS_NAMES[4]))
    assert said["objects"] == [{"shape": 1, "texture": 1}]
