"""The exact part of the alignment study: theorem 3.1 on random finite alphabets.

Nothing is trained: for each joint distribution of (x_T, x_V, y) all encoders are
enumerated, so that the theorem's bound, the exact price of alignment and the bound for
encoders that are only nearly aligned are checked, not assumed.
"""

from typing import Any, NamedTuple

import numpy as np

from experiments.engine.reporting import curves
from multimodal import gap

# Rounding of sums of a few dozen float64 terms.
_TOLERANCE = 1e-12


class Exact(NamedTuple):
  """What was found, in nats.

  Attributes:
    gaps: [j] information gap of each joint, the theorem's bound.
    prices: [j] least price of exact alignment (Gacs-Koerner).
    best: [j] least price over the enumerated aligned encoders.
    blocks: [j] values of the common part.
    encoders: [e] price of every aligned pair of encoders, minus its joint's gap.
    above_price: [e] the same minus the least price.
    nearly: [k] price of random encoder pairs, minus the approximate bound.
    informative: [k] whether that bound is above 0.
    tight: [j] distance of the best aligned encoder from the bound where the text is a
      function of the image.
    vacuous: (gap, price) of Y = (X_T, X_V) with independent X_T and X_V of four values.
  """

  gaps: np.ndarray
  prices: np.ndarray
  best: np.ndarray
  blocks: np.ndarray
  encoders: np.ndarray
  above_price: np.ndarray
  nearly: np.ndarray
  informative: np.ndarray
  tight: np.ndarray
  vacuous: tuple[float, float]


def measure(*, joints: int, symbols: int, classes: int, pairs: int, seed: int) -> Exact:
  """Checks the theorem on random joints whose support has 1 to `symbols` blocks.

  Args:
    joints: how many.
    symbols: of either modality, at most 5.
    classes: of Y.
    pairs: random pairs of encoders of each joint, for the approximate bound.
    seed: of NumPy's generator.
  """
  rng = np.random.default_rng(seed)
  per_joint, encoders, above, nearly = [], [], [], []
  for number in range(joints):
    blocks = 1 + number % symbols
    joint = gap.block_joint(rng, symbols=symbols, blocks=blocks, classes=classes)
    bound, price = gap.information_gap(joint), gap.aligned_price(joint)
    found = [gap.encoder_price(joint, *pair) for pair in gap.aligned_encoders(joint)]
    per_joint.append((bound, price, min(found), blocks))
    encoders += [value - bound for value in found]
    above += [value - price for value in found]
    for _ in range(pairs):
      pair = rng.integers(symbols, size=(2, symbols))
      lower = gap.approximate_bound(joint, *pair)
      nearly.append((gap.encoder_price(joint, *pair) - lower, lower > 0))
  gaps, prices, best, blocks = np.array(per_joint).T
  slack, informative = np.array(nearly).T
  tight = [_tight_case(rng, symbols, classes) for _ in range(min(joints, 200))]
  vacuous = gap.separate_factors(4)
  return Exact(
    gaps,
    prices,
    best,
    blocks.astype(int),
    np.array(encoders),
    np.array(above),
    slack,
    informative.astype(bool),
    np.array(tight),
    (gap.information_gap(vacuous), gap.aligned_price(vacuous)),
  )


def _tight_case(rng, symbols: int, classes: int) -> float:
  """|price - gap| where X_T = f(X_V) and both encoders keep X_T."""
  image = rng.dirichlet(np.ones(symbols * classes)).reshape(symbols, classes)
  text_of_image = rng.integers(symbols, size=symbols)
  joint = np.zeros((symbols, symbols, classes))
  joint[text_of_image, np.arange(symbols)] = image
  price = gap.encoder_price(joint, np.arange(symbols), text_of_image)
  return abs(price - gap.information_gap(joint))


def numbers(exact: Exact) -> dict[str, Any]:
  """What summary.json says of it: counts of violations, slack, edge cases."""
  some = exact.gaps > 0.01
  return {
    "joints": len(exact.gaps),
    "encoders": len(exact.encoders),
    "random_pairs": len(exact.nearly),
    "informative_pairs": int(exact.informative.sum()),
    "violations": {
      "theorem": _below(exact.encoders),
      "exact_price": _below(exact.above_price),
      "approximate": _below(exact.nearly),
    },
    "largest_difference_of_best_encoder_and_price": float(
      np.max(np.abs(exact.best - exact.prices))
    ),
    "gap": _spread(exact.gaps),
    "price": _spread(exact.prices),
    "slack_of_all_encoders": _spread(exact.encoders),
    "slack_of_best_encoder": _spread(exact.best - exact.gaps),
    "slack_of_approximate_bound": _spread(exact.nearly),
    "share_seen": float(np.mean(exact.gaps[some] / exact.prices[some])),
    "by_blocks": {
      str(blocks): {
        "gap": float(exact.gaps[exact.blocks == blocks].mean()),
        "price": float(exact.prices[exact.blocks == blocks].mean()),
      }
      for blocks in np.unique(exact.blocks)
    },
    "tight_case": {"joints": len(exact.tight), "largest": float(exact.tight.max())},
    "vacuous_case": {"gap": exact.vacuous[0], "price": exact.vacuous[1]},
  }


def _below(slack: np.ndarray) -> int:
  """How many values are negative beyond rounding; NaN counts as a violation."""
  return int(np.sum(~(slack >= -_TOLERANCE)))


def _spread(values: np.ndarray) -> dict[str, float]:
  low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
  return {
    "mean": float(np.mean(values)),
    "smallest": float(np.min(values)),
    "q05": float(low),
    "median": float(middle),
    "q95": float(high),
    "largest": float(np.max(values)),
  }


def text(exact: Exact) -> str:
  """One line for the terminal."""
  found = numbers(exact)
  violations = found["violations"]
  return (
    f"exact: {found['joints']} joints, {found['encoders']} aligned encoder pairs; "
    f"violations: theorem {violations['theorem']}, exact price "
    f"{violations['exact_price']}, approximate bound {violations['approximate']}; mean "
    f"slack {found['slack_of_all_encoders']['mean']:.3f} nats"
  )


def figure(exact: Exact, columns: int = 2) -> Any:
  """Distribution of the slack, and gap and price by the size of the common part."""
  top = float(max(exact.encoders.max(), exact.nearly.max()))
  grid = np.linspace(0, top, 120)

  def shares(name, values):
    below = np.mean(values[:, None] <= grid[None, :] + _TOLERANCE, axis=0)
    return curves.Series(name, grid, below[None])

  slack = curves.Panel(
    "Price above its lower bound",
    [
      shares("theorem, all aligned encoders", exact.encoders),
      shares("theorem, best aligned encoder", exact.best - exact.gaps),
      shares("approximate bound, random encoders", exact.nearly),
    ],
    xlabel="slack (nats)",
    ylabel="share of cases up to this slack",
    ylim=(0, 1.02),
  )
  groups = {}
  for blocks in np.unique(exact.blocks):
    own = exact.blocks == blocks
    plural = "s" if blocks > 1 else ""
    groups[f"price, {blocks} block{plural}"] = curves.interval(exact.prices[own])
    groups[f"gap, {blocks} block{plural}"] = curves.interval(exact.gaps[own])
  points = curves.PointPanel(
    "Price and bound, by values of the common part",
    groups,
    xlabel="nats, mean over joints",
  )
  return curves.figure([slack, points], columns=columns)
