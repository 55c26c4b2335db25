"""What a minibatch does to the gradient: estimators, the exact reference, statistics.

The generalised loss of anchor i, `L_i = -p_i + log s_i`, takes its normaliser over all
negatives: `s_i = E_j e^n_ij` (decoupled, infinitely many negatives), or
`s_i = e^p_i + K E_j e^n_ij` (coupled, K nominal negatives). Where the negatives are a
finite set, or their law gives s_i in closed form, its gradient g* is exact, and a
minibatch gradient g has a bias |E g - g*| that can be measured.

Of a minibatch with K negatives the decoupled loss sees `E log s_hat_i`, so that

  E g - g* = -grad mean_i Var(s_hat_i) / (2 s_i^2) + O(K^-2),

`leading_bias` here. The augmented objective with the exact normaliser as rate has no
bias at all, at any batch size and for any Gamma shape: E g = g* exactly. It is the
proof of the method and a measuring instrument: g minus the exact-rate gradient *of the
same batch and the same Gamma draw* has the same mean as g - g* and far less variance.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from contrastive import augmented, infonce, normalizer, numerics
from contrastive.rows import Rows

FORMS = ("softmax", "decoupled", "flat", "augmented")
RATES = ("minibatch", "leave_one_out", "other_half", "running", "exact")


class Objective(NamedTuple):
  """One way to turn a minibatch into a gradient.

  Attributes:
    form: softmax (InfoNCE), decoupled, flat, or augmented.
    rate: of the augmented form: whose normaliser the auxiliary variable is drawn
      with. minibatch: the batch's own. leave_one_out: for each negative the batch's
      other negatives. other_half: for each half of the batch's candidates the other
      half. running: `normalizer.update`'s. exact: over all negatives.
    shape: Gamma shape > 0; None for u = E[u].
    smoothing: of the running rate, as in `normalizer.update`.
    boost: of the running rate, as in `normalizer.update`.
    coupled: the target's normaliser includes the positive, with K nominal negatives,
      K being the batch's number of negatives per anchor.
  """

  form: str
  rate: str = "minibatch"
  shape: float | None = None
  smoothing: normalizer.Smoothing | float = 0.1
  boost: bool = False
  coupled: bool = False

  @property
  def stateful(self) -> bool:
    """Whether a running normaliser belongs to it."""
    return self.form == "augmented" and self.rate == "running"

  @property
  def unbiased(self) -> bool:
    """Whether its expected gradient is the target's by construction."""
    return self.form == "augmented" and self.rate == "exact"


def check_objective(objective: Objective) -> None:
  """Raises ValueError for an unknown form or rate, or a shape that is not positive."""
  for kind, name, known in (
    ("form", objective.form, FORMS),
    ("rate", objective.rate, RATES),
  ):
    if name not in known:
      raise ValueError(f"unknown {kind} '{name}'; known: {', '.join(known)}")
  if objective.shape is not None and objective.shape <= 0:
    raise ValueError(
      f"the Gamma shape must be positive, not {objective.shape}; "
      "None is its limit, u = E[u]"
    )
  if objective.coupled and objective.rate in ("leave_one_out", "other_half"):
    raise ValueError(
      f"rate '{objective.rate}' leaves the positive out of the normaliser; "
      "set coupled=False"
    )


def generalised_loss(rows: Rows, coupled: float | None = None) -> jax.Array:
  """The loss [n] whose normaliser is over all negatives, given rows with all of them.

  Args:
    rows: n anchors with all their negatives.
    coupled: None for `log mean_j e^n_ij - p_i`; a number K of nominal negatives for
      `log(e^p_i + K mean_j e^n_ij) - p_i`.
  """
  return augmented.log_normalizer(rows, coupled=coupled) - rows.positive


