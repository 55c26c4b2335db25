"""Vision transformers (Dosovitskiy et al. 2021) as trained by MoCo-v3, and CLIP's.

Pre-norm blocks, fixed two-dimensional sine-cosine positions, Xavier-uniform kernels,
LayerNorm with eps 1e-6. The blocks are one scanned module: the time to compile does not
grow with the depth, and parameters carry a leading axis of layers. CLIP's image tower
(Radford et al. 2021) differs in four options, which `clip_vit_*` set.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from contrastive.encoders.blocks import ACTIVATIONS, block_stack


def sincos_positions(rows: int, columns: int, width: int) -> np.ndarray:
  """Position embedding [rows * columns, width] (Chen, Xie & He 2021, MoCo-v3).

  A quarter of the features each: sine and cosine of the column, then of the row, at
  frequencies 10000^(-4 i / width).

  Raises:
    ValueError: unless the width is a multiple of 4.
  """
  if width % 4:
    raise ValueError(
      f"sine-cosine positions need a width that is a multiple of 4, not {width}; try "
      f"{width + 4 - width % 4}."
    )
  frequency = 10000.0 ** (-np.arange(width // 4) / (width // 4))
  row, column = (grid.reshape(-1, 1) for grid in np.mgrid[:rows, :columns])
  angles = (column * frequency[None, :], row * frequency[None, :])
  waves = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
  return np.concatenate(waves, axis=1).astype(np.float32)


class ViT(nn.Module):
  """A vision transformer.

  Attributes:
    patch: side of a patch in pixels; must divide the image.
    width: token width, a multiple of 4 and of heads; the features' width d.
    depth: number of blocks.
    heads: attention heads.
    mlp_ratio: hidden width of a block's perceptron over width.
    pool: "class" (a class token's output), "mean" (of the patches' outputs, without a
      class token) or "none" (all tokens [n, t, d], the class token first).
    positions: "sincos" (fixed, of the patches) or "learned" (of all tokens, drawn as
      BERT's; they fit images of one size).
    input_norm: normalises the tokens before the first block.
    activation: "gelu" (exact) or "quick_gelu".
    epsilon: of every LayerNorm.
    frozen_patches: keeps the random patch projection as it was initialised, which
      steadies training (Chen, Xie & He 2021). Its gradient is then zero: leave it out
      of the weight decay as well.
    remat: recomputes each block in the backward pass, which saves memory.
    unroll: blocks in a turn of the loop over blocks. With `depth` there is no loop:
      a sixth faster on CPU, and twice the time to compile.
    dtype: type of the computation; parameters are float32.
  """

  patch: int = 16
  width: int = 384
  depth: int = 12
  heads: int = 12
  mlp_ratio: float = 4.0
  pool: str = "class"
  positions: str = "sincos"
  input_norm: bool = False
  activation: str = "gelu"
  epsilon: float = 1e-6
  frozen_patches: bool = False
  remat: bool = False
  unroll: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Maps float images [n, h, w, c] to float32 features; `train` changes nothing.

    Args:
      images: normalised images.
      train: ignored; no part behaves differently.

    Returns:
      [n, d], or [n, t, d] with pool "none".

    Raises:
      ValueError: for an unknown pool, kind of positions or activation, or an image
        that patches do not tile.
    """
    del train
    self._check()
    x = self._tokens(images)
    if self.input_norm:
      x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="input_norm")(x)
    blocks = block_stack(
      depth=self.depth,
      remat=self.remat,
      unroll=self.unroll,
      name="blocks",
      heads=self.heads,
      mlp_ratio=self.mlp_ratio,
      activation=self.activation,
      epsilon=self.epsilon,
      dtype=self.dtype,
    )
    x, _ = blocks(x, None, (lambda x: x[:, :1]) if self.pool == "class" else None)
    x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
    x = x.astype(jnp.float32)
    if self.pool == "none":
      return x
    return x[:, 0] if self.pool == "class" else jnp.mean(x, axis=1)

  def _check(self) -> None:
    for name, known in (
      ("pool", ("class", "mean", "none")),
      ("positions", ("sincos", "learned")),
      ("activation", tuple(ACTIVATIONS)),
    ):
      if getattr(self, name) not in known:
        listed = " or ".join(", ".join(map(repr, known)).rsplit(", ", 1))
        raise ValueError(f"a ViT's {name} is {listed}, not {getattr(self, name)!r}.")

  def _tokens(self, images: jax.Array) -> jax.Array:
    """Patches with their positions, [n, t, width], after the class token if any."""
    n, height, width, channels = images.shape
    if height % self.patch or width % self.patch:
      raise ValueError(
        f"patches of {self.patch} pixels do not tile a {height} x {width} image; "
        "choose a patch that divides both sides, or resize the images."
      )
    # MoCo-v3 draws the projection as a dense layer's, not as a convolution's.
    fan = channels * self.patch**2 + self.width
    x = nn.Conv(
      self.width,
      (self.patch, self.patch),
      (self.patch, self.patch),
      padding="VALID",
      kernel_init=_symmetric_uniform((6 / fan) ** 0.5),
      dtype=self.dtype,
      name="patches",
    )(images)
    if self.frozen_patches:
      x = jax.lax.stop_gradient(x)
    rows, columns = x.shape[1:3]
    x = x.reshape(n, -1, self.width)
    if self.positions == "sincos":
      fixed = sincos_positions(rows, columns, self.width)
      x = x + jnp.asarray(fixed, self.dtype)[None]
    if self.pool != "mean":
      token = self.param("class", nn.initializers.normal(1e-6), (1, 1, self.width))
      token = jnp.broadcast_to(token, (n, 1, self.width)).astype(self.dtype)
      x = jnp.concatenate([token, x], axis=1)
    if self.positions == "learned":
      init = nn.initializers.truncated_normal(0.02)
      learned = self.param("positions", init, x.shape[1:])
      x = x + learned.astype(self.dtype)[None]
    return x


