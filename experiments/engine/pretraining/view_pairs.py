"""Two random views of each image: SimCLR and, with a target network, MoCo-v3."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import diagnostics, views
from experiments.engine.build import Network
from experiments.engine.objective import Views
from experiments.engine.step import Batch, Method

# Rows of a batch that alignment and uniformity are taken from: pairs are quadratic.
_WATCHED = 512


class Recipes(NamedTuple):
  """Augmentations of the two views and the statistics of the data set."""

  first: views.Recipe
  second: views.Recipe
  mean: tuple[float, ...]
  std: tuple[float, ...]


def two_view_method(
  network: Network, recipes: Recipes, *, with_target: bool = False
) -> Method:
  """Embeds two views of each image.

  Args:
    network: encoder with heads.
    recipes: augmentations.
    with_target: keys come from the momentum network (MoCo-v3), else from the network
      itself (SimCLR).
  """

  def embed(params, stats, target, batch, key):
    both = _augmented(key, batch, recipes)
    own, moved = stats
    outputs, own = network.forward({"params": params, "batch_stats": own}, both)
    query_a, query_b = jnp.split(outputs.query, 2)
    key_a, key_b = query_a, query_b
    if with_target:
      variables = {"params": target["params"], "batch_stats": moved}
      keys, moved = network.forward(variables, both)
      key_a, key_b = jax.lax.stop_gradient(jnp.split(keys.projection, 2))
    return (query_a, query_b, key_a, key_b), (own, moved)

  def compared(params, embedded, batch):
    del params
    query_a, query_b, key_a, key_b = embedded
    return Views(query_a, query_b, key_a, key_b, batch.ids, batch.labels)

  return Method(
    embed=embed,
    compared=compared,
    watch=lambda pairs: _watch(pairs.query_a, pairs.key_b),
  )


def _augmented(key: jax.Array, batch: Batch, recipes: Recipes) -> jax.Array:
  """First views, then second views: float [2n, h, w, c], normalised."""
  images = batch.inputs.astype(jnp.float32) / 255
  first, second = views.keyed_views(
    key, batch.ids, images, recipes.first, recipes.second
  )
  return views.normalise(jnp.concatenate([first, second]), recipes.mean, recipes.std)


def _watch(query: jax.Array, key: jax.Array) -> dict[str, Any]:
  """Alignment and uniformity of a batch: does the loss fall by collapse?"""
  query, key = jax.lax.stop_gradient((query[:_WATCHED], key[:_WATCHED]))
  return {
    "alignment": diagnostics.alignment(query, key),
    "uniformity": diagnostics.uniformity(query),
  }
