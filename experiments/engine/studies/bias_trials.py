"""Cells of the bias study: replicates are added until the error is small enough."""

from typing import NamedTuple

import jax
import numpy as np

from contrastive import bias
from experiments.engine.studies import bias_replicates
from experiments.engine.studies.bias_problems import Family, Problem

# Float32 rounding of a gradient, in units of the attraction's norm: zero up to this.
ROUNDING = 1e-4


class Limits(NamedTuple):
  """When a cell is done.

  Attributes:
    chains: independent chains, the units of the Monte-Carlo errors.
    max_gradients: minibatch gradients of one objective at most.
    max_pairs: anchor-negative pairs of those gradients at most.
    fraction: a bias is known when its error is below this fraction of it.
    negligible: a bias is negligible when its upper limit is below this fraction of
      the decoupled loss's, or below `floor`.
    floor: in units of the attractive gradient's norm.
  """

  chains: int
  max_gradients: int
  max_pairs: int
  fraction: float
  negligible: float
  floor: float


class Cell(NamedTuple):
  """What was measured of one objective at one setting, in units of the attraction.

  Attributes:
    bias: against the exact gradient of the objective's target; of the two estimates
      below the one with the smaller Monte-Carlo error.
    paired: with the exact-rate gradient of the same batch and draw as control variate.
    plain: without.
    sd: root of the total variance of one minibatch gradient.
    cosine: between mean minibatch gradient and exact gradient; NaN if undefined.
    exact_norm: length of the exact gradient of the target.
    gradients: minibatch gradients measured.
    settled: "known" or "negligible" as in `Limits`, or "budget".
  """

  bias: bias.Bias
  paired: bias.Bias
  plain: bias.Bias
  sd: float
  cosine: float
  exact_norm: float
  gradients: int
  settled: str


def measure(
  family: Family,
  problem: Problem,
  objectives: dict[str, bias.Objective],
  size: int,
  *,
  key: jax.Array,
  visits: int,
  limits: Limits,
) -> dict[str, Cell]:
  """Bias and noise of objectives at one batch size.

  Biased objectives are measured first, on common batches, and then the unbiased ones,
  which need more batches but no normalisers: nothing but noise is left of them.

  Args:
    family: the problem's.
    problem: a frozen state.
    objectives: by name; the bias of "decoupled" is the yardstick of a negligible one.
    size: batch size B, at most the number of anchors for clusters.
    key: typed PRNG key.
    visits: visits to each anchor before the measured one.
    limits: when to stop; epochs are added, doubling the total, until each
      objective's bias is known or negligible, or the budget is spent.
  """
  first, second = jax.random.split(key)
  parts = [
    {name: o for name, o in objectives.items() if o.unbiased == unbiased}
    for unbiased in (False, True)
  ]
  common = (family, problem, size, visits, limits)
  cells = _measure(parts[0], 1.0, first, *common) if parts[0] else {}
  yardstick = cells["decoupled"].bias.bias if "decoupled" in cells else 1.0
  if parts[1]:
    cells |= _measure(parts[1], yardstick, second, *common)
  return {name: cells[name] for name in objectives}


def _measure(
  objectives, yardstick, key, family, problem, size, visits, limits
) -> dict[str, Cell]:
  """Adds epochs until all is settled or the budget spent."""
  specs = tuple(objectives.values())
  anchors = problem.query.shape[0]
  steps = max(anchors // size, 1)
  pairs = min(size, anchors) * family.negatives(anchors, size)
  per_epoch = limits.chains * steps
  budget = min(limits.max_gradients, limits.max_pairs // pairs) // per_epoch
  visit_key, collect_key = jax.random.split(key)
  states = bias_replicates.visit_anchors(
    family, problem, specs, size, visits, jax.random.split(visit_key, limits.chains)
  )
  truth = bias_replicates.find_truth(family, problem, specs, size)
  sums, done, epochs = None, 0, 1
  while True:
    keys = jax.random.split(jax.random.fold_in(collect_key, done), limits.chains)
    new = bias_replicates.collect(
      family, problem, specs, size, states, truth, keys, epochs
    )
    new = jax.tree.map(lambda x: np.asarray(x, np.float64), new)
    sums = new if sums is None else jax.tree.map(np.add, sums, new)
    done += epochs
    cells = _cells(objectives, sums, done * steps, truth, yardstick, limits)
    epochs = min(done, budget - done)
    if epochs < 1 or all(cell.settled != "budget" for cell in cells.values()):
      return cells


def _cells(objectives, sums, batches, truth, yardstick, limits) -> dict[str, Cell]:
  """Statistics of all objectives after so many batches of each chain."""
  unit = float(truth.unit)
  exact = np.asarray(truth.gradient, np.float64) / unit
  plain, paired = (x / batches / unit for x in (sums.plain, sums.paired))
  square = sums.square.mean(axis=0) / batches / unit**2
  found = {}
  for i, name in enumerate(objectives):
    length = float(np.linalg.norm(exact[i]))
    average = plain[:, i].mean(axis=0) - exact[i]
    estimates = {
      "paired": bias.split_half_bias(paired[:, i]),
      "plain": bias.split_half_bias(plain[:, i], exact[i]),
    }
    # At small batches the exact rate can be noisier than what it is to control.
    best = min(estimates, key=lambda k: estimates[k].null_error)
    means = plain[:, i] if best == "plain" else paired[:, i] + exact[i]
    known = length > ROUNDING
    found[name] = Cell(
      bias=estimates[best],
      **estimates,
      sd=float(np.sqrt(max(square[i] - average @ average, 0.0))),
      cosine=bias.mean_cosine(means, exact[i]) if known else float("nan"),
      exact_norm=length,
      gradients=batches * plain.shape[0],
      settled="budget",
    )
  if "decoupled" in found:
    yardstick = found["decoupled"].bias.bias
  negligible = max(limits.negligible * yardstick, limits.floor)
  return {
    name: cell._replace(settled=_settled(cell.bias, limits.fraction, negligible))
    for name, cell in found.items()
  }


def _settled(estimate: bias.Bias, fraction: float, negligible: float) -> str:
  if estimate.high <= negligible:
    return "negligible"
  if estimate.error <= fraction * estimate.bias:
    return "known"
  return "budget"
