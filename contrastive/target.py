"""Target network: an exponential moving average of the online one, and its schedule."""

import jax
import jax.numpy as jnp


def ema(target, online, decay: jax.Array | float):
  """`decay * target + (1 - decay) * online`, leaf by leaf; no gradient flows.

  Args:
    target: pytree of arrays. Keep it in float32: at decay 0.999 an update is below
      bfloat16's resolution and would be lost.
    online: pytree of the same structure.
    decay: in [0, 1]; 1 keeps the target, 0 copies online (up to rounding).

  Returns:
    The new target, in float32 or wider. Leaves that are not floating point (counters,
    keys) are online's.

  Raises:
    ValueError: a decay known to be outside [0, 1], or trees that differ.
  """
  if not isinstance(decay, jax.core.Tracer) and not 0 <= decay <= 1:
    raise ValueError(f"the decay of a target network lies in [0, 1], not {decay}")

  def blend(old, new):
    if not jnp.issubdtype(jnp.result_type(new), jnp.floating):
      return new
    dtype = jnp.promote_types(jnp.result_type(old, new), jnp.float32)
    old, new = jnp.asarray(old, dtype), jnp.asarray(new, dtype)
    # As a step towards online, so that equal networks stay exactly equal.
    return old + (1 - jnp.asarray(decay, dtype)) * (new - old)

  return jax.lax.stop_gradient(jax.tree.map(blend, target, online))


def cosine_decay_schedule(
  step: jax.Array | int, steps: int, base: float = 0.996
) -> jax.Array:
  """Decay that rises from `base` at step 0 to 1 at the last step.

  `1 - (1 - base) (cos(pi step / steps) + 1) / 2`; BYOL (Grill et al. 2020),
  section 3.3, and MoCo v3 (base 0.99).

  Args:
    step: optimiser step, from 0; beyond `steps` the decay stays 1.
    steps: length of training, >= 1.
    base: the decay at the start, in [0, 1].
  """
  if steps < 1 or not 0 <= base <= 1:
    raise ValueError(
      f"the schedule needs steps >= 1 and base in [0, 1], not {steps} and {base}"
    )
  done = jnp.clip(jnp.asarray(step, jnp.float32) / steps, 0, 1)
  return 1 - (1 - base) * (jnp.cos(jnp.pi * done) + 1) / 2
