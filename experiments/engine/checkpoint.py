"""Checkpoints of a run: saved in whole steps, verified when read, set aside if damaged.

A step is what Orbax writes of the state and, beside it, a digest of each leaf. Orbax
writes under another name first, so that a killed process leaves the steps before it
whole; the digests find the bits that turned since.
"""

import hashlib
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from experiments.engine import digests, errors, hosts


class Checkpoints:
  """Steps of one run under `<workdir>/checkpoints`; use as a context manager.

  The latest `keep` steps stay, and the one with the lowest loss.

  Args:
    workdir: folder of the run.
    keep: how many of the latest steps stay.

  Raises:
    UserError: the folder cannot be written.
  """

  def __init__(self, workdir: str, keep: int = 2):
    self.workdir = pathlib.Path(workdir).resolve()
    self.folder = self.workdir / "checkpoints"
    self._keep = keep
    self._manager = self._open()
    self.saved_at = time.monotonic()

  def _open(self) -> ocp.CheckpointManager:
    loss = lambda metrics: -metrics.get("loss", float("inf"))
    policy = managers.AnyPreservationPolicy(
      [managers.LatestN(self._keep), managers.BestN(get_metric_fn=loss, n=1)]
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policy, best_fn=loss, create=True
    )
    items = {
      "state": ocp.StandardCheckpointHandler(),
      "about": ocp.JsonCheckpointHandler(),
    }
    make = lambda: ocp.CheckpointManager(
      epath.Path(self.folder), options=options, item_handlers=items
    )
    try:
      return make()
    except OSError as error:
      raise errors.UserError(
        f"cannot write checkpoints to {self.folder} ({error.strerror or error}); "
        "choose another --workdir or make room"
      ) from error
    except ValueError:  # the losses of all steps are read at once
      for step in self.folder.glob("[0-9]*"):
        try:
          json.loads((step / "metrics" / "metrics").read_text())
        except (ValueError, OSError) as error:
          self._move(int(step.name), error)
      return make()

  def latest(self) -> int | None:
    """Number of the latest step, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, loss: float = float("inf")) -> None:
    """Starts to save a state; it may be donated right afterwards.

    Args:
      step: steps done.
      state: arrays on devices.
      loss: by which the best step is chosen.

    Raises:
      UserError: the step before, or this one, could not be written.
    """
    if step == self.latest():
      return
    written = digests.of_tree(state)
    about = {"digests": written, "sha256": _sha256(written)}
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(about)
        ),
        metrics={"loss": loss if np.isfinite(loss) else 1e30},
        force=True,
      )
    except (OSError, ValueError) as error:
      raise self._not_written(error) from error
    self.saved_at = time.monotonic()

  def wait(self) -> None:
    """Waits until what was saved is on disk.

    Raises:
      UserError: it could not be written; the steps before it are whole.
    """
    try:
      self._manager.wait_until_finished()
    except (OSError, ValueError) as error:
      raise self._not_written(error) from error

  def restore(self, template: Any) -> Any:
    """The latest whole state, in the shapes, types and layout of `template`.

    A damaged step is named, moved to `<workdir>/damaged`, and the one before it read.

    Raises:
      UserError: there is no checkpoint, all are damaged, or they are of another model.
    """
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
    return self._restored(lambda step: abstract, digests.forms(template))

  def restore_tree(self) -> dict:
    """The latest whole state as nested dicts on the first device, of any shapes."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one)

    def abstract(step):
      return jax.tree.map(place, self._manager.item_metadata(step).state.tree)

    return self._restored(abstract, None)

  def _restored(self, abstract, expected):
    if self.latest() is None:
      raise errors.UserError(
        f"no checkpoint under {self.folder}; train first: "
        "python -m experiments.pretrain"
      )
    while (step := self.latest()) is not None:
      try:
        written = self._written(step)
        if expected is not None:
          self._check_forms(step, written, expected)
        args = ocp.args.StandardRestore(abstract(step))
        state = self._manager.restore(step, args=ocp.args.Composite(state=args)).state
        turned = _differing(written, digests.of_tree(state))
        if turned:
          raise ValueError(
            f"{len(turned)} arrays are not what was saved, such as {turned[0]}"
          )
        return state
      except errors.UserError:
        raise
      # Whatever a file of random content makes Orbax or TensorStore raise.
      except Exception as error:
        self._set_aside(step, error)
    raise errors.UserError(
      f"all checkpoints of {self.workdir} are damaged; they were moved to "
      f"{self.workdir / 'damaged'}: restore the folder from a copy, or delete it and "
      "start again"
    )

  def _written(self, step: int) -> dict[str, str]:
    """Digests as they were when the step was saved."""
    args = ocp.args.Composite(about=ocp.args.JsonRestore())
    about = self._manager.restore(step, args=args).about
    if about["sha256"] != _sha256(about["digests"]):
      raise ValueError("the list of digests is not what was saved")
    return about["digests"]

  def _check_forms(self, step, written: Mapping[str, str], expected: Mapping[str, str]):
    """A state of another model is no damage, and must not be set aside."""
    found = {path: text.split(" ")[0] for path, text in written.items()}
    differ = _differing(found, expected)
    if not differ:
      return
    path = differ[0]
    raise errors.UserError(
      f"checkpoint {self.folder / str(step)} is of another model: {len(differ)} arrays "
      f"differ, such as {path}: {found.get(path, 'missing')} there, "
      f"{expected.get(path, 'none')} here; choose another --workdir or the old config"
    )

  def _set_aside(self, step: int, error: Exception) -> None:
    self._manager.close()
    self._move(step, error)
    self._manager = self._open()

  def _move(self, step: int, error: Exception) -> None:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    aside = self.workdir / "damaged"
    print(f"warning: checkpoint {step} is damaged ({reason}); moved to {aside}")
    if hosts.first():
      aside.mkdir(exist_ok=True)
      (self.folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")
    hosts.wait(f"set aside {step}")

  def _not_written(self, error):
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
    whole = self._manager.all_steps()
    kept = f"step {max(whole)} is whole" if whole else "no step is there yet"
    return errors.UserError(
      f"a checkpoint could not be written to {self.folder} ({reason}); {kept}: make "
      "room and run the same command again"
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    try:
      self.wait()
    except errors.UserError:
      if kind is None:
        raise  # else the first error is the one to tell
    finally:
      self._manager.close()


def _sha256(content: Any) -> str:
  return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _differing(a: Mapping[str, str], b: Mapping[str, str]) -> list[str]:
  """Keys whose values differ, or that only one of the two has."""
  return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
