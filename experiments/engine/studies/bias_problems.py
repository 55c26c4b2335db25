"""Frozen problems of the bias study, whose full-data gradient is known exactly.

`CLUSTERS`: a linear encoder of two views of N points from a Gaussian mixture; an
anchor's negatives are the other N - 1 second views, a batch's are B - 1 of them.
`GAUSSIAN`: the critic x' A y with anchors x and fresh negatives y ~ N(0, I), infinitely
many: log E exp(x' A y) = |A'x|^2 / 2. A batch of B has B negatives and min(B, N)
anchors.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive import augmented, bias, clusters, numerics, synthetic
from contrastive.rows import Rows, cross_rows, queue_rows


class Problem(NamedTuple):
  """A frozen state and the data about it.

  Attributes:
    params: encoder [width, embedding], or critic A [width, width].
    query: [N, width] first view of each anchor's pair.
    key: [N, width] second view.
    scale: [] inverse temperature.
  """

  params: jax.Array
  query: jax.Array
  key: jax.Array
  scale: jax.Array


class Batch(NamedTuple):
  """Anchors of one or many minibatches.

  Attributes:
    anchor: [..., n] anchor numbers, all different within a batch.
    fresh: [..., K, width] negatives drawn for the batch, or an empty tuple.
  """

  anchor: jax.Array
  fresh: jax.Array | tuple = ()


class Family(NamedTuple):
  """What a kind of problem can do; a value for jit's static arguments.

  Attributes:
    rows: (problem, params, batch) -> Rows of one minibatch.
    epoch: (problem, key, size) -> Batch [steps, ...], each anchor at most once.
    log_norm: (problem, params) -> [N] exact log E_j e^n_ij.
    positive: (problem, params) -> [N] positive logits.
    variation: (problem, params) -> [N] CV^2 of e^n over all negatives.
    negatives: (anchors, size) -> K of a batch of that size.
    population: anchors -> number of all negatives of one anchor, or None if infinite.
  """

  rows: Callable
  epoch: Callable
  log_norm: Callable
  positive: Callable
  variation: Callable
  negatives: Callable
  population: Callable


def generalised_gradient(
  family: Family, problem: Problem, coupled: float | None = None
) -> jax.Array:
  """Exact gradient [D] of the mean generalised loss, flat.

  Args:
    family: the problem's.
    problem: a frozen state.
    coupled: as in `bias.generalised_loss`: None, or nominal negatives K.
  """

  def loss(params):
    positive = family.positive(problem, params)
    log_s = family.log_norm(problem, params)
    if coupled is not None:
      log_s = jnp.logaddexp(positive, log_s + jnp.log(1.0 * coupled))
    return jnp.mean(log_s - positive)

  return jax.grad(loss)(problem.params).reshape(-1)


def attraction(family: Family, problem: Problem) -> jax.Array:
  """Norm of the attractive gradient, that of the mean positive logit: the unit."""
  mean = lambda params: jnp.mean(family.positive(problem, params))
  return jnp.linalg.norm(jax.grad(mean)(problem.params))


def predicted_bias(family: Family, problem: Problem, size: int) -> jax.Array:
  """Leading term [D] of the decoupled gradient's bias at batch size `size`."""
  anchors = problem.query.shape[0]
  return bias.leading_bias(
    lambda params: family.variation(problem, params),
    problem.params,
    family.negatives(anchors, size),
    family.population(anchors),
  )


def cluster_problem(
  key: jax.Array,
  *,
  anchors: int,
  width: int,
  embedding: int,
  components: int,
  concentration: float,
  separation: float,
  spread: float,
  view_noise: float,
  temperature: float,
) -> Problem:
  """Two views of points from a random Gaussian mixture, and a random linear encoder."""
  mixture_key, point_key, view_key, encoder_key = jax.random.split(key, 4)
  mixture = clusters.random_clusters(
    mixture_key,
    components,
    width,
    concentration=concentration,
    separation=separation,
    spread=spread,
  )
  points, _ = clusters.sample_points(point_key, mixture, anchors)
  query, key = clusters.sample_pairs(view_key, points, view_noise)
  params = jax.random.normal(encoder_key, (width, embedding)) / jnp.sqrt(width)
  return Problem(params, query, key, jnp.asarray(1 / temperature, jnp.float32))


