"""Everything that training changes, as one pytree of arrays."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax

from experiments.engine import importing
from experiments.engine.build import Network
from experiments.engine.objective import Objective


@flax.struct.dataclass
class TrainState:
  """State of a run after `step` steps; what a checkpoint holds.

  Attributes:
    step: [] steps done; order, views and draws of a step are functions of it.
    params: {"network": ..., "objective": learned scalars}.
    batch_stats: BatchNorm's running statistics of the network.
    target: {"params", "batch_stats"} of the momentum network, or {} without one.
    opt_state: optax's state.
    objective: the objective's state: running normalisers, queue, or ().
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  target: Any
  opt_state: Any
  objective: Any


def init_variables(
  key: jax.Array,
  network: Network,
  image_shape: tuple[int, int, int],
  init_from: str = "",
) -> dict[str, Any]:
  """Variables of a network before training: {"params", "batch_stats"}.

  Args:
    key: typed key of the initialisation.
    network: encoder with heads.
    image_shape: (h, w, c) of a view.
    init_from: weights to start from (see `importing.init_from`), or "".
  """
  variables = network.init(key, jnp.zeros((2, *image_shape)), train=False)
  params, stats = variables["params"], variables.get("batch_stats", {})
  if init_from:
    params, stats = importing.init_from(params, stats, init_from)
  return {"params": params, "batch_stats": stats}


def init_state(
  key: jax.Array,
  network: Network,
  objective: Objective,
  tx: optax.GradientTransformation,
  *,
  image_shape: tuple[int, int, int],
  examples: int,
  with_target: bool,
  init_from: str = "",
) -> TrainState:
  """State of a run before its first step.

  Args:
    key: typed key of the initialisation.
    network: encoder with heads.
    objective: built objective.
    tx: optimiser.
    image_shape: (h, w, c) of a view.
    examples: size of the training set, for per-anchor state.
    with_target: keep a momentum copy of the network.
    init_from: weights that the network starts from, or "".
  """
  variables = init_variables(key, network, image_shape, init_from)
  params = {"network": variables["params"], "objective": objective.params}
  stats = variables["batch_stats"]
  width = network.projection_width
  target = {}
  if with_target:
    # A copy: the step donates its state, and no buffer may be given away twice.
    target = jax.tree.map(jnp.copy, {"params": params["network"], "batch_stats": stats})
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=stats,
    target=target,
    opt_state=tx.init(params),
    objective=objective.init(examples, width),
  )
