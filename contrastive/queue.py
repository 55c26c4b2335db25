"""MoCo's queue of earlier keys: pure `init` and `push`.

He et al. 2020, algorithm 1, without its condition that the batch divide the queue: any
size goes with any batch. `rows.queue_rows(query, key, state.keys, ...)` turns the queue
into negatives. A slot of zeros is one that was never filled and is not a negative.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes


class Queue(NamedTuple):
  """The k latest keys, in a ring.

  Attributes:
    keys: [k, d] unit rows; zeros where not filled yet.
    start: [] int32, the slot that is written next: the oldest, once all are filled.
  """

  keys: jax.Array
  start: jax.Array


def init(size: int, width: int) -> Queue:
  """An empty queue of `size` keys of `width` entries, in float32."""
  if size < 1 or width < 1:
    raise ValueError(
      f"a queue needs a size and a width of at least 1, not {size} and {width}"
    )
  return Queue(jnp.zeros((size, width), jnp.float32), jnp.zeros((), jnp.int32))


def push(state: Queue, keys: jax.Array, axis_name: str | None = None) -> Queue:
  """Replaces the oldest keys by a batch; no gradient flows to them.

  Args:
    state: the queue, the same on all devices.
    keys: [n, d] unit rows. Of a global batch larger than the queue the last stay.
    axis_name: device axis whose devices hold other keys of the batch, or None.

  Returns:
    The queue with the keys of all devices, in device order; the same on all devices.
  """
  size, width = state.keys.shape
  if keys.ndim != 2 or keys.shape[1] != width:
    raise ValueError(
      f"the queue holds keys of width {width}, not an array of shape {keys.shape}"
    )
  keys = jax.lax.stop_gradient(keys).astype(state.keys.dtype)
  # An all-reduce rather than an all-gather, so that shard_map sees a replicated state.
  keys = axes.gather_replicated(keys, axis_name)
  pushed = keys.shape[0]
  kept = min(pushed, size)
  slots = (state.start + (pushed - kept) + jnp.arange(kept)) % size
  return Queue(
    keys=state.keys.at[slots].set(keys[pushed - kept :], unique_indices=True),
    start=(state.start + pushed) % size,
  )
