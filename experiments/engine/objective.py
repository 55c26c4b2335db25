"""What an objective is to the training step: pure functions with explicit state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Views(NamedTuple):
  """Embeddings of a batch of n images, not yet of unit length.

  Attributes:
    query_a: [n, d] first views, with gradient.
    query_b: [n, d] second views, with gradient.
    key_a: [n, d] what first views are compared with: query_a itself (SimCLR), or the
      target network's embedding, without gradient (MoCo-v3).
    key_b: [n, d] the same of the second views.
    ids: [n] stable example numbers in the data set.
    labels: [n] classes, for supervised objectives only.
  """

  query_a: jax.Array
  query_b: jax.Array
  key_a: jax.Array
  key_b: jax.Array
  ids: jax.Array
  labels: jax.Array


class Execution(NamedTuple):
  """How pairs are computed; values and gradients are the same.

  Attributes:
    axis_name: device axis of the batch: the loss then runs inside shard_map, on this
      device's rows. None: one device.
    block_size: anchors of a tile of the linear-memory form; None: one matrix.
    ring: rows walk round the devices instead of being gathered.
    split: per-anchor state is divided over the devices.
  """

  axis_name: str | None = None
  block_size: int | None = None
  ring: bool = False
  split: bool = False

  @property
  def plain(self) -> bool:
    """Whether the logits of all pairs are one matrix."""
    return self.block_size is None and not self.ring

  @property
  def pairs(self) -> dict[str, Any]:
    """The arguments of `contrastive`'s losses."""
    return dict(axis_name=self.axis_name, block_size=self.block_size, ring=self.ring)


ONE_DEVICE = Execution()


class Pairing(NamedTuple):
  """Which anchors a batch has, and what they are compared with.

  Attributes:
    name: of the method.
    anchors: (views, scale, execution) -> the anchors' logits or their sums: copies * n
      of them, the first of each example, then the second, and so on.
    copies: anchors of an example.
    alike: whether an example's anchors are draws of one and the same (two views of an
      image), so that they share a running normaliser.
    negatives: batch -> negatives of an anchor.
  """

  name: str
  anchors: Callable[..., Any]
  copies: int
  alike: bool
  negatives: Callable[[int], int]


class Objective(NamedTuple):
  """An objective as pure functions.

  Attributes:
    params: learned scalars (temperature, bias) by name; {} if there are none.
    init: number of examples, embedding width -> state (a pytree).
    loss: (params, views, state, key) -> (values, new state, metrics); the mean of the
      values is minimised, over all devices of the execution's axis. State and metrics
      are the same on all devices, but for what is split.
    negatives: batch -> negatives of an anchor, or None where there are none.
    chance: batch -> loss of equal embeddings, or None where that is no constant.
    split: tree prefix of the state: True for leaves whose rows are divided over the
      devices.
  """

  params: dict[str, jax.Array]
  init: Callable[[int, int], Any]
  loss: Callable[..., tuple[jax.Array, Any, dict[str, jax.Array]]]
  negatives: Callable[[int], int | None]
  chance: Callable[[int], float | None]
  split: Any = False


# Per-anchor state is padded to a multiple of this, so that all counts of devices that
# divide it can share it out, and so that its size does not depend on their number.
ANCHORS_MULTIPLE = 1024
