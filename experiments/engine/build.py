"""Names in a config -> encoder, heads and augmentations, by plain dicts."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from contrastive import heads, views
from contrastive.encoders import mlp, resnet, vit
from experiments.engine import errors

ENCODERS: dict[str, Callable[..., nn.Module]] = {
  "mlp": lambda **knobs: mlp.MLP((512, 256), **knobs),
  "resnet_tiny": resnet.resnet_tiny,
  "resnet18": resnet.resnet18,
  "resnet50": resnet.resnet50,
  "vit_micro": vit.vit_micro,
  "vit_tiny": vit.vit_tiny,
  "vit_small": vit.vit_small,
  "vit_base": vit.vit_base,
  "clip_vit_b32": vit.clip_vit_b32,
  "clip_vit_b16": vit.clip_vit_b16,
  "clip_vit_l14": vit.clip_vit_l14,
}


def _scenes_recipe() -> views.Recipe:
  """Any hue and little cut off: views share shape and texture, not colour."""
  return dataclasses.replace(
    views.simclr(strength=1.0, blur=0.0), crop_scale=(0.5, 1.0), jitter=1.0, hue=0.5
  )


def _pair_recipe() -> views.Recipe:
  """Crops and a little light: what captions speak of (colours, sides) stays true."""
  return dataclasses.replace(
    views.light(), crop_scale=(0.6, 1.0), brightness=0.3, contrast=0.3
  )


RECIPES: dict[str, Callable[[], tuple[views.Recipe, views.Recipe]]] = {
  "simclr": lambda: (views.simclr(),) * 2,
  "simclr_cifar": lambda: (views.simclr(strength=0.5, blur=0.0),) * 2,
  "moco_v3": lambda: views.moco_v3(smallest_crop=0.2),
  "moco_v3_vit": lambda: views.moco_v3(smallest_crop=0.08),
  "scenes": lambda: (_scenes_recipe(),) * 2,
  "light": lambda: (views.light(),) * 2,
  "pairs": lambda: (_pair_recipe(),) * 2,
}


class Outputs(NamedTuple):
  """What the network makes of a batch of images.

  Attributes:
    features: [n, f] the encoder's, which are probed.
    projection: [n, d] the projector's; the keys.
    query: [n, d] the predictor's, or the projection where there is no predictor.
  """

  features: jax.Array
  projection: jax.Array
  query: jax.Array


class Network(nn.Module):
  """Encoder, projector and, for MoCo-v3, predictor."""

  encoder: nn.Module
  projector: nn.Module
  predictor: nn.Module | None
  projection_width: int

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
    """Features, projection and query of images [n, h, w, c]."""
    features = self.encoder(images, train=train)
    projection = self.projector(features, train=train)
    query = projection
    if self.predictor is not None:
      query = self.predictor(projection, train=train)
    return Outputs(features, projection, query)

  def forward(self, variables: Any, images: jax.Array) -> tuple[Outputs, Any]:
    """Outputs in training mode, and the updated batch statistics."""
    applied: Any = self.apply(variables, images, train=True, mutable="batch_stats")
    outputs, changed = applied
    return outputs, changed.get("batch_stats", {})

  def embed(self, variables: Any, images: jax.Array) -> jax.Array:
    """Features [n, f] in evaluation mode."""
    outputs: Any = self.apply(variables, images, train=False)
    return outputs.features


def build_network(config: ml_collections.ConfigDict) -> Network:
  """The network of a pretraining config.

  Args:
    config: with `method`, `encoder` (name and knobs), `projector`, `predictor`,
      `dtype`, `remat`.

  Raises:
    UsageError: unknown method, encoder or dtype, or a knob that the encoder lacks.
  """
  if config.method not in ("simclr", "moco_v3"):
    raise errors.unknown("method", config.method, ["simclr", "moco_v3"])
  name = config.encoder.name
  if name not in ENCODERS:
    raise errors.unknown("encoder", name, ENCODERS)
  encoder = make_encoder(ENCODERS[name], config.encoder, config, f"encoder '{name}'")
  predictor = None
  if config.method == "moco_v3":
    predictor = heads.Predictor(
      hidden=config.predictor.hidden, out=config.projector.out
    )
  return Network(
    encoder=encoder,
    projector=heads.Projector(
      hidden=config.projector.hidden,
      out=config.projector.out,
      layers=config.projector.layers,
      last_norm=config.projector.last_norm,
    ),
    predictor=predictor,
    projection_width=config.projector.out,
  )


def arithmetic(name: str) -> Any:
  """The type of a network's arithmetic.

  Raises:
    UsageError: an unknown name.
  """
  dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
  if name not in dtypes:
    raise errors.unknown("dtype", name, dtypes)
  return dtypes[name]


def make_encoder(
  maker: Callable[..., nn.Module],
  encoder: ml_collections.ConfigDict,
  config: ml_collections.ConfigDict,
  called: str,
) -> nn.Module:
  """An encoder with its knobs, and the run's arithmetic.

  Args:
    maker: makes it.
    encoder: its name, which is passed over, and its knobs.
    config: `dtype` and `remat` of the run.
    called: what an error calls it.

  Raises:
    UsageError: unknown dtype, or a knob that the encoder lacks.
  """
  knobs = encoder.to_dict()
  del knobs["name"]
  if config.remat:
    knobs["remat"] = True
  try:
    return maker(dtype=arithmetic(config.dtype), **knobs)
  except TypeError as error:
    raise errors.UsageError(f"{called}: {error}") from error


def build_recipes(name: str) -> tuple[views.Recipe, views.Recipe]:
  """The two views' augmentations by the name of the recipe."""
  if name not in RECIPES:
    raise errors.unknown("recipe of views", name, RECIPES)
  return RECIPES[name]()


def channel_statistics(config, shape: tuple[int, ...]) -> tuple[tuple, tuple]:
  """Mean and standard deviation of each channel, from `config.mean` and `config.std`.

  Args:
    config: `mean` and `std`, each one number for all channels or one for each.
    shape: [..., c] of the images.

  Raises:
    UsageError: neither one number nor c of them.
  """
  channels = shape[-1]
  for name in ("mean", "std"):
    if len(config[name]) not in (1, channels):
      raise errors.UsageError(
        f"data.{name} has {len(config[name])} numbers for images of {channels} "
        f"channel(s); give 1 or {channels}"
      )
  spread = lambda values: tuple(values) * (channels if len(values) == 1 else 1)
  return spread(config.mean), spread(config.std)
