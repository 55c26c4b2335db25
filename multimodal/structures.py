"""The latent structures together: which of them, over which towers, at which weight.

`structure_loss` adds up the chosen structures over two or more towers. Every weight is
this project's choice: the published ones are not known.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes
from multimodal import pairing
from multimodal.bridge import bridge_loss, sample_times
from multimodal.geometry import geometry_loss
from multimodal.pairing import Towers, check_towers, require, tower_pairs
from multimodal.separation import separation_parts

PENALTIES = ("squared_distance", "inverse_cosine")


class Features(NamedTuple):
  """Unit rows [n, d] by tower; None where a model has no such output.

  Attributes:
    shared: of the shared heads.
    shared_view: of the shared heads for the augmented inputs.
    specific: of the specific heads.
    specific_view: of the specific heads for the augmented inputs.
  """

  shared: Towers
  shared_view: Towers | None = None
  specific: Towers | None = None
  specific_view: Towers | None = None


class Separation(NamedTuple):
  """Knobs of `separation_loss`; `weight` is that of the whole structure."""

  weight: float = 1.0
  orthogonality: float = 1.0
  contrast: float = 1.0
  uniformity: float = 1.0
  t: float = 2.0
  reduction: str = "pairs"
  literal: bool = False


class Bridge(NamedTuple):
  """Knobs of `bridge_loss`; mean over pairs of an augmented tower and another.

  Attributes:
    weight: of the structure.
    t: time, or None to sample one an anchor and pair, uniformly.
    low: earliest sampled time.
    high: latest sampled time.
    weighted: as in `bridge_loss`, of sampled times; a fixed time has no weight.
    stop_gradient: as in `bridge_loss`.
    augmented: towers whose augmented inputs are bridged; None for all. (The paper has
      the image alone.)
  """

  weight: float = 1.0
  t: float | None = 0.25
  low: float = 0.0
  high: float = 1.0
  weighted: str | None = "variance"
  stop_gradient: tuple[str, ...] = ()
  augmented: tuple[str, ...] | None = None


class Geometry(NamedTuple):
  """Knobs of `geometry_loss`; mean over unordered pairs of towers."""

  weight: float = 1.0
  intra: float = 1.0
  inter: float = 1.0
  augmented: float = 1.0
  reduction: str = "pairs"
  form: str = "auto"


class Penalty(NamedTuple):
  """Forced alignment, mean over unordered pairs of towers: a control, no structure.

  Attributes:
    weight: of the penalty.
    kind: "squared_distance" or "inverse_cosine".
    eps: of `inverse_cosine`.
  """

  weight: float = 1.0
  kind: str = "squared_distance"
  eps: float = 1e-2


class Structures(NamedTuple):
  """What is added to the alignment; None is left out."""

  separation: Separation | None = None
  bridge: Bridge | None = None
  geometry: Geometry | None = None
  penalty: Penalty | None = None


def structure_loss(
  features: Features,
  structures: Structures,
  *,
  scale: jax.Array | float,
  key: jax.Array | None = None,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Weighted sum of the chosen structures.

  Args:
    features: embeddings of two or more towers.
    structures: which, and their knobs.
    scale: inverse temperature > 0 of the specific embeddings' contrast.
    key: typed PRNG key of sampled times, the same on all devices; None without them.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: as in `separation_loss`.
    ring: as in `separation_loss`.

  Returns:
    [n] values, and the parts' means over the whole batch by name, before the weight of
    their structure and without gradient: orthogonality, specific_contrast,
    specific_uniformity, bridge, geometry, penalty.

  Raises:
    ValueError: a structure lacks an input, towers differ in shape, or a knob is out of
      its range.
  """
  check_towers(features.shared)
  if len(features.shared) < 2:
    raise ValueError("structures relate two or more towers; give features.shared two")
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  weighted: list[jax.Array] = []
  parts: dict[str, jax.Array] = {}

  def add(name: str, weight: float, values: jax.Array):
    weighted.append(weight * values)
    mean = axes.mean(jnp.mean(jax.lax.stop_gradient(values)), axis_name)
    parts[name] = mean

  if (knobs := structures.separation) is not None:
    found = _separation(features, knobs, scale, how)
    add("orthogonality", knobs.weight * knobs.orthogonality, found.orthogonality)
    add("specific_contrast", knobs.weight * knobs.contrast, found.contrast)
    add("specific_uniformity", knobs.weight * knobs.uniformity, found.uniformity)
  if structures.bridge is not None:
    values = _bridge(features, structures.bridge, key, axis_name)
    add("bridge", structures.bridge.weight, values)
  if structures.geometry is not None:
    values = _geometry(features, structures.geometry, axis_name)
    add("geometry", structures.geometry.weight, values)
  if structures.penalty is not None:
    values = _penalty(features, structures.penalty)
    add("penalty", structures.penalty.weight, values)
  # Some sharded embedding says on which devices zeros lie.
  some = pairing.wide(next(iter(features.shared.values())))[:, 0]
  return sum(weighted, jnp.zeros_like(some)), parts


