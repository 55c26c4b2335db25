"""Scenes of several objects: factors, places and relations."""

import itertools

import numpy as np
import pytest

from multimodal import scenes

_IDS = scenes.split_ids("train", 20_000)
_SIZES = {
  "shape": 8,
  "colour": 8,
  "texture": 3,
  "pose": 4,
  "number": 4,
  "background": 4,
}


@pytest.fixture(scope="module")
def layout():
  return scenes.compose(_IDS)


def _assert_uniform(labels: np.ndarray, choices: int) -> None:
  """Chi-square of the counts, within 4 standard errors."""
  counts = np.bincount(labels, minlength=choices)
  assert len(counts) == choices
  expected = len(labels) / choices
  chi_square = ((counts - expected) ** 2 / expected).sum()
  assert abs(chi_square - (choices - 1)) < 4 * np.sqrt(2 * (choices - 1))


def test_a_scene_depends_on_its_id_and_seed_alone(layout):
  rows = np.array([7, 3, 11, 7])
  some = scenes.compose(_IDS[rows])
  for name, found, field in zip(layout._fields, some, layout, strict=True):
    np.testing.assert_array_equal(found, field[rows], err_msg=name)
  other = scenes.compose(_IDS, seed=1)
  assert abs((other.shape[:, 0] == layout.shape[:, 0]).mean() - 1 / 8) < 0.01
  single = scenes.factors(_IDS)
  assert abs((single["shape"] == layout.shape[:, 0]).mean() - 1 / 8) < 0.01
  assert scenes.compose(np.array([], int)).x.shape == (0, scenes.MAX_OBJECTS)


def test_factors_are_pinned():
  """Results of earlier runs stay comparable: these values must not change."""
  found = scenes.compose(np.array([0, 1, 2**31]))
  assert found.number.tolist() == [4, 3, 1]
  assert found.shape.tolist() == [[0, 2, 1, 6], [6, 1, 6, -1], [2, -1, -1, -1]]
  assert found.background.tolist() == [1, 2, 1]
  np.testing.assert_allclose(found.x[:, 0], [0.293259, 0.311000, 0.403290], atol=1e-6)


def test_factors_are_uniform_and_independent(layout):
  """All pairs of factors of the main object and of the scene; objects one by one."""
  main = {k: getattr(layout, k) for k in _SIZES}
  main = {k: v if v.ndim == 1 else v[:, 0] for k, v in main.items()}
  main["number"] = main["number"] - 1
  for (a, m), (b, n) in itertools.combinations(_SIZES.items(), 2):
    _assert_uniform(main[a] * n + main[b], m * n)
  for place in range(1, scenes.MAX_OBJECTS):
    there = layout.present[:, place]
    for name in ("shape", "colour", "texture", "pose"):
      n, other = _SIZES[name], getattr(layout, name)[there]
      _assert_uniform(other[:, 0] * n + other[:, place], n * n)
    _assert_uniform(layout.size[there, place], 2)  # small or medium


def test_absent_objects_are_marked(layout):
  np.testing.assert_array_equal(layout.present.sum(1), layout.number)
  assert layout.present[:, 0].all()
  assert (np.diff(layout.present.astype(int), axis=1) <= 0).all()  # the first ones
  for name in ("shape", "colour", "texture", "size", "pose"):
    field = getattr(layout, name)
    assert field.dtype == np.int32
    np.testing.assert_array_equal(field >= 0, layout.present)
    assert (field[~layout.present] == -1).all()
  for name in ("radius", "x", "y", "angle"):
    field = getattr(layout, name)
    assert field.dtype == np.float32 and (field[~layout.present] == 0).all()


def test_the_main_object_alone_is_large(layout):
  large = layout.size == scenes.SIZES.index("large")
  assert large[:, 0].all() and not large[:, 1:].any()
  low, high = scenes.RADII[layout.size].transpose(2, 0, 1)
  there = layout.present
  assert (low <= layout.radius)[there].all() and (layout.radius <= high)[there].all()
  # Sizes are told apart: the areas of neighbours differ by half at least.
  assert (scenes.RADII[1:, 0] / scenes.RADII[:-1, 1]).min() ** 2 > 1.5


def test_no_object_hides_another_or_leaves_the_picture(layout):
  """Discs of 1.6 radii hold all shapes (tested with the pictures) and never meet."""
  reach = 1.6 * layout.radius.astype(float)
  there = layout.present
  for field in (layout.x, layout.y):
    assert (field - reach)[there].min() > -1e-6
    assert (field + reach)[there].max() < 1 + 1e-6
  for i, j in itertools.combinations(range(scenes.MAX_OBJECTS), 2):
    both = there[:, i] & there[:, j]
    apart = np.hypot(
      layout.x[both, i] - layout.x[both, j], layout.y[both, i] - layout.y[both, j]
    )
    assert (apart - reach[both, i] - reach[both, j]).min() > -1e-6


