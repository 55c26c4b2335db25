"""Structures together: sums over towers, parts, and sentences for what is missing."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import bridge, geometry, pairing, separation, structures
from multimodal.structures import (
  Bridge,
  Features,
  Geometry,
  Penalty,
  Separation,
  Structures,
)
from tests.multimodal import towers_losses

SCALE = 3.0


def _features(n=5):
  x = towers_losses.units(towers_losses.batch(n=n))
  return Features(*x[:4])


def _loss(features, key=None, **chosen):
  return structures.structure_loss(features, Structures(**chosen), scale=SCALE, key=key)


def test_nothing_chosen_is_nothing():
  values, parts = _loss(_features())
  np.testing.assert_array_equal(values, np.zeros(5))
  assert parts == {}


def test_separation_over_all_towers():
  f = _features()
  knobs = dict(orthogonality=0.5, contrast=2.0, uniformity=0.3, t=1.5)
  values, parts = _loss(f, separation=Separation(weight=0.7, **knobs))
  rows = [list(field.values()) for field in (f.shared, f.specific, f.specific_view)]
  expected = separation.separation_loss(*rows, scale=SCALE, **knobs)
  np.testing.assert_allclose(values, 0.7 * expected, rtol=1e-5)
  assert set(parts) == {"orthogonality", "specific_contrast", "specific_uniformity"}
  total = 0.5 * parts["orthogonality"] + 2 * parts["specific_contrast"]
  total += 0.3 * parts["specific_uniformity"]
  np.testing.assert_allclose(total, np.mean(expected), rtol=1e-5)


def test_bridge_is_the_mean_over_ordered_pairs():
  f = _features()
  values, parts = _loss(f, bridge=Bridge(weight=2.0))
  each = [
    bridge.bridge_loss(f.shared[own], f.shared[other], f.shared_view[own])
    for own, other in itertools.permutations(f.shared, 2)
  ]
  assert len(each) == 6
  np.testing.assert_allclose(values, 2 * np.mean(each, axis=0), rtol=1e-5)
  np.testing.assert_allclose(parts["bridge"], np.mean(each), rtol=1e-5)


def test_bridge_of_the_image_alone_is_the_published_one():
  f = _features()
  f = f._replace(shared={k: f.shared[k] for k in ("image", "text")})
  image_only = f._replace(shared_view={"image": f.shared_view["image"]})
  values, _ = _loss(image_only, bridge=Bridge(augmented=("image",)))
  rows = f.shared["image"], f.shared["text"], f.shared_view["image"]
  np.testing.assert_allclose(values, bridge.bridge_loss(*rows), rtol=1e-6)


def test_sampled_times_belong_to_a_pair():
  f, key = _features(), jax.random.key(2)
  knobs = Bridge(t=None, low=0.1, high=0.6)
  values, _ = _loss(f, key, bridge=knobs._replace(augmented=("text",)))
  expected = []
  for number, (own, other) in enumerate(itertools.permutations(sorted(f.shared), 2)):
    if own == "text":
      child = jax.random.fold_in(key, number)
      t = bridge.sample_times(child, 5, low=0.1, high=0.6)
      rows = f.shared[own], f.shared[other], f.shared_view[own]
      expected.append(bridge.bridge_loss(*rows, t=t, weighted="variance"))
  np.testing.assert_allclose(values, np.mean(expected, axis=0), rtol=1e-5)
  again, _ = _loss(f, key, bridge=knobs._replace(augmented=("text",)))
  np.testing.assert_array_equal(values, again)
  # A fixed time has no weight.
  fixed, _ = _loss(f, bridge=Bridge(t=0.5))
  bare, _ = _loss(f, bridge=Bridge(t=0.5, weighted=None))
  np.testing.assert_array_equal(fixed, bare)


def test_geometry_is_the_mean_over_unordered_pairs():
  f = _features()
  values, parts = _loss(f, geometry=Geometry(weight=0.25, inter=0.5))
  each = [
    geometry.geometry_loss(
      f.shared[a], f.shared[b], f.shared_view[a], f.shared_view[b], inter=0.5
    )
    for a, b in itertools.combinations(f.shared, 2)
  ]
  np.testing.assert_allclose(values, 0.25 * np.mean(each, axis=0), rtol=1e-5)
  np.testing.assert_allclose(parts["geometry"], np.mean(each), rtol=1e-5)
  bare, _ = _loss(Features(f.shared), geometry=Geometry(augmented=0.0))
  assert np.all(np.isfinite(bare))


@pytest.mark.parametrize("kind", structures.PENALTIES)
def test_penalty_is_the_mean_over_unordered_pairs(kind):
  f = _features()
  values, parts = _loss(Features(f.shared), penalty=Penalty(2.0, kind))
  each = [
    getattr(pairing, kind)(f.shared[a], f.shared[b])
    for a, b in itertools.combinations(f.shared, 2)
  ]
  np.testing.assert_allclose(values, 2 * np.mean(each, axis=0), rtol=1e-5)
  np.testing.assert_allclose(parts["penalty"], np.mean(each), rtol=1e-5)


def test_values_are_the_weighted_sum_of_the_parts():
  f = _features()
  chosen = dict(
    separation=Separation(0.5),
    bridge=Bridge(2.0),
    geometry=Geometry(0.25),
    penalty=Penalty(0.1),
  )
  values, parts = _loss(f, **chosen)
  weights = dict.fromkeys(
    ("orthogonality", "specific_contrast", "specific_uniformity"), 0.5
  )
  weights |= {"bridge": 2.0, "geometry": 0.25, "penalty": 0.1}
  assert list(parts) == list(weights)
  expected = sum(weights[name] * parts[name] for name in parts)
  np.testing.assert_allclose(np.mean(values), expected, rtol=1e-5)


def test_parts_have_no_gradient():
  f = _features()

  def parts(shared):
    _, found = _loss(f._replace(shared=shared), penalty=Penalty())
    return found["penalty"]

  for grad in jax.grad(parts)(f.shared).values():
    np.testing.assert_array_equal(grad, jnp.zeros_like(grad))


def test_errors_name_the_cure():
  f = _features()
  bare = Features(f.shared)
  missing = "of tower audio, image, text; pass"
  with pytest.raises(ValueError, match=f"need specific {missing} specific="):
    _loss(bare, separation=Separation())
  views = f._replace(specific_view=None)
  with pytest.raises(ValueError, match=r"specific_view=, or set separation.literal"):
    _loss(views, separation=Separation())
  values, _ = _loss(views, separation=Separation(literal=True))
  assert values.shape == (5,)
  with pytest.raises(ValueError, match="need shared_view of tower text"):
    some = {k: f.shared_view[k] for k in ("image", "audio")}
    _loss(f._replace(shared_view=some), bridge=Bridge())
  with pytest.raises(ValueError, match=r"must name towers among audio, image, text"):
    _loss(f, bridge=Bridge(augmented=("sound",)))
  with pytest.raises(ValueError, match="need a key; pass key="):
    _loss(f, bridge=Bridge(t=None))
  with pytest.raises(ValueError, match=r"or set geometry.augmented=0"):
    _loss(bare, geometry=Geometry())
  with pytest.raises(ValueError, match="known: squared_distance, inverse_cosine"):
    _loss(f, penalty=Penalty(kind="cosine"))
  with pytest.raises(ValueError, match="give all heads one width"):
    _loss(Features(f.shared | {"text": f.shared["text"][:, :2]}), penalty=Penalty())
  with pytest.raises(ValueError, match="give all heads one width"):
    narrow = {k: z[:, :2] for k, z in f.specific.items()}
    _loss(f._replace(specific=narrow), separation=Separation())
  with pytest.raises(ValueError, match="two or more towers"):
    _loss(Features({"image": f.shared["image"]}))
