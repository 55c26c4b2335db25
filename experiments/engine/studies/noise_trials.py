"""Trials of the noise study: every objective from one start on the same draws.

A trial trains the critic of a `contrastive.synthetic` problem by Adam on minibatches,
with the library's own objectives. Noise level, learning rates and smoothings are
traced, so that one compiled program serves all levels, and vmap all initialisations.
"""

from collections.abc import Callable, Sequence
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
    anchor: [b] numbers of the anchors.
    key: of the auxiliary variables.
    estimate: [b] log s_hat without gradient, over all negatives of the batch: those of
      the rows and the extra ones that only the normaliser sees.
    exact: [b] log normalisers over all negatives: the oracle's knowledge.
    smoothing: [] the objective's tuned number, if it has one.
  """

  rows: Rows
  anchor: jax.Array
  key: jax.Array
  estimate: jax.Array
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
    extra_negatives: of each anchor for its running normaliser only: a forward pass
      without gradient.
  """

  steps: int
  records: int
  batch: int
  negatives: int
  init_scale: float
  extra_negatives: int = 0


def _info_nce(batch, state):
  return infonce.softmax_loss(batch.rows), state


def _decoupled(batch, state):
  return infonce.decoupled_loss(batch.rows), state


def _sogclr(weight: float | None) -> Loss:
  """Plain exponential average, deterministic u; None: the tuned weight."""

  def loss(batch, state):
    state, log_v = normalizer.update(
      state,
      batch.anchor,
      batch.estimate,
      smoothing=normalizer.constant(batch.smoothing if weight is None else weight),
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
    state, log_v = normalizer.update(
      state,
      batch.anchor,
      batch.estimate,
      smoothing=normalizer.decreasing(batch.smoothing),
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


class Learner(NamedTuple):
  """State of one objective's run."""

  critic: jax.Array
  moments: optax.OptState
  normalizers: normalizer.Normalizer


def make_train(objectives: Sequence[Objective], sizes: Sizes) -> Callable:
  """Builds `train(problem, key, sd, rates, smoothings)`: a run of each objective.

  All o objectives start from the same critic and see the same anchors, negatives and
  errors, so that they compare in pairs, and the draws, which cost more than the
  losses, are made once. Rates and smoothings are [o]. The function is pure and may be
  vmapped over any argument. It returns the records [o, records + 1] of
  `synthetic.recovery`, the first of them at the start.
  """
  adam = optax.scale_by_adam()
  decay = optax.cosine_decay_schedule(1.0, sizes.steps)
  compare = jax.vmap(synthetic.recovery, in_axes=(None, 0))

  def train(problem, key, sd, rates, smoothings):
    anchors, width = problem.anchors.shape
    key_init, key_order, key_steps = jax.random.split(key, 3)

    def advance(objective, learner, index, draws, key, rate, smoothing):
      def loss_fn(critic):
        batch = _look(problem, critic, index, draws, sd, sizes, key, smoothing)
        loss, normalizers = objective.loss(batch, learner.normalizers)
        return jnp.mean(loss), normalizers

      gradient, normalizers = jax.grad(loss_fn, has_aux=True)(learner.critic)
      update, moments = adam.update(gradient, learner.moments)
      return Learner(learner.critic - rate * update, moments, normalizers)

    def step(learners, number):
      index = epoch_batch(key_order, number, anchors, sizes.batch)
      key_draw, key_noise = jax.random.split(jax.random.fold_in(key_steps, number))
      total = sizes.negatives + sizes.extra_negatives
      draws = synthetic.draw_batch(key_draw, problem, sizes.batch, total)
      now = rates * decay(number)
      learners = tuple(
        advance(objective, learners[i], index, draws, key_noise, now[i], smoothings[i])
        for i, objective in enumerate(objectives)
      )
      return learners, None

    def stretch(learners, number):
      length = sizes.steps // sizes.records
      steps = number * length + jnp.arange(length)
      learners, _ = jax.lax.scan(step, learners, steps)
      return learners, compare(problem, jnp.stack([one.critic for one in learners]))

    critic = sizes.init_scale * jax.random.normal(key_init, (width, width))
    learner = Learner(critic, adam.init(critic), normalizer.init(anchors))
    start = compare(problem, jnp.stack([critic] * len(objectives)))
    _, records = jax.lax.scan(
      stretch, (learner,) * len(objectives), jnp.arange(sizes.records)
    )
    join = lambda first, rest: jnp.concatenate([first[None], rest]).T
    return jax.tree.map(join, start, records)

  return train


def _look(problem, critic, index, draws, sd, sizes, key, smoothing) -> Batch:
  """What a loss sees of a batch; only the first negatives carry a gradient."""
  m = sizes.negatives
  own = synthetic.Draws(draws.negative[:, :m], draws.error[:, : m + 1])
  rows = synthetic.batch_rows(problem, critic, index, own, sd)
  frozen = jax.lax.stop_gradient(critic)
  wide = synthetic.batch_rows(problem, frozen, index, draws, sd)
  exact = synthetic.exact_log_normalizer(problem, frozen, sd)[index]
  estimate = augmented.log_normalizer(wide)
  return Batch(rows, index, key, estimate, exact, smoothing)


def epoch_batch(key, step, anchors, batch):
  """Numbers [batch] of a step's anchors: each anchor once an epoch, in random order."""
  per_epoch = anchors // batch
  order = jax.random.permutation(jax.random.fold_in(key, step // per_epoch), anchors)
  return jax.lax.dynamic_slice_in_dim(order, (step % per_epoch) * batch, batch)
