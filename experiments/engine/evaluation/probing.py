"""The linear probe: softmax regression on frozen features, its penalty validated.

The penalty is chosen on a stratified part of the training split, never on the test
split; the probe is then fitted again on the whole training split.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.engine import data
from experiments.engine.errors import UserError
from experiments.engine.evaluation import softmax_regression, tables

# A penalty is chosen by accuracy, which does not see the last digits of a fit.
_SELECTION = {"tolerance": 1e-3, "max_iterations": 200}
_FINAL = {"tolerance": 1e-6, "max_iterations": 1000}


class Probe(NamedTuple):
  """A fitted linear probe.

  Attributes:
    weights: [d, k] for standardised features.
    bias: [k].
    standardise: the training split's mean and deviation, as a function of features.
    c: chosen C, the inverse penalty of scikit-learn's LogisticRegression.
    grid: [g] the values of C that were tried, ascending.
    validation_accuracies: [g] their accuracies; empty if there was no choice.
    objective: mean loss + |W|^2 / (2 C n) on the training split, in nats.
    iterations: steps of the final fit.
  """

  weights: np.ndarray
  bias: np.ndarray
  standardise: tables.Standardiser
  c: float
  grid: tuple[float, ...]
  validation_accuracies: np.ndarray
  objective: float
  iterations: int

  def scores(self, features: np.ndarray) -> np.ndarray:
    """Logits [n, k] of features [n, d] as they came from the model."""
    return self.standardise(features) @ self.weights + self.bias


def fit_probe(
  train: tables.Table,
  *,
  num_classes: int | None = None,
  grid: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
  validation: float = 0.2,
  seed: int = 0,
) -> Probe:
  """Fits a linear probe on features standardised by the training split.

  Equal to scikit-learn's LogisticRegression(C=c) on the same standardised features,
  for three classes or more. (For two, scikit-learn fits one weight vector w with
  penalty |w|^2 / 2 and this fits two of w / 2 each: its C is twice this one.)

  Args:
    train: features [n, d] and labels [n].
    num_classes: k; by default the largest label + 1.
    grid: values of C to choose from; with one value nothing is held out.
    validation: share of the training split that chooses among them, 0 < share < 1.
    seed: of the draw of the validation examples.

  Raises:
    UserError: for features that are not finite, labels that cannot be learnt, or a
      training split too small to choose a penalty on.
  """
  labels = train.labels
  tables.require_labels(labels, "train")
  tables.require_features(train, "train")
  k = int(labels.max()) + 1 if num_classes is None else num_classes
  tables.require_classes(labels, k)
  standardise = tables.standardiser(train.features)
  problem = softmax_regression.pose(jnp.asarray(standardise(train.features)))
  grid = tuple(sorted(grid))
  weights = jnp.zeros((k, len(problem.axes)), jnp.float32)
  c, accuracies = grid[0], np.empty(0)
  if len(grid) > 1:
    held_out = data.stratified_split(labels, validation, seed)
    c, accuracies, weights = _choose_c(problem, labels, held_out, grid, weights)
  everyone = jnp.ones(len(labels), jnp.float32)
  solution = softmax_regression.minimise(
    problem, labels, everyone, c, weights, **_FINAL
  )
  weights, bias = softmax_regression.unrotate(problem, solution.weights)
  return Probe(
    np.asarray(weights),
    np.asarray(bias),
    standardise,
    c,
    grid,
    accuracies,
    float(solution.objective),
    int(solution.iterations),
  )


def _choose_c(problem, labels, held_out, grid, weights):
  """The C of best validation accuracy (smallest of equals), all, and its weights.

  Each fit begins at the solution for the next smaller C, which is near.
  """
  if not held_out.any():
    raise UserError(
      "no class has two training examples, so none can be held out to choose the "
      "probe's penalty; give a grid of one C, or more examples"
    )
  fits, accuracies = [], []
  for c in grid:
    solution = softmax_regression.minimise(
      problem,
      labels,
      jnp.asarray(~held_out, jnp.float32),
      c,
      weights,
      **_SELECTION,
    )
    weights = solution.weights
    fits.append(weights)
    guesses = np.asarray(jnp.argmax(weights @ problem.axes, axis=0))
    accuracies.append(np.mean(guesses[held_out] == labels[held_out]))
  best = int(np.argmax(accuracies))
  return grid[best], np.array(accuracies), fits[best]
