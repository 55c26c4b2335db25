"""Everything that training changes, as one pytree of arrays."""

from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import optax

from experiments.engine import importing
from experiments.engine.objective import Objective


class Trainable(Protocol):
  """A network as state and step see it."""

  @property
  def projection_width(self) -> int:
    """Width of what the objective compares."""

  def init(self, key: Any, sample: Any, /, *, train: bool) -> Any:
    """Variables {"params", "batch_stats"}."""


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
  network: Trainable,
  sample: Any,
  init_from: str = "",
  part: str = "",
) -> dict[str, Any]:
  """Variables of a network before training: {"params", "batch_stats"}.

  Args:
    key: typed key of the initialisation.
    network: encoder with heads, or towers.
    sample: inputs of a few examples.
    init_from: weights to start from (see `importing.init_from`), or "".
    part: the tower that takes them; "" for a network that is no towers.
  """
  variables = network.init(key, sample, train=False)
  params, stats = variables["params"], variables.get("batch_stats", {})
  if init_from and part:
    own, own_stats = params[part], stats.get(part, {})
    own, own_stats = importing.init_from(own, own_stats, init_from)
    params = {**params, part: own}
    stats = {**stats, part: own_stats} if own_stats else stats
  elif init_from:
    params, stats = importing.init_from(params, stats, init_from)
  return {"params": params, "batch_stats": stats}


def init_state(
  key: jax.Array,
  network: Trainable,
  objective: Objective,
  tx: optax.GradientTransformation,
  *,
  sample: Any,
  examples: int,
  with_target: bool,
  init_from: str = "",
  part: str = "",
) -> TrainState:
  """State of a run before its first step.

  Args:
    key: typed key of the initialisation.
    network: encoder with heads, or towers.
    objective: built objective.
    tx: optimiser.
    sample: inputs of a few examples.
    examples: size of the training set, for per-anchor state.
    with_target: keep a momentum copy of the network.
    init_from: weights that the network starts from, or "".
    part: as in `init_variables`.
  """
  variables = init_variables(key, network, sample, init_from, part)
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
