"""What a fusion model answers about pictures: one of a few answers.

Visual entailment, statements about one picture or two (NLVR), yes and no. ALBEF puts
two linear layers with a ReLU on the first fused state (Li et al. 2021, Align before
Fuse, sec. 5). For two pictures it doubles the fusion layers; here the tokens of all
pictures are looked at together, with a learned mark added to those of each, so that the
layers stay those that were pretrained.
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
    pictures: number of pictures of a text; of several each has a mark.
  """

  model: Fusion
  answers: int
  pictures: int = 1

  @nn.compact
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
      ValueError: another number of pictures, or fewer than two answers.
    """
    if self.answers < 2:
      raise ValueError(f"there must be at least 2 answers, not {self.answers}")
    if images.ndim == 4:
      images = images[:, None]
    n, v = images.shape[:2]
    if v != self.pictures:
      raise ValueError(
        f"{v} pictures of each text were given, but the model judges {self.pictures}"
      )
    seen = self.model.encode_image(images.reshape(-1, *images.shape[2:]))
    seen = seen.reshape(n, v, *seen.shape[1:])
    if self.pictures > 1:
      draw = nn.initializers.normal(0.02)
      marks = self.param("marks", draw, (v, seen.shape[-1]))
      seen = seen + marks[None, :, None, :]
    places = seen.shape[2]
    mask = None if present is None else jnp.repeat(present, places, axis=1)
    states = self.model.encode_text(tokens)
    words = token_mask(tokens, end=self.model.text.end, pad=self.model.text.pad)
    first = jnp.zeros((n, 1), jnp.int32)
    seen = seen.reshape(n, v * places, -1)
    fused = self.model.fuse(states, words, seen, mask, at=first)[:, 0]
    draw = nn.initializers.normal(0.02)
    hidden = nn.relu(nn.Dense(fused.shape[-1], kernel_init=draw, name="hidden")(fused))
    return nn.Dense(self.answers, kernel_init=draw, name="answer")(hidden)


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
