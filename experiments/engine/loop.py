"""The training loop: a for-loop that can be read aloud."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.engine import data, errors, hosts, mesh
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.interrupt import Interrupt
from experiments.engine.pretraining.task import TrainSet
from experiments.engine.progress import Progress
from experiments.engine.record import Recorder
from experiments.engine.state import TrainState
from experiments.engine.step import Batch, Step

# A compiled step: (state, batch, key) -> (state, metrics); it gives the state away.
Compiled = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Plan:
  """How long a run is, and when it writes.

  Attributes:
    steps: of the whole run.
    batch: global batch.
    seed: of the data order.
    log_every: steps between lines of metrics.jsonl.
    save_every: steps between checkpoints; 0: not by steps.
    save_minutes: minutes between checkpoints; 0: not by time.
    skip_bad_steps: how many steps without a finite gradient may be left out, in all.
    chance: loss of equal embeddings, shown beside the loss, or None.
  """

  steps: int
  batch: int
  seed: int
  log_every: int
  save_every: int = 0
  save_minutes: float = 0.0
  skip_bad_steps: int = 0
  chance: float | None = None


def compile_step(
  step_fn: Step, placed: TrainState, state: TrainState, batch: Batch, key: jax.Array
) -> Any:
  """Compiles a step of `make_step` for these shapes and places.

  Args:
    step_fn: the step.
    placed: shardings of the state, as a tree prefix.
    state: state that lies as `placed` says.
    batch: a batch of `draw`.
    key: key of `place_key`.
  """
  devices = mesh.data_mesh()
  whole, split = mesh.replicated(devices), mesh.split_batch(devices)
  program = jax.jit(
    step_fn,
    in_shardings=(placed, split, whole),
    out_shardings=(placed, whole),
    donate_argnums=0,
  )
  return program.lower(state, batch, key).compile()


def place_key(key: jax.Array) -> jax.Array:
  """The run's key, on all devices; step t draws from fold_in(key, t)."""
  whole = mesh.replicated(mesh.data_mesh())
  return jax.random.wrap_key_data(hosts.place(jax.random.key_data(key), whole))


def draw(train_set: TrainSet, plan: Plan, step: int) -> Batch:
  """The batch of a step, on the devices: a function of seed and step."""
  split = mesh.split_batch(mesh.data_mesh())
  rows = _rows(train_set, plan, step)
  epoch = step // data.epoch_steps(len(train_set.labels), plan.batch)
  inputs = train_set.inputs(rows, epoch, plan.seed)
  parts = (inputs, np.asarray(rows, np.int32), train_set.labels[rows])
  return Batch(*hosts.place(parts, (split,) * 3))


def train(
  state: TrainState,
  compiled: Compiled,
  train_set: TrainSet,
  *,
  key: jax.Array,
  plan: Plan,
  recorder: Recorder,
  checkpoints: Checkpoints,
) -> TrainState:
  """Runs steps state.step .. plan.steps - 1 and saves the last state.

  Args:
    state: state to start from; its buffers are given away.
    compiled: of `compile_step`.
    train_set: training set.
    key: of `place_key`.
    plan: how long, and when to write.
    recorder: open records.
    checkpoints: open checkpoints.

  Raises:
    UserError: loss or gradient are not finite, or a checkpoint cannot be written.
    Stopped: a signal came; the state is saved.
  """
  first = int(state.step)
  progress = Progress(plan.steps, first)
  report = _Report(train_set, plan, recorder, progress)

  # Invariant: at the top of the body, `state` is the state after `step` steps, the
  # checkpoint of `step` is saved if one is due, and the data position is `step` itself.
  with Interrupt() as interrupt:
    for step in range(first, plan.steps):
      start = time.perf_counter()
      drawn = draw(train_set, plan, step)
      progress.waited(time.perf_counter() - start)
      state, metrics = compiled(state, drawn, key)
      # Numbers of step t are read after step t + 1 was handed to the devices, so that
      # these never wait for the host.
      report.read()
      report.of(step, metrics)
      stop, due = _asked(step + 1, plan, interrupt, checkpoints)
      if stop or due:
        report.read()  # a state is saved only when its numbers are known to be finite
        checkpoints.save(step + 1, state, report.loss)
      if stop:
        checkpoints.wait()
        raise errors.Stopped(
          f"stopped by {interrupt.name or 'a signal to another process'} after step "
          f"{step + 1} of {plan.steps}, which is saved; run the same command again to "
          "go on"
        )
  report.read()
  checkpoints.save(plan.steps, state, report.loss)
  return state


def _rows(train_set, plan, step):
  return data.rows_at(plan.seed, step, len(train_set.labels), plan.batch)


def _asked(done, plan, interrupt, checkpoints) -> tuple[bool, bool]:
  """Whether to stop after `done` steps, and whether to save."""
  by_steps = bool(plan.save_every) and done % plan.save_every == 0
  # Several processes have to agree, which takes time: they do so now and then.
  if jax.process_count() > 1 and done % plan.log_every:
    return False, by_steps
  passed = time.monotonic() - checkpoints.saved_at
  by_time = bool(plan.save_minutes) and passed >= 60 * plan.save_minutes
  stop, by_time = hosts.any_of(bool(interrupt.name), by_time)
  return stop, by_steps or by_time


class _Report:
  """Numbers of a step, from the devices to the records."""

  def __init__(self, train_set, plan, recorder, progress):
    self._train_set, self._plan = train_set, plan
    self._recorder, self._progress = recorder, progress
    self._waiting: Callable[[], None] | None = None
    self._skipped = 0
    self.loss = math.inf

  def of(self, step, metrics):
    """Takes the numbers of a step; they are read later."""
    self._waiting = lambda: self._write(step, metrics)

  def read(self):
    """Waits for the numbers taken last, checks and writes them."""
    if self._waiting is not None:
      waiting, self._waiting = self._waiting, None
      waiting()

  def _write(self, step, metrics):
    values = {name: float(value) for name, value in metrics.items()}
    done, plan = step + 1, self._plan
    bad = [n for n in ("loss", "grad_norm") if not math.isfinite(values[n])]
    if bad:
      self._skipped += 1
      if self._skipped > plan.skip_bad_steps:
        raise errors.UserError(self._bad_step(step, bad, values))
    else:
      self.loss = values["loss"]
    if done % plan.log_every == 0 or done == plan.steps:
      self._recorder.write(done, **values)
    self._progress.show(done, plan.batch, loss=values["loss"], chance=plan.chance)

  def _bad_step(self, step, bad, values):
    rows = _rows(self._train_set, self._plan, step)
    shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    names = {"loss": "the loss", "grad_norm": "the gradient's norm"}
    found = " and ".join(f"{names[n]} is {values[n]}" for n in bad)
    others = ", ".join(
      f"{n} {v:.3g}" for n, v in sorted(values.items()) if n not in bad
    )
    return (
      f"{found} at step {step + 1} ({others}; examples {shown}); lower "
      "optimizer.learning_rate, raise objective.temperature, or allow some such steps "
      "by skip_bad_steps"
    )
