"""One training step as a pure function: views, embeddings, loss, update."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive import diagnostics, target, views
from experiments.engine.accumulate import WHOLE, Parts, value_and_grad
from experiments.engine.build import Network
from experiments.engine.objective import Objective, Views
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


# Rows of a batch that alignment and uniformity are taken from: pairs are quadratic.
_WATCHED = 512

Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def make_step(
  network: Network,
  objective: Objective,
  tx: optax.GradientTransformation,
  recipes: Recipes,
  *,
  momentum: Callable[[jax.Array], jax.Array] | None = None,
  parts: Parts = WHOLE,
  skip_bad: bool = False,
) -> Step:
  """Builds `step(state, batch, key) -> (state, metrics)`, to be jitted.

  All randomness of step t is a function of (key, t, example number). Under `jit` with
  a sharded batch the negatives are those of the global batch, and so are BatchNorm's
  statistics, unless the batch is taken in parts.

  Args:
    network: encoder with heads.
    objective: built objective.
    tx: optimiser.
    recipes: augmentations.
    momentum: step -> decay of the target network, or None for no target (SimCLR).
    parts: how the batch is cut for the encoder; the loss is over all of it.
    skip_bad: a step whose loss or gradient is not finite changes nothing but the
      number of steps.
  """

  def embed(params, stats, target, batch, key):
    """Embeddings of a batch or a part of it, and the statistics after it."""
    both = _augmented(key, batch, recipes)
    own, moved = stats
    outputs, own = network.forward({"params": params, "batch_stats": own}, both)
    query_a, query_b = jnp.split(outputs.query, 2)
    key_a, key_b = query_a, query_b
    if momentum is not None:
      variables = {"params": target["params"], "batch_stats": moved}
      keys, moved = network.forward(variables, both)
      key_a, key_b = jax.lax.stop_gradient(jnp.split(keys.projection, 2))
    return (query_a, query_b, key_a, key_b), (own, moved)

  def judge(params, embedded, batch, state, key):
    query_a, query_b, key_a, key_b = embedded
    pairs = Views(query_a, query_b, key_a, key_b, batch.ids, batch.labels)
    values, state, metrics = objective.loss(params, pairs, state, key)
    metrics |= _watch(pairs.query_a, pairs.key_b)
    return jnp.mean(values), (state, metrics)

  def step(state, batch, key):
    views_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
    embed_batch = lambda params, stats, part: embed(
      params, stats, state.target, part, views_key
    )
    judge_batch = lambda params, embedded: judge(
      params, embedded, batch, state.objective, loss_key
    )
    stats = state.batch_stats, state.target.get("batch_stats", {})
    loss, (objective_state, metrics), (own, moved_stats), grads = value_and_grad(
      embed_batch, judge_batch, state.params, stats, batch, parts
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    moved = state.target
    if momentum is not None:
      decay = momentum(state.step)
      average = target.ema(moved["params"], params["network"], decay)
      moved = {"params": average, "batch_stats": moved_stats}
    norm = optax.tree.norm(grads)
    metrics |= {"loss": loss, "grad_norm": norm}
    new = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=own,
      target=moved,
      opt_state=opt_state,
      objective=objective_state,
    )
    if skip_bad:
      fine = jnp.isfinite(loss) & jnp.isfinite(norm)
      kept = dataclasses.replace(state, step=new.step)
      new = jax.tree.map(
        lambda after, before: jnp.where(fine, after, before), new, kept
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
  query, key = jax.lax.stop_gradient((query[:_WATCHED], key[:_WATCHED]))
  return {
    "alignment": diagnostics.alignment(query, key),
    "uniformity": diagnostics.uniformity(query),
  }