def minibatch_loss(
  objective: Objective,
  rows: Rows,
  *,
  negatives: int,
  log_noise: jax.Array | float = 0.0,
  log_exact: jax.Array | None = None,
  state: normalizer.Normalizer | None = None,
  index: jax.Array | None = None,
) -> jax.Array:
  """One value per anchor of the batch, whose mean's gradient an optimiser would see.

  Args:
    objective: which.
    rows: n anchors with the batch's negatives.
    negatives: K of each anchor, as `rows.where` has them; the nominal number of a
      coupled objective.
    log_noise: [n] log of Gamma(shape, 1) / shape draws, or 0 for shape None.
    log_exact: [n] exact log normalisers of the decoupled target, for rate exact.
    state: running normalisers before this batch, for rate running.
    index: [n] the anchors' numbers in the state.

  Returns:
    [n] values, or [n m] for leave_one_out.

  Raises:
    ValueError: what the objective's rate needs is missing.
  """
  if objective.form == "softmax":
    return infonce.softmax_loss(rows)
  if objective.form == "decoupled":
    return infonce.decoupled_loss(rows)
  if objective.form == "flat":
    return infonce.flat_loss(rows)
  if objective.rate == "leave_one_out":
    return leave_one_out_loss(rows, log_noise, negatives=negatives)
  if objective.rate == "other_half":
    return other_half_loss(rows, log_noise)
  coupled = negatives if objective.coupled else None
  log_norm = augmented.log_normalizer(rows, coupled=coupled)
  if objective.rate == "exact":
    if log_exact is None:
      raise ValueError("rate 'exact' needs the exact log normalisers; pass log_exact=")
    log_norm = log_exact
    if coupled is not None:
      log_norm = jnp.logaddexp(rows.positive, log_exact + jnp.log(1.0 * coupled))
  if objective.rate == "running":
    if state is None or index is None:
      raise ValueError("rate 'running' needs a normaliser; pass state= and index=")
    # The value after the update, which contains this batch's own estimate.
    _, log_norm = normalizer.update(
      state, index, log_norm, smoothing=objective.smoothing, boost=objective.boost
    )
  return augmented.augmented_loss(rows, log_norm, log_noise, coupled=coupled)


def leave_one_out_loss(
  rows: Rows, log_noise: jax.Array | float = 0.0, *, negatives: int
) -> jax.Array:
  """Augmented loss whose rate for each negative is the mean of the others.

  Rate and gradient are then independent, which removes the covariance part of the
  bias and leaves E[1 / v] > 1 / s: at few negatives that is worse than before.

  Args:
    rows: n anchors with m candidates.
    log_noise: [n], as in `minibatch_loss`.
    negatives: how many of an anchor's candidates are negatives, at least 2.

  Returns:
    [n m] one value per candidate; its mean has the scale of the other losses.
  """
  n, m = rows.where.shape
  others = rows.where[:, None, :] & ~jnp.eye(m, dtype=bool)[None]
  wide = jnp.broadcast_to(rows.negative[:, None, :], (n, m, m))
  log_rate = numerics.log_mean_exp(wide, others).reshape(-1)
  single = Rows(
    positive=jnp.repeat(rows.positive, m),
    negative=rows.negative.reshape(-1, 1),
    where=rows.where.reshape(-1, 1),
  )
  log_noise = jnp.repeat(jnp.broadcast_to(log_noise, (n,)), m)
  # Candidates that are no negatives count 0: scale the mean back to the negatives.
  return augmented.augmented_loss(single, log_rate, log_noise) * (m / negatives)


