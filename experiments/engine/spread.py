"""The loss over a batch that is divided over the devices."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import Mesh, PartitionSpec

from contrastive import axes
from experiments.engine import errors, mesh
from experiments.engine.objective import ANCHORS_MULTIPLE, Execution, Objective
from experiments.engine.state import TrainState

# mesh.negatives=auto gathers embeddings up to so many bytes on each device: 131,072
# rows of 512 float32. Beyond, the rows walk.
_GATHER_AT_MOST = 256 * 2**20


def execution(
  config: ml_collections.ConfigDict, devices: Mesh, *, anchors: int, width: int
) -> Execution:
  """How the pairs of a global batch are computed on these devices.

  Args:
    config: `negatives`: gather, ring, or auto, which gathers while that is small; and
      `block_size`: anchors of a tile, or 0 for one matrix.
    devices: the mesh.
    anchors: rows of the global batch, both views counted.
    width: of an embedding.

  Raises:
    UsageError: no such way, or a block that is negative or larger than the batch.
  """
  ways = ["gather", "ring", "auto"]
  if config.negatives not in ways:
    raise errors.unknown("mesh.negatives", config.negatives, ways)
  if not 0 <= config.block_size <= anchors:
    raise errors.UsageError(
      f"mesh.block_size {config.block_size} is not between 1 and the {anchors:,} rows "
      "of the batch; 512 is usual, 0 is the form with one matrix"
    )
  block_size = config.block_size or None
  if devices.size == 1:
    return Execution(block_size=block_size)
  large = anchors * width * 4 > _GATHER_AT_MOST
  return Execution(
    axis_name=mesh.BATCH_AXIS,
    block_size=block_size,
    ring=config.negatives == "ring" or (config.negatives == "auto" and large),
    split=ANCHORS_MULTIPLE % devices.size == 0,
  )


def spread_objective(objective: Objective, devices: Mesh, how: Execution) -> Objective:
  """The objective over a batch that is divided over the devices.

  Each device has its rows; what is needed of the others' is gathered or walks round,
  as the objective was built. Values come back as their mean over the batch. On one
  device it stays as it is.
  """
  if how.axis_name is None:
    return objective
  whole, split = PartitionSpec(), PartitionSpec(mesh.BATCH_AXIS)
  state = jax.tree.map(lambda divided: split if divided else whole, objective.split)

  def local(params, views, state, key):
    values, state, metrics = objective.loss(params, views, state, key)
    if values.ndim:
      values = axes.mean(jnp.mean(values), mesh.BATCH_AXIS)
    return values, state, metrics

  mapped = jax.shard_map(
    local,
    mesh=devices,
    in_specs=(whole, split, state, whole),
    out_specs=(whole, state, whole),
  )
  return objective._replace(loss=mapped)


def state_shardings(objective: Objective, devices: Mesh) -> TrainState:
  """Where the parts of a training state lie, as a tree prefix."""
  whole, split = mesh.replicated(devices), mesh.split_batch(devices)
  fields: dict[str, Any] = dict.fromkeys(
    (f.name for f in dataclasses.fields(TrainState)), whole
  )
  fields["objective"] = jax.tree.map(
    lambda divided: split if divided else whole, objective.split
  )
  return TrainState(**fields)
