"""A plain multilayer perceptron on flattened inputs."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
  """Dense layers with ReLU between them and none at the end.

  Attributes:
    widths: output width of each layer; the last is the features' width d.
    dtype: type of the computation.
  """

  widths: Sequence[int]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Maps [n, ...] to float32 features [n, d]; `train` changes nothing."""
    del train
    x = images.reshape(images.shape[0], -1)
    for i, width in enumerate(self.widths):
      x = nn.Dense(width, dtype=self.dtype)(nn.relu(x) if i else x)
    return x.astype(jnp.float32)
