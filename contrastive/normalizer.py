"""A running estimate of each anchor's normaliser: pure `init`, `read`, `update`.

The objective's normaliser is `s_i = E_j e^n_ij` over *all* negatives of anchor i. A
minibatch gives an unbiased estimate of s_i but a biased one of 1 / s_i, which is what
the gradient needs. Averaging the estimates over the visits to the anchor,

  v_i <- (1 - g) v_i + g s_hat_i,

shrinks that bias by about g. SogCLR and the augmented objective share this state; they
differ in the smoothing g, in the boost and in the weight that they make of v_i.
Everything is kept as log v_i. One state per direction; save it with the parameters.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes

# Visit number (1 for the first), [n] -> weight of the new estimate, in (0, 1].
Smoothing = Callable[[jax.Array], jax.Array]

# Weight of a new batch in the running level that the boost compares with.
_LEVEL_SMOOTHING = 0.1


class Normalizer(NamedTuple):
  """Running normalisers of N anchors.

  Attributes:
    log_v: [N] log of the estimate; 0 before the first visit.
    count: [N] visits so far.
    level: [] running mean of log s_hat over batches, the scale of "usual".
    updates: [] batches so far.
  """

  log_v: jax.Array
  count: jax.Array  # type: ignore[assignment]  # hides tuple.count
  level: jax.Array
  updates: jax.Array


def init(rows: int) -> Normalizer:
  """State of `rows` anchors that were never visited."""
  if rows < 1:
    raise ValueError(f"a normaliser needs at least 1 anchor, not {rows}")
  return Normalizer(
    log_v=jnp.zeros(rows, jnp.float32),
    count=jnp.zeros(rows, jnp.int32),
    level=jnp.zeros((), jnp.float32),
    updates=jnp.zeros((), jnp.int32),
  )


def read(state: Normalizer, index: jax.Array) -> jax.Array:
  """Log normalisers [n] of the anchors `index` [n]; the level where never visited."""
  log_v = state.log_v[index]
  return jnp.where(state.count[index] > 0, log_v, state.level)


def constant(smoothing: jax.Array | float) -> Smoothing:
  """The same weight g in (0, 1] at each visit; a traced one is not checked.

  0.9, SogCLR's default, is almost no memory; 0.01 wants about 1,000 visits.
  """
  if not isinstance(smoothing, jax.core.Tracer) and not 0 < smoothing <= 1:
    raise ValueError(
      f"smoothing is the weight of the new estimate, in (0, 1], not {smoothing}"
    )
  return lambda visit: jnp.full(visit.shape, smoothing, jnp.float32)


def decreasing(
  numerator: jax.Array | float = 4.0, floor: float = 0.001, ceiling: float = 0.5
) -> Smoothing:
  """`clip(numerator / visit, floor, ceiling)`: the mean over the last visits.

  An anchor's estimate then rests on about visits / numerator of its latest visits:
  short memory while the parameters move fast, long memory once they settle.

  Args:
    numerator: > 0 (a traced one is not checked); 1 would be the plain mean over all
      visits.
    floor: smallest weight, in [0, ceiling].
    ceiling: largest weight after the first visit, in (0, 1].
  """
  positive = isinstance(numerator, jax.core.Tracer) or numerator > 0
  if not positive or not 0 <= floor <= ceiling <= 1 or ceiling == 0:
    raise ValueError(
      "decreasing smoothing needs numerator > 0 and 0 <= floor <= ceiling <= 1, "
      f"not numerator={numerator}, floor={floor}, ceiling={ceiling}"
    )

  def weight(visit):
    return jnp.clip(numerator / visit.astype(jnp.float32), floor, ceiling)

  return weight


def update(
  state: Normalizer,
  index: jax.Array,
  log_value: jax.Array,
  *,
  smoothing: Smoothing | float = 0.1,
  boost: bool = True,
  axis_name: str | None = None,
  split: bool = False,
) -> tuple[Normalizer, jax.Array]:
  """Takes in a batch's estimates and returns the updated normalisers of its anchors.

  The first visit sets v_i = s_hat_i. With `boost` the weight is

    sigmoid(logit(g) + max(log v_i - level, 0)),

  so that an estimate far above the usual level, left over from a bad start or another
  temperature, is forgotten in one visit rather than in log(v) / g.

  Args:
    state: the running normalisers.
    index: [n] anchor numbers in [0, N), no number twice in the global batch.
    log_value: [n] log s_hat of this batch; -inf (no negatives) leaves the anchor as
      it is. No gradient flows through it.
    smoothing: weight of the new estimate: a number in (0, 1], or a function of the
      visit number such as `decreasing()`.
    boost: forget high leftovers at once.
    axis_name: device axis whose devices hold other anchors of the batch, or None.
    split: each device holds its part of the N anchors, in device order, and updates it
      where it lies; otherwise each holds a replica of the state.

  Returns:
    The new state, and [n] log v_i *after* the update, without gradient. The updated
    value bounds the weight s_hat_i / v_i by 1 / g; the value before has no bound.
  """
  if not callable(smoothing):
    smoothing = constant(smoothing)
  n = index.shape[0]
  index = axes.gather_replicated(index, axis_name)
  new = jax.lax.stop_gradient(log_value).astype(jnp.float32)
  new = axes.gather_replicated(new, axis_name)

  valid = jnp.isfinite(new)
  here = _Slots.of(index, state.log_v.shape[0], axis_name if split else None)
  old, visit = here.take(state.log_v), here.take(state.count) + 1
  batch_level = jnp.sum(jnp.where(valid, new, 0)) / jnp.maximum(jnp.sum(valid), 1)
  g = smoothing(visit)
  level = jnp.where(
    state.updates == 0,
    batch_level,
    (1 - _LEVEL_SMOOTHING) * state.level + _LEVEL_SMOOTHING * batch_level,
  )
  if boost:
    g = jax.nn.sigmoid(_logit(g) + jnp.maximum(old - level, 0))
  mixed = jnp.logaddexp(jnp.log1p(-g) + old, jnp.log(g) + new)
  log_v = jnp.where(visit == 1, new, mixed)
  log_v = jnp.where(valid, log_v, old)

  some = jnp.any(valid)
  state = Normalizer(
    log_v=here.put(state.log_v, log_v),
    count=here.put(state.count, visit - 1 + valid.astype(jnp.int32)),
    level=jnp.where(some, level, state.level),
    updates=state.updates + some.astype(jnp.int32),
  )
  own = jax.lax.dynamic_slice_in_dim(log_v, axes.row_offset(n, axis_name), n)
  return state, own


class _Slots(NamedTuple):
  """Where a batch's anchors lie: `slot` on this device, or `size` for elsewhere."""

  slot: jax.Array
  size: int
  axis_name: str | None

  @classmethod
  def of(cls, index, size, axis_name):
    if axis_name is None:
      return cls(index, size, None)
    slot = index - axes.row_offset(size, axis_name)
    here = (slot >= 0) & (slot < size)
    return cls(jnp.where(here, slot, size), size, axis_name)

  def take(self, values):
    """The batch's values, the same on all devices."""
    found = values.at[self.slot].get(mode="fill", fill_value=0)
    return found if self.axis_name is None else jax.lax.psum(found, self.axis_name)

  def put(self, values, new):
    """The values with the batch's new ones, as far as they lie here."""
    return values.at[self.slot].set(new, mode="drop")


def _logit(g: jax.Array) -> jax.Array:
  return jnp.log(g) - jnp.log1p(-g)
