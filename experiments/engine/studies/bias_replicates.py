"""Replicates of minibatch gradients at frozen parameters, on the device.

Independent chains are the units of all errors. Each chain first visits its anchors
`visits` times, so that its running normalisers are where training would have them;
from that snapshot epochs of next batches are drawn, each in a new random order. A
batch's running normaliser is the value after its update, which contains the batch's
own estimate. All objectives see the same batches and, at equal shape, the same Gamma
draws.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import augmented, bias, normalizer
from experiments.engine.studies import bias_problems
from experiments.engine.studies.bias_problems import Family, Problem

Objectives = tuple[bias.Objective, ...]

# Numbers a chunk of chains may keep in memory at once.
_CHUNK = 1 << 20


class Truth(NamedTuple):
  """What is known exactly about a problem.

  Attributes:
    log_norm: [N] log normalisers of the decoupled target.
    gradient: [objectives, D] gradient of each objective's target.
    unit: [] norm of the attractive gradient.
  """

  log_norm: jax.Array
  gradient: jax.Array
  unit: jax.Array


@functools.partial(jax.jit, static_argnames=("family", "objectives", "size"))
def find_truth(
  family: Family, problem: Problem, objectives: Objectives, size: int
) -> Truth:
  """The truth about batches of `size`, whose negatives a coupled target counts."""
  nominal = family.negatives(problem.query.shape[0], size)
  gradient = {
    coupled: bias_problems.generalised_gradient(
      family, problem, nominal if coupled else None
    )
    for coupled in {o.coupled for o in objectives}
  }
  return Truth(
    log_norm=family.log_norm(problem, problem.params),
    gradient=jnp.stack([gradient[o.coupled] for o in objectives]),
    unit=bias_problems.attraction(family, problem),
  )


class Sums(NamedTuple):
  """Sums over the batches of each chain.

  Attributes:
    plain: [chains, objectives, D] gradients.
    paired: [chains, objectives, D] gradients less their control variates.
    square: [chains, objectives] squared distances from the exact gradient.
  """

  plain: jax.Array
  paired: jax.Array
  square: jax.Array


@functools.partial(jax.jit, static_argnames=("family", "objectives", "size"))
def visit_anchors(
  family: Family,
  problem: Problem,
  objectives: Objectives,
  size: int,
  visits: int | jax.Array,
  keys: jax.Array,
) -> tuple[normalizer.Normalizer, ...]:
  """Running normalisers of each chain after `visits` epochs at frozen parameters.

  Returns:
    One state per kind of normaliser among the objectives (`_memories`), with a leading
    axis of chains.
  """
  memories = _memories(objectives)
  anchors = problem.query.shape[0]
  negatives = family.negatives(anchors, size)

  def step(states, batch):
    rows = family.rows(problem, problem.params, batch)
    return tuple(
      normalizer.update(
        state,
        batch.anchor,
        augmented.log_normalizer(rows, coupled=negatives if o.coupled else None),
        smoothing=o.smoothing,
        boost=o.boost,
      )[0]
      for o, state in zip(memories, states, strict=True)
    ), None

  def chain(key):
    def epoch(i, states):
      batches = family.epoch(problem, jax.random.fold_in(key, i), size)
      return jax.lax.scan(step, states, batches)[0]

    start = tuple(normalizer.init(anchors) for _ in memories)
    return jax.lax.fori_loop(0, visits, epoch, start)

  if not memories:
    return ()
  width = min(size, anchors) * size + 2 * len(memories) * anchors
  return _map_chunks(chain, keys, _CHUNK // 4 // width)


@functools.partial(jax.jit, static_argnames=("family", "objectives", "size"))
def collect(
  family: Family,
  problem: Problem,
  objectives: Objectives,
  size: int,
  states: tuple[normalizer.Normalizer, ...],
  truth: Truth,
  keys: jax.Array,
  epochs: int | jax.Array,
) -> Sums:
  """Sums of next-batch gradients over `epochs` random orders, for each chain."""
  steps = max(problem.query.shape[0] // size, 1)
  shape = truth.gradient.shape
  zeros = Sums(*(jnp.zeros(s) for s in (shape, shape, shape[:1])))

  def chain(args):
    key, state = args

    def epoch(i, sums):
      order_key, noise_key = jax.random.split(jax.random.fold_in(key, i))
      batches = family.epoch(problem, order_key, size)
      new = jax.vmap(
        lambda batch, noise_key: _batch_sums(
          family, problem, objectives, size, state, truth, batch, noise_key
        )
      )(batches, jax.random.split(noise_key, steps))
      return jax.tree.map(lambda a, b: a + jnp.sum(b, axis=0), sums, new)

    return jax.lax.fori_loop(0, epochs, epoch, zeros)

  anchors = problem.query.shape[0]
  width = 8 * min(size, anchors) * size * steps + 4 * steps * truth.gradient.size
  return _map_chunks(chain, (keys, states), 4 * _CHUNK // width)


def _map_chunks(function, xs, limit: int):
  """`lax.map` over chains, as many at a time as divide them and are at most `limit`."""
  chains = jax.tree.leaves(xs)[0].shape[0]
  chunk = max(c for c in range(1, max(1, limit) + 1) if chains % c == 0)
  chunked = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), xs)
  out = jax.lax.map(jax.vmap(function), chunked)
  return jax.tree.map(lambda x: x.reshape(chains, *x.shape[2:]), out)


def _batch_sums(family, problem, objectives, size, states, truth, batch, key) -> Sums:
  """Gradients of all objectives on one batch, and less their control variates."""
  index, negatives = batch.anchor, family.negatives(problem.query.shape[0], size)
  noise = {
    shape: augmented.log_gamma_noise(key, index.shape[0], shape)
    for shape in {_shape(o) for o in objectives}
  }
  controls = tuple(dict.fromkeys(map(_control, objectives)))
  memory = dict(zip(_memories(objectives), states, strict=True))

  def loss_of(objective):
    state = memory[_memory(objective)] if objective.stateful else None
    return lambda rows: bias.minibatch_loss(
      objective,
      rows,
      negatives=negatives,
      log_noise=noise[_shape(objective)],
      log_exact=truth.log_norm[index],
      state=state,
      index=index,
    )

  all_gradients = bias.gradients(
    lambda params: family.rows(problem, params, batch),
    problem.params,
    [loss_of(o) for o in (*objectives, *controls)],
  )
  plain = all_gradients[: len(objectives)]
  control = all_gradients[len(objectives) :]
  paired = [
    g - target if o.unbiased else g - control[controls.index(_control(o))]
    for o, g, target in zip(objectives, plain, truth.gradient, strict=True)
  ]
  error = plain - truth.gradient  # before squaring: no cancellation of large numbers
  return Sums(plain, jnp.stack(paired), jnp.sum(jnp.square(error), axis=-1))


def _memories(objectives: Objectives) -> Objectives:
  """The different running normalisers, each as an objective without Gamma noise."""
  return tuple(dict.fromkeys(_memory(o) for o in objectives if o.stateful))


def _memory(objective: bias.Objective) -> bias.Objective:
  return objective._replace(shape=None)


def _shape(objective: bias.Objective) -> float | None:
  return objective.shape if objective.form == "augmented" else None


def _control(objective: bias.Objective) -> bias.Objective:
  """The unbiased objective with the same target and the same Gamma draws."""
  return bias.Objective(
    "augmented", "exact", shape=_shape(objective), coupled=objective.coupled
  )
