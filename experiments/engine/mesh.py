"""Devices: one mesh axis for the batch, everything else replicated."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.engine import errors

BATCH_AXIS = "data"


def data_mesh() -> Mesh:
  """All devices in one row along the batch axis."""
  # Auto axes: with Explicit ones (jax.make_mesh's default) linen's Dropout raises.
  return Mesh(np.array(jax.devices()), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
  """Leading axis divided over the devices."""
  return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def check_batch(batch: int, mesh: Mesh, accum_steps: int = 1) -> None:
  """Raises UsageError unless the global batch divides over devices and parts."""
  if accum_steps < 1:
    raise errors.UsageError(
      f"accum_steps is the number of parts of a batch, at least 1, not {accum_steps}"
    )
  d = mesh.size * accum_steps
  if batch < 1 or batch % d:
    lower = batch // d * d
    choices = f"{lower} or {lower + d}" if lower else f"{d}"
    of = f"{mesh.size} devices"
    if accum_steps > 1:
      of += f" times {accum_steps} parts (accum_steps)"
    raise errors.UsageError(
      f"batch {batch} is not a multiple of {of}; try --config.batch={choices}"
    )
