"""Embeds what the towers read, and its augmented inputs, on the devices."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import diagnostics, views
from experiments.engine.step import Method
from multimodal.pairing import tower_pairs
from multimodal.structures import Features
from multimodal.towers import Embeddings, Towers

# Rows of a batch that uniformity is taken from: pairs are quadratic.
_WATCHED = 512


class Reading(NamedTuple):
  """How a tower reads its column.

  Attributes:
    mean: of each channel of a picture in [0, 1]; () for what is no picture.
    std: its standard deviation.
    view: augmentation of the pictures; None where views come with the inputs, or not
      at all.
  """

  mean: tuple[float, ...] = ()
  std: tuple[float, ...] = ()
  view: views.Recipe | None = None

  def prepare(self, inputs: Any) -> jax.Array:
    """Inputs as the encoder takes them: pictures from bytes to normalised floats."""
    if not self.mean:
      return jnp.asarray(inputs)
    pixels = jnp.asarray(inputs, jnp.float32) / 255
    return views.normalise(pixels, self.mean, self.std)

  def augment(
    self, key: jax.Array, ids: jax.Array, inputs: jax.Array, recipe: views.Recipe
  ) -> jax.Array:
    """Views of pictures [n, h, w, c], a function of (key, example)."""
    pixels = inputs.astype(jnp.float32) / 255

    def one(number, image):
      return views.augment(jax.random.fold_in(key, number), image, recipe)

    return views.normalise(jax.vmap(one)(ids, pixels), self.mean, self.std)


class TowerBatch(NamedTuple):
  """Embeddings of a batch of n examples.

  Attributes:
    features: unit rows by tower.
    ids: [n] stable example numbers in the data set.
  """

  features: Features
  ids: jax.Array


def build_method(towers: Towers, readings: Mapping[str, Reading]) -> Method:
  """Embeds a batch by all towers; inputs and views go through a tower together.

  BatchNorm therefore sees both, half and half.
  """

  def embed(params, stats, target, batch, key):
    del target
    own, moved = stats
    inputs, viewed = {}, []
    for number, name in enumerate(sorted(batch.inputs)):
      inputs[name], has_view = _rows(
        readings[name], batch.inputs[name], batch.ids, jax.random.fold_in(key, number)
      )
      viewed += [name] * has_view
    made, own = towers.forward({"params": params, "batch_stats": own}, inputs)
    return _features(made, viewed), (own, moved)

  return Method(
    embed=embed,
    compared=lambda params, features, batch: TowerBatch(features, batch.ids),
    watch=lambda batch: watch_features(batch.features.shared),
  )


def _rows(reading, column, ids, key) -> tuple[jax.Array, bool]:
  """Inputs [n, ...], or inputs and views [2n, ...]; and whether there are views."""
  base = reading.prepare(column["base"])
  if "view" in column:
    return jnp.concatenate([base, reading.prepare(column["view"])]), True
  if reading.view is not None:
    view = reading.augment(key, ids, column["base"], reading.view)
    return jnp.concatenate([base, view]), True
  return base, False


def _features(made: Mapping[str, Embeddings], viewed: list[str]) -> Features:
  parts: dict[str, dict[str, jax.Array]] = {name: {} for name in Features._fields}
  for name, found in made.items():
    for kind, rows in (("shared", found.shared), ("specific", found.specific)):
      if rows is None:
        continue
      if name in viewed:
        parts[kind][name], parts[f"{kind}_view"][name] = jnp.split(rows, 2)
      else:
        parts[kind][name] = rows
  shared = parts.pop("shared")
  return Features(shared, **{kind: rows or None for kind, rows in parts.items()})


def watch_features(shared: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
  """How near the towers are, and whether one collapses.

  Args:
    shared: unit rows [n, d] by tower.
  """
  shared = jax.lax.stop_gradient(shared)
  cosines, gaps = [], []
  for first, second in tower_pairs(shared):
    a, b = shared[first], shared[second]
    cosines.append(jnp.mean(jnp.sum(a * b, axis=-1)))
    gaps.append(jnp.linalg.norm(jnp.mean(a, axis=0) - jnp.mean(b, axis=0)))
  spread = [diagnostics.uniformity(x[:_WATCHED]) for x in shared.values()]
  mean = lambda values: jnp.mean(jnp.stack(values))
  return {
    "cosine": mean(cosines),
    "modality_gap": mean(gaps),
    "uniformity": mean(spread),
  }
