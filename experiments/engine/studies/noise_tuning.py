"""Tuning for the noise study: equal trials for each objective, on separate problems.

Each objective gets the same number of trials at each noise level. One without a
smoothing spends them all on the learning rate; one with a smoothing on a grid of both.
The criterion is the mean relative error |A - A*| / |A*| of the last critic, over
problems that the study does not use. Of trials as good to 2 % the one with the smallest
learning rate is taken, because a difference that small is chance. Tuning at each level
by itself, by a criterion that knows the optimum, favours the baselines if anything.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import synthetic
from experiments.engine import errors
from experiments.engine.studies import noise_trials


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


def best_trial(error: np.ndarray, rate: np.ndarray) -> int:
  """Number of the trial with the smallest rate, then error, among those good to 2 %."""
  # A trial that diverged loses; argmin alone would choose its NaN.
  error = np.where(np.isfinite(error), error, np.inf)
  good = np.flatnonzero(error <= 1.02 * error.min())
  return int(min(good, key=lambda i: (rate[i], error[i])))


def tune(
  objectives: Mapping[str, noise_trials.Objective],
  sizes: noise_trials.Sizes,
  problems: Sequence[synthetic.Problem],
  key: jax.Array,
  levels: Sequence[float],
  count: int,
  rates: tuple[float, float],
) -> dict[str, list[Tuned]]:
  """Best learning rate and smoothing of each objective at each noise level.

  Args:
    objectives: what to tune, by name.
    sizes: of a trial.
    problems: one run on each for each trial.
    key: typed PRNG key of the runs.
    levels: standard deviations of the injected error.
    count: trials of each objective at each level.
    rates: smallest and largest learning rate.

  Returns:
    Name -> one entry for each level.
  """
  tried = [trials(objective, count, rates) for objective in objectives.values()]
  rate, smoothing = (np.stack(part, axis=1) for part in zip(*tried, strict=True))
  stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *problems)
  keys = jax.random.split(key, len(problems))
  train = noise_trials.make_train(list(objectives.values()), sizes)
  over_trials = jax.vmap(train, in_axes=(None, None, None, 0, 0))
  program = jax.jit(jax.vmap(over_trials, in_axes=(0, 0, None, None, None)))
  best: dict[str, list[Tuned]] = {name: [] for name in objectives}
  for sd in levels:
    records = program(stacked, keys, sd, jnp.asarray(rate), jnp.asarray(smoothing))
    # [problems, trials, objectives, records + 1] -> [trials, objectives]
    error = np.mean(np.asarray(records["relative_error"])[..., -1], axis=0)
    for o, name in enumerate(objectives):
      i = best_trial(error[:, o], rate[:, o])
      chosen = round(float(rate[i, o]), 5), float(smoothing[i, o])
      best[name].append(Tuned(sd, *chosen, float(error[i, o])))
  return best
