"""The noise study: which objectives reach a known optimum under injected noise.

Run it with

  python -m experiments.noise_study --config=configs/noise_study.py:PRESET --workdir=DIR

Hardware of all results: two CPU cores, no accelerator. Ten initialisations, seed 0; runs
whose critic ends within 5 % of the optimum, of ten, at noise none/low/heavy/extreme.

default       8 objectives, both set-ups, 4 levels; 1 minute. Gaussian negatives: InfoNCE,
              DCL, u from the minibatch, SogCLR with weight 0.9: 0/0/0/0; SogCLR with a
              tuned weight and running u at its mean: 10/10/10/10; at shape 1: 10/10/10/9.
smoke         two objectives, 100 steps; 15 seconds, nearly all of it compilation.
quick         6 objectives, Gaussian negatives, 32 anchors, 1,500 steps; 20 seconds.
              InfoNCE 0/0/0/0, running u at its mean 10/10/10/9.
tune          the tuning behind `tuned`, then the study with what it found; 7 minutes.
extreme       sd 2, 2.5, 3; half a minute. Running u at its mean 10/10/0, InfoNCE 0/0/0.
few_visits    2,048 anchors, 62 visits each; 3 minutes. Running u at its mean 10/0/0/5.
matched_view  a well-specified critic; 1 minute. InfoNCE 10/0/0/0, DCL 0/0/0/0.

Tables, other seeds and what does not hold: docs/noise_study.md.
"""

import ml_collections
from ml_collections import config_dict

# Found by the preset `tune`, with the sizes of `default`.
_TUNED = {
  "gaussian": {
    "info_nce": (
      (0.0, 0.01, 1.0),
      (0.75, 0.01, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "decoupled": (
      (0.0, 0.01, 1.0),
      (0.75, 0.01, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "augmented_minibatch": (
      (0.0, 0.01, 1.0),
      (0.75, 0.01, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "sogclr": ((0.0, 0.01, 1.0), (0.75, 0.01, 1.0), (1.5, 0.01, 1.0), (2.0, 0.01, 1.0)),
    "sogclr_tuned": (
      (0.0, 0.01, 0.01),
      (0.75, 0.01, 0.01),
      (1.5, 0.01, 0.003),
      (2.0, 0.01, 0.003),
    ),
    "augmented_running": (
      (0.0, 0.01, 2.0),
      (0.75, 0.01, 2.0),
      (1.5, 0.01, 2.0),
      (2.0, 0.01, 1.0),
    ),
    "augmented_running_mean": (
      (0.0, 0.01, 4.0),
      (0.75, 0.01, 16.0),
      (1.5, 0.01, 2.0),
      (2.0, 0.01, 1.0),
    ),
    "augmented_exact": (
      (0.0, 0.01, 1.0),
      (0.75, 0.01, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
  },
  "heavy_tails": {
    "info_nce": (
      (0.0, 0.01827, 1.0),
      (0.75, 0.02061, 1.0),
      (1.5, 0.02325, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "decoupled": (
      (0.0, 0.02623, 1.0),
      (0.75, 0.02959, 1.0),
      (1.5, 0.02623, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "augmented_minibatch": (
      (0.0, 0.04249, 1.0),
      (0.75, 0.05407, 1.0),
      (1.5, 0.05407, 1.0),
      (2.0, 0.04793, 1.0),
    ),
    "sogclr": (
      (0.0, 0.02325, 1.0),
      (0.75, 0.02959, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
    "sogclr_tuned": (
      (0.0, 0.01, 0.01),
      (0.75, 0.01, 0.01),
      (1.5, 0.01, 0.01),
      (2.0, 0.01, 0.003),
    ),
    "augmented_running": (
      (0.0, 0.0252, 2.0),
      (0.75, 0.01, 4.0),
      (1.5, 0.01, 4.0),
      (2.0, 0.01, 2.0),
    ),
    "augmented_running_mean": (
      (0.0, 0.01, 16.0),
      (0.75, 0.01, 4.0),
      (1.5, 0.01, 4.0),
      (2.0, 0.01, 2.0),
    ),
    "augmented_exact": (
      (0.0, 0.01, 1.0),
      (0.75, 0.01, 1.0),
      (1.5, 0.01, 1.0),
      (2.0, 0.01, 1.0),
    ),
  },
}

PRESETS = (
  "default",
  "smoke",
  "quick",
  "tune",
  "extreme",
  "few_visits",
  "matched_view",
)


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  if preset not in PRESETS:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(PRESETS)}")
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.runs = 10
  config.setups = ("gaussian", "heavy_tails")
  config.objectives = (
    "info_nce",
    "decoupled",
    "augmented_minibatch",
    "sogclr",
    "sogclr_tuned",
    "augmented_running",
    "augmented_running_mean",
    "augmented_exact",
  )
  # Standard deviation of the error added to each similarity.
  config.noise = (0.0, 0.75, 1.5, 2.0)

  config.anchors = 64
  config.width = 4
  config.radius = 1.2
  config.view_noise = 0.3
  config.tails = (2.0, 8.0, 32.0)
  config.batch = 32
  config.negatives = 16
  # Of each anchor for its running normaliser only: a forward pass without gradient.
  config.extra_negatives = 0
  config.steps = 4000
  config.records = 100
  config.init_scale = 0.5
  config.tolerance = 0.05

  # A number here replaces the tuned one of every objective (that has one).
  config.learning_rate = config_dict.placeholder(float)
  config.smoothing = config_dict.placeholder(float)
  # (noise, learning rate, smoothing) for each set-up and objective; a level that is
  # not there takes the nearest one's.
  config.tuned = ml_collections.ConfigDict(_TUNED)
  config.tune = preset == "tune"
  config.tuning = ml_collections.ConfigDict()
  config.tuning.seed = 1000
  config.tuning.problems = 5
  config.tuning.trials = 24
  # From the smallest rate at which every objective reaches its own limit: below it a
  # biased objective wins by stopping early, while it passes the optimum.
  config.tuning.rates = (0.01, 0.16)

  if preset == "smoke":
    config.objectives = ("info_nce", "augmented_running_mean")
    config.noise = (0.0, 1.5)
    config.runs, config.steps, config.records = 2, 100, 10
    config.anchors, config.batch = 16, 8
  elif preset == "quick":
    config.setups = ("gaussian",)
    config.objectives = (
      "info_nce",
      "decoupled",
      "augmented_minibatch",
      "augmented_running",
      "augmented_running_mean",
      "augmented_exact",
    )
    config.anchors, config.steps, config.records = 32, 1500, 50
  elif preset == "extreme":
    config.setups = ("gaussian",)
    config.noise = (2.0, 2.5, 3.0)
  elif preset == "few_visits":
    # 62 visits to an anchor, where the default has 2,000.
    config.setups = ("gaussian",)
    config.anchors = 2048
  elif preset == "matched_view":
    # The critic is well specified; many anchors, so that A* is near the law's own.
    config.setups = ("gaussian",)
    config.objectives = ("info_nce", "decoupled", "augmented_exact")
    config.view_noise = 1.0
    config.anchors = 512
  return config
