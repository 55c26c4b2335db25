"""One training step as a pure function: views, embeddings, loss, update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive import diagnostics, target, views
from experiments.engine.build import Network
from experiments.engine.objectives import Objective, Views
from experiments.engine.state import TrainState


class Batch(NamedTuple):
  """What the data plan hands to a step.

  Attributes:
    images: uint8 [n, h, w, c].
    ids: int32 [n] stable example numbers.
    labels: int32 [n] classes; read by supervised objectives only.
  """

  images: jax.Array
  ids: jax.Array
  labels: jax.Array


class Recipes(NamedTuple):
  """Augmentations of the two views and the statistics of the data set."""

  first: views.Recipe
  second: views.Recipe
  mean: tuple[float, ...]
  std: tuple[float, ...]


Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def make_step(
  network: Network,
  objective: Objective,
  tx: optax.GradientTransformation,
  recipes: Recipes,
  *,
  momentum: Callable[[jax.Array], jax.Array] | None = None,
) -> Step:
  """Builds `step(state, batch, key) -> (state, metrics)`, to be jitted.

  All randomness of step t is a function of (key, t, example number). Under `jit` with
  a sharded batch, BatchNorm's statistics and the negatives are those of the global
  batch.

  Args:
    network: encoder with heads.
    objective: built objective.
    tx: optimiser.
    recipes: augmentations.
    momentum: step -> decay of the target network, or None for no target (SimCLR).
  """

  def loss_fn(params, state, batch, key):
    views_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
    both = _augmented(views_key, batch, recipes)
    variables = {"params": params["network"], "batch_stats": state.batch_stats}
    outputs, changed = network.forward(variables, both)
    query_a, query_b = jnp.split(outputs.query, 2)
    key_a, key_b, moved = query_a, query_b, state.target
    if momentum is not None:
      keys, moved_stats = network.forward(state.target, both)
      key_a, key_b = jax.lax.stop_gradient(jnp.split(keys.projection, 2))
      moved = {"params": state.target["params"], "batch_stats": moved_stats}
    pair = Views(query_a, query_b, key_a, key_b, batch.ids, batch.labels)
    values, objective_state, metrics = objective.loss(
      params["objective"], pair, state.objective, loss_key
    )
    metrics |= _watch(query_a, key_b)
    return jnp.mean(values), (changed, moved, objective_state, metrics)

  def step(state, batch, key):
    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, aux), grads = grad_fn(state.params, state, batch, key)
    changed, moved, objective_state, metrics = aux
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    if momentum is not None:
      decay = momentum(state.step)
      moved["params"] = target.ema(moved["params"], params["network"], decay)
    metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    new = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=changed,
      target=moved,
      opt_state=opt_state,
      objective=objective_state,
    )
    return new, metrics

  return step


def _augmented(key: jax.Array, batch: Batch, recipes: Recipes) -> jax.Array:
  """First views, then second views: float [2n, h, w, c], normalised."""
  images = batch.images.astype(jnp.float32) / 255
  first, second = views.keyed_views(
    key, batch.ids, images, recipes.first, recipes.second
  )
  return views.normalise(jnp.concatenate([first, second]), recipes.mean, recipes.std)


def _watch(query: jax.Array, key: jax.Array) -> dict[str, Any]:
  """Alignment and uniformity of a batch: does the loss fall by collapse?"""
  query, key = jax.lax.stop_gradient((query, key))
  return {
    "alignment": diagnostics.alignment(query, key),
    "uniformity": diagnostics.uniformity(query),
  }
