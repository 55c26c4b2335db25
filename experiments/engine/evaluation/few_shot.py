"""Few-shot classification of frozen features: closed-form ridge, or softmax regression.

One-against-all least squares on targets +1 and -1 has a closed solution and a closed
leave-one-out error (Allen's PRESS; Hastie, Tibshirani & Friedman, equation 7.52), so
the penalty is chosen with no validation examples, of which a few shots have none.
Softmax regression is fitted by L-BFGS at scikit-learn's default penalty, C = 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.engine import data
from experiments.engine.errors import UserError
from experiments.engine.evaluation import metrics, softmax_regression, tables

# Penalties as multiples of the mean square of the singular values.
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# With one shot, leaving it out takes its class away, and the error says nothing.
_ONE_SHOT_PENALTY = (1.0,)

CLASSIFIERS = ("ridge", "softmax")
_C = 1.0


@jax.jit
def fit_ridge(
  features: jax.Array, targets: jax.Array, penalties: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Ridge regression with an unpenalised intercept; penalty by leave-one-out error.

  With centred features U S V', the fit is the mean plus U shrink U' (targets - mean),
  shrink = S^2 / (S^2 + penalty), and leaving example i out multiplies its residual by
  1 / (1 - h_i), h_i = 1 / n + (U shrink U')_ii.

  Args:
    features: [n, d] float32.
    targets: [n, c] float32.
    penalties: [p] candidates, as multiples of the mean of S^2.

  Returns:
    Weights [d, c] and intercepts [c].
  """
  with jax.default_matmul_precision("highest"):
    n = features.shape[0]
    centre, level = jnp.mean(features, axis=0), jnp.mean(targets, axis=0)
    u, s, vt = jnp.linalg.svd(features - centre[None, :], full_matrices=False)
    rest = targets - level[None, :]
    projected = u.T @ rest
    # Rows that are all equal have no direction: a tiny scale leaves the weights at 0.
    scale = jnp.maximum(jnp.mean(s**2), 1e-30)

    def left_out_error(penalty):
      shrink = s**2 / (s**2 + penalty * scale)
      residual = rest - u @ (shrink[:, None] * projected)
      leverage = 1 / n + jnp.sum(u**2 * shrink[None, :], axis=1)
      return jnp.mean((residual / jnp.maximum(1 - leverage, 1e-6)[:, None]) ** 2)

    penalty = scale * penalties[jnp.argmin(jax.lax.map(left_out_error, penalties))]
    weights = vt.T @ ((s / (s**2 + penalty))[:, None] * projected)
    return weights, level - centre @ weights


def require_shots(labels: np.ndarray, shots: int, num_classes: int) -> None:
  """Refuses training labels [n] of which a class has fewer examples than `shots`.

  Raises:
    UserError: naming the smallest class.
  """
  counts = np.bincount(labels, minlength=num_classes)
  if counts.min() < shots:
    raise UserError(
      f"{shots}-shot evaluation needs {shots} training examples of every class, but "
      f"class {counts.argmin()} has {counts.min()}; lower the shots or take a larger "
      "training split"
    )


def draw_accuracies(
  train: tables.Table,
  test: tables.Table,
  *,
  num_classes: int,
  shots: int,
  draws: int,
  seed: int = 0,
  classifier: str = "ridge",
) -> np.ndarray:
  """Test accuracies of classifiers that saw `shots` training examples of each class.

  Features are standardised by the whole training split, which needs no label.

  Args:
    train: features and labels to draw from.
    test: features and labels to predict.
    num_classes: number of classes.
    shots: examples of each class in a draw.
    draws: number of draws, with seeds seed, seed + 1, ...
    seed: the first draw's.
    classifier: one of CLASSIFIERS.

  Returns:
    [draws] top-1 accuracies.

  Raises:
    UserError: if a class has fewer examples than `shots`.
  """
  require_shots(train.labels, shots, num_classes)
  standardise = tables.standardiser(train.features)
  features, queries = standardise(train.features), standardise(test.features)
  fit = {"ridge": _ridge, "softmax": _softmax}[classifier]
  accuracies = []
  for draw in range(draws):
    places = data.class_balanced_draw(train.labels, shots, seed + draw)
    weights, bias = fit(features[places], train.labels[places], num_classes)
    scores = queries @ np.asarray(weights) + np.asarray(bias)
    accuracies.append(metrics.top_k_hits(scores, test.labels, 1).mean())
  return np.array(accuracies)


def _ridge(features, labels, num_classes):
  one_shot = len(labels) == num_classes
  penalties = jnp.array(_ONE_SHOT_PENALTY if one_shot else _PENALTIES)
  targets = 2 * np.eye(num_classes, dtype=np.float32)[labels] - 1
  return fit_ridge(features, targets, penalties)


def _softmax(features, labels, num_classes):
  problem = softmax_regression.pose(jnp.asarray(features))
  solution = softmax_regression.minimise(
    problem,
    jnp.asarray(labels),
    jnp.ones(len(labels), jnp.float32),
    jnp.float32(_C),
    jnp.zeros((num_classes, len(problem.axes)), jnp.float32),
  )
  return softmax_regression.unrotate(problem, solution.weights)
