"""The training loop: a for-loop that can be read aloud."""

import math
import time
from collections.abc import Callable

import jax
import numpy as np

from experiments.engine import data, errors, hosts, mesh
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.progress import Progress
from experiments.engine.record import Recorder
from experiments.engine.state import TrainState
from experiments.engine.step import Batch, Step


def train(
  state: TrainState,
  step_fn: Step,
  images: data.ImageSet,
  *,
  placed: TrainState,
  key: jax.Array,
  seed: int,
  batch: int,
  steps: int,
  log_every: int,
  save_every: int,
  recorder: Recorder,
  checkpoints: Checkpoints,
  chance: float | None = None,
) -> TrainState:
  """Runs steps state.step .. steps - 1 and saves the last state.

  Args:
    state: state to start from, where `placed` says; its buffers are given away.
    step_fn: a step of `make_step`.
    images: training set.
    placed: shardings of the state, as a tree prefix.
    key: typed key of the run; step t draws from fold_in(key, t).
    seed: seed of the data order.
    batch: global batch.
    steps: total number of steps of the run.
    log_every: steps between lines of metrics.jsonl.
    save_every: steps between checkpoints; 0 saves at the end only.
    recorder: open records.
    checkpoints: open checkpoints.
    chance: loss of equal embeddings, shown beside the loss.

  Raises:
    UserError: the loss is not finite.
  """
  devices = mesh.data_mesh()
  whole, split = mesh.replicated(devices), mesh.split_batch(devices)
  compiled = jax.jit(
    step_fn,
    in_shardings=(placed, split, whole),
    out_shardings=(placed, whole),
    donate_argnums=0,
  )
  key = jax.random.wrap_key_data(hosts.place(jax.random.key_data(key), whole))
  first = int(state.step)
  progress = Progress(steps, first)
  pending: Callable[[], None] = lambda: None

  # Invariant: at the top of the body, `state` is the state after `step` steps, the
  # checkpoint of `step` is saved if one is due, and the data position is `step` itself.
  for step in range(first, steps):
    start = time.perf_counter()
    drawn = _draw(images, seed, step, batch, split)
    progress.waited(time.perf_counter() - start)
    state, metrics = compiled(state, drawn, key)
    # Numbers of step t are read after step t + 1 was handed to the devices, so that
    # these never wait for the host.
    pending()
    pending = _report(
      step + 1, metrics, steps, log_every, recorder, progress, batch, chance
    )
    if save_every and (step + 1) % save_every == 0:
      checkpoints.save(step + 1, state)
  pending()
  checkpoints.save(steps, state)
  return state


def _draw(images: data.ImageSet, seed: int, step: int, batch: int, sharding) -> Batch:
  rows = data.rows_at(seed, step, len(images.labels), batch)
  parts = (images.images[rows], np.asarray(rows, np.int32), images.labels[rows])
  return Batch(*hosts.place(parts, (sharding,) * 3))


def _report(step, metrics, steps, log_every, recorder, progress, batch, chance):
  def report():
    loss = float(metrics["loss"])
    if not math.isfinite(loss):
      raise errors.UserError(
        f"the loss is {loss} at step {step} (gradient norm "
        f"{float(metrics['grad_norm']):.3g}); lower optimizer.learning_rate or raise "
        "objective.temperature"
      )
    if step % log_every == 0 or step == steps:
      recorder.write(step, **{k: float(v) for k, v in metrics.items()})
    progress.show(step, batch, loss=loss, chance=chance)

  return report