def test_places_vary_alike_in_both_directions(layout):
  """Centres lie around the middle on average, as much from left to right as down."""
  for place in range(scenes.MAX_OBJECTS):
    there = layout.present[:, place]
    x, y = layout.x[there, place], layout.y[there, place]
    error = 4 * x.std() / np.sqrt(len(x))
    assert abs(x.mean() - 0.5) < error and abs(y.mean() - 0.5) < error
    assert abs(x.std() / y.std() - 1) < 4 / np.sqrt(len(x))
    if place:  # nearly anywhere; the large one has less room
      assert x.min() < 0.16 and x.max() > 0.84
    else:
      assert x.min() < 0.27 and x.max() > 0.73


def test_poses_are_quarters_with_gaps(layout):
  there = layout.present
  away = layout.angle[there] - layout.pose[there] * np.pi / 2
  assert 0.39 * np.pi / 2 < np.abs(away).max() <= 0.4 * np.pi / 2 + 1e-6
  assert abs(away.mean()) < 4 * away.std() / np.sqrt(len(away))


def test_relations_follow_from_the_places(layout):
  holds = scenes.relations(layout)
  left, right, above, below = np.moveaxis(holds, -1, 0)
  np.testing.assert_array_equal(left, right.transpose(0, 2, 1))
  np.testing.assert_array_equal(above, below.transpose(0, 2, 1))
  both = layout.present[:, :, None] & layout.present[:, None, :]
  both &= ~np.eye(scenes.MAX_OBJECTS, dtype=bool)
  assert set(holds.sum(-1)[both]) == {1, 2} and not holds[~both].any()
  for scene, i, j in np.argwhere(both)[:300]:
    x, y = layout.x[scene].astype(float), layout.y[scene].astype(float)
    expected = [x[j] - x[i], x[i] - x[j], y[j] - y[i], y[i] - y[j]]
    expected = [gap >= scenes.MARGIN for gap in expected]
    assert holds[scene, i, j].tolist() == expected


def test_a_level_restricts_what_it_names_and_nothing_else(layout):
  level = scenes.Crowd(poses=("top",), backgrounds=("light", "dark"))
  found = scenes.compose(_IDS, level=level)
  assert set(found.pose[found.present]) == {scenes.POSES.index("top")}
  assert set(found.background) == {0, 1}
  for name in set(layout._fields) - {"pose", "angle", "background"}:
    np.testing.assert_array_equal(getattr(found, name), getattr(layout, name))
  pairs = scenes.compose(_IDS[:100], level=scenes.Crowd(counts=(2, 2)))
  assert (pairs.number == 2).all()
  np.testing.assert_array_equal(pairs.shape[:, 0], layout.shape[:100, 0])


def test_zoom_makes_one_object_fill_the_picture():
  plain, large = (
    scenes.compose(_IDS, level=scenes.Crowd(counts=(1, 1), zoom=zoom))
    for zoom in (1.0, scenes.MAX_ZOOM)
  )
  alone = plain.radius[:, 0]
  np.testing.assert_allclose(large.radius[:, 0], alone * scenes.MAX_ZOOM, rtol=1e-6)
  # Its farthest tip stays inside, in the first picture and in others.
  for take in (0, 3):
    level = scenes.Crowd(counts=(1, 1), zoom=scenes.MAX_ZOOM)
    found = scenes.compose(_IDS, level=level, take=take)
    for centre in (found.x[:, 0], found.y[:, 0]):
      reach = 1.6 * found.radius[:, 0]
      assert (centre >= reach - 1e-6).all() and (centre <= 1 - reach + 1e-6).all()
  for name in ("shape", "colour", "texture", "pose", "background"):
    np.testing.assert_array_equal(getattr(large, name), getattr(plain, name))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(zoom=1.2), "up to 4 objects choose a number from 1 to 1"),
    (dict(counts=(1, 1), zoom=1.8), "from 1 to 1.73"),
    (dict(counts=(1, 1), zoom=float("nan")), "zoom is nan"),
    (dict(counts=(0, 2)), "0 to 2 objects"),
    (dict(counts=(3, 2)), "smaller one first"),
    (dict(counts=(1, 5)), "from 1 to 4"),
    (dict(poses=()), "level.poses"),
    (dict(backgrounds=("forest",)), "choose some of"),
  ],
)
def test_a_bad_level_is_refused(change, message):
  with pytest.raises(ValueError, match=message):
    scenes.compose(_IDS[:2], level=scenes.Crowd(**change))