def _separation(features: Features, knobs: Separation, scale, how):
  """Parts of the separation over the towers."""
  names = sorted(features.shared)
  user = "structures with separation"
  specific = require(features.specific, names, "specific", user, "set separation=None")
  views = None
  if not knobs.literal:
    cure = "set separation.literal=True or separation=None"
    found = require(features.specific_view, names, "specific_view", user, cure)
    views = [found[name] for name in names]
  return separation_parts(
    [features.shared[name] for name in names],
    [specific[name] for name in names],
    views,
    scale=scale,
    t=knobs.t,
    reduction=knobs.reduction,
    literal=knobs.literal,
    **how,
  )


def _bridge(features: Features, knobs: Bridge, key, axis_name) -> jax.Array:
  """Mean [n] over ordered pairs (augmented tower, other tower)."""
  names = sorted(features.shared)
  augmented = names if knobs.augmented is None else sorted(knobs.augmented)
  if not augmented or not set(augmented) <= set(names):
    raise ValueError(
      f"bridge.augmented must name towers among {', '.join(names)}, not {augmented}; "
      "None is all of them"
    )
  views = require(
    features.shared_view,
    augmented,
    "shared_view",
    "structures with a bridge",
    "name in bridge.augmented the towers that have views",
  )
  if knobs.t is None and key is None:
    raise ValueError("sampled times need a key; pass key=, or a fixed bridge.t")
  values = []
  for number, (own, other) in enumerate(itertools.permutations(names, 2)):
    if own not in augmented:
      continue
    how: Any = dict(t=knobs.t, stop_gradient=knobs.stop_gradient)
    if knobs.t is None:
      # Numbered among all pairs: which towers are augmented does not move a draw.
      child = jax.random.fold_in(key, number)
      n = features.shared[own].shape[0]
      span = dict(low=knobs.low, high=knobs.high)
      how["t"] = sample_times(child, n, axis_name=axis_name, **span)
      how["weighted"] = knobs.weighted
    values.append(
      bridge_loss(features.shared[own], features.shared[other], views[own], **how)
    )
  return _mean(values)


def _geometry(features: Features, knobs: Geometry, axis_name) -> jax.Array:
  """Mean [n] over unordered pairs of towers."""
  views: Mapping[str, Any] = dict.fromkeys(features.shared)
  if knobs.augmented != 0:
    views = require(
      features.shared_view,
      features.shared,
      "shared_view",
      "structures with augmented geometry",
      "set geometry.augmented=0",
    )
  return _mean(
    [
      geometry_loss(
        features.shared[first],
        features.shared[second],
        views[first],
        views[second],
        axis_name=axis_name,
        **{k: v for k, v in knobs._asdict().items() if k != "weight"},
      )
      for first, second in tower_pairs(features.shared)
    ]
  )


def _penalty(features: Features, knobs: Penalty) -> jax.Array:
  """Mean [n] over unordered pairs of towers."""
  if knobs.kind not in PENALTIES:
    raise ValueError(f"unknown penalty '{knobs.kind}'; known: {', '.join(PENALTIES)}")
  pairs = [
    (features.shared[first], features.shared[second])
    for first, second in tower_pairs(features.shared)
  ]
  if knobs.kind == "squared_distance":
    return _mean([pairing.squared_distance(*pair) for pair in pairs])
  return _mean([pairing.inverse_cosine(*pair, eps=knobs.eps) for pair in pairs])


def _mean(values: Sequence[jax.Array]) -> jax.Array:
  return sum(values[1:], values[0]) / len(values)
