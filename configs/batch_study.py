"""Batch study: objectives at batch B and 2B on real images, with equal epochs.

  python -m experiments.batch_study --config=configs/batch_study.py:smoke

| preset        | what                                               | hardware    | time    |
|---------------|----------------------------------------------------|-------------|---------|
| smoke         | procedural scenes, 2 objectives, 2 seeds, 2 epochs | 2 CPU cores | 1 min   |
| cpu (default) | Fashion-MNIST and CIFAR-10, 5 objectives, 5 seeds  | 2 CPU cores | 90 min  |
| tune          | learning rates for cpu, on seeds of its own        | 2 CPU cores | 40 min  |
| gpu           | CIFAR-10, ResNet-18, 200 epochs, 5 seeds           | 1 GPU       | not run |

Results of cpu: docs/batch_study.md.
"""

import ml_collections

from configs import pretrain

# What each arm changes in the config of configs/pretrain.py.
ARMS = {
  "InfoNCE": {"objective.name": "info_nce"},
  "DCL": {"objective.name": "decoupled"},
  "SogCLR-like": {"objective.name": "sogclr"},
  "augmented, minibatch u": {
    "objective.name": "augmented",
    "objective.source": "minibatch",
  },
  "augmented, running u": {"objective.name": "augmented"},
}
