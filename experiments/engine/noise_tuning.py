"""Tuning for the noise study: equal trials for each objective, on separate problems.

Each objective gets the same number of trials at each noise level. One without a
smoothing spends them all on the learning rate; one with a smoothing on a grid of both.
The criterion is the mean relative error |A - A*| / |A*| of the last critic, over
problems that the study does not use. Tuning at each level by itself, by a criterion
that knows the optimum, favours the baselines if anything.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import synthetic
from experiments.engine import errors, noise_trials


class Tuned(NamedTuple):
  """What was best for one objective at one noise level."""

  sd: float
  learning_rate: float
  smoothing: float
  relative_error: float


def trials(
  objective: noise_trials.Objective, count: int, rates: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
  """Learning rates and smoothings [count] to try, rates evenly spaced in the log.

  Args:
    objective: its smoothing candidates divide `count`.
    count: number of trials.
    rates: smallest and largest learning rate.

  Raises:
    UsageError: the count is no multiple of the candidates, or the rates are not
      positive and ascending.
  """
  low, high = rates
  if not 0 < low <= high:
    raise errors.UsageError(
      f"tuning.rates are the smallest and largest learning rate, not {tuple(rates)}"
    )
  candidates = objective.smoothing or (1.0,)
  if count < 1 or count % len(candidates):
    raise errors.UsageError(
      f"tuning.trials={count} is no multiple of the {len(candidates)} smoothings of "
      f"'{objective.label}'; try {len(candidates) * max(1, count // len(candidates))}"
    )
  grid = np.geomspace(low, high, count // len(candidates))
  rate, smoothing = np.meshgrid(grid, candidates, indexing="ij")
  return rate.ravel(), smoothing.ravel()


def tune(
  objective: noise_trials.Objective,
  sizes: noise_trials.Sizes,
  problems: Sequence[synthetic.Problem],
  key: jax.Array,
  levels: Sequence[float],
  count: int,
  rates: tuple[float, float],
) -> list[Tuned]:
  """Best learning rate and smoothing of one objective at each noise level.

  Args:
    objective: what to tune.
    sizes: of a trial.
    problems: one run on each for each trial, all from the same initial critics.
    key: typed PRNG key of the runs.
    levels: standard deviations of the injected error.
    count: trials at each level.
    rates: smallest and largest learning rate.

  Returns:
    One entry for each level.
  """
  rate, smoothing = trials(objective, count, rates)
  stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *problems)
  keys = jax.random.split(key, len(problems))
  run = noise_trials.make_train(objective, sizes)
  over_problems = jax.vmap(run, in_axes=(0, 0, None, None, None))
  over_trials = jax.vmap(over_problems, in_axes=(None, None, None, 0, 0))
  program = jax.jit(over_trials)
  best = []
  for sd in levels:
    records = program(stacked, keys, sd, jnp.asarray(rate), jnp.asarray(smoothing))
    error = np.mean(np.asarray(records["relative_error"])[:, :, -1], axis=1)
    # A trial that diverged loses; argmin alone would choose its NaN.
    error = np.where(np.isfinite(error), error, np.inf)
    i = int(np.argmin(error))
    best.append(
      Tuned(sd, round(float(rate[i]), 5), float(smoothing[i]), float(error[i]))
    )
  return best
