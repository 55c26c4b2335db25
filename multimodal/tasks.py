"""What a fusion model answers about pictures: one of a few answers.

Visual entailment, statements about one picture or two (NLVR), yes and no. ALBEF puts
two linear layers with a ReLU on the first fused state (Li et al. 2021, Align before
Fuse, sec. 5). For two pictures it doubles the fusion layers; here the text is fused
with each picture on its own and the layers read all first states, side by side (the
"pair" of Chen et al. 2020, UNITER). So the model stays the one that was pretrained, and
its matching of a text with one picture is where a comparison starts from.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from multimodal.fusion import Fusion
from multimodal.text_transformer import token_mask


class Judge(nn.Module):
  """Logits of answers, from pictures and a text.

  Attributes:
    model: the fusion model; its parameters are those under "model".
    answers: number of answers.
    pictures: number of pictures of a text, in an order that matters.
  """

  model: Fusion
  answers: int
  pictures: int = 1

  def setup(self) -> None:
    """Makes the two layers of the answer.

    Raises:
      ValueError: fewer than two answers.
    """
    if self.answers < 2:
      raise ValueError(f"there must be at least 2 answers, not {self.answers}")
    draw = nn.initializers.normal(0.02)
    self.hidden = nn.Dense(self.model.text.width, kernel_init=draw)
    self.answer = nn.Dense(self.answers, kernel_init=draw)

  def __call__(
    self, images: jax.Array, tokens: jax.Array, present: jax.Array | None = None
  ) -> jax.Array:
    """Float32 logits [n, answers].

    Args:
      images: [n, h, w, c], or [n, v, h, w, c] of v pictures.
      tokens: integers [n, t].
      present: booleans [n, v], which pictures are there to be looked at; None for all.
        Without any, the text alone is judged.

    Raises:
      ValueError: another number of pictures.
    """
    states, words, seen = self._look(images, tokens)
    mask = None
    if present is not None:
      mask = jnp.broadcast_to(present.reshape(-1, 1), seen.shape[:2])
    first = jnp.zeros((len(states), 1), jnp.int32)
    fused = self.model.fuse(states, words, seen, mask, at=first)
    fused = fused.reshape(len(tokens), -1)
    return self.answer(nn.relu(self.hidden(fused)))

  def attention(self, images: jax.Array, tokens: jax.Array) -> jax.Array:
    """How much each patch of each picture is looked at: as `patch_attention`."""
    states, words, seen = self._look(images, tokens)
    weights = self.model.cross_attention(states, words, seen)
    return patch_attention(weights, words, self.pictures)

  def _look(self, images, tokens):
    """What fusion takes, for each picture of each text: states, mask, image tokens."""
    if images.ndim == 4:
      images = images[:, None]
    n, v = images.shape[:2]
    if v != self.pictures:
      raise ValueError(
        f"{v} pictures of each text were given, but the model judges {self.pictures}"
      )
    seen = self.model.encode_image(images.reshape(n * v, *images.shape[2:]))
    states = self.model.encode_text(tokens)
    words = token_mask(tokens, end=self.model.text.end, pad=self.model.text.pad)
    return jnp.repeat(states, v, axis=0), jnp.repeat(words, v, axis=0), seen


def patch_attention(weights: jax.Array, words: jax.Array, pictures: int) -> jax.Array:
  """How much the patches of pictures are looked at, for people.

  The weights of the last layer, averaged over its heads and the words of a text.

  Args:
    weights: [depth, n * v, heads, t, p] of `Fusion.cross_attention`, the v pictures of
      a text one after another; of the p tokens of each the first is no patch.
    words: booleans [n * v, t], the words that count.
    pictures: v.

  Returns:
    Float32 [n, v, p - 1]; with its first token those of a picture sum to 1.
  """
  last = weights[-1].mean(axis=1)
  share = words / jnp.maximum(words.sum(1, keepdims=True), 1)
  mean = jnp.einsum("nt,ntp->np", share, last)
  return mean.reshape(-1, pictures, mean.shape[1])[:, :, 1:]


def start_from(params: Mapping[str, Any], pretrained: Any) -> dict[str, Any]:
  """A task's parameters with a pretrained model's in place of its own.

  Args:
    params: of a task's module, the fusion model's under "model".
    pretrained: of a `Fusion`; what the task does not use (heads of pretraining) is left
      out, copies of the rest.

  Raises:
    ValueError: naming the first parameter that lacks or has another shape.
  """
  own = params["model"]

  def take(path, leaf):
    found: Any = pretrained
    name = jax.tree_util.keystr(path)
    for key in path:
      if key.key not in found:
        raise ValueError(f"the pretrained model has no parameter {name}")
      found = found[key.key]
    if found.shape != leaf.shape:
      raise ValueError(
        f"parameter {name} has shape {found.shape} in the pretrained model, but "
        f"{leaf.shape} here; take the size that was pretrained"
      )
    return jnp.array(found, leaf.dtype)

  return {**params, "model": jax.tree_util.tree_map_with_path(take, own)}