def _symmetric_uniform(limit: float) -> nn.initializers.Initializer:
  def init(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -limit, limit)

  return init


def vit_micro(**options) -> ViT:
  """Width 96, depth 4, 3 heads, patch 4, mean pooling: for studies on CPU."""
  sizes = {"patch": 4, "width": 96, "depth": 4, "heads": 3, "pool": "mean"}
  return ViT(**{**sizes, **options})


def vit_tiny(**options) -> ViT:
  """ViT-Ti: width 192, depth 12, 3 heads."""
  return ViT(**{"width": 192, "heads": 3, **options})


def vit_small(**options) -> ViT:
  """ViT-S: width 384, depth 12, and 12 heads as in MoCo-v3 (DeiT and timm: 6)."""
  return ViT(**{"width": 384, "heads": 12, **options})


def vit_base(**options) -> ViT:
  """ViT-B: width 768, depth 12, 12 heads."""
  return ViT(**{"width": 768, "heads": 12, **options})


def _clip_vit(**options) -> ViT:
  clip = {"positions": "learned", "input_norm": True, "epsilon": 1e-5}
  return ViT(**{**clip, "activation": "quick_gelu", **options})


def clip_vit_b32(**options) -> ViT:
  """CLIP's ViT-B/32 image tower without its projection: 768 features.

  As OpenAI's weights want it; most others want `activation="gelu"`.
  """
  return _clip_vit(**{"patch": 32, "width": 768, "depth": 12, "heads": 12, **options})


def clip_vit_b16(**options) -> ViT:
  """CLIP's ViT-B/16; see `clip_vit_b32`."""
  return clip_vit_b32(**{"patch": 16, **options})


def clip_vit_l14(**options) -> ViT:
  """CLIP's ViT-L/14: 1024 features; see `clip_vit_b32`."""
  sizes = {"patch": 14, "width": 1024, "depth": 24, "heads": 16}
  return _clip_vit(**{**sizes, **options})
