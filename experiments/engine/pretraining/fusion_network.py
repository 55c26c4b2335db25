"""A config's fusion model, as state, step and evaluation take it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections

from experiments.engine import build, errors
from multimodal import fusion, tokenizer
from multimodal.towers import Embeddings


@dataclasses.dataclass(frozen=True)
class FusionNetwork:
  """The model, and its methods as functions of parameters.

  Attributes:
    model: the linen module.
  """

  model: fusion.Fusion

  @property
  def projection_width(self) -> int:
    """Width of the shared space."""
    return self.model.width

  @property
  def vocabulary_size(self) -> int:
    """Number of token ids."""
    return self.model.text.vocabulary_size

  @property
  def context(self) -> int:
    """Most tokens of a caption."""
    return self.model.text.context

  def init(self, key: jax.Array, sample: Any, *, train: bool = False) -> Any:
    """Variables {"params", "batch_stats"}; the latter is empty.

    Args:
      key: typed key.
      sample: {"image": [n, h, w, c], "text": int [n, t]}.
      train: ignored; no part behaves differently.
    """
    del train
    made = self.model.init(key, sample["image"], sample["text"])
    return {"params": made["params"], "batch_stats": {}}

  def embed(
    self, variables: Mapping[str, Any], name: str, inputs: jax.Array
  ) -> Embeddings:
    """Embeddings of images or texts, each by itself.

    Args:
      variables: {"params"} of the model; those of this encoder and its head suffice.
      name: "image" or "text".
      inputs: normalised images [n, h, w, c], or token ids [n, t].
    """
    call = self.bind(variables["params"])
    made: Embeddings = call(f"project_{name}", call(f"encode_{name}", inputs))
    return made

  def bind(self, params: Any) -> Callable[..., Any]:
    """(method's name, its arguments) -> what the method gives with these parameters."""

    def call(method: str, *args: Any, **options: Any) -> Any:
      return self.model.apply({"params": params}, *args, method=method, **options)

    return call


def build_fusion(config: ml_collections.ConfigDict) -> FusionNetwork:
  """The fusion model of a config.

  Args:
    config: `model` (`size`, and `context`, `patch` or `width` where they differ from
      that size's; 0 keeps them), `structures`, `dtype`, `remat`.

  Raises:
    UsageError: an unknown size or type, or parts that do not fit together.
  """
  model = config.model
  if model.size not in fusion.SIZES:
    raise errors.unknown("model.size", model.size, fusion.SIZES)
  chosen = lambda **knobs: {k: v for k, v in knobs.items() if v}
  return FusionNetwork(
    fusion.make_fusion(
      tokenizer.load().vocabulary_size,
      model.size,
      image=chosen(patch=model.patch),
      text=chosen(context=model.context),
      # Tasks have no structures, and no use for specific heads.
      specific="structures" in config and config.structures.separation.weight > 0,
      remat=config.remat,
      dtype=build.arithmetic(config.dtype),
      **chosen(width=model.width),
    )
  )
