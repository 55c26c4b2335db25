"""Config -> optax optimiser: schedule, weight-decay mask, SGD, LARS or AdamW."""

import jax
import ml_collections
import optax

from contrastive import target
from experiments.engine import errors


def build_schedule(
  config: ml_collections.ConfigDict, batch: int, steps: int
) -> optax.Schedule:
  """Linear warm-up, then cosine decay to zero at the last step.

  Args:
    config: `learning_rate`, `warmup` (share of the steps), `scaling` (none, linear or
      sqrt: the rate is given at batch 256 and grows so with the global batch).
    batch: global batch.
    steps: total number of steps.

  Raises:
    UsageError: unknown scaling, or warm-up outside [0, 1).
  """
  factors = {"none": 1.0, "linear": batch / 256, "sqrt": (batch / 256) ** 0.5}
  if config.scaling not in factors:
    raise errors.unknown("optimizer.scaling", config.scaling, factors)
  if not 0 <= config.warmup < 1:
    raise errors.UsageError(
      f"optimizer.warmup is a share of the steps in [0, 1), not {config.warmup}"
    )
  peak = config.learning_rate * factors[config.scaling]
  warmup = round(config.warmup * steps)
  return optax.join_schedules(
    [
      # Starts above 0: a first step of rate 0 would be a wasted batch.
      lambda step: peak * (step + 1) / max(warmup, 1),
      optax.cosine_decay_schedule(peak, max(steps - warmup, 1)),
    ],
    [warmup],
  )


def build_optimizer(
  config: ml_collections.ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """The optimiser that `config.name` names: sgd, lars or adamw.

  Weight decay, and LARS' trust ratio, leave biases, norm scales and learned scalars
  alone: whatever has fewer than two axes.
  """
  makers = {
    "sgd": lambda: optax.chain(
      optax.add_decayed_weights(config.weight_decay, decay_mask),
      optax.sgd(schedule, momentum=config.momentum),
    ),
    "lars": lambda: optax.lars(
      schedule,
      weight_decay=config.weight_decay,
      weight_decay_mask=decay_mask,
      trust_ratio_mask=decay_mask,
      momentum=config.momentum,
    ),
    "adamw": lambda: optax.adamw(
      schedule, b2=config.b2, weight_decay=config.weight_decay, mask=decay_mask
    ),
  }
  if config.name not in makers:
    raise errors.unknown("optimizer", config.name, makers)
  chain = [makers[config.name]()]
  if config.clip_norm:
    chain.insert(0, optax.clip_by_global_norm(config.clip_norm))
  return optax.chain(*chain)


def decay_mask(params):
  """True for kernels (two axes or more), False for biases, scales and scalars."""
  return jax.tree.map(lambda x: x.ndim > 1, params)


def target_momentum(base: float, steps: int, *, constant: bool = False):
  """Step -> decay of the target network: a cosine from `base` to 1, or `base`.

  Raises:
    UsageError: base outside [0, 1].
  """
  if not 0 <= base <= 1:
    raise errors.UsageError(f"target_momentum lies in [0, 1], not {base}")
  if constant:
    return lambda step: base
  return lambda step: target.cosine_decay_schedule(step, steps, base)
