"""One training step as a pure function: embeddings, loss, update."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive import target
from experiments.engine.accumulate import WHOLE, Parts, value_and_grad
from experiments.engine.objective import Objective
from experiments.engine.state import TrainState


class Batch(NamedTuple):
  """What the data plan hands to a step.

  Attributes:
    inputs: leaves [n, ...]: uint8 images [n, h, w, c], or what each tower reads.
    ids: int32 [n] stable example numbers.
    labels: int32 [n] classes; read by supervised objectives only.
  """

  inputs: Any
  ids: jax.Array
  labels: jax.Array


class Method(NamedTuple):
  """How a batch becomes what an objective compares.

  Attributes:
    embed: (network params, statistics, target, batch or a part of it, key) ->
      (embeddings, statistics); leaves of the embeddings are [n, ...]. Statistics are
      those of the network and of its target.
    compared: (network params, embeddings of the whole batch, batch) -> what
      `Objective.loss` takes.
    watch: of the same -> metrics.
  """

  embed: Callable[..., tuple[Any, Any]]
  compared: Callable[[Any, Any, Batch], Any]
  watch: Callable[[Any], dict[str, jax.Array]]


Step = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]


def make_step(
  method: Method,
  objective: Objective,
  tx: optax.GradientTransformation,
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
    method: how a batch is embedded.
    objective: built objective.
    tx: optimiser.
    momentum: step -> decay of the target network, or None for no target.
    parts: how the batch is cut for the encoder; the loss is over all of it.
    skip_bad: a step whose loss or gradient is not finite changes nothing but the
      number of steps.
  """

  def judge(params, embedded, batch, state, key):
    compared = method.compared(params["network"], embedded, batch)
    values, state, metrics = objective.loss(params["objective"], compared, state, key)
    metrics |= method.watch(compared)
    return jnp.mean(values), (state, metrics)

  def step(state, batch, key):
    views_key, loss_key = jax.random.split(jax.random.fold_in(key, state.step))
    embed_batch = lambda params, stats, part: method.embed(
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
