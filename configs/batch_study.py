"""Batch study: objectives at batch B and 2B on real images, with equal epochs.

  python -m experiments.batch_study --config=configs/batch_study.py:smoke

| preset        | what                                               | hardware    | time    |
|---------------|----------------------------------------------------|-------------|---------|
| smoke         | procedural scenes, 2 objectives, 2 seeds, 1 epoch  | 2 CPU cores | 1 min   |
| cpu (default) | Fashion-MNIST and CIFAR-10, 5 objectives, 5 seeds  | 2 CPU cores | 91 min  |
| tune          | learning rates for cpu, on a seed of its own       | 2 CPU cores | 30 min  |
| gpu           | CIFAR-10, ResNet-18, 200 epochs, 5 seeds           | 1 GPU       | not run |

Result of cpu (docs/batch_study.md): probe means within 1.1 points of each other, 81 to
82 % on Fashion-MNIST and 43 to 44 % on CIFAR-10 (untrained encoder 62 and 32); the
augmented one does not win.
"""

import ml_collections

from configs import pretrain

# Name -> how tables call it, and what it changes in the objective.
_ARMS = {
  "info_nce": ("InfoNCE", dict(name="info_nce")),
  "decoupled": ("DCL", dict(name="decoupled")),
  "sogclr": ("SogCLR-like", dict(name="sogclr")),
  "augmented_minibatch": (
    "augmented, minibatch u",
    dict(name="augmented", source="minibatch"),
  ),
  "augmented_running": ("augmented, running u", dict(name="augmented")),
  "augmented_running_mean": (
    "augmented, running E[u]",
    dict(name="augmented", shape=None),
  ),
}

# Learning rates at the first batch size: the best of 4e-3, 8e-3, 1.6e-2 and 3.2e-2 by
# validation accuracy (preset tune, seed 100). The four lie within 1 to 4 points of each
# other, about the noise of 1,000 validation images.
_TUNED = {
  "scenes": dict.fromkeys(_ARMS, 8e-3),
  "fashion_mnist": dict(
    info_nce=8e-3,
    decoupled=3.2e-2,
    sogclr=3.2e-2,
    augmented_minibatch=3.2e-2,
    augmented_running=4e-3,
    augmented_running_mean=4e-3,
  ),
  "cifar10": dict(
    info_nce=4e-3,
    decoupled=1.6e-2,
    sogclr=1.6e-2,
    augmented_minibatch=3.2e-2,
    augmented_running=3.2e-2,
    augmented_running_mean=3.2e-2,
  ),
}


def get_config(preset: str = "cpu") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {"smoke": _smoke, "cpu": _cpu, "tune": _tune, "gpu": _gpu}
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  c = ml_collections.ConfigDict()
  c.seed = 0  # unused: the runs have seeds of their own
  c.data_dir = ""
  c.base = pretrain.get_config("scenes")
  c.base.evaluate.untrained = False
  c.arms = {name: dict(label=label, objective=o) for name, (label, o) in _ARMS.items()}
  # Name -> what a data set changes in the base.
  c.data = {
    "scenes": dict(data=dict(name="scenes")),
    "fashion_mnist": dict(
      data=dict(name="fashion_mnist", image_size=28), views="light"
    ),
    "cifar10": dict(data=dict(name="cifar10"), views="simclr_cifar"),
  }
  c.tuned = _TUNED
  c.study = ml_collections.ConfigDict()
  c.study.data = ("fashion_mnist", "cifar10")
  c.study.arms = tuple(name for name in _ARMS if name != "augmented_running_mean")
  c.study.batches = (64, 128)
  c.study.seeds = (0, 1, 2, 3, 4)
  # Rates grow with the batch to this power; 0.5 is the usual rule for Adam.
  c.study.rate_exponent = 0.5
  # More than none: a tuning over these, which replace c.tuned.
  c.study.learning_rates = ()
  presets[preset](c)
  return c


def _cpu(c):
  c.base.epochs = 10
  c.base.data.update(train_limit=5000, test_limit=5000)
  c.base.evaluate.few_shot = False


def _tune(c):
  _cpu(c)
  c.study.seeds = (100,)
  c.study.batches = (64,)
  c.study.learning_rates = (4e-3, 8e-3, 1.6e-2, 3.2e-2)


def _smoke(c):
  c.base = pretrain.get_config("smoke")
  c.base.evaluate.untrained = False
  c.base.encoder = {"name": "mlp"}
  c.base.epochs = 1
  c.base.data.update(train_limit=96, test_limit=96)
  c.base.evaluate.few_shot = False
  c.study.data = ("scenes",)
  c.study.arms = ("info_nce", "augmented_running")
  c.study.batches = (16, 32)
  c.study.seeds = (0, 1)


def _gpu(c):
  c.base = pretrain.get_config("simclr_cifar10")
  c.base.epochs = 200
  c.study.data = ("cifar10",)
  c.study.batches = (128, 256)
