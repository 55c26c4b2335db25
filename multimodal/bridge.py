"""Brownian bridge: an augmented embedding lies on the way from one tower to the other.

Between the rows of two towers the bridge at time t is normal, with mean
t own + (1 - t) other, put back on the sphere, and variance t (1 - t). The loss is the
squared distance of the augmented row to that mean. Time 1 is the tower whose input is
augmented and time 0 the other one: at the published t = 0.25, three quarters of the
mean come from the *other* tower. Jiang et al. 2023, Understanding and Constructing
Latent Modality Structures, sec. 4.2.
"""

from collections.abc import Collection

import jax
import jax.numpy as jnp

from contrastive import axes
from multimodal.pairing import check_towers, wide

WEIGHTS = ("variance", "likelihood")
STOPPABLE = ("own", "other", "view")

# Means shorter than this are of opposite rows and have no direction; they are divided
# by it, so that the gradient stays below 2 / 1e-3.
_SHORTEST = 1e-3


def bridge_loss(
  own: jax.Array,
  other: jax.Array,
  view: jax.Array,
  *,
  t: jax.Array | float = 0.25,
  weighted: str | None = None,
  stop_gradient: Collection[str] = (),
  axis_name: str | None = None,
) -> jax.Array:
  """`w(t) |view - unit(t own + (1 - t) other)|^2`.

  Of a fixed t the weight is a constant, so None is all there is to choose. Of sampled
  times:

    None            1: near both ends the distance to one tower alone counts.
    "variance"      t (1 - t): those ends count little, the middle most. With uniform
                    times it is a sixth of drawing them from Beta(2, 2).
    "likelihood"    1 / (2 t (1 - t)): the bridge's negative log likelihood, without
                    the log variance, which has no gradient. At its ends the bridge is
                    pinned, so the expectation over uniform times in (0, 1) is
                    *infinite* unless the rows coincide: keep them away from the ends.

  Args:
    own: [n, d] unit rows of the tower that is augmented.
    other: [n, d] unit rows of another tower.
    view: [n, d] unit rows of the augmented inputs of the own tower.
    t: time in [0, 1], or [n] times, as `sample_times` draws them.
    weighted: None, "variance" or "likelihood".
    stop_gradient: of "own", "other" and "view", those that get no gradient (none as
      published).
    axis_name: taken as by every loss here and not used: anchors stand alone.

  Returns:
    [n] in [0, 4 w(t)]; w(t) where the mean is 0.

  Raises:
    ValueError: shapes differ, t is out of range, or a name is unknown.
  """
  del axis_name
  check_towers({"own": own, "other": other, "view": view})
  unknown = sorted(set(stop_gradient) - set(STOPPABLE))
  if isinstance(stop_gradient, str) or unknown:
    raise ValueError(
      f"stop_gradient is a collection of names among {', '.join(STOPPABLE)}, not "
      f"{stop_gradient!r}"
    )
  rows = {"own": wide(own), "other": wide(other), "view": wide(view)}
  rows |= {name: jax.lax.stop_gradient(rows[name]) for name in stop_gradient}
  times = _times(t, own.shape[0], rows["own"].dtype)
  if weighted == "likelihood" and isinstance(t, (int, float)) and t in (0, 1):
    raise ValueError(f"the bridge has no likelihood at its end t={t}; take 0 < t < 1")
  mean = bridge_mean(rows["own"], rows["other"], times)
  squared = jnp.sum(jnp.square(rows["view"] - mean), axis=-1)
  return squared * _weight(times, weighted)


def bridge_mean(own: jax.Array, other: jax.Array, t: jax.Array | float) -> jax.Array:
  """`unit(t own + (1 - t) other)` [n, d]; shorter than unit only at opposite rows.

  Args:
    own: [n, d] unit rows.
    other: [n, d] unit rows.
    t: time in [0, 1], or [n] times.
  """
  own, other = wide(own), wide(other)
  times = _times(t, own.shape[0], own.dtype)[:, None]
  mean = times * own + (1 - times) * other
  squared = jnp.sum(jnp.square(mean), axis=-1, keepdims=True)
  return mean * jax.lax.rsqrt(jnp.maximum(squared, _SHORTEST**2))


def sample_times(
  key: jax.Array,
  n: int,
  *,
  low: float = 0.0,
  high: float = 1.0,
  axis_name: str | None = None,
) -> jax.Array:
  """Uniform times [n] of this device's anchors.

  Drawn for the whole batch and sliced, so that an anchor's time does not depend on the
  number of devices.

  Args:
    key: typed PRNG key, the same on all devices.
    n: anchors on this device.
    low: earliest time, in [0, high).
    high: latest time, at most 1.
    axis_name: device axis with the rest of the batch, or None.

  Raises:
    ValueError: not 0 <= low < high <= 1.
  """
  if not 0 <= low < high <= 1:
    raise ValueError(f"times need 0 <= low < high <= 1, not low={low} and high={high}")
  total = n * axes.size(axis_name)
  times = jax.random.uniform(key, (total,), jnp.float32, minval=low, maxval=high)
  return jax.lax.dynamic_slice_in_dim(times, axes.row_offset(n, axis_name), n)


def _times(t: jax.Array | float, n: int, dtype) -> jax.Array:
  """[n] times."""
  if isinstance(t, (int, float)) and not 0 <= t <= 1:
    raise ValueError(f"t is a time of the bridge, in [0, 1], not {t}")
  times = jnp.asarray(t, dtype)
  if times.shape not in ((), (n,)):
    raise ValueError(
      f"t must be one time or {n}, one a row, not of shape {times.shape}"
    )
  return jnp.broadcast_to(times, (n,))


def _weight(times: jax.Array, weighted: str | None) -> jax.Array:
  """[n] weights, documented at `bridge_loss`."""
  if weighted is None:
    return jnp.ones_like(times)
  if weighted == "variance":
    return times * (1 - times)
  if weighted == "likelihood":
    return 1 / (2 * times * (1 - times))
  raise ValueError(f"unknown weight '{weighted}'; known: {', '.join(WEIGHTS)}, or None")
