"""A task's module, as state, step and evaluation take it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from experiments.engine import errors
from experiments.engine.evaluation import evaluate
from experiments.engine.pretraining.fusion_network import build_fusion
from multimodal.fusion import Fusion

# Rows at a time when a task is measured.
_ROWS = 256


@dataclasses.dataclass(frozen=True)
class TaskNetwork:
  """A module over a fusion model, and its methods as functions of parameters.

  Attributes:
    module: a linen module whose fusion model is `module.model`.
    reads: names of its inputs, in the order of its arguments.
  """

  module: Any
  reads: tuple[str, ...]

  @property
  def projection_width(self) -> int:
    """Width of the fused states."""
    return self.module.model.text.width

  def init(
    self, key: jax.Array, sample: Mapping[str, Any], *, train: bool = False
  ) -> Any:
    """Variables {"params", "batch_stats"}; the latter is empty.

    Args:
      key: typed key.
      sample: by name what the module reads.
      train: ignored; no part behaves differently.
    """
    del train
    made = self.module.init(key, *(sample[name] for name in self.reads))
    return {"params": made["params"], "batch_stats": {}}

  def bind(self, params: Any) -> Callable[..., Any]:
    """(method's name, its arguments) -> what the method gives with these parameters."""

    def call(method: str, *args: Any, **options: Any) -> Any:
      return self.module.apply({"params": params}, *args, method=method, **options)

    return call

  def check(self, sample: Mapping[str, Any]) -> None:
    """Raises UsageError for parts that do not fit, before anything is compiled."""
    try:
      jax.eval_shape(lambda key: self.init(key, sample), jax.random.key(0))
    except ValueError as error:
      raise errors.UsageError(f"model: {error}") from error


def build_model(config: ml_collections.ConfigDict) -> Fusion:
  """The fusion model of a config whose model has a size."""
  return build_fusion(config).model


def predict(
  network: TaskNetwork,
  params: Any,
  rows: Any,
  apply: Callable[[Any, Any], jax.Array],
  what: str,
) -> Any:
  """What a network says of many examples, float32 [n, d].

  Args:
    network: of the task.
    params: its parameters.
    rows: a tree of arrays [n, ...], or of what is fetched when it is asked for.
    apply: (bound network, rows of a batch) -> [b, d].
    what: the rows are, for errors.
  """
  make = lambda params, rows: apply(network.bind(params), rows)
  bound = jax.tree_util.Partial(make, params)
  return evaluate.embed(bound, rows, batch=_ROWS, split=what)
