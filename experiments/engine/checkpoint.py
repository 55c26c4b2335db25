"""Checkpoints of a run through Orbax: save, find the latest, restore."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from experiments.engine import errors


class Checkpoints:
  """Steps of one run under `<workdir>/checkpoints`; use as a context manager.

  Args:
    workdir: folder of the run.
    keep: how many of the latest steps stay.
  """

  def __init__(self, workdir: str, keep: int = 2):
    self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    self._manager = ocp.CheckpointManager(
      epath.Path(self.folder),
      options=options,
      item_handlers=ocp.StandardCheckpointHandler(),
    )

  def latest(self) -> int | None:
    """Number of the latest whole step, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any) -> None:
    """Starts to save a state; it may be donated right afterwards."""
    if step != self.latest():
      self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

  def restore(self, template: Any) -> Any:
    """The latest state, in the shapes, types and layout of `template`.

    Raises:
      UserError: there is no checkpoint, or it does not fit the template.
    """
    step = self.latest()
    if step is None:
      raise errors.UserError(
        f"no checkpoint under {self.folder}; train first: "
        "python -m experiments.pretrain"
      )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    try:
      return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except (ValueError, KeyError, OSError) as error:
      raise errors.UserError(
        f"checkpoint {self.folder / str(step)} cannot be restored "
        f"({' '.join(str(error).split())[:200]}); it is damaged or of another model"
      ) from error

  def restore_tree(self) -> dict:
    """The latest state as nested dicts on the first device, whatever its shapes."""
    step = self.latest()
    if step is None:
      return self.restore({})
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one),
      self._manager.item_metadata(step),
    )
    return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.wait_until_finished()
    self._manager.close()