def other_half_loss(rows: Rows, log_noise: jax.Array | float = 0.0) -> jax.Array:
  """Augmented loss [n] whose rate for one half of the candidates is the other half's.

  Args:
    rows: n anchors with m candidates, at least one negative in either half.
    log_noise: [n], as in `minibatch_loss`.
  """
  m = rows.where.shape[1]
  first = jnp.broadcast_to(jnp.arange(m)[None, :] < m // 2, rows.where.shape)
  halves = [rows._replace(where=rows.where & half) for half in (first, ~first)]
  losses = [
    augmented.augmented_loss(mine, augmented.log_normalizer(theirs), log_noise)
    for mine, theirs in (halves, halves[::-1])
  ]
  return (losses[0] + losses[1]) / 2


def gradients(
  rows_of: Callable[[jax.Array], Rows],
  params: jax.Array,
  losses: Sequence[Callable[[Rows], jax.Array]],
) -> jax.Array:
  """Gradient of the mean of each loss on the same rows.

  Args:
    rows_of: parameters -> rows of the batch.
    params: any pytree, of D numbers.
    losses: functions of rows, one value per anchor.

  Returns:
    [len(losses), D] flat gradients.
  """

  # Logits first, parameters last: the encoder's forward pass is shared by all losses.
  def logits_of(p):
    rows = rows_of(p)
    return (rows.positive, rows.negative), rows.where

  logits, pull, where = jax.vjp(logits_of, params, has_aux=True)

  def one(loss):
    mean = lambda positive, negative: jnp.mean(loss(Rows(positive, negative, where)))
    cotangent = jax.grad(mean, argnums=(0, 1))(*logits)
    return ravel_pytree(pull(cotangent))[0]

  # Not a vmap of `pull` over stacked cotangents: jaxlib 0.10.2 on CPU compiles that to
  # wrong numbers for unit rows, from the 32,768th entry of [losses, n, d] on.
  return jnp.stack([one(loss) for loss in losses])


def squared_variation(rows: Rows) -> jax.Array:
  """CV^2 = Var(e^n) / s^2 of each anchor [n], given rows with all its negatives."""
  log_square = numerics.log_mean_exp(2 * rows.negative, rows.where)
  return jnp.expm1(log_square - 2 * augmented.log_normalizer(rows))


def leading_bias(
  variation_of: Callable[[jax.Array], jax.Array],
  params: jax.Array,
  negatives: int,
  population: int | None = None,
) -> jax.Array:
  """The leading term [D] of the bias of the decoupled loss's minibatch gradient.

  `-grad mean_i CV_i^2 / (2 K)`, times (m - K) / (m - 1) where the K negatives are drawn
  without replacement from m.

  Args:
    variation_of: parameters -> CV^2 [n] of e^n over all negatives of each anchor.
    params: any pytree, of D numbers.
    negatives: K.
    population: m, or None for infinitely many.
  """
  share = 1.0 if population is None else (population - negatives) / (population - 1)
  gradient = jax.grad(lambda p: jnp.mean(variation_of(p)))(params)
  return ravel_pytree(gradient)[0] * (-share / (2 * negatives))


class Bias(NamedTuple):
  """A bias with its Monte-Carlo uncertainty, in the units of the gradients.

  Attributes:
    bias: sqrt(max(squared, 0)).
    error: Monte-Carlo standard error of `bias` (of its order where bias is near 0).
    low: square root of `squared` - 2 errors, or 0.
    high: square root of `squared` + 2 errors; an upper limit where bias is near 0.
    squared: unbiased estimate of |E g - g*|^2; negative in half of the cases where
      there is no bias.
    squared_error: its standard error; up to 40 % too large where the bias is small.
    null_error: the standard error that it would have without bias.
    mean_error: Monte-Carlo error of the mean, the root of its total variance.
  """

  bias: float
  error: float
  low: float
  high: float
  squared: float
  squared_error: float
  null_error: float
  mean_error: float


def split_half_bias(means: np.ndarray, target: np.ndarray | float = 0.0) -> Bias:
  """Length of E[mean] - target, without the noise that |average - target| contains.

  The product of the deviations of two independent halves, (m_1 - g*) . (m_2 - g*), is
  an unbiased estimate of the squared bias. This is its average over all splits into
  halves, which is the average over all pairs of units.

  Args:
    means: [c, D] independent and equally distributed estimates, c >= 4: for a running
      normaliser the means over whole chains.
    target: [D] what their expectation is compared with, or 0.

  Returns:
    The estimate; errors are of the normal approximation (4 d' S d / c for the noise
    along the bias d, 2 tr S^2 / (c (c - 1)) for the rest).
  """
  means = np.asarray(means, np.float64)
  c = means.shape[0]
  if c < 4:
    raise ValueError(f"a Monte-Carlo error needs at least 4 units, not {c}")
  deviations = means - np.asarray(target, np.float64)
  average = deviations.mean(axis=0)
  # tr S^2 through the c x c matrix of products, which never needs the D x D one.
  centred = deviations - average
  products = centred @ centred.T / (c - 1)
  trace = np.trace(products)
  trace_square = (np.sum(products**2) - trace**2 / (c - 1)) * (c - 1) ** 2
  trace_square = max(trace_square / ((c - 2) * (c + 1)), 0.0)
  squared = float(average @ average - trace / c)
  along = np.sum((centred @ average) ** 2) / (c - 1) - trace_square / c
  null = 2 * trace_square / (c * (c - 1))
  error = float(np.sqrt(null + 4 * max(along, 0.0) / c))
  scale = np.sqrt(max(squared, error))
  return Bias(
    bias=float(np.sqrt(max(squared, 0.0))),
    error=float(error / (2 * scale)) if scale > 0 else 0.0,
    low=float(np.sqrt(max(squared - 2 * error, 0.0))),
    high=float(np.sqrt(max(squared, 0.0) + 2 * error)),
    squared=squared,
    squared_error=error,
    null_error=float(np.sqrt(null)),
    mean_error=float(np.sqrt(trace / c)),
  )


def mean_cosine(means: np.ndarray, target: np.ndarray) -> float:
  """Cosine between the expectation of `means` [c, D] and `target` [D].

  The squared length of the average is freed of its Monte-Carlo part, which would lower
  the cosine. NaN where a vector is too short for its direction to be known.
  """
  means = np.asarray(means, np.float64)
  target = np.asarray(target, np.float64)
  average = means.mean(axis=0)
  noise = np.sum(means.var(axis=0, ddof=1)) / means.shape[0]
  squared = average @ average - noise
  length = np.linalg.norm(target)
  if length == 0 or squared <= 3 * noise:
    return float("nan")
  return float(np.clip(average @ target / (length * np.sqrt(squared)), -1, 1))
