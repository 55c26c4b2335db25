"""Every loss over towers under one signature, for tests of edges and devices."""

from typing import NamedTuple

import jax
import numpy as np

import contrastive
from multimodal import (
  aligning,
  bridge,
  geometry,
  pairing,
  separation,
  structures,
  terms,
)

TOWERS = ("image", "text", "audio")


class Inputs(NamedTuple):
  """One batch; rows are raw, the losses below scale them to unit length."""

  shared: dict  # tower -> [n, d]
  shared_view: dict
  specific: dict
  specific_view: dict
  scale: jax.Array  # []


def batch(n=6, d=4, *, seed=0, scale=3.0, dtype=np.float32) -> Inputs:
  """Towers that agree somewhat, and views that agree more."""
  rng = np.random.default_rng(seed)
  base = rng.standard_normal((n, d))
  near = lambda x, by: (x + by * rng.standard_normal((n, d))).astype(dtype)
  shared = {name: near(base, 0.8) for name in TOWERS}
  specific = {name: near(0 * base, 1.0) for name in TOWERS}
  return Inputs(
    shared,
    {name: near(x, 0.3) for name, x in shared.items()},
    specific,
    {name: near(x, 0.3) for name, x in specific.items()},
    np.asarray(scale, dtype),
  )


def key():
  return jax.random.key(11)


def units(x: Inputs) -> Inputs:
  """Unit rows in place of raw ones."""
  return jax.tree.map(lambda z: contrastive.unit(z) if z.ndim == 2 else z, x)


def _pair(loss, **knobs):
  """A loss of two towers and their views."""

  def call(x, axis_name, how):
    rows = [x.shared["image"], x.shared["text"]]
    rows += [x.shared_view["image"], x.shared_view["text"]]
    return loss(*rows, axis_name=axis_name, **knobs)

  return call


def _bridge(image, text, view, text_view, *, axis_name, **knobs):
  return bridge.bridge_loss(image, text, view, axis_name=axis_name, **knobs)


def _sampled(image, text, view, text_view, *, axis_name, **knobs):
  span = dict(low=0.1, high=0.9)
  t = bridge.sample_times(key(), image.shape[0], axis_name=axis_name, **span)
  return bridge.bridge_loss(image, text, view, t=t, **knobs)


def _penalty(penalty):
  return lambda x, axis_name, how: penalty(x.shared["image"], x.shared["text"])


def _align(count, **knobs):
  def call(x, axis_name, how):
    some = {name: x.shared[name] for name in TOWERS[:count]}
    return aligning.alignment_loss(
      some, x.shared_view, scale=x.scale, axis_name=axis_name, **knobs, **how
    )

  return call


def _augmented(x, axis_name, how):
  """The augmented objective over the stacked terms, at the minibatch's normaliser."""
  chosen = terms.alignment_terms(x.shared, "four")
  anchors = aligning.alignment_anchors(
    x.shared, x.shared_view, scale=x.scale, terms=chosen, axis_name=axis_name, **how
  )
  sums = contrastive.stack_sums(*map(contrastive.summed, anchors.values()))
  n = x.shared["image"].shape[0]
  noise = contrastive.view_noise(key(), n, 1.0, axis_name, copies=len(chosen))
  values = contrastive.augmented_loss(sums, contrastive.log_normalizer(sums), noise)
  return terms.term_mean(terms.split_terms(values, chosen), chosen)


def _separation(**knobs):
  def call(x, axis_name, how):
    parts = (list(field.values()) for field in (x.shared, x.specific, x.specific_view))
    return separation.separation_loss(
      *parts, scale=x.scale, axis_name=axis_name, **knobs, **how
    )

  return call


def structured(x, axis_name, how, **knobs):
  """All structures of three towers, and the parts."""
  chosen = structures.Structures(
    separation=structures.Separation(),
    bridge=structures.Bridge(t=None),
    geometry=structures.Geometry(),
    penalty=structures.Penalty(0.5),
  )._replace(**knobs)
  features = structures.Features(*x[:4])
  return structures.structure_loss(
    features, chosen, scale=x.scale, key=key(), axis_name=axis_name, **how
  )


def _sigmoid(x, axis_name, how):
  return aligning.sigmoid_alignment(
    x.shared, scale=x.scale, bias=-2.0, axis_name=axis_name, **how
  )


# (unit inputs, axis name, block_size and ring) -> [n].
LOSSES = {
  "four_weighted": _align(3, terms="four", weights=(1.0, 0.3)),
  "four_printed": _align(2, terms="four", literal=True),
  "decoupled": _align(2, terms="four", anchor_loss=contrastive.decoupled_loss),
  "augmented": _augmented,
  "sigmoid": _sigmoid,
  "separation_literal": _separation(reduction="paper", literal=True),
  "bridge": _pair(_bridge),
  "bridge_half": _pair(_bridge, t=0.5),
  "bridge_likelihood": _pair(_sampled, weighted="likelihood"),
  "geometry_gram": _pair(geometry.geometry_loss, form="gram"),
  "geometry_pairs": _pair(geometry.geometry_loss, form="pairs"),
  "geometry_paper": _pair(
    geometry.geometry_loss, form="gram", reduction="paper", inter=0.2, augmented=0.5
  ),
  "inverse_cosine": _penalty(pairing.inverse_cosine),
  "structures": lambda x, axis_name, how: structured(x, axis_name, how)[0],
}


def every(x: Inputs, axis_name=None, how=None, names=tuple(LOSSES)):
  """Values by name; rows are raw."""
  rows = units(x)
  return {name: LOSSES[name](rows, axis_name, how or {}) for name in names}
