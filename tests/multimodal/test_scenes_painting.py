"""Pictures, masks and boxes of several objects say what the factors say."""

import numpy as np
import pytest

from multimodal import scenes
from multimodal.scenes import layout as layouts
from multimodal.scenes import materials, outlines

_IDS = scenes.split_ids("train", 600)
_SIDE = 64


@pytest.fixture(scope="module")
def layout():
  return scenes.compose(_IDS)


@pytest.fixture(scope="module")
def painting():
  return scenes.paint(_IDS, size=_SIDE)


def test_order_subset_and_threads_change_nothing(painting):
  for rows in (np.arange(len(_IDS))[::-1], np.array([5, 77, 5]), np.array([599])):
    for threads in (1, 3):
      found = scenes.paint(_IDS[rows], size=_SIDE, threads=threads)
      for part, whole in zip(found, painting, strict=True):
        np.testing.assert_array_equal(part, whole[rows])
  other = scenes.paint(_IDS[:20], size=_SIDE, seed=1)
  assert (other.images != painting.images[:20]).mean() > 0.9


def test_what_comes_back():
  for side in (scenes.MIN_SIZE, 33):
    found = scenes.paint(_IDS[:5], size=side)
    assert found.images.shape == (5, side, side, 3) and found.images.dtype == np.uint8
    assert found.masks.shape == (5, side, side) and found.masks.dtype == np.uint8
    assert found.boxes.shape == (5, 4, 4) and found.boxes.dtype == np.float32
  assert scenes.paint(_IDS[:0]).images.shape == (0, 64, 64, 3)
  with pytest.raises(ValueError, match="at least 16 pixels and one thread"):
    scenes.paint(_IDS[:2], size=8)
  with pytest.raises(ValueError, match="one thread"):
    scenes.paint(_IDS[:2], threads=0)


def test_boxes_are_tight_around_the_masks(layout, painting):
  for row, place in np.ndindex(layout.present.shape):
    ys, xs = np.nonzero(painting.masks[row] == place + 1)
    assert (len(ys) > 0) == layout.present[row, place]
    expected = np.zeros(4)
    if len(ys):
      expected = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) / _SIDE
    np.testing.assert_allclose(painting.boxes[row, place], expected, atol=1e-6)


def test_masks_cover_the_stated_area(layout):
  """The area of the disc of the same radius, for every shape: nothing is hidden."""
  side = 160
  masks = scenes.paint(_IDS, size=side).masks
  place = np.arange(1, scenes.MAX_OBJECTS + 1)
  area = (masks[:, None] == place[None, :, None, None]).mean((2, 3))
  there = layout.present
  ratio = area[there] / (np.pi * layout.radius[there] ** 2)
  assert np.abs(ratio - 1).max() < 0.05
  for shape in range(len(scenes.SHAPES)):
    assert abs(ratio[layout.shape[there] == shape].mean() - 1) < 0.012


def test_shapes_reach_no_further_than_stated():
  """Within 1.6 radii of the centre, so that what lies apart cannot overlap."""
  grid = np.arange(-2, 2, 0.01, dtype=np.float32)
  far = np.hypot(grid[None, :], grid[:, None]) > layouts.REACH
  for name, (distance, scale) in outlines.OUTLINES.items():
    values = distance(grid[None, :] / scale, grid[:, None] / scale)
    assert (np.broadcast_to(values, far.shape)[far] > 0).all(), name


def test_masks_lie_where_the_factors_say(layout, painting):
  """The centroids of symmetric shapes are their centres, within half a pixel."""
  side = (np.arange(_SIDE) + 0.5) / _SIDE
  symmetric = np.isin(layout.shape, [0, 1, 3, 4, 5])
  for row, place in np.argwhere(symmetric)[:400]:
    mask = painting.masks[row] == place + 1
    x, y = (mask.sum(0) * side).sum(), (mask.sum(1) * side).sum()
    assert abs(x / mask.sum() - layout.x[row, place]) < 0.5 / _SIDE
    assert abs(y / mask.sum() - layout.y[row, place]) < 0.5 / _SIDE


