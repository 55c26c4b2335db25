"""What a run is about to do, said before it does it."""

import time
from collections.abc import Mapping
from typing import Any

import jax

from experiments.engine import loop
from experiments.engine.pretraining.task import Task
from experiments.engine.progress import clock
from experiments.engine.session import Session

# Steps that a dry run takes: one to warm up, and those that are timed.
_TIMED = 3


def describe(
  config: Any, task: Task, begun: Session, state: Any, workdir: str
) -> dict[str, str]:
  """What is trained, on what and where, as name -> text.

  Args:
    config: of the run.
    task: what is trained.
    begun: the run, set up; the memory is what the compiler planned for its step.
    state: training state, perhaps of a run that goes on.
    workdir: folder of the run.
  """
  objective = task.objective
  network, first = state.params["network"], int(state.step)
  negatives, chance = objective.negatives(config.batch), objective.chance(config.batch)
  return {
    "training": f"{task.title}, {_count(network):,} parameters ({config.dtype})",
    "data": task.train_set.describe(),
    "batch": f"{config.batch} examples in {config.accum_steps} part(s); an anchor has "
    f"1 positive and {'no' if negatives is None else f'{negatives:,}'} negatives",
    "chance": "no such level"
    if chance is None
    else f"a loss of {chance:.4g} is what equal embeddings have",
    "devices": _devices(config),
    "memory": _memory(begun.compiled),
    "steps": f"{begun.plan.steps:,} in {config.epochs} epochs"
    + (f", {first:,} of them done" if first else ""),
    "writes to": workdir,
  }


def show(lines: Mapping[str, str]) -> None:
  """Prints the lines, aligned."""
  for name, text in lines.items():
    print(f"{name + ':':11}{text}")


def time_to_expect(task: Task, begun: Session) -> str:
  """Takes a few steps, forgets them, and says how long all will take.

  Args:
    task: what is trained.
    begun: the run, set up; the buffers of its state are given away.
  """
  state, compiled, key, plan = begun
  left = plan.steps - int(state.step)
  start = time.perf_counter()
  for i in range(1 + _TIMED):
    if i == 1:
      start = time.perf_counter()
    batch = loop.draw(task.train_set, plan, i % plan.steps)
    state, metrics = compiled(state, batch, key)
    jax.block_until_ready(metrics)
  each = (time.perf_counter() - start) / _TIMED
  return (
    f"{clock(each * left)} (h:)mm:ss for {left:,} steps of {each:.3g} s, "
    f"{plan.batch / each:,.0f} examples/s; evaluation not counted"
  )


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _devices(config):
  kinds = [d.device_kind for d in jax.devices()]
  found = ", ".join(f"{kinds.count(k)} x {k}" for k in sorted(set(kinds)))
  if jax.process_count() > 1:
    found += f" of {jax.process_count()} processes"
  if len(kinds) > 1:
    found += f"; {config.batch // len(kinds)} examples on each"
    if "mesh" in config:
      found += f", negatives by mesh.negatives={config.mesh.negatives}"
  return found


def _memory(compiled):
  planned = compiled.memory_analysis()
  if planned is None:
    return "not known for this device"
  held, temporary = planned.argument_size_in_bytes, planned.temp_size_in_bytes
  return (
    f"{_bytes(held + temporary)} a device: {_bytes(held)} for state and batch, "
    f"{_bytes(temporary)} for the step"
  )


def _bytes(count):
  return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
