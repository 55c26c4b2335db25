"""Heads between the encoder's features and the objective: projector and predictor.

SimCLR: `Projector(2048, 128, layers=2)`. MoCo-v3 with a ViT: `Projector(4096, 256,
layers=3, last_norm=True)` and `Predictor(4096, last_norm=True)`; with a ResNet the
projector has 2 layers and the predictor no last norm.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class Projector(nn.Module):
  """Dense layers with batch normalisation and ReLU between them.

  A dense layer has a bias only without batch normalisation, which would cancel it.

  Attributes:
    hidden: width of the hidden layers.
    out: output width; None for the input's.
    layers: number of dense layers; 1 is linear, 0 the identity.
    batch_norm: normalises the hidden layers (momentum 0.9, eps 1e-5).
    last_norm: batch-normalises the output too, without scale and offset (MoCo-v3).
    axis_name: device axis over which batch statistics are averaged in pmap or
      shard_map.
    dtype: type of the computation; parameters and statistics are float32.
  """

  hidden: int = 2048
  out: int | None = 128
  layers: int = 2
  batch_norm: bool = True
  last_norm: bool = False
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
    """Maps features [n, d] to float32 embeddings [n, out], not normalised to length 1.

    Args:
      features: the encoder's output.
      train: uses and updates batch statistics ("batch_stats" must be mutable).
    """
    x = features
    out = features.shape[-1] if self.out is None else self.out
    for i in range(self.layers):
      last = i == self.layers - 1
      x = nn.Dense(
        out if last else self.hidden, use_bias=not self.batch_norm, dtype=self.dtype
      )(x)
      if self.last_norm if last else self.batch_norm:
        x = nn.BatchNorm(
          use_running_average=not train,
          momentum=0.9,
          epsilon=1e-5,
          use_scale=not last,
          use_bias=not last,
          axis_name=self.axis_name,
          dtype=self.dtype,
        )(x)
      if not last:
        x = nn.relu(x)
    return x.astype(jnp.float32)


class Predictor(Projector):
  """A projector back to its input's width, applied to one branch (BYOL, MoCo-v3)."""

  hidden: int = 4096
  out: int | None = None
