import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive import queue

_push = jax.jit(queue.push)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.sampled_from([1, 2, 3, 5, 7]), min_size=1, max_size=5))
def test_any_batches_leave_the_latest_keys_in_order(batches):
  size = 5
  state, latest, number = queue.init(size, 2), collections.deque(maxlen=size), 0
  for n in batches:
    keys = np.stack([np.arange(n) + number + 1.0, np.ones(n)], axis=1)
    state = _push(state, keys.astype(np.float32))
    latest.extend(keys[:, 0])
    number += n
  assert state.start == number % size
  # Read from the slot that is written next, the oldest first.
  ring = np.roll(state.keys[:, 0], -int(state.start))
  empty = size - len(latest)
  np.testing.assert_array_equal(ring, [0] * empty + list(latest))


def test_a_new_queue_is_empty_and_of_float32():
  state = queue.init(4, 3)
  assert state.keys.shape == (4, 3) and state.keys.dtype == jnp.float32
  assert not state.keys.any() and state.start == 0
  pushed = _push(state, jnp.ones((2, 3), jnp.bfloat16))
  assert pushed.keys.dtype == jnp.float32


def test_a_push_keeps_the_types_so_that_scan_can_carry_the_state():
  keys = np.arange(24.0, dtype=np.float32).reshape(4, 2, 3)
  push = lambda state, batch: (queue.push(state, batch), None)
  state, _ = jax.lax.scan(push, queue.init(5, 3), keys)
  flat = keys.reshape(8, 3)
  np.testing.assert_array_equal(state.keys, flat[[5, 6, 7, 3, 4]])


def test_no_gradient_flows_into_the_queue():
  state = queue.init(4, 3)
  total = lambda keys: queue.push(state, keys).keys.sum()
  assert not jax.grad(total)(jnp.ones((2, 3))).any()


def test_wrong_sizes_are_refused():
  with pytest.raises(ValueError, match="at least 1"):
    queue.init(0, 3)
  with pytest.raises(ValueError, match="width 3"):
    queue.push(queue.init(4, 3), jnp.ones((2, 5)))
