"""Entailment: labels, and that neither words nor covered pictures tell them."""

import collections

import numpy as np
import pytest

from multimodal import scenes, tokenizer
from multimodal.answers import ENTAILMENTS
from tests.multimodal.scene_reader import (
  NOUN,
  VALUE,
  checksum,
  fitting,
  guesses,
  objects,
  read,
  said,
  value,
)

_IDS = scenes.split_ids("train", 15_000)
_TRAIN = 10_000
_NEUTRAL = ENTAILMENTS.index("neutral")


@pytest.fixture(scope="module")
def made():
  return scenes.entailments(_IDS)


def _inside(thing, box):
  """Whether the centre of an object lies under a cover."""
  x, y = thing["at"]
  return box[0] < x < box[2] and box[1] < y < box[3]


def _is(has, one):
  factor, name = value(one)
  return has[factor] == name


def _is_not(has, one):
  return not _is(has, one)


def _either(has, one, other):
  assert value(one) != value(other) and value(one)[0] == value(other)[0]
  return _is(has, one) or _is(has, other)


_START = f"(?:the|look, the) {NOUN}"
_READINGS = {
  f"the {NOUN}(?: in this picture)? is {VALUE}\\.": _is,
  f"look, the {NOUN} is {VALUE}!": _is,
  f"the {NOUN}(?: in this picture)? is not {VALUE}\\.": _is_not,
  f"the {NOUN} isn't {VALUE}\\.": _is_not,
  f"the {NOUN}(?: in this picture)? is {VALUE} or {VALUE}\\.": _either,
  f"the {NOUN} is either {VALUE} or {VALUE}\\.": _either,
}


def test_labels_are_those_of_what_can_be_seen(made):
  """Of every way that the hidden object may be, all make it true, none, or some."""
  n = 3000
  used = collections.Counter()
  for scene, box, text, label in zip(
    objects(made.scenes[:n]), made.boxes, made.texts, made.labels, strict=False
  ):
    meaning, (phrase, *values) = read(text, _READINGS)
    (named,) = fitting(scene, phrase)
    (hidden,) = [thing for thing in scene if _inside(thing, box)]
    assert "size" not in said(phrase)  # which the cover would tell
    factor, _ = value(values[0])
    known = dict(shape=scenes.SHAPES, colour=scenes.COLOURS, texture=scenes.TEXTURES)[
      factor
    ]
    assert factor not in said(phrase)
    worlds = [{factor: name} for name in known] if named is hidden else [named]
    truths = {bool(meaning(world, *values)) for world in worlds}
    expected = "neutral" if len(truths) == 2 else "entailment"
    if truths == {False}:
      expected = "contradiction"
    assert ENTAILMENTS[label] == expected, text
    used[meaning, expected] += 1
  assert len(used) == 9 and min(used.values()) > n / 9 - 4 * np.sqrt(n / 9)


def test_premises_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  found = scenes.entailments(scenes.split_ids("test", 200))
  assert checksum(found.texts) == "a4eabb38" and found.labels.sum() == 202


def test_premises_depend_on_their_ids_and_the_seed_alone(made):
  rows = np.array([14_000, 3, 8191, 8192, 3])
  again = scenes.entailments(_IDS[rows])
  for part, whole in zip(again, made, strict=True):
    np.testing.assert_array_equal(part, np.asarray(whole)[rows])
  other = scenes.entailments(_IDS[:50], seed=1)
  assert (other.scenes != made.scenes[:50]).all()
  assert [len(field) for field in scenes.entailments(_IDS[:0])] == [0] * 4
  start, stop = scenes.SPLITS["test"]
  test = scenes.entailments(scenes.split_ids("test", 100)).scenes
  assert start <= test.min() and test.max() < stop and made.scenes.max() < start


def _at_chance(right):
  assert abs(right.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / len(right))


def test_labels_are_equally_often(made):
  for label in range(3):
    _at_chance(made.labels == label)


def test_words_alone_are_at_chance(made):
  """A linear model of words and pairs of words, learnt from 10,000, on 5,000 others."""
  _at_chance(guesses(made.texts, made.labels, _TRAIN) == made.labels[_TRAIN:])


def test_covers_alone_are_at_chance(made):
  """The same of where the cover is and how large, and the squares of these."""
  size = made.boxes[:, 2:] - made.boxes[:, :2]
  centre = made.boxes[:, :2] + size / 2
  plain = np.concatenate([centre - 0.5, size, np.ones((len(size), 1))], axis=1)
  features = (plain[:, :, None] * plain[:, None, :]).reshape(len(plain), -1)
  none = ["nothing at all"] * len(_IDS)
  _at_chance(guesses(none, made.labels, _TRAIN, features) == made.labels[_TRAIN:])


