"""Generative problems with known truth: a bilinear critic whose optimum is exact.

Anchor x_i meets its positive y_i and negatives y' ~ P through the critic x^T A y. The
loss with *all* negatives is

  L(A) = mean_i [ -x_i^T A y_i + log s_i ],   s_i = E exp(x_i^T A y' + sd z),

with z ~ N(0, 1) an error that is injected into each similarity anew. As
`E exp(sd z) = exp(sd^2 / 2)` for every A, the injected error moves neither the optimum
A* nor the loss's shape. It only raises the relative variance of the minibatch's
estimate of s_i, which is what biases a loss computed from a minibatch.

Two laws P of the negatives:

- standard normal: `log s_i = |A^T x_i|^2 / 2 + sd^2 / 2`, `A* = (X^T X)^-1 X^T Y`. The
  law is isotropic, so a minibatch loss finds the direction of A* at a wrong scale;
- a few atoms with unequal tails: log s_i by enumeration. A minibatch misses the rare
  large negatives, so the direction is wrong too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import numerics
from contrastive.rows import Rows

# Kurtosis of each feature. A kurtosis of 1, a feature that is +-1, would leave so
# little room between positives and the longest negatives that the loss is flat at its
# optimum.
TAILS = (2.0, 8.0, 32.0)

_HIGHEST = jax.lax.Precision.HIGHEST


class Problem(NamedTuple):
  """Anchors, positives, law of the negatives, and the critic that is best for them.

  Attributes:
    anchors: [n, d] rows of one length.
    positives: [n, d].
    optimum: [d, d] the critic A* that minimises the loss with all negatives over
      exactly these anchors, at every noise level.
    atoms: [c, d] values of a negative, or None for a standard normal law.
    log_prob: [c] their log probabilities, or None.
  """

  anchors: jax.Array
  positives: jax.Array
  optimum: jax.Array
  atoms: jax.Array | None = None
  log_prob: jax.Array | None = None


def gaussian_problem(
  key: jax.Array,
  *,
  anchors: int = 64,
  width: int = 4,
  radius: float = 1.2,
  view_noise: float = 0.3,
) -> Problem:
  """Negatives N(0, I); positives y_i = R x_i + view_noise * eps, R orthogonal.

  With view_noise = 1 the critic is well specified (`log p(y|x) / p(y)` is bilinear up
  to a function of x), and InfoNCE finds the optimum from any number of negatives as
  long as no error is injected.

  Args:
    key: typed PRNG key of the problem.
    anchors: n >= d.
    width: d >= 1.
    radius: length of the anchors, > 0.
    view_noise: >= 0.

  Raises:
    ValueError: fewer anchors than dimensions, or a number out of its range.
  """
  x, y = _pairs(key, anchors, width, radius, view_noise)
  optimum = np.linalg.solve(x.T @ x, x.T @ y)
  return Problem(*(jnp.asarray(part, jnp.float32) for part in (x, y, optimum)))


def heavy_tailed_problem(
  key: jax.Array,
  *,
  anchors: int = 64,
  radius: float = 1.2,
  view_noise: float = 0.3,
  tails: Sequence[float] = TAILS,
) -> Problem:
  """Negatives with independent unit-variance features of unequal tails.

  Feature k is +-sqrt(c) with probability 1 / (2 c) each, else 0, for c = tails[k].
  The optimum is found by Newton's method on the exact loss, which is convex.

  Args:
    key: typed PRNG key of the problem.
    anchors: n >= d = len(tails).
    radius: length of the anchors, > 0.
    view_noise: >= 0; positives are as in `gaussian_problem`.
    tails: [d] kurtosis c >= 1 of each feature.

  Raises:
    ValueError: a number out of its range, or positives so long that no finite critic
      is best.
  """
  if len(tails) == 0 or any(c < 1 for c in tails):
    raise ValueError(f"tails are kurtoses of at least 1, not {tuple(tails)}")
  x, y = _pairs(key, anchors, len(tails), radius, view_noise)
  atoms, log_prob = _product_law(tails)
  optimum = _newton(x, y, atoms, log_prob)
  return Problem(
    *(jnp.asarray(part, jnp.float32) for part in (x, y, optimum, atoms, log_prob))
  )


def exact_log_normalizer(
  problem: Problem, critic: jax.Array, sd: jax.Array | float = 0.0
) -> jax.Array:
  """Log s_i [n] over all negatives, in closed form.

  Args:
    problem: n anchors in d dimensions.
    critic: [d, d] A.
    sd: standard deviation >= 0 of the error injected into each similarity.
  """
  query = jnp.matmul(problem.anchors, critic, precision=_HIGHEST)
  if problem.atoms is None or problem.log_prob is None:
    log_mean = jnp.sum(jnp.square(query), axis=-1) / 2
  else:
    logits = jnp.matmul(query, problem.atoms.T, precision=_HIGHEST)
    log_mean = numerics.log_sum_exp(logits + problem.log_prob[None, :])
  return log_mean + jnp.square(sd) / 2


def exact_loss(
  problem: Problem, critic: jax.Array, sd: jax.Array | float = 0.0
) -> jax.Array:
  """Mean loss over the anchors with all negatives, a scalar in nats."""
  query = jnp.matmul(problem.anchors, critic, precision=_HIGHEST)
  positive = jnp.sum(query * problem.positives, axis=-1)
  return jnp.mean(exact_log_normalizer(problem, critic, sd) - positive)


def relative_variance(
  problem: Problem, critic: jax.Array, sd: jax.Array | float = 0.0
) -> jax.Array:
  """Var(e^n) / s_i^2 [n]; over the number of negatives, the size of the bias."""
  second = exact_log_normalizer(problem, 2 * critic, 2 * sd)
  return jnp.expm1(second - 2 * exact_log_normalizer(problem, critic, sd))


class Draws(NamedTuple):
  """What is random in a batch of n anchors, whatever the critic and the noise level.

  Attributes:
    negative: [n, m, d] negatives of each anchor.
    error: [n, m + 1] standard normal errors, the positive's first.
  """

  negative: jax.Array
  error: jax.Array


def draw_batch(key: jax.Array, problem: Problem, n: int, negatives: int) -> Draws:
  """Draws `negatives` >= 1 negatives, and the errors, for each of n anchors."""
  key_negative, key_error = jax.random.split(key)
  return Draws(
    _draw_negatives(key_negative, problem, (n, negatives)),
    jax.random.normal(key_error, (n, negatives + 1)),
  )


def batch_rows(
  problem: Problem,
  critic: jax.Array,
  index: jax.Array,
  draws: Draws,
  sd: jax.Array | float = 0.0,
) -> Rows:
  """Logits of a batch of anchors, with gradient to the critic.

  Args:
    problem: anchors in d dimensions.
    critic: [d, d] A.
    index: [n] numbers of the anchors.
    draws: of n anchors and m negatives.
    sd: standard deviation >= 0 of the error added to each similarity.

  Returns:
    Rows of n anchors and m negatives.
  """
  query = jnp.matmul(problem.anchors[index], critic, precision=_HIGHEST)
  positive = jnp.sum(query * problem.positives[index], axis=-1)
  negative = jnp.einsum("nd,nmd->nm", query, draws.negative, precision=_HIGHEST)
  return Rows(
    positive + sd * draws.error[:, 0],
    negative + sd * draws.error[:, 1:],
    jnp.ones(negative.shape, bool),
  )


def recovery(problem: Problem, critic: jax.Array) -> dict[str, jax.Array]:
  """How near a critic is to the optimum: scalars.

  Returns:
    x: `<A, A*> / |A*|^2`, 1 at the optimum, sees scale and direction.
    relative_error: `|A - A*| / |A*|`.
    alignment: `cos(A, A*)`, blind to scale; 0 for A = 0.
    loss_gap: exact loss minus its minimum, nats.
  """
  best = problem.optimum
  inner, square = jnp.sum(critic * best), jnp.sum(jnp.square(best))
  units = numerics.unit(jnp.stack([critic.reshape(-1), best.reshape(-1)]))
  return {
    "x": inner / square,
    "relative_error": jnp.sqrt(jnp.sum(jnp.square(critic - best)) / square),
    "alignment": jnp.sum(units[0] * units[1]),
    "loss_gap": exact_loss(problem, critic) - exact_loss(problem, best),
  }


def _draw_negatives(key, problem, shape):
  """[*shape, d] independent negatives."""
  if problem.atoms is None or problem.log_prob is None:
    return jax.random.normal(key, (*shape, problem.anchors.shape[1]))
  below = jnp.cumsum(jnp.exp(problem.log_prob))[:-1]
  uniform = jax.random.uniform(key, shape)
  return problem.atoms[jnp.sum(uniform[..., None] >= below[None, None, :], axis=-1)]


def _pairs(key, anchors, width, radius, view_noise):
  """Anchors of one length and their positives, float64 [n, d] each."""
  if width < 1 or anchors < width:
    raise ValueError(
      f"{anchors} anchors do not determine a critic in {width} dimensions; "
      "take at least as many anchors as dimensions"
    )
  if radius <= 0 or view_noise < 0:
    raise ValueError(
      f"radius must be positive and view_noise not negative, not {radius} and "
      f"{view_noise}"
    )
  normal = lambda k, shape: np.asarray(jax.random.normal(k, shape), np.float64)
  key_x, key_turn, key_view = jax.random.split(key, 3)
  x = normal(key_x, (anchors, width))
  # Rounded to float32 first: the optimum is that of exactly the anchors trained on.
  x = x * radius / np.linalg.norm(x, axis=1, keepdims=True)
  x = x.astype(np.float32).astype(np.float64)
  turn, upper = np.linalg.qr(normal(key_turn, (width, width)))
  turn = turn * np.sign(np.diag(upper))[None, :]
  y = x @ turn + view_noise * normal(key_view, (anchors, width))
  return x, y.astype(np.float32).astype(np.float64)


def _product_law(tails):
  """Atoms [c, d] and log probabilities [c] of independent features."""
  atoms, prob = np.zeros((1, 0)), np.ones(1)
  for c in tails:
    values = np.array([-np.sqrt(c), np.sqrt(c), 0.0])
    weights = np.array([0.5 / c, 0.5 / c, 1 - 1 / c])
    values, weights = values[weights > 0], weights[weights > 0]
    left = np.repeat(atoms, len(values), axis=0)
    right = np.tile(values, len(atoms))[:, None]
    atoms, prob = np.concatenate([left, right], 1), np.outer(prob, weights).ravel()
  return atoms, np.log(prob)


def _newton(x, y, atoms, log_prob, iterations: int = 100):
  """Minimiser [d, d] of the exact loss, float64, by Newton steps of limited length."""
  n, d = x.shape
  critic = np.zeros((d, d))
  for _ in range(iterations):
    logits = x @ critic @ atoms.T + log_prob[None, :]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    mean = p @ atoms
    gradient = x.T @ (mean - y) / n
    if np.abs(gradient).max() < 1e-12:
      return critic
    spread = np.einsum("nc,ca,cb->nab", p, atoms, atoms) - np.einsum(
      "na,nb->nab", mean, mean
    )
    hessian = np.einsum("ni,nj,nab->iajb", x, x, spread).reshape(d * d, d * d) / n
    try:
      step = np.linalg.solve(hessian, gradient.ravel()).reshape(d, d)
    except np.linalg.LinAlgError:
      break
    # The loss is self-concordant enough for a cap on the length to be all it needs.
    critic = critic - step * min(1.0, 0.5 / np.abs(step).max())
  raise ValueError(
    "no finite critic is best: the positives are as long as the longest negatives; "
    "lower radius or view_noise"
  )
