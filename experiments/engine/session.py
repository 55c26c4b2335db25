"""A training run, set up from its config up to the first step."""

from typing import Any, NamedTuple

import jax

from experiments.engine import build, data, hosts, loop, mesh, spread
from experiments.engine import optimizer as optim
from experiments.engine import state as states
from experiments.engine import step as steps
from experiments.engine.accumulate import Parts
from experiments.engine.objective import Objective


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


def begin(
  config: Any,
  network: build.Network,
  objective: Objective,
  images: data.ImageSet,
  total: int,
) -> Session:
  """Makes the state, puts it on the devices and compiles the step.

  Args:
    config: of configs/pretrain.py.
    network: encoder with heads.
    objective: as built, spread over the devices if there are several.
    images: training set.
    total: steps of the run.

  Raises:
    UserError: a name or value of the config that makes no sense, or weights
      (`init_from`) that do not fit.
  """
  devices = mesh.data_mesh()
  schedule = optim.build_schedule(config.optimizer, config.batch, total)
  tx = optim.build_optimizer(config.optimizer, schedule)
  momentum = None
  if config.method == "moco_v3":
    momentum = optim.target_momentum(config.target_momentum, total)
  init_key, run_key = keys(config.seed)
  state = states.init_state(
    init_key,
    network,
    objective,
    tx,
    image_shape=images.images.shape[1:],
    examples=len(images.labels),
    with_target=momentum is not None,
    init_from=config.init_from,
  )
  if config.accum_steps > 1 and state.batch_stats:
    print(
      f"note: BatchNorm normalises over {config.batch // config.accum_steps} images at "
      f"a time, as accum_steps={config.accum_steps} parts see them, not over the batch"
    )
  recipes = steps.Recipes(
    *build.build_recipes(config.views),
    *build.channel_statistics(config.data, images.images.shape),
  )
  step_fn = steps.make_step(
    network,
    objective,
    tx,
    recipes,
    momentum=momentum,
    parts=Parts(config.accum_steps, devices.size),
    skip_bad=config.skip_bad_steps > 0,
  )
  placed = spread.state_shardings(objective, devices)
  state = hosts.place(state, placed)
  plan, key = _plan(config, objective, total), loop.place_key(run_key)
  batch = loop.draw(images, plan, 0)
  compiled = loop.compile_step(step_fn, placed, state, batch, key)
  return Session(state, compiled, key, plan)


def _plan(config, objective: Objective, total: int) -> loop.Plan:
  return loop.Plan(
    steps=total,
    batch=config.batch,
    seed=config.seed,
    log_every=config.log_every,
    save_every=config.save_every,
    save_minutes=config.save_minutes,
    skip_bad_steps=config.skip_bad_steps,
    chance=objective.chance(config.batch),
  )