def test_words_and_covers_together_are_at_chance(made):
  """Words, covers, and the products of the commonest words with the covers."""
  size = (made.boxes[:, 2:3] - made.boxes[:, :1]) - 0.3
  centre = (made.boxes[:, :2] + made.boxes[:, 2:]) / 2 - 0.5
  cover = np.concatenate([size, centre, centre**2], axis=1)
  words = (*scenes.SHAPES, *scenes.COLOURS, *scenes.TEXTURES, "not", "or")
  has = np.array([[word in text.split() for word in words] for text in made.texts])
  features = (has[:, :, None] * cover[:, None, :]).reshape(len(_IDS), -1)
  features = np.concatenate([features, cover], axis=1)
  none = ["nothing at all"] * len(_IDS)
  _at_chance(guesses(none, made.labels, _TRAIN, features) == made.labels[_TRAIN:])


def test_covered_pictures_alone_are_at_chance(made):
  """Counts of what can be seen, of each factor, and how many share a value."""
  layout = scenes.compose(made.scenes)
  left, top, right, bottom = (edge[:, None] for edge in made.boxes.T)
  hidden = (left < layout.x) & (layout.x < right)
  hidden &= (top < layout.y) & (layout.y < bottom)
  seen = layout.present & ~hidden
  assert (seen.sum(1) == layout.number - 1).all() and (layout.number > 1).all()
  columns = [seen.sum(1) == k for k in range(1, 4)]
  for field, count in ((layout.shape, 8), (layout.colour, 8), (layout.texture, 3)):
    there = np.stack([((field == k) & seen).sum(1) for k in range(count)], axis=1)
    columns += [*there.T, *(there == 1).T, (there > 1).any(1)]
  features = np.stack(columns, axis=1).astype(float)
  none = ["nothing at all"] * len(_IDS)
  _at_chance(guesses(none, made.labels, _TRAIN, features) == made.labels[_TRAIN:])


def test_covers_hide_one_object_wholly_and_no_other(made):
  rows = np.arange(150)
  for size in (32, 64):
    painting = scenes.paint(made.scenes[rows], size=size)
    covered = scenes.cover(painting.images, made.boxes[rows])
    hidden = (covered == scenes.GREY).all(-1)
    assert (covered[~hidden] == painting.images[~hidden]).all()
    left = np.where(hidden, 0, painting.masks)
    for before, after in zip(painting.masks, left, strict=True):
      areas = [
        np.bincount(mask.reshape(-1), minlength=5)[1:] for mask in (before, after)
      ]
      gone = (areas[0] > 0) & (areas[1] == 0)
      assert gone.sum() == 1
      # Covers end at whole pixels: at most the rim of a neighbour is under them.
      assert ((areas[0] - areas[1])[~gone] <= 2).all()


def test_covers_follow_the_take(made):
  rows = np.arange(60)
  other = scenes.entailments(_IDS[rows], take=2)
  assert other.texts == made.texts[:60]
  np.testing.assert_array_equal(other.labels, made.labels[rows])
  layout = scenes.compose(other.scenes, take=2)
  first = scenes.compose(other.scenes)
  for row, (box, plain) in enumerate(zip(other.boxes, made.boxes, strict=False)):
    under = [
      [
        k
        for k in range(x.number[row])
        if _inside(dict(at=(x.x[row, k], x.y[row, k])), edges)
      ]
      for x, edges in ((layout, box), (first, plain))
    ]
    assert under[0] == under[1] and len(under[0]) == 1


def test_a_cover_is_every_pixel_that_its_box_touches():
  images = np.zeros((2, 8, 4, 3), np.uint8)
  boxes = np.array([[0.25, 0.25, 0.5, 0.5], [0.3, 0.0, 0.51, 0.1]])
  covered = scenes.cover(images, boxes)
  expected = np.zeros((2, 8, 4), bool)
  expected[0, 2:4, 1:2] = expected[1, 0:1, 1:3] = True
  np.testing.assert_array_equal((covered == scenes.GREY).all(-1), expected)
  assert (images == 0).all()
  for wrong in (images / 255, images[0]):
    with pytest.raises(ValueError, match="pass uint8 images"):
      scenes.cover(wrong, boxes)
  with pytest.raises(ValueError, match="pass uint8 images"):
    scenes.cover(images, boxes[:1])


def test_hypotheses_are_short(made):
  load = tokenizer.load()
  assert max(len(load.encode(text)) for text in made.texts) <= 30


def test_other_levels_are_refused():
  with pytest.raises(ValueError, match="leave it at"):
    scenes.entailments(_IDS[:3], level=scenes.Crowd(counts=(2, 4)))
  with pytest.raises(ValueError, match=r"at \(1, 4\): a cover hides one object and"):
    scenes.entailments(_IDS[:3], level=scenes.Crowd(counts=(1, 1)))
  with pytest.raises(ValueError, match="numbers from 0"):
    scenes.entailments(_IDS[:3], take=-1)
