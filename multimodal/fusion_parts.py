"""Parts of the fusion model and of its decoder: layers with a memory, and heads."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import contrastive
from contrastive.encoders import blocks
from multimodal.towers import Embeddings


class CrossTransformer(nn.Module):
  """Blocks of self-attention, cross-attention to a memory and perceptron; a LayerNorm.

  Attributes:
    depth: number of blocks.
    heads: attention heads; they divide the tokens' width.
    mlp_ratio: hidden width of a block's perceptron over width.
    activation: "gelu" (exact) or "quick_gelu".
    epsilon: of every LayerNorm.
    remat: recomputes each block in the backward pass, which saves memory.
    unroll: blocks in a turn of the loop over blocks; no loop from `depth` on.
    dtype: type of the computation; parameters are float32.
  """

  depth: int
  heads: int
  mlp_ratio: float = 4.0
  activation: str = "gelu"
  epsilon: float = 1e-5
  remat: bool = False
  unroll: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None,
    memory: jax.Array,
    memory_mask: jax.Array | None = None,
    *,
    pick: blocks.Pick | None = None,
    keep_attention: bool = False,
  ) -> tuple[jax.Array, jax.Array | None]:
    """Maps tokens [n, t, d] to float32 states of the same shape, or of those picked.

    Args:
      x: tokens.
      mask: booleans [n or 1, 1, t or 1, t], whether a token may look at another.
      memory: tokens [n, s, any width] of something else.
      memory_mask: booleans [n, s], whether a token of the memory may be looked at.
      pick: see `blocks.Block`.
      keep_attention: whether to return the weights of the cross-attention.

    Returns:
      states, and None or weights [depth, n, heads, t, s].

    Raises:
      ValueError: another number of rows of tokens than of memories.
    """
    if len(x) != len(memory):
      raise ValueError(
        f"{len(x)} rows of tokens cannot look at {len(memory)} rows of memory; give "
        "each row its own, by indexing."
      )
    stack = blocks.block_stack(
      depth=self.depth,
      remat=self.remat,
      unroll=self.unroll,
      name="blocks",
      heads=self.heads,
      mlp_ratio=self.mlp_ratio,
      activation=self.activation,
      epsilon=self.epsilon,
      dtype=self.dtype,
      draws=self._draws(x.shape[-1]),
      keep_attention=keep_attention,
    )
    if memory_mask is not None:
      memory_mask = memory_mask[:, None, None, :]
    x, memory = x.astype(self.dtype), memory.astype(self.dtype)
    x, weights = stack(x, mask, pick, memory, memory_mask)
    x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
    return x.astype(jnp.float32), weights

  def _draws(self, width: int) -> blocks.Draws:
    """Those of the text transformer, for three branches a block in place of two."""
    normal = nn.initializers.normal
    out = normal((width * 3 * self.depth) ** -0.5)
    # By the width of what comes in: the memory's may be another.
    inside = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    return blocks.Draws(inside, out, normal((2 * width) ** -0.5), out)


class SharedHeads(nn.Module):
  """A linear head to the shared space, and perhaps one to a space of its own.

  Without bias, drawn with deviation f^-1/2, as those of `towers.Tower`.

  Attributes:
    width: of the shared space, and of the specific one.
    specific: whether there is a specific head (deep feature separation).
  """

  width: int
  specific: bool = False

  @nn.compact
  def __call__(self, features: jax.Array) -> Embeddings:
    """Embeds features [n, f]."""
    features = features.astype(jnp.float32)
    draw = nn.initializers.normal(features.shape[-1] ** -0.5)

    def rows(name):
      head = nn.Dense(self.width, use_bias=False, kernel_init=draw, name=name)
      return contrastive.unit(head(features))

    specific = rows("specific") if self.specific else None
    return Embeddings(features, rows("shared"), specific)


class TokenHead(nn.Module):
  """BERT's: dense layer, activation, LayerNorm, product with the token embeddings.

  Attributes:
    activation: "gelu" (exact) or "quick_gelu".
    epsilon: of the LayerNorm.
    dtype: type of the computation; logits are float32.
  """

  activation: str = "gelu"
  epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, states: jax.Array, embedding: jax.Array) -> jax.Array:
    """Logits [n, t, v] of states [n, t, d], by embeddings [v, d] of v tokens."""
    vocabulary_size, width = embedding.shape
    draw = nn.initializers.normal(states.shape[-1] ** -0.5)
    y = nn.Dense(width, dtype=self.dtype, kernel_init=draw, name="dense")(states)
    y = blocks.ACTIVATIONS[self.activation](y)
    y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(y)
    bias = self.param("bias", nn.initializers.zeros, (vocabulary_size,))
    logits = jnp.einsum(
      "ntd,vd->ntv",
      y,
      embedding.astype(self.dtype),
      preferred_element_type=jnp.float32,
    )
    return logits + bias[None, None]


def check_heads(name: str, width: int, heads: int) -> None:
  """Raises ValueError for a width that is not a multiple of the heads."""
  if width % heads:
    raise ValueError(
      f"the {name}'s width of {width} does not divide among {heads} heads; take "
      f"{width + heads - width % heads}, or other heads."
    )
