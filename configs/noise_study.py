"""The noise study: objectives, noise levels, sizes and tuned values.

python -m experiments.noise_study --config=configs/noise_study.py --workdir=DIR
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
    config.anchors = 512
  elif preset == "matched_view":
    config.setups = ("gaussian",)
    config.view_noise = 1.0
  return config
