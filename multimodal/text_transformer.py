"""Text transformers: CLIP's causal one (Radford et al. 2021), and a bidirectional one.

Token and learned position embeddings, the pre-norm blocks of the vision transformer
(with their scan over layers), a last LayerNorm, and one vector a text. What follows
the first end token has no influence on it.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive.encoders import blocks
from multimodal import tokenizer

# Options of `TextTransformer` by name. Base is the text tower of CLIP's ResNet-50 and
# ViT-B. The two small ones, for CPUs, have no loop over blocks: XLA computes a step of
# micro in half the time without it.
SIZES: dict[str, dict[str, int]] = {
  "micro": {"depth": 2, "width": 96, "heads": 3, "context": 40, "unroll": 2},
  "tiny": {"depth": 4, "width": 192, "heads": 3, "context": 40, "unroll": 4},
  "small": {"depth": 12, "width": 384, "heads": 6, "context": 77},
  "base": {"depth": 12, "width": 512, "heads": 8, "context": 77},
}
_POOLS = ("end", "first", "mean", "none")
_ACTIVATIONS = ("gelu", "quick_gelu")


def token_mask(
  tokens: jax.Array, *, end: int = tokenizer.END, pad: int = tokenizer.PAD
) -> jax.Array:
  """Booleans [n, t]: the tokens up to the first end token, which counts.

  In a row without end token, those up to the last that is no padding.

  Args:
    tokens: integers [n, t].
    end: id of the end token.
    pad: id of padding.
  """
  t = tokens.shape[1]
  ends, words = tokens == end, tokens != pad
  # The last True from the left is the first in the reversed row; 0 words leave 0.
  last_word = jnp.where(words.any(axis=1), t - jnp.argmax(words[:, ::-1], axis=1), 0)
  length = jnp.where(ends.any(axis=1), jnp.argmax(ends, axis=1) + 1, last_word)
  return jnp.arange(t)[None, :] < length[:, None]


def pool_tokens(states: jax.Array, mask: jax.Array, pool: str) -> jax.Array:
  """One vector [n, d] of the states of tokens.

  Args:
    states: [n, t, d].
    mask: [n, t] booleans of `token_mask`.
    pool: "end" (the last token's), "first" or "mean" (of those in the mask; zero in a
      row that has none).
  """
  if pool == "first":
    return states[:, 0]
  count = jnp.sum(mask, axis=1)
  if pool == "end":
    place = jnp.maximum(count - 1, 0)
    return jnp.take_along_axis(states, place[:, None, None], axis=1)[:, 0]
  total = jnp.sum(jnp.where(mask[:, :, None], states, 0), axis=1)
  return total / jnp.maximum(count, 1)[:, None].astype(states.dtype)


class TextTransformer(nn.Module):
  """A text transformer; `TextTransformer(4096, **SIZES["tiny"])` and the like.

  It is drawn as CLIP's: token embeddings with standard deviation 0.02, positions 0.01,
  kernels from the residual stream by its width and to it by the depth too.

  Attributes:
    vocabulary_size: number of token ids.
    context: most tokens in a text; shorter rows are cheaper and give the same.
    width: token width, a multiple of heads; the features' width d.
    depth: number of blocks.
    heads: attention heads.
    mlp_ratio: hidden width of a block's perceptron over width.
    causal: whether tokens see only those before them (CLIP), or all of the text (BERT).
    pool: "end" (the end token's output), "first" or "mean" (of the text's tokens), or
      "none" (all states [n, t, d]; `token_mask` says which are of the text, and
      `pool_tokens` makes one of them). A causal transformer's first token has seen
      nothing else, so "first" needs causal=False.
    end: id of the end token.
    pad: id of padding; it matters only in rows without end token.
    activation: "gelu" (exact) or "quick_gelu" (OpenAI's weights).
    epsilon: of every LayerNorm.
    remat: recomputes each block in the backward pass, which saves memory.
    unroll: blocks in a turn of the loop over blocks; see `vit.ViT`.
    dtype: type of the computation; parameters are float32.
  """

  vocabulary_size: int
  context: int = 77
  width: int = 512
  depth: int = 12
  heads: int = 8
  mlp_ratio: float = 4.0
  causal: bool = True
  pool: str = "end"
  end: int = tokenizer.END
  pad: int = tokenizer.PAD
  activation: str = "gelu"
  epsilon: float = 1e-5
  remat: bool = False
  unroll: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Maps token ids [n, t] to float32 features; `train` changes nothing.

    Args:
      tokens: integers [n, t], t at most the context; an id outside the vocabulary gives
        NaN.
      train: ignored; no part behaves differently.

    Returns:
      [n, d], or [n, t, d] with pool "none", where states after the end token mean
      nothing.

    Raises:
      ValueError: for tokens beyond the context, an unknown pool or activation, or
        pool "first" of a causal transformer.
    """
    del train
    self._check(tokens)
    t = tokens.shape[1]
    draw = nn.initializers.normal
    embedding = nn.Embed(
      self.vocabulary_size,
      self.width,
      dtype=self.dtype,
      embedding_init=draw(0.02),
      name="tokens",
    )
    positions = self.param("positions", draw(0.01), (self.context, self.width))
    x = embedding(tokens) + positions[:t].astype(self.dtype)[None]
    mask = token_mask(tokens, end=self.end, pad=self.pad)
    if self.causal:
      # What comes after the end token is not seen either: it comes later.
      seen = jnp.tril(jnp.ones((t, t), bool))[None, None]
    else:
      seen = mask[:, None, None, :]
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
      draws=self._draws(),
    )
    pick = None
    if self.pool in ("end", "first"):
      # The last block has to know the text's one vector only.
      pick = lambda x: pool_tokens(x, mask, self.pool)[:, None]
    x, _ = stack(x, seen, pick)
    x = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="norm")(x)
    x = x.astype(jnp.float32)
    if pick is not None:
      return x[:, 0]
    return x if self.pool == "none" else pool_tokens(x, mask, self.pool)

  def _draws(self) -> blocks.Draws:
    inside, hidden = self.width**-0.5, (2 * self.width) ** -0.5
    # Each block adds two branches to the stream, whose variance is to stay about 1.
    out = inside * (2 * self.depth) ** -0.5
    deviations = (inside, out, hidden, out)
    return blocks.Draws(*map(nn.initializers.normal, deviations))

  def _check(self, tokens: jax.Array) -> None:
    for name, known in (("pool", _POOLS), ("activation", _ACTIVATIONS)):
      if getattr(self, name) not in known:
        listed = " or ".join(", ".join(map(repr, known)).rsplit(", ", 1))
        raise ValueError(
          f"a text transformer's {name} is {listed}, not {getattr(self, name)!r}."
        )
    if self.causal and self.pool == "first":
      raise ValueError(
        "the first token of a causal transformer sees nothing but itself; take "
        "pool='end', or causal=False."
      )
    if tokens.shape[1] > self.context:
      raise ValueError(
        f"texts of {tokens.shape[1]} tokens are longer than the context of "
        f"{self.context}; cut them, or take a longer context."
      )
