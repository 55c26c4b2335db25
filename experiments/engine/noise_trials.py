"""Trials of the noise study: one objective, one noise level, many runs in one program.

A trial trains the critic of a `contrastive.synthetic` problem by Adam on minibatches,
with the library's own objectives. Noise level, learning rate and smoothing are traced,
so that one compiled program serves all levels and the tuning.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from contrastive import augmented, infonce, normalizer, synthetic
from contrastive.rows import Rows


class Batch(NamedTuple):
  """What a loss may look at.

  Attributes:
    rows: logits of the batch's anchors, as functions of the critic.
    index: [b] numbers of the anchors.
    key: of the auxiliary variables.
    exact: [b] log normalisers over all negatives: the oracle's knowledge.
    smoothing: [] the objective's tuned number, if it has one.
  """

  rows: Rows
  index: jax.Array
  key: jax.Array
  exact: jax.Array
  smoothing: jax.Array


# (batch, state of the normalisers) -> (loss of each anchor [b], state).
Loss = Callable[[Batch, normalizer.Normalizer], tuple[jax.Array, normalizer.Normalizer]]


class Objective(NamedTuple):
  """A row of the study.

  Attributes:
    label: as it stands in tables and figures.
    loss: the objective.
    smoothing: candidates for its tuned number; () if it has none.
    meaning: of that number.
  """

  label: str
  loss: Loss
  smoothing: tuple[float, ...] = ()
  meaning: str = ""


class Sizes(NamedTuple):
  """What fixes the shape of a trial's program.

  Attributes:
    steps: of Adam; a multiple of `records`.
    records: how often the critic is compared with the optimum, besides the start.
    batch: anchors of a minibatch; divides the number of anchors.
    negatives: of each anchor, drawn anew at each step.
    init_scale: standard deviation of the initial critic's entries.
  """

  steps: int
  records: int
  batch: int
  negatives: int
  init_scale: float


def _info_nce(batch, state):
  return infonce.softmax_loss(batch.rows), state


def _decoupled(batch, state):
  return infonce.decoupled_loss(batch.rows), state


def _sogclr(weight: float | None) -> Loss:
  """Plain exponential average, deterministic u; None: the tuned weight."""

  def loss(batch, state):
    traced = lambda visit: jnp.full(visit.shape, batch.smoothing)
    state, log_v = normalizer.update(
      state,
      batch.index,
      augmented.log_normalizer(batch.rows),
      smoothing=traced if weight is None else weight,
      boost=False,
    )
    return augmented.augmented_loss(batch.rows, log_v), state

  return loss


def _augmented_minibatch(batch, state):
  """Negative control: u drawn from the minibatch's own normaliser."""
  log_s = augmented.log_normalizer(batch.rows)
  noise = augmented.log_gamma_noise(batch.key, log_s.shape[0], 1.0)
  return augmented.augmented_loss(batch.rows, log_s, noise), state


def _running(shape: float | None) -> Loss:
  def loss(batch, state):
    unit = normalizer.decreasing(1.0)
    state, log_v = normalizer.update(
      state,
      batch.index,
      augmented.log_normalizer(batch.rows),
      # decreasing(numerator) for a traced numerator.
      smoothing=lambda visit: unit(visit / batch.smoothing),
    )
    noise = augmented.log_gamma_noise(batch.key, log_v.shape[0], shape)
    return augmented.augmented_loss(batch.rows, log_v, noise), state

  return loss


def _augmented_exact(batch, state):
  return augmented.augmented_loss(batch.rows, batch.exact), state


# Wide enough that no best value lies at an edge for want of a further one.
_NUMERATORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_WEIGHTS = (0.9, 0.1, 0.03, 0.01, 0.003, 0.001)

OBJECTIVES = {
  "info_nce": Objective("InfoNCE", _info_nce),
  "decoupled": Objective("decoupled (DCL)", _decoupled),
  "sogclr": Objective("SogCLR, published weight 0.9", _sogclr(0.9)),
  "sogclr_tuned": Objective(
    "SogCLR, tuned weight", _sogclr(None), _WEIGHTS, "weight of the new estimate"
  ),
  "augmented_minibatch": Objective("augmented, u from minibatch", _augmented_minibatch),
  "augmented_running": Objective(
    "augmented, running u, shape 1", _running(1.0), _NUMERATORS, "numerator"
  ),
  "augmented_running_mean": Objective(
    "augmented, running u, mean", _running(None), _NUMERATORS, "numerator"
  ),
  "augmented_exact": Objective("augmented, exact u (oracle)", _augmented_exact),
}


def make_train(objective: Objective, sizes: Sizes) -> Callable:
  """Builds `train(problem, key, sd, learning_rate, smoothing)` of one run.

  The function is pure and may be vmapped over any argument. It returns the records
  [records + 1] of `synthetic.recovery`, the first of them at the start.
  """
  adam = optax.scale_by_adam()
  decay = optax.cosine_decay_schedule(1.0, sizes.steps)

  def train(problem, key, sd, learning_rate, smoothing):
    anchors, width = problem.anchors.shape
    key_init, key_order, key_steps = jax.random.split(key, 3)

    def loss_fn(critic, state, index, key):
      key_rows, key_noise = jax.random.split(key)
      rows = synthetic.draw_rows(
        key_rows, problem, critic, index, negatives=sizes.negatives, sd=sd
      )
      exact = synthetic.exact_log_normalizer(problem, critic, sd)[index]
      batch = Batch(rows, index, key_noise, exact, smoothing)
      loss, state = objective.loss(batch, state)
      return jnp.mean(loss), state

    def step(carry, number):
      critic, moments, state = carry
      index = epoch_batch(key_order, number, anchors, sizes.batch)
      key = jax.random.fold_in(key_steps, number)
      gradient, state = jax.grad(loss_fn, has_aux=True)(critic, state, index, key)
      update, moments = adam.update(gradient, moments)
      critic = critic - learning_rate * decay(number) * update
      return (critic, moments, state), None

    def stretch(carry, number):
      length = sizes.steps // sizes.records
      carry, _ = jax.lax.scan(step, carry, number * length + jnp.arange(length))
      return carry, synthetic.recovery(problem, carry[0])

    critic = sizes.init_scale * jax.random.normal(key_init, (width, width))
    carry = (critic, adam.init(critic), normalizer.init(anchors))
    start = synthetic.recovery(problem, critic)
    _, records = jax.lax.scan(stretch, carry, jnp.arange(sizes.records))
    return jax.tree.map(lambda a, b: jnp.append(a[None], b), start, records)

  return train


def epoch_batch(key, step, anchors, batch):
  """Numbers [batch] of a step's anchors: each anchor once an epoch, in random order."""
  per_epoch = anchors // batch
  order = jax.random.permutation(jax.random.fold_in(key, step // per_epoch), anchors)
  return jax.lax.dynamic_slice_in_dim(order, (step % per_epoch) * batch, batch)
