"""What a pretraining run trains, on what, and how it is measured in the end."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.engine import importing
from experiments.engine.objective import Objective
from experiments.engine.state import Start, Trainable
from experiments.engine.step import Method


class TrainSet(Protocol):
  """Examples that a run is trained on."""

  @property
  def name(self) -> str:
    """Of the data set."""

  @property
  def labels(self) -> np.ndarray:
    """int32 [n] classes; -1 where there is none."""

  def inputs(self, rows: np.ndarray, epoch: int, seed: int) -> Any:
    """What the networks read of the examples `rows`: leaves [n, ...].

    A function of its arguments alone, so that a resumed run sees the same.
    """

  def describe(self) -> str:
    """One line for people: what and how many."""


class Task(NamedTuple):
  """A pretraining task, built of a config.

  Attributes:
    title: the network in words.
    network: what is trained.
    objective: over the batch as it is divided over the devices.
    method: how a batch is embedded.
    train_set: what it is trained on.
    sample: inputs of two examples, of the shape that the network reads.
    evaluate: variables {"params", "batch_stats"}, those before training or None,
      folder of the run -> final numbers by name; predictions go into the folder.
    untrained: whether `evaluate` wants the variables before training.
    with_target: whether a momentum copy of the network is kept.
    target_constant: whether its decay stays what it is; else it rises to 1 by a cosine.
    frozen: parameters -> tree of booleans, True where training changes nothing; None
      if it changes all.
    start: (params, statistics, what `init_from` names) -> those that training starts
      from.
    illustrate: variables {"params", "batch_stats"}, folder of the run -> writes
      pictures there for its page (`reporting.pictures`); None for none.
  """

  title: str
  network: Trainable
  objective: Objective
  method: Method
  train_set: TrainSet
  sample: Any
  evaluate: Callable[[Any, Any, pathlib.Path], dict[str, float]]
  untrained: bool = False
  with_target: bool = False
  target_constant: bool = False
  frozen: Callable[[Any], Any] | None = None
  start: Start = importing.init_from
  illustrate: Callable[[Any, pathlib.Path], None] | None = None


def beside_untrained(
  measure: Callable[[Any], dict[str, float]],
) -> Callable[[Any, Any, pathlib.Path], dict[str, float]]:
  """`Task.evaluate` of a measure of variables: those before training as untrained/*."""

  def evaluate(variables, untrained, folder):
    del folder
    report = measure(variables)
    if untrained is not None:
      before = measure(untrained)
      report |= {f"untrained/{name}": value for name, value in before.items()}
    return report

  return evaluate
