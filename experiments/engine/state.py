"""Everything that training changes, as one pytree of arrays."""

from collections.abc import Callable
from typing import Any, Protocol

import flax
import jax
import jax.numpy as jnp
import optax

from experiments.engine.objective import Objective

# (parameters, statistics, a file or folder) -> parameters and statistics from it.
Start = Callable[[Any, Any, str], tuple[Any, Any]]


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
  start: Callable[[Any, Any], tuple[Any, Any]] | None = None,
) -> dict[str, Any]:
  """Variables of a network before training: {"params", "batch_stats"}.

  Args:
    key: typed key of the initialisation.
    network: encoder with heads, or towers.
    sample: inputs of a few examples.
    start: (parameters, statistics) -> those to start from; None for those drawn.
  """
  # As one program: drawing leaf by leaf compiles one for each shape.
  draw = jax.jit(lambda key, sample: network.init(key, sample, train=False))
  variables = draw(key, sample)
  params, stats = variables["params"], variables.get("batch_stats", {})
  if start is not None:
    params, stats = start(params, stats)
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
  start: Callable[[Any, Any], tuple[Any, Any]] | None = None,
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
    start: as in `init_variables`.
  """
  variables = init_variables(key, network, sample, start)
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
