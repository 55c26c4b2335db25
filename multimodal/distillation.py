"""Cross entropy against targets mixed with a momentum model's, and its global mean.

Momentum distillation is what all losses and tasks of ALBEF share: a slowly moving copy
of the model (`contrastive.target.ema`) names what else might be right, besides the one
pair or word of the data,

  t = (1 - alpha) targets + alpha softmax(teacher).

No gradient flows into the targets. Li et al. 2021, Align before Fuse, sec. 3.3.
"""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import axes, numerics
from multimodal.pairing import wide


def alpha_ramp(step: jax.Array | int, *, steps: int, alpha: float = 0.4) -> jax.Array:
  """Weight of the momentum model's targets: linear from 0 to alpha, then alpha.

  Early in training the momentum model knows nothing. ALBEF ramps over the first epoch.

  Args:
    step: optimiser step, from 0.
    steps: length of the ramp; 0 for alpha at once.
    alpha: the weight after the ramp, in [0, 1].

  Raises:
    ValueError: a negative length, or alpha outside [0, 1].
  """
  if steps < 0:
    raise ValueError(f"a ramp takes 0 steps or more, not {steps}")
  check_alpha(alpha)
  done = jnp.clip(jnp.asarray(step, jnp.float32) / max(steps, 1), 0, 1)
  return jnp.float32(alpha) * (done if steps else jnp.ones_like(done))


def check_alpha(alpha: jax.Array | float) -> None:
  """Raises ValueError for an alpha known to be outside [0, 1]."""
  if isinstance(alpha, jax.core.Tracer):
    return
  # NumPy, because inside `jit` even a comparison of known numbers is traced by jnp.
  if not np.all((0 <= np.asarray(alpha)) & (np.asarray(alpha) <= 1)):
    raise ValueError(
      f"alpha is the weight of the momentum model's targets, in [0, 1], not {alpha}"
    )


def mixed_targets(
  targets: jax.Array,
  teacher: jax.Array | None,
  *,
  alpha: jax.Array | float,
  where: jax.Array | None = None,
) -> jax.Array:
  """`(1 - alpha) targets + alpha softmax(teacher)`, without gradient.

  Args:
    targets: [..., m] distributions.
    teacher: [..., m] logits of the momentum model; None if alpha is the number 0.
    alpha: weight in [0, 1], one number.
    where: [..., m] booleans, the candidates of the softmax, or None for all.

  Returns:
    [..., m] in float32 or wider. Without candidates a softmax is all zeros.

  Raises:
    ValueError: alpha is outside [0, 1], or not 0 without a teacher.
  """
  check_alpha(alpha)
  targets = wide(targets)
  if teacher is None:
    if not isinstance(alpha, (int, float)) or alpha:
      raise ValueError(
        f"alpha={alpha} weighs the momentum model's logits, and there are none; pass "
        "them, or alpha=0.0"
      )
    return jax.lax.stop_gradient(targets)
  teacher = wide(teacher)
  admitted = jnp.ones_like(teacher, bool) if where is None else where
  log_sum = numerics.log_sum_exp(teacher, admitted)[..., None]
  relative = jnp.where(admitted, teacher - log_sum, -jnp.inf)
  alpha = jnp.asarray(alpha, teacher.dtype)
  mixed = (1 - alpha) * targets + alpha * jnp.exp(relative)
  return jax.lax.stop_gradient(mixed)


def soft_cross_entropy(
  logits: jax.Array, targets: jax.Array, where: jax.Array | None = None
) -> jax.Array:
  """`-sum_j t_j log softmax(logits)_j` over the last axis.

  Args:
    logits: [..., m], of any size; what `where` leaves out may be anything, even NaN.
    targets: [..., m] weights >= 0; those of what is left out do not count.
    where: [..., m] booleans, the candidates, or None for all.

  Returns:
    [...] nats in float32 or wider; 0 for a row whose targets are all 0.
  """
  logits, targets = wide(logits), wide(targets)
  if where is not None:
    logits, targets = (jnp.where(where, x, 0) for x in (logits, targets))
  mass = jnp.sum(targets, axis=-1)
  some = mass > 0
  mean = jnp.sum(targets * logits, axis=-1) / jnp.where(some, mass, 1)
  if where is not None:
    where = where | ~some[..., None]  # so that no -inf enters an empty row's gradient
  # Logits relative to the targets' mean: `log sum e^s - mean` would cancel when both
  # are large, and lose a small loss and its gradient.
  log_sum = numerics.log_sum_exp(logits - mean[..., None], where)
  return jnp.where(some, mass * log_sum, 0)


def global_mean(
  values: jax.Array, where: jax.Array, axis_name: str | None = None
) -> jax.Array:
  """Mean over the admitted values of all devices, of which each may have another count.

  Args:
    values: any shape; what is left out may be anything, even NaN.
    where: booleans of that shape.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [] the same on all devices; 0 if nothing is admitted.
  """
  total = axes.mean(jnp.sum(jnp.where(where, values, 0)), axis_name)
  # The mean of the devices' counts: the number of devices cancels.
  count = axes.mean(jnp.sum(where).astype(total.dtype), axis_name)
  return total / jnp.where(count > 0, count, 1)
