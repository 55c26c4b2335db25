"""Rows that walk round the devices: everybody meets everybody, nothing is gathered."""

from collections.abc import Callable
from typing import Any

import jax

from contrastive import axes

# carry, what is only read, what is changed on the way -> carry, what is changed.
Visit = Callable[[Any, Any, Any], tuple[Any, Any]]


def walk(
  visit: Visit, carry: Any, read: Any, changed: Any, axis_name: str
) -> tuple[Any, Any]:
  """Shows each device's rows to every device, one device after another.

  Each step hands `read` and `changed` to the next device of the ring. Only `changed`
  waits for the visit: rows that are only read travel while the visit computes.

  Args:
    visit: (carry, read, changed) -> (carry, changed), with the shapes that came in.
    carry: what stays on the device.
    read: what travels unchanged, such as keys.
    changed: what travels and collects, such as the keys' gradients.
    axis_name: device axis.

  Returns:
    The last carry, and `changed` back at the device that it set out from.
  """
  devices = axes.size(axis_name)
  onward = [(i, (i + 1) % devices) for i in range(devices)]
  hand_on = lambda tree: jax.tree.map(
    lambda x: jax.lax.ppermute(x, axis_name, onward), tree
  )

  def step(moving, _):
    carry, read, changed = moving
    following = hand_on(read)
    carry, changed = visit(carry, read, changed)
    return (carry, following, hand_on(changed)), None

  (carry, _, changed), _ = jax.lax.scan(
    step, (carry, read, changed), None, length=devices
  )
  return carry, changed
