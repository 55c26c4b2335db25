"""A fusion model after ALBEF (Li et al. 2021, "Align before Fuse"): the network alone.

An image encoder and a few text layers, each with a head into a shared space, as towers;
above them fusion layers, in which the words look at each other and at the image's
tokens. Two heads read the fused states: one tells whether image and text belong
together, one which words were masked. Every part is a method of `Fusion`, to be called
by `apply(variables, ..., method="fuse")` and the like.

BERT and ALBEF are post-norm: x = norm(x + layer(x)). Ours is pre-norm like our other
transformers: x = x + layer(norm(x)), with a last norm above the text layers and above
the fusion layers. ALBEF reads a text from its [CLS] token; ours has START at the first
place of every row, which sees the whole text, and takes that one's state.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive.encoders.vit import ViT
from multimodal.fusion_parts import (
  CrossTransformer,
  SharedHeads,
  TokenHead,
  check_heads,
)
from multimodal.text_transformer import TextTransformer, token_mask
from multimodal.towers import Embeddings

# More blocks in a turn than any small size has: no loop. XLA computes a step on CPU in
# half the time without it.
_NO_LOOP = 64

# What `make_fusion` makes, by name. Micro is for tests and studies on CPU; base is
# ALBEF, but for the vocabulary and the context (BERT's 512).
SIZES: dict[str, dict[str, Any]] = {
  "micro": {
    "image": {"patch": 8, "width": 96, "depth": 2, "heads": 3, "unroll": _NO_LOOP},
    "text": {"context": 40, "width": 96, "depth": 1, "heads": 3, "unroll": _NO_LOOP},
    "depth": 2,
    "width": 128,
    "unroll": _NO_LOOP,
  },
  "tiny": {
    "image": {"patch": 8, "width": 192, "depth": 4, "heads": 3, "unroll": _NO_LOOP},
    "text": {"context": 40, "width": 192, "depth": 2, "heads": 3, "unroll": _NO_LOOP},
    "depth": 2,
    "width": 128,
    "unroll": _NO_LOOP,
  },
  "base": {
    "image": {"patch": 16, "width": 768, "depth": 12, "heads": 12},
    "text": {"context": 77, "width": 768, "depth": 6, "heads": 12},
    "depth": 6,
    "width": 256,
  },
}


class Outputs(NamedTuple):
  """What a fusion model makes of n pairs of an image and a text of t tokens.

  Attributes:
    image: of the image's class token.
    text: of the text's first token.
    match: logits [n, 2]; class 1 is "belong together".
    words: logits [n, t, vocabulary].
  """

  image: Embeddings
  text: Embeddings
  match: jax.Array
  words: jax.Array


class Fusion(nn.Module):
  """Image encoder, text layers, fusion layers, and heads; `make_fusion` makes one.

  The fusion layers have the text layers' width, heads, ratio, activation and type.

  Attributes:
    image: encoder of images, with pool "none": all tokens, the class token first. Its
      width may differ from the text's.
    text: the text layers, with pool "none" and causal=False.
    depth: number of fusion layers.
    width: of the shared space, and of the specific ones.
    specific: whether image and text have a specific head (deep feature separation).
    remat: recomputes each fusion layer in the backward pass, which saves memory.
    unroll: fusion layers in a turn of their loop; no loop from `depth` on.
  """

  image: ViT
  text: TextTransformer
  depth: int = 6
  width: int = 256
  specific: bool = False
  remat: bool = False
  unroll: int = 1

  def setup(self):
    """Makes the parts; refuses sizes and options that do not fit together."""
    self._check()
    text = self.text
    self.fusion = CrossTransformer(
      self.depth,
      text.heads,
      text.mlp_ratio,
      text.activation,
      text.epsilon,
      self.remat,
      self.unroll,
      text.dtype,
    )
    self.image_head = SharedHeads(self.width, self.specific)
    self.text_head = SharedHeads(self.width, self.specific)
    self.match_head = nn.Dense(2, kernel_init=nn.initializers.normal(0.02))
    self.mask_head = TokenHead(text.activation, text.epsilon, text.dtype)

  def __call__(self, images: jax.Array, tokens: jax.Array) -> Outputs:
    """All outputs of n images [n, h, w, c] with their texts [n, t]; for `init`.

    Raises:
      ValueError: parts whose sizes or options do not fit, as far as it can be told
        from them; what the encoders refuse.
    """
    image_tokens, states = self.encode_image(images), self.encode_text(tokens)
    mask = token_mask(tokens, end=self.text.end, pad=self.text.pad)
    fused = self.fuse(states, mask, image_tokens)
    return Outputs(
      self.project_image(image_tokens),
      self.project_text(states),
      self.match(fused),
      self.predict_tokens(fused),
    )

  def encode_image(self, images: jax.Array) -> jax.Array:
    """Tokens [n, p, image width] of images [n, h, w, c], the class token first."""
    return self.image(images)

  def encode_text(self, tokens: jax.Array) -> jax.Array:
    """States [n, t, d] of token ids [n, t]; those after the end token mean nothing."""
    return self.text(tokens)

  def project_image(self, image_tokens: jax.Array) -> Embeddings:
    """Embeddings of images by their class token, from tokens [n, p, image width]."""
    return self.image_head(image_tokens[:, 0])

  def project_text(self, text_states: jax.Array) -> Embeddings:
    """Embeddings of texts by their first token, from states [n, t, d]."""
    return self.text_head(text_states[:, 0])

  def fuse(
    self,
    text_states: jax.Array,
    text_mask: jax.Array,
    image_tokens: jax.Array,
    image_mask: jax.Array | None = None,
    *,
    at: jax.Array | None = None,
  ) -> jax.Array:
    """States of texts that have seen their images, float32 [n, t, d].

    Tokens of several images may be concatenated; the network cannot tell apart where
    they come from unless something was added to them. A text without any image token
    to look at is fused with nothing.

    Args:
      text_states: [n, t, d] of `encode_text`.
      text_mask: booleans [n, t] of `token_mask`; other tokens have no influence.
      image_tokens: [n, p, image width] of `encode_image`, for any p.
      image_mask: booleans [n, p], the image tokens that count; None if all do.
      at: integers [n, k], the places of the only states that are wanted: zeros [n, 1]
        for `match`. Without a loop over layers this saves most of the last one.

    Returns:
      [n, t, d], or [n, k, d] with `at`.
    """
    pick = None if at is None else lambda states: _take(states, at)
    fused, _ = self.fusion(
      text_states, text_mask[:, None, None, :], image_tokens, image_mask, pick=pick
    )
    return fused

  def cross_attention(
    self,
    text_states: jax.Array,
    text_mask: jax.Array,
    image_tokens: jax.Array,
    image_mask: jax.Array | None = None,
  ) -> jax.Array:
    """Weights with which words look at image tokens in `fuse`, for pictures.

    Args:
      text_states: as of `fuse`, and the following too.
      text_mask: booleans [n, t].
      image_tokens: [n, p, image width].
      image_mask: booleans [n, p], or None.

    Returns:
      [depth, n, heads, t, p], float32 that sum to 1 over p, whose first is the class
      token; all 0 where no image token counts.
    """
    made: Any = self.fusion(
      text_states,
      text_mask[:, None, None, :],
      image_tokens,
      image_mask,
      keep_attention=True,
    )
    return made[1]

  def match(self, fused: jax.Array) -> jax.Array:
    """Logits [n, 2] of fused states [n, t or 1, d]; class 1 is "belong together"."""
    return self.match_head(fused[:, 0])

  def predict_tokens(
    self, fused: jax.Array, positions: jax.Array | None = None
  ) -> jax.Array:
    """Float32 logits of the tokens at places of a text, from its fused states.

    Args:
      fused: [n, t, d].
      positions: integers [n, k]; None for all, whose logits take t/k of the time. One
        outside the text gives NaN.

    Returns:
      [n, t, vocabulary], or [n, k, vocabulary] with positions.
    """
    if positions is not None:
      fused = _take(fused, positions)
    table: Any = self.text.get_variable("params", "tokens")
    return self.mask_head(fused, table["embedding"])

  def _check(self) -> None:
    image, text = self.image, self.text
    for name, part in (("image encoder", image), ("text layers", text)):
      if part.pool != "none":
        raise ValueError(
          f"fusion looks at all tokens of the {name}; set pool='none', not "
          f"'{part.pool}'."
        )
      check_heads(name, part.width, part.heads)
    if text.causal:
      raise ValueError(
        "fusion reads a text from its first token, which has to see all of it; set "
        "causal=False of the text layers."
      )
    for name, depth in (("text", text.depth), ("fusion", self.depth)):
      if depth < 1:
        raise ValueError(f"a fusion model has at least one {name} layer, not {depth}.")


def make_fusion(
  vocabulary_size: int,
  size: str = "tiny",
  *,
  image: Mapping[str, Any] | None = None,
  text: Mapping[str, Any] | None = None,
  remat: bool = False,
  dtype: Any = jnp.float32,
  **options: Any,
) -> Fusion:
  """A fusion model of one of `SIZES`.

  Args:
    vocabulary_size: number of token ids.
    size: its name.
    image: changed options of the `ViT`.
    text: changed options of the `TextTransformer`.
    remat: recomputes every block in the backward pass, which saves memory.
    dtype: type of the computation; parameters are float32.
    **options: changed fields of `Fusion`.

  Raises:
    ValueError: an unknown size.
  """
  if size not in SIZES:
    raise ValueError(f"a fusion model is of size {', '.join(SIZES)}, not '{size}'.")
  common = {"pool": "none", "remat": remat, "dtype": dtype}
  changed = {**SIZES[size], **options}
  return Fusion(
    **{
      **changed,
      "image": ViT(**{**common, **changed["image"], **(image or {})}),
      "text": TextTransformer(
        vocabulary_size,
        **{**common, "causal": False, **changed["text"], **(text or {})},
      ),
      "remat": remat,
    }
  )


def _take(states: jax.Array, places: jax.Array) -> jax.Array:
  return jnp.take_along_axis(states, places[:, :, None], axis=1)
