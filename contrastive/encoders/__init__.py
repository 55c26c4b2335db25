"""Encoders: float images [n, h, w, c] and `train: bool` in, float32 [n, d] out.

All are linen modules with float32 parameters; `dtype` is the type of the computation.
Only batch normalisation looks at `train` and keeps state, in "batch_stats".
"""

from contrastive.encoders.mlp import MLP
from contrastive.encoders.resnet import (
  BasicBlock,
  Bottleneck,
  ResNet,
  resnet18,
  resnet34,
  resnet50,
  resnet_tiny,
)
from contrastive.encoders.vit import (
  ViT,
  clip_vit_b16,
  clip_vit_b32,
  clip_vit_l14,
  vit_base,
  vit_micro,
  vit_small,
  vit_tiny,
)

__all__ = [
  "MLP",
  "BasicBlock",
  "Bottleneck",
  "ResNet",
  "ViT",
  "clip_vit_b16",
  "clip_vit_b32",
  "clip_vit_l14",
  "resnet18",
  "resnet34",
  "resnet50",
  "resnet_tiny",
  "vit_base",
  "vit_micro",
  "vit_small",
  "vit_tiny",
]