def test_colours_can_be_read_off(layout, painting):
  """The hue of the mean under each mask is nearest to the colour's."""
  rgb = materials.RGB / np.linalg.norm(materials.RGB, axis=1, keepdims=True)
  right = []
  for row, place in np.argwhere(layout.present):
    mean = painting.images[row][painting.masks[row] == place + 1].mean(0)
    nearest = (rgb @ mean / np.linalg.norm(mean)).argmax()
    right.append(nearest == layout.colour[row, place])
  assert np.mean(right) > 0.99


def test_poses_can_be_read_off(layout, painting):
  """Brightness rises towards the side of the pose; the circles show it best."""
  side = np.arange(_SIDE) + 0.5
  right = []
  circles = layout.shape == scenes.SHAPES.index("circle")
  for row, place in np.argwhere(circles & (layout.texture == 0)):
    mask = painting.masks[row] == place + 1
    light = painting.images[row].sum(-1) * mask
    centre = lambda weight, axis: (weight.sum(axis) * side).sum() / weight.sum()
    dx, dy = (centre(light, axis) - centre(mask, axis) for axis in (0, 1))
    quarter = np.rint(np.arctan2(dy, dx) / (np.pi / 2)) % 4
    right.append(quarter == layout.pose[row, place])
  assert len(right) > 30 and np.mean(right) > 0.95


def test_backgrounds_can_be_read_off(layout, painting):
  """By the mean and the spread of the brightness of small blocks, outside the masks."""
  light = painting.images.mean(-1) / 255
  light = np.where(painting.masks > 0, np.nan, light)
  mean, spread = np.nanmean(light, (1, 2)), np.nanstd(light, (1, 2))
  kind = np.array([scenes.BACKGROUNDS[k] for k in layout.background])
  assert (mean[kind == "dark"] < 0.26).all() and (mean[kind == "light"] > 0.65).all()
  for name in ("dark", "light"):
    assert spread[kind == name].max() < 0.05
  for name in ("gradient", "waves"):
    assert spread[kind == name].min() > 0.06
  # A gradient is nearly a plane, waves are not.
  side = np.linspace(-1, 1, _SIDE)
  ramp = np.stack([np.ones((_SIDE, _SIDE)), *np.meshgrid(side, side)], -1)
  for row in np.flatnonzero(np.isin(kind, ["gradient", "waves"]))[:200]:
    seen = ~np.isnan(light[row])
    fit, *_ = np.linalg.lstsq(ramp[seen], light[row][seen], rcond=None)
    left = (light[row][seen] - ramp[seen] @ fit).std() / spread[row]
    assert (left < 0.5) == (kind[row] == "gradient")


def test_textures_have_equal_mean_brightness(layout, painting):
  """No texture is lighter than another: means over colours, within 4 deviations."""
  there = np.argwhere(layout.present)
  light = np.array(
    [painting.images[r][painting.masks[r] == p + 1].mean() for r, p in there]
  )
  colour, texture = layout.colour[layout.present], layout.texture[layout.present]
  light = light / np.array([light[colour == c].mean() for c in range(8)])[colour]
  groups = [light[texture == t] for t in range(3)]
  means = [group.mean() for group in groups]
  error = max(group.std() / np.sqrt(len(group)) for group in groups)
  assert np.ptp(means) < 4 * np.sqrt(2) * error


def test_the_picture_is_background_outside_the_objects(layout):
  """Scenes that differ in their objects alone agree away from both masks."""
  dark = dict(backgrounds=("dark",))
  many = scenes.paint(_IDS[:50], level=scenes.Crowd(counts=(4, 4), **dark))
  one = scenes.paint(_IDS[:50], level=scenes.Crowd(counts=(1, 1), **dark))
  free = (many.masks == 0) & (one.masks == 0)
  for axis in (1, 2):  # two pixels from the edges, where objects cover a part
    for shift in (-1, 1, -1, 1):
      free &= np.roll(free, shift, axis)
  assert free.mean() > 0.5
  # The tips of crescents fade out over a few pixels more.
  assert (many.images[free] != one.images[free]).mean() < 3e-4


def test_sizes_agree(painting):
  """Twice as large a picture is the same scene: masks agree but for their edges."""
  large = scenes.paint(_IDS[:100], size=2 * _SIDE).masks
  assert (large[:, ::2, ::2] == painting.masks[:100]).mean() > 0.97
