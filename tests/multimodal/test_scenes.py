"""Scenes of one object: determinism, exact factors, no shortcut for a linear probe."""

import json
import pathlib
import zlib

import numpy as np
import pytest

from multimodal import scenes
from multimodal.scenes import draws, materials, outlines, single

_IDS = scenes.split_ids("train", 4000)
LEVELS = (scenes.HARD, scenes.EASY)


def test_a_scene_depends_on_its_id_and_seed_alone():
  ids = np.array([5, 2**31 + 7, 123_456_789, 5])
  images = scenes.render(ids, size=24)
  assert images.shape == (4, 24, 24, 3) and images.dtype == np.uint8
  np.testing.assert_array_equal(images[0], images[3])
  np.testing.assert_array_equal(images[1:2], scenes.render(ids[1:2], size=24))
  many = scenes.render(np.arange(300), size=24)  # crosses the chunks
  np.testing.assert_array_equal(many[5], images[0])
  assert (scenes.render(ids, size=24, seed=1) != images).mean() > 0.9
  assert scenes.render(np.array([], int), size=8).shape == (0, 8, 8, 3)


def test_factors_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  found = scenes.factors(np.array([0, 1, 2**31]), seed=0)
  assert found["shape"].tolist() == [2, 1, 7]
  assert found["colour"].tolist() == [2, 7, 5]
  assert found["texture"].tolist() == [0, 0, 1]
  np.testing.assert_allclose(found["size"], [0.202819, 0.249286, 0.253066], atol=1e-6)


def test_pictures_and_factors_are_those_of_the_published_figures():
  """Checksums of 256 scenes, from before scenes of several objects were added.

  Another processor may round a sine differently and one pixel in 100,000 by one grey
  level, hence the few pictures that may differ. Any change of ours changes all of them,
  or all of a shape or texture: at least 12 %.
  """
  crc = lambda values: f"{zlib.crc32(np.ascontiguousarray(values).tobytes()):08x}"
  pins = json.loads(
    pathlib.Path(__file__).with_name("test_scenes_pins.json").read_text()
  )
  for setting, pin in pins.items():
    level, split, seed = setting.split()
    ids = scenes.split_ids(split, 64, start=1000)
    options = dict(seed=int(seed), level=getattr(scenes, level))
    found = {name: crc(value) for name, value in scenes.factors(ids, **options).items()}
    assert found == pin["factors"], setting
    pictures = map(crc, scenes.render(ids, size=24, **options))
    same = np.mean([a == b for a, b in zip(pictures, pin["pictures"], strict=True)])
    assert same > 0.95, (setting, same)


def test_a_level_changes_the_ranges_and_nothing_else():
  hard, easy = (scenes.factors(_IDS, level=level) for level in LEVELS)
  for name in ("shape", "colour", "texture", "background"):
    np.testing.assert_array_equal(easy[name], hard[name])
  for name in ("size", "x", "y", "angle"):
    assert abs(np.corrcoef(easy[name], hard[name])[0, 1]) > 0.8
  # An object in the middle of an empty world: the plain grey and the sensor's noise.
  bare = scenes.EASY._replace(spread=0.0, size=(0.1, 0.1))
  found = scenes.factors(_IDS, level=bare)
  assert (found["x"] == 0.5).all() and (found["y"] == 0.5).all()
  corners = scenes.render(_IDS, level=bare)[:, :4, :4] / 255
  assert abs(corners.mean() - 0.285) < 0.001 and abs(corners.std() - 0.02) < 0.002


def test_splits_never_meet():
  train, test = (np.array(scenes.SPLITS[name]) for name in ("train", "test"))
  assert train[1] <= test[0]
  assert scenes.split_ids("test", 3, start=1).tolist() == [2**31 + i for i in (1, 2, 3)]
  with pytest.raises(ValueError, match="no split 'val'"):
    scenes.split_ids("val", 3)
  with pytest.raises(ValueError, match="outside split 'train'"):
    scenes.split_ids("train", 2, start=2**31 - 1)


def test_factors_are_uniform_and_independent():
  """Chi-square of every pair of the three discrete factors, within 4 deviations."""
  found = scenes.factors(_IDS)
  sizes = {"shape": 8, "colour": 8, "texture": 3}
  for a in sizes:
    for b in sizes:
      if a >= b:
        continue
      cells = sizes[a] * sizes[b]
      counts = np.bincount(found[a] * sizes[b] + found[b], minlength=cells)
      expected = len(_IDS) / cells
      chi_square = ((counts - expected) ** 2 / expected).sum()
      assert abs(chi_square - (cells - 1)) < 4 * np.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("level", LEVELS, ids=("hard", "easy"))
def test_continuous_factors_fill_their_ranges(level):
  found = scenes.factors(_IDS, level=level)
  for name in ("size", "angle"):
    values, (low, high) = found[name], getattr(level, name)
    low, high = np.float32(low), np.float32(high)
    assert low <= values.min() and values.max() <= high
    deviation = (high - low) / np.sqrt(12)
    assert abs(values.mean() - (low + high) / 2) < 4 * deviation / np.sqrt(len(_IDS))
  for name in ("x", "y"):
    away = np.abs(found[name] - 0.5) / (0.5 - 1.2 * found["size"])
    assert 0.98 * level.spread < away.max() < level.spread + 1e-5
  correlation = np.corrcoef([found[k] for k in ("size", "x", "y", "angle")])
  assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(len(_IDS))


