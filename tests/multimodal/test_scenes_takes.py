"""Further pictures of a scene: the same objects, all else drawn anew."""

import numpy as np
import pytest

from multimodal import scenes
from multimodal.scenes import layout as layouts

_IDS = scenes.split_ids("train", 2000)
_KEPT = ("number", "present", "shape", "colour", "texture", "size", "radius")


@pytest.fixture(scope="module")
def takes():
  return [scenes.compose(_IDS, take=take) for take in range(3)]


def test_the_objects_and_how_they_stand_are_the_same(takes):
  first, *others = takes
  for other in others:
    for name in _KEPT:
      np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
    np.testing.assert_array_equal(scenes.relations(other), scenes.relations(first))
    for name in ("x", "y"):
      moved = getattr(other, name) - getattr(first, name)
      np.testing.assert_allclose(moved, moved[:, :1] * first.present, atol=1e-6, rtol=0)
  for name, field in scenes.compose(_IDS, take=0)._asdict().items():
    np.testing.assert_array_equal(field, getattr(first, name))


def test_the_objects_stay_inside(takes):
  for layout in takes:
    reach = layouts.REACH * layout.radius
    for centre in (layout.x, layout.y):
      low, high = (centre - reach)[layout.present], (centre + reach)[layout.present]
      assert low.min() > -1e-6 and high.max() < 1 + 1e-6


def test_pose_background_and_place_are_independent_of_other_takes(takes):
  for a, b in ((0, 1), (0, 2), (1, 2)):
    one, two = takes[a], takes[b]
    here = one.present
    same = [one.background == two.background, (one.pose == two.pose)[here]]
    for agree in same:
      assert abs(agree.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / agree.size)
    pairs = [(one.backdrop[:, 0], two.backdrop[:, 0])]
    alone = one.number == 1  # its place has nothing to keep to
    pairs += [(getattr(x, z)[alone, 0] for x in (one, two)) for z in ("x", "y")]
    for pair in pairs:
      u, v = pair
      assert abs(np.corrcoef(u, v)[0, 1]) < 4 / np.sqrt(u.size)


def test_a_level_holds_for_every_take():
  level = scenes.Crowd(counts=(2, 2), poses=("left", "top"), backgrounds=("waves",))
  layout = scenes.compose(_IDS[:300], level=level, take=1)
  assert set(layout.background) == {scenes.BACKGROUNDS.index("waves")}
  assert set(layout.pose[layout.present]) == {2, 3}


def test_attributes_are_those_of_the_take(takes):
  first, second = (scenes.attributes(_IDS, take=take) for take in (0, 1))
  for name in scenes.ATTRIBUTES["image"]:
    assert (first[name] != second[name]).mean() > 0.7
  np.testing.assert_array_equal(second["pose"], takes[1].pose[:, 0])
  np.testing.assert_array_equal(second["background"], takes[1].background)
  for name in (*scenes.ATTRIBUTES["shared"], "class", "style"):
    np.testing.assert_array_equal(first[name], second[name])


def test_pictures_show_their_take(takes):
  ids = _IDS[:60]
  first, second = (scenes.paint(ids, take=take) for take in (0, 1))
  np.testing.assert_array_equal(first.images, scenes.paint(ids).images)
  assert (first.images != second.images).mean() > 0.9
  layout = takes[1]
  for row, place in np.argwhere(layout.present[:60]):
    left, top, right, bottom = second.boxes[row, place]
    assert left < layout.x[row, place] < right
    assert top < layout.y[row, place] < bottom
  rows = np.array([41, 3])
  for threads in (1, 3):
    again = scenes.paint(ids[rows], take=1, threads=threads)
    for part, whole in zip(again, second, strict=True):
      np.testing.assert_array_equal(part, whole[rows])


def test_noise_differs_between_takes():
  """Where both show flat dark ground, what is left after its tint is independent."""
  level = scenes.Crowd(counts=(1, 1), backgrounds=("dark",))
  one, two = (scenes.paint(_IDS[:40], level=level, take=take) for take in (0, 1))
  ground = ((one.masks == 0) & (two.masks == 0))[..., None].repeat(3, axis=-1)
  left = []
  for found in (one, two):
    pixels = np.where(ground, found.images.astype(float), np.nan)
    left.append((pixels - np.nanmean(pixels, axis=(1, 2), keepdims=True))[ground])
  # Rims of objects, half ground, are few.
  assert abs(np.corrcoef(left[0], left[1])[0, 1]) < 0.02


def test_a_negative_take_is_refused():
  for make in (scenes.compose, scenes.paint, scenes.attributes):
    with pytest.raises(ValueError, match="numbers from 0, not -1"):
      make(_IDS[:2], take=-1)
