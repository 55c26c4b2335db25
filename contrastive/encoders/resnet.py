"""Residual networks (He et al. 2016), with a stem for each size of image.

As torchvision's: padding k // 2, the stride of a bottleneck on its 3x3 convolution,
no convolution bias, He-normal kernels by fan-out. The last norm's scale of each block
starts at zero (Goyal et al. 2017), so a new block is the identity.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Images up to this side get the small stem unless the stem is named.
_SMALL = 64

_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(features: int, kernel: int, stride: int = 1, *, dtype) -> nn.Conv:
  return nn.Conv(
    features,
    (kernel, kernel),
    (stride, stride),
    padding=kernel // 2,
    use_bias=False,
    kernel_init=_he_normal,
    dtype=dtype,
  )


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and a shortcut."""

  features: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  expansion = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [n, h, w, c] to [n, h / stride, w / stride, features]."""
    conv = partial(_conv, dtype=self.dtype)
    y = nn.relu(self.norm()(conv(self.features, 3, self.stride)(x)))
    y = conv(self.features, 3)(y)
    y = self.norm(scale_init=nn.initializers.zeros)(y)
    return nn.relu(y + _shortcut(x, y, self.stride, conv, self.norm))


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions and a shortcut; four times as wide at the end."""

  features: int
  stride: int
  norm: Callable[..., nn.Module]
  dtype: Any

  expansion = 4

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [n, h, w, c] to [n, h / stride, w / stride, 4 features]."""
    conv = partial(_conv, dtype=self.dtype)
    y = nn.relu(self.norm()(conv(self.features, 1)(x)))
    y = nn.relu(self.norm()(conv(self.features, 3, self.stride)(y)))
    y = conv(self.features * self.expansion, 1)(y)
    y = self.norm(scale_init=nn.initializers.zeros)(y)
    return nn.relu(y + _shortcut(x, y, self.stride, conv, self.norm))


def _shortcut(x, y, stride, conv, norm) -> jax.Array:
  """The input itself, or a 1x1 convolution and norm where the shape changes."""
  if x.shape == y.shape:
    return x
  return norm()(conv(y.shape[-1], 1, stride)(x))


class ResNet(nn.Module):
  """A residual network that ends in the mean over places.

  Attributes:
    stage_sizes: blocks per stage; each stage after the first halves the image and
      doubles the width.
    block: BasicBlock or Bottleneck.
    width: features of the first stage.
    stem: "small" (3x3, stride 1), "large" (7x7, stride 2, and 3x3 max-pooling of
      stride 2), "patch" (`patch` x `patch` pixels to one place, the cheap one for
      studies on CPU), or "auto": small up to 64 pixels, else large.
    patch: the side of a patch in pixels.
    num_groups: None for batch normalisation (momentum 0.9, eps 1e-5), over the global
      batch under auto-sharded jit; or the groups of group normalisation.
    axis_name: device axis over which batch statistics are averaged in pmap or
      shard_map.
    dtype: type of the computation; parameters and statistics are float32.
    remat: recomputes each block in the backward pass, which saves memory.
  """

  stage_sizes: Sequence[int]
  block: Callable[..., nn.Module] = BasicBlock
  width: int = 64
  stem: str = "auto"
  patch: int = 2
  num_groups: int | None = None
  axis_name: str | None = None
  dtype: Any = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Maps float images [n, h, w, c] to float32 features [n, d].

    Args:
      images: normalised images.
      train: uses and updates batch statistics ("batch_stats" must be mutable).

    Returns:
      d = width * 2^(stages - 1) * block.expansion features.

    Raises:
      ValueError: for an unknown stem.
    """
    norm = self._norm(train)
    x = self._stem(images.astype(self.dtype), norm)
    block: Any = nn.remat(self.block) if self.remat else self.block
    stages = [stage for stage, size in enumerate(self.stage_sizes) for _ in range(size)]
    for i, stage in enumerate(stages):
      stride = 2 if i > 0 and stage != stages[i - 1] else 1
      # Named, so that the parameters are called the same with and without remat.
      name = f"{self.block.__name__}_{i}"
      x = block(self.width * 2**stage, stride, norm, self.dtype, name=name)(x)
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))

  def _norm(self, train: bool) -> Callable[..., nn.Module]:
    if self.num_groups is not None:
      return partial(
        nn.GroupNorm, num_groups=self.num_groups, epsilon=1e-5, dtype=self.dtype
      )
    return partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=0.9,
      epsilon=1e-5,
      axis_name=self.axis_name,
      dtype=self.dtype,
    )

  def _stem(self, x: jax.Array, norm: Callable[..., nn.Module]) -> jax.Array:
    stem = self.stem
    if stem == "auto":
      stem = "small" if max(x.shape[1:3]) <= _SMALL else "large"
    if stem == "small":
      return nn.relu(norm()(_conv(self.width, 3, dtype=self.dtype)(x)))
    if stem == "large":
      x = nn.relu(norm()(_conv(self.width, 7, 2, dtype=self.dtype)(x)))
      return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    if stem == "patch":
      size = (self.patch, self.patch)
      conv = nn.Conv(
        self.width,
        size,
        size,
        padding="VALID",
        use_bias=False,
        kernel_init=_he_normal,
        dtype=self.dtype,
      )
      return nn.relu(norm()(conv(x)))
    raise ValueError(
      f"a ResNet's stem is 'auto', 'small', 'large' or 'patch', not {stem!r}."
    )


def resnet18(**options) -> ResNet:
  """ResNet-18: 512 features, 11.2 M parameters."""
  return ResNet((2, 2, 2, 2), BasicBlock, **options)


def resnet34(**options) -> ResNet:
  """ResNet-34: 512 features, 21.3 M parameters."""
  return ResNet((3, 4, 6, 3), BasicBlock, **options)


def resnet50(**options) -> ResNet:
  """ResNet-50: 2048 features, 23.5 M parameters."""
  return ResNet((3, 4, 6, 3), Bottleneck, **options)


def resnet_tiny(**options) -> ResNet:
  """A ResNet for studies on a few CPU cores: 96 features, 0.17 M parameters.

  Two blocks at 8 x 8 and 4 x 4 places of a 32-pixel image, 8 MFLOP forward. Patches of
  4 and width 48 beat patches of 2 and widths 16, 32, 64 on CPU: convolutions run near
  the speed of matrix products only from some 32 channels on, and 3 x 3 ones of 2 x 2
  places are ten times slower than that.
  """
  sizes = {"width": 48, "stem": "patch", "patch": 4}
  return ResNet((1, 1), BasicBlock, **{**sizes, **options})
