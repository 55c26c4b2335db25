"""A decoder of short texts, say answers, that looks at the states of a fusion model.

ALBEF (Li et al. 2021) answers questions so: causal self-attention over the answer's
tokens, cross-attention to the fused states of image and question, and the fusion
layers' parameters to start from.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from multimodal.fusion import Fusion
from multimodal.fusion_parts import CrossTransformer, TokenHead, check_heads


class Decoder(nn.Module):
  """Logits of the next token of a text; `decoder_like` makes one.

  Attributes:
    vocabulary_size: number of token ids.
    context: most tokens in a text; shorter rows are cheaper and give the same.
    width: token width, a multiple of heads.
    depth: number of blocks.
    heads: attention heads.
    mlp_ratio: hidden width of a block's perceptron over width.
    activation: "gelu" (exact) or "quick_gelu".
    epsilon: of every LayerNorm.
    remat: recomputes each block in the backward pass, which saves memory.
    unroll: blocks in a turn of the loop over blocks; no loop from `depth` on.
    dtype: type of the computation; parameters are float32.
  """

  vocabulary_size: int
  context: int = 16
  width: int = 768
  depth: int = 6
  heads: int = 12
  mlp_ratio: float = 4.0
  activation: str = "gelu"
  epsilon: float = 1e-5
  remat: bool = False
  unroll: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(
    self,
    tokens: jax.Array,
    memory: jax.Array,
    memory_mask: jax.Array | None = None,
  ) -> jax.Array:
    """Logits of every next token in one call, given those before (teacher forcing).

    Args:
      tokens: integers [n, t], START first; t at most the context. The logits at a place
        depend on the tokens up to it: what follows the end has no influence before.
      memory: states [n, s, any width], say of `Fusion.fuse`.
      memory_mask: booleans [n, s], the states that count; None if all do.

    Returns:
      float32 [n, t, vocabulary]; those at place i are of token i + 1.

    Raises:
      ValueError: tokens beyond the context, a width that is no multiple of the heads,
        or no blocks.
    """
    t = tokens.shape[1]
    if t > self.context:
      raise ValueError(
        f"texts of {t} tokens are longer than the decoder's context of {self.context}; "
        "cut them, or take a longer context."
      )
    if self.depth < 1:
      raise ValueError(f"a decoder has at least one block, not {self.depth}.")
    check_heads("decoder", self.width, self.heads)
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
    layers = CrossTransformer(
      self.depth,
      self.heads,
      self.mlp_ratio,
      self.activation,
      self.epsilon,
      self.remat,
      self.unroll,
      self.dtype,
      name="layers",
    )
    causal = jnp.tril(jnp.ones((t, t), bool))[None, None]
    states, _ = layers(x, causal, memory, memory_mask)
    head = TokenHead(self.activation, self.epsilon, self.dtype, name="token_head")
    return head(states, embedding.embedding)


def decoder_like(model: Fusion, *, context: int = 16) -> Decoder:
  """The decoder whose parts have the shapes of a fusion model's.

  Args:
    model: what makes its memory, and whose parameters `start_from_fusion` may copy.
    context: most tokens in a text that it makes.
  """
  text = model.text
  return Decoder(
    text.vocabulary_size,
    context,
    text.width,
    model.depth,
    text.heads,
    text.mlp_ratio,
    text.activation,
    text.epsilon,
    model.remat,
    model.unroll,
    text.dtype,
  )


def start_from_fusion(
  params: Mapping[str, Any], fusion: Mapping[str, Any]
) -> dict[str, Any]:
  """The decoder's parameters with the values of a fusion model's, as ALBEF starts it.

  Layers come from the fusion layers, token embeddings and positions from the text
  layers, and the head of tokens from that of masked words. All are copies.

  Args:
    params: a decoder's "params".
    fusion: a fusion model's.

  Raises:
    ValueError: parts of other shapes, or a decoder of longer texts.
  """
  text, context = fusion["text"], params["positions"].shape[0]
  if context > text["positions"].shape[0]:
    raise ValueError(
      f"a decoder of {context} tokens cannot start from the "
      f"{text['positions'].shape[0]} positions of the text layers; take a shorter "
      "context."
    )
  started = {
    "tokens": text["tokens"],
    "positions": text["positions"][:context],
    "layers": fusion["fusion"],
    "token_head": fusion["mask_head"],
  }
  shape = lambda leaf: leaf.shape
  if jax.tree.map(shape, dict(params)) != jax.tree.map(shape, started):
    raise ValueError(
      "the decoder's parameters have other shapes than the fusion model's; make the "
      "decoder with decoder_like, of a model whose image encoder is as wide as its "
      "text layers."
    )
  # Copies: a step may give up the memory of both trees, and no array twice.
  return jax.tree.map(jnp.array, started)
