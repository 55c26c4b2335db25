"""The world of paired vectors: who knows what, and that keys decide everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import gap, paired_factors

SIZES = paired_factors.Sizes(
  shared=2, specific=2, values=3, nuisances=2, hidden=16, width=8
)
KEY = jax.random.key(0)


def _same(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def test_attributes_are_uniform_and_independent():
  n = 20_000
  factors = paired_factors.draw_factors(KEY, n, SIZES)
  columns = np.concatenate(factors, axis=1)
  assert columns.shape == (n, 6)
  for a in range(6):
    share = np.bincount(columns[:, a], minlength=3) / n
    assert np.abs(share - 1 / 3).max() < 4 * np.sqrt(2 / 9 / n)
    for b in range(a):
      joint = np.zeros((3, 3))
      np.add.at(joint, (columns[:, a], columns[:, b]), 1 / n)
      # 2 n I is chi-squared with 4 degrees of freedom: mean 4, deviation 8^.5.
      assert 2 * n * gap.mutual_information(joint) < 4 + 6 * np.sqrt(8)


def test_the_key_decides_everything():
  def make(seed):
    world = paired_factors.make_world(jax.random.key(seed), SIZES)
    factors = paired_factors.draw_factors(jax.random.key(seed + 1), 5, SIZES)
    return factors, paired_factors.render(KEY, world, factors, SIZES, 0.5)

  assert _same(make(3), make(3))
  assert not _same(make(3), make(4))


def test_each_modality_sees_its_own_attributes_and_the_shared_ones():
  world = paired_factors.make_world(KEY, SIZES)
  factors = paired_factors.draw_factors(KEY, 4, SIZES)
  look = lambda f: paired_factors.render(KEY, world, f, SIZES)
  usual = look(factors)
  assert usual["image"].shape == usual["text"].shape == (4, 8)
  other = lambda x: (x + 1) % 3
  moved = look(factors._replace(image=other(factors.image)))
  assert _same(moved["text"], usual["text"])
  assert np.abs(moved["image"] - usual["image"]).max() > 0.1
  moved = look(factors._replace(text=other(factors.text)))
  assert _same(moved["image"], usual["image"])
  moved = look(factors._replace(shared=other(factors.shared)))
  for name in usual:
    assert np.abs(moved[name] - usual[name]).max() > 0.1
  # The two mixers differ.
  assert not _same(world.image, world.text)


def test_views_differ_in_nuisances_and_keep_the_shared_attributes():
  quiet = SIZES._replace(noise=0.0, strength=1000.0, gain=0.01)
  world = paired_factors.make_world(KEY, quiet)
  factors = paired_factors.draw_factors(KEY, 4, quiet)
  look = lambda seed, f, keep: paired_factors.render(
    jax.random.key(seed), world, f, quiet, keep
  )["image"]
  # Attributes so strong that nuisances vanish: views with keep=1 are alike.
  assert np.abs(look(1, factors, 1.0) - look(2, factors, 1.0)).max() < 0.1
  other = factors._replace(image=(factors.image + 1) % 3)
  assert np.abs(look(1, factors, 1.0) - look(1, other, 1.0)).max() > 0.5
  # With keep=0 nothing of the specific attributes is left, and all of the shared.
  np.testing.assert_array_equal(look(1, factors, 0.0), look(1, other, 0.0))
  moved = factors._replace(shared=(factors.shared + 1) % 3)
  assert np.abs(look(1, factors, 0.0) - look(1, moved, 0.0)).max() > 0.5


def test_keep_is_the_share_of_specific_attributes_that_survive():
  # One specific attribute and nothing random besides: lost or not shows in x.
  sizes = SIZES._replace(specific=1, noise=0.0, strength=1000.0, gain=0.01)
  world = paired_factors.make_world(KEY, sizes)
  n = 4000
  zero = jnp.zeros((n, 1), int)
  factors = paired_factors.Factors(jnp.zeros((n, 2), int), zero, zero)
  whole = paired_factors.render(KEY, world, factors, sizes, 1.0)["image"]
  cut = paired_factors.render(KEY, world, factors, sizes, 0.25)["image"]
  kept = np.mean(np.all(np.asarray(whole) == np.asarray(cut), axis=1))
  assert abs(kept - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)


def test_every_combination_of_shared_attributes_once():
  rows = np.asarray(paired_factors.every_shared(SIZES))
  assert rows.shape == (9, 2)
  assert len({tuple(row) for row in rows}) == 9
  assert rows.min() == 0 and rows.max() == 2


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"shared": 0}, "at least one of everything"),
    ({"values": 1}, "two values"),
    ({"strength": 0.0}, "must be positive"),
    ({"noise": -1.0}, "noise at least 0"),
  ],
)
def test_impossible_worlds_are_refused(changes, said):
  with pytest.raises(ValueError, match=said):
    paired_factors.make_world(KEY, SIZES._replace(**changes))
