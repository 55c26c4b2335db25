"""A training run, set up from its task up to the first step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from experiments.engine import data, hosts, loop, mesh, spread
from experiments.engine import optimizer as optim
from experiments.engine import state as states
from experiments.engine import step as steps
from experiments.engine.accumulate import Parts
from experiments.engine.pretraining.task import Task


class Session(NamedTuple):
  """All that the first step of a run needs.

  Attributes:
    state: before the first step, on the devices.
    compiled: the step.
    key: of the run, on the devices.
    plan: how long, and when to write.
  """

  state: states.TrainState
  compiled: loop.Compiled
  key: jax.Array
  plan: loop.Plan


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
  """Keys of the initialisation and of the run."""
  init_key, run_key = jax.random.split(jax.random.key(seed))
  return init_key, run_key


def initial_variables(config: Any, task: Task) -> dict[str, Any]:
  """The network's variables before the first step, a function of the seed."""
  init_key, _ = keys(config.seed)
  start = _start(config, task)
  return states.init_variables(init_key, task.network, task.sample, start)


def _start(config: Any, task: Task) -> Callable[[Any, Any], tuple[Any, Any]] | None:
  """What puts `init_from` in the place of drawn parameters; None for nothing."""
  if not config.init_from:
    return None
  return lambda params, stats: task.start(params, stats, config.init_from)


def begin(config: Any, task: Task) -> Session:
  """Makes the state, puts it on the devices and compiles the step.

  Args:
    config: of configs/pretrain.py.
    task: what is trained.

  Raises:
    UserError: a name or value of the config that makes no sense, or weights
      (`init_from`) that do not fit.
  """
  devices = mesh.data_mesh()
  plan = _plan(config, task)
  schedule = optim.build_schedule(config.optimizer, config.batch, plan.steps)
  tx = optim.build_optimizer(config.optimizer, schedule)
  if task.frozen is not None:
    tx = optax.chain(tx, optax.masked(optax.set_to_zero(), task.frozen))
  momentum = None
  if task.with_target:
    momentum = optim.target_momentum(
      config.target_momentum, plan.steps, constant=task.target_constant
    )
  init_key, run_key = keys(config.seed)
  state = states.init_state(
    init_key,
    task.network,
    task.objective,
    tx,
    sample=task.sample,
    examples=len(task.train_set.labels),
    with_target=task.with_target,
    start=_start(config, task),
  )
  if config.accum_steps > 1 and state.batch_stats:
    print(
      f"note: BatchNorm normalises over {config.batch // config.accum_steps} images at "
      f"a time, as accum_steps={config.accum_steps} parts see them, not over the batch"
    )
  step_fn = steps.make_step(
    task.method,
    task.objective,
    tx,
    momentum=momentum,
    parts=Parts(config.accum_steps, devices.size),
    skip_bad=config.skip_bad_steps > 0,
  )
  placed = spread.state_shardings(task.objective, devices)
  state, key = hosts.place(state, placed), loop.place_key(run_key)
  batch = loop.draw(task.train_set, plan, 0)
  compiled = loop.compile_step(step_fn, placed, state, batch, key)
  return Session(state, compiled, key, plan)


def _plan(config, task: Task) -> loop.Plan:
  examples = len(task.train_set.labels)
  return loop.Plan(
    steps=config.epochs * data.epoch_steps(examples, config.batch),
    batch=config.batch,
    seed=config.seed,
    log_every=config.log_every,
    save_every=config.save_every,
    save_minutes=config.save_minutes,
    skip_bad_steps=config.skip_bad_steps,
    chance=task.objective.chance(config.batch),
  )