@functools.partial(jax.jit, static_argnames="steps")
def train(problem: Problem, steps: int, learning_rate: float) -> Problem:
  """The problem after full-batch Adam steps on its generalised (decoupled) loss."""
  optimizer = optax.adam(learning_rate)

  def loss(params):
    log_s = CLUSTERS.log_norm(problem, params)
    return jnp.mean(log_s - CLUSTERS.positive(problem, params))

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  start = (problem.params, optimizer.init(problem.params))
  (params, _), _ = jax.lax.scan(step, start, length=steps)
  return problem._replace(params=params)


def gaussian_problem(
  key: jax.Array,
  *,
  anchors: int,
  width: int,
  radius: float,
  view_noise: float,
  gain: float,
) -> Problem:
  """The noise study's problem (`synthetic.gaussian_problem`), frozen at A = gain A*.

  A* minimises the generalised loss `-<A, X'Y / N> + mean_i |A'x_i|^2 / 2`: at gain 1
  the exact gradient is zero, and whatever a minibatch adds on average is bias.
  """
  made = synthetic.gaussian_problem(
    key, anchors=anchors, width=width, radius=radius, view_noise=view_noise
  )
  return Problem(
    gain * made.optimum, made.anchors, made.positives, jnp.ones((), jnp.float32)
  )


def _project(x, params):
  return jnp.matmul(x, params, precision=jax.lax.Precision.HIGHEST)


def _cluster_rows(problem, params, batch):
  query = numerics.unit(_project(problem.query[batch.anchor], params))
  key = numerics.unit(_project(problem.key[batch.anchor], params))
  return cross_rows(query, key, scale=problem.scale)


def _all_cluster_rows(problem, params) -> Rows:
  return _cluster_rows(problem, params, Batch(jnp.arange(problem.query.shape[0])))


def _permuted(problem, key, size):
  """Disjoint batches [steps, size] of the anchors in random order, rest dropped."""
  anchors = problem.query.shape[0]
  steps = anchors // size
  return jax.random.permutation(key, anchors)[: steps * size].reshape(steps, size)


def _cluster_epoch(problem, key, size):
  return Batch(_permuted(problem, key, size))


def _gaussian_rows(problem, params, batch):
  query = _project(problem.query[batch.anchor], params)
  return queue_rows(query, problem.key[batch.anchor], batch.fresh, scale=problem.scale)


def _gaussian_epoch(problem, key, size):
  order_key, fresh_key = jax.random.split(key)
  anchors, width = problem.key.shape
  index = _permuted(problem, order_key, min(size, anchors))
  fresh = jax.random.normal(fresh_key, (index.shape[0], size, width))
  return Batch(index, fresh)


def _gaussian_variance(problem, params):
  return jnp.sum(jnp.square(_project(problem.query, params)), axis=-1)


CLUSTERS = Family(
  rows=_cluster_rows,
  epoch=_cluster_epoch,
  log_norm=lambda problem, params: augmented.log_normalizer(
    _all_cluster_rows(problem, params)
  ),
  positive=lambda problem, params: _all_cluster_rows(problem, params).positive,
  variation=lambda problem, params: bias.squared_variation(
    _all_cluster_rows(problem, params)
  ),
  negatives=lambda anchors, size: size - 1,
  population=lambda anchors: anchors - 1,
)

GAUSSIAN = Family(
  rows=_gaussian_rows,
  epoch=_gaussian_epoch,
  log_norm=lambda problem, params: _gaussian_variance(problem, params) / 2,
  positive=lambda problem, params: jnp.sum(
    _project(problem.query, params) * problem.key, axis=-1
  ),
  variation=lambda problem, params: jnp.expm1(_gaussian_variance(problem, params)),
  negatives=lambda anchors, size: size,
  population=lambda anchors: None,
)
