"""Names in a config -> towers, and how each reads its column."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import ml_collections

from contrastive.encoders import mlp
from experiments.engine import build, errors
from experiments.engine.pretraining.pairs import REWORDINGS
from experiments.engine.pretraining.tower_method import Reading
from multimodal import text_transformer, tokenizer, towers

# Encoders by what they read: "image" and "vector" are those of build.ENCODERS.
TEXT_ENCODERS: dict[str, Callable[..., nn.Module]] = {
  f"text_{size}": lambda size=size, **knobs: text_transformer.TextTransformer(
    **(
      {"vocabulary_size": tokenizer.load().vocabulary_size}
      | text_transformer.SIZES[size]
      | knobs
    )
  )
  for size in text_transformer.SIZES
}
_VECTOR_ENCODERS: dict[str, Callable[..., nn.Module]] = {
  "mlp": lambda widths=(256, 256), **knobs: mlp.MLP(tuple(widths), **knobs),
}
KINDS: dict[str, dict[str, Callable[..., nn.Module]]] = {
  "image": build.ENCODERS,
  "text": TEXT_ENCODERS,
  "vector": _VECTOR_ENCODERS,
}


def build_towers(config: ml_collections.ConfigDict) -> towers.Towers:
  """The towers of a config.

  Args:
    config: `towers` (by name: `kind`, `encoder` with a name and knobs, `frozen`),
      `width` of the shared space, `structures`, `dtype`, `remat`.

  Raises:
    UsageError: an unknown name or knob, or fewer than two towers.
  """
  specific = config.structures.separation.weight > 0
  made = {}
  for name, tower in config.towers.items():
    made[name] = towers.Tower(
      encoder=build.make_encoder(
        KINDS[tower.kind][tower.encoder.name],
        tower.encoder,
        config,
        f"towers.{name}.encoder",
      ),
      width=config.width,
      specific=specific,
      frozen=tower.frozen,
    )
  try:
    return towers.Towers(made)
  except ValueError as error:
    raise errors.UsageError(str(error)) from error


def check_tower(name: str, tower: ml_collections.ConfigDict) -> None:
  """Raises UsageError for a kind, an encoder or a view that is not known."""
  if tower.kind not in KINDS:
    raise errors.unknown(f"towers.{name}.kind", tower.kind, KINDS)
  encoders = KINDS[tower.kind]
  if tower.encoder.name not in encoders:
    raise errors.unknown(f"{tower.kind} encoder", tower.encoder.name, encoders)
  if tower.frozen not in towers.FROZEN:
    raise errors.unknown(f"towers.{name}.frozen", tower.frozen, towers.FROZEN[1:])
  check_view(name, tower)


def check_view(name: str, tower: ml_collections.ConfigDict) -> None:
  """Raises UsageError for a view that is not known for the tower's kind."""
  known: dict[str, Mapping[str, Any]] = {
    "image": build.RECIPES,
    "text": REWORDINGS,
    "vector": {"noise": None},
  }
  if tower.view and tower.view not in known[tower.kind]:
    raise errors.unknown(f"towers.{name}.view", tower.view, known[tower.kind])


def text_context(tower: ml_collections.ConfigDict) -> int:
  """Most tokens of a text that a text tower reads."""
  encoder = tower.encoder
  if "context" in encoder:
    return encoder.context
  return text_transformer.SIZES[encoder.name.removeprefix("text_")]["context"]


def build_reading(
  tower: ml_collections.ConfigDict, statistics: ml_collections.ConfigDict, shape: tuple
) -> Reading:
  """How a tower reads its column.

  Args:
    tower: `kind` and `view`.
    statistics: `mean` and `std` of pictures.
    shape: of a sample of the column.
  """
  if tower.kind != "image":
    return Reading()
  mean, std = build.channel_statistics(statistics, shape)
  view = build.build_recipes(tower.view)[0] if tower.view else None
  return Reading(mean, std, view)
