"""Where losses computed from a minibatch converge: theory rather than training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive.synthetic import Problem


def decoupled_fixed_point(
  problem: Problem, negatives: int, sd: float = 0.0
) -> jax.Array:
  """The critic to which minibatch decoupled losses converge, for normal negatives.

  Given x, the K logits are independent N(0, V) with `V = |A^T x|^2 + sd^2`. With p
  their softmax, Stein's lemma gives the expected minibatch gradient a factor
  `c(V) = 1 - E sum_k p_k^2` on the repulsion, one minus the inverse effective number of
  negatives, so that the fixed point solves

    A = (sum_i c(V_i) x_i x_i^T)^-1 X^T Y.

  It is that of DCL, of FlatNCE and of the augmented loss with u from the minibatch.

  Args:
    problem: with a standard normal law.
    negatives: K >= 1.
    sd: standard deviation >= 0 of the injected error.

  Returns:
    [d, d] critic; infinite where the loss has no minimum (K = 1, or logits beyond a
    standard deviation of 8).

  Raises:
    ValueError: the law is not normal.
  """
  if problem.atoms is not None:
    raise ValueError("the fixed point is known for normal negatives only")
  x, y = (np.asarray(part, np.float64) for part in problem[:2])
  scales, kept = _kept_repulsion(negatives)
  critic = np.asarray(problem.optimum, np.float64)
  for _ in range(300):
    scale = np.sqrt(np.sum((x @ critic) ** 2, axis=1) + sd * sd)
    if negatives == 1 or scale.max() > scales[-1]:
      return jnp.full(critic.shape, jnp.inf)
    weight = np.interp(scale, scales, kept)
    critic = np.linalg.solve((x * weight[:, None]).T @ x, x.T @ y)
  return jnp.asarray(critic, jnp.float32)


@functools.lru_cache(maxsize=16)
def _kept_repulsion(negatives: int) -> tuple[np.ndarray, np.ndarray]:
  """Standard deviations of the logits, and c at each: a table for interpolation."""
  scales = np.linspace(0, 8, 81)
  return scales, np.array([1 - _concentration(s * s, negatives) for s in scales])


def _concentration(variance: float, negatives: int) -> float:
  """E sum_k p_k^2 for p the softmax of K logits N(0, variance).

  `1 / S^2 = integral t e^(-t S) dt`, the Gamma identity of the augmented objective,
  splits the sum S over the negatives: two nested integrals of one variable.
  """
  scale = np.sqrt(variance)
  step = min(0.1, 0.3 / max(scale, 1e-6))
  z = np.arange(-9, 9 + step, step)
  weight = np.exp(-z * z / 2) * step / np.sqrt(2 * np.pi)
  log_t = np.arange(-9 * scale - 20, 9 * scale + 5, 0.1)
  log_term = np.minimum(log_t[:, None] + scale * z[None, :], 50)
  survive = np.exp(-np.exp(log_term))
  rest = (survive @ weight) ** (negatives - 1)
  own = (np.exp(2 * log_term) * survive) @ weight
  return float(negatives * np.sum(own * rest) * 0.1)