def test_shapes_have_equal_area():
  """The area inside each scaled outline is that of the unit disc, within 1 %."""
  grid = (np.arange(600, dtype=np.float32) + 0.5) / 150 - 2
  for name, (distance, scale) in outlines.OUTLINES.items():
    inside = distance(grid[None, :] / scale, grid[:, None] / scale) < 0
    area = inside.mean() * 16
    assert abs(area / np.pi - 1) < 0.01, name


def test_outlines_are_signed_distances_near_the_edge():
  """Antialiasing needs a slope of one: |gradient| = 1 on the outline, almost all of it.

  Corners are the exception, where a polygon's inner distance has a kink.
  """
  step = 1 / 200
  grid = np.arange(-1.5, 1.5, step, dtype=np.float32)
  for name, (distance, _) in outlines.OUTLINES.items():
    values = distance(grid[None, :].repeat(len(grid), 0), grid[:, None])
    values = np.broadcast_to(values, (len(grid), len(grid)))
    down, right = np.gradient(values, step)
    slope = np.hypot(down, right)[np.abs(values) < 2 * step]
    assert np.mean(np.abs(slope - 1) < 0.05) > 0.9, name


def test_the_object_is_where_the_factors_say(monkeypatch):
  """With and without the object differ only around (x, y), by about its area."""
  ids = scenes.split_ids("train", 200)
  found = scenes.factors(ids)
  images = scenes.render(ids, size=64).astype(float)
  nothing = {
    name: (lambda x, y: np.ones(np.broadcast_shapes(x.shape, y.shape), "f4") * 9, 1.0)
    for name in scenes.SHAPES
  }
  monkeypatch.setattr(single, "OUTLINES", nothing)
  covered = np.abs(images - scenes.render(ids, size=64)).sum(-1) > 0
  side = (np.arange(64) + 0.5) / 64
  symmetric = np.isin(found["shape"], [0, 1, 3, 4, 5])  # centred on (x, y)
  inside = symmetric & (np.abs(found["x"] - 0.5) < 0.15) & (found["size"] < 0.2)
  inside &= np.abs(found["y"] - 0.5) < 0.15
  assert inside.sum() > 5
  for row in np.flatnonzero(inside):
    weight = covered[row] / covered[row].sum()
    assert abs((weight.sum(0) * side).sum() - found["x"][row]) < 0.02
    assert abs((weight.sum(1) * side).sum() - found["y"][row]) < 0.02
    area = np.pi * found["size"][row] ** 2
    # Edge pixels count as a whole: half a pixel more all round.
    assert 0.95 < covered[row].mean() / area < 1.45


@pytest.mark.parametrize("level", LEVELS, ids=("hard", "easy"))
def test_textures_have_equal_mean_brightness(level):
  ids = scenes.split_ids("train", 3000)
  found = scenes.factors(ids, level=level)
  images = scenes.render(ids, size=32, level=level).astype(float)
  side = (np.arange(32) + 0.5) / 32
  square = np.hypot(
    side[None, None, :] - found["x"][:, None, None],
    side[None, :, None] - found["y"][:, None, None],
  )
  disc = (found["shape"] == 0)[:, None, None] & (
    square < found["size"][:, None, None] - 0.05
  )
  means = [
    images[disc & (found["texture"] == t)[:, None, None]].mean() for t in range(3)
  ]
  assert np.ptp(means) < 12  # of 255; the colours of about 120 discs each differ too


def test_colours_are_told_apart():
  rgb = materials.RGB
  gaps = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 9 * np.eye(len(rgb))
  assert gaps.min() > 0.25


def test_noise_has_the_stated_moments():
  noise = draws.normal(0, np.arange(200), 1000).astype(np.float64)
  n = noise.size
  assert abs(noise.mean()) < 4 / np.sqrt(n)
  assert abs(noise.var() - 1) < 4 * np.sqrt(2 / n)
  neighbours = (noise[:, 1:] * noise[:, :-1]).mean()
  assert abs(neighbours) < 4 / np.sqrt(n)


def test_pixels_do_not_give_the_shape_away_linearly():
  """Ridge regression on pixels stays near chance (1 in 8); colours it finds easily."""
  train, test = scenes.split_ids("train", 3000), scenes.split_ids("test", 1000)
  flat = lambda ids: scenes.render(ids, size=16).reshape(len(ids), -1) / 255.0
  x, z = flat(train), flat(test)
  mean = x.mean(0)
  x, z = x - mean, z - mean
  gram = x.T @ x + 10 * np.eye(x.shape[1])

  def accuracy(factor):
    targets = np.eye(8)[scenes.factors(train)[factor]]
    scores = z @ np.linalg.solve(gram, x.T @ targets)
    return (scores.argmax(1) == scenes.factors(test)[factor]).mean()

  assert accuracy("shape") < 0.25
  assert accuracy("colour") > 0.6
