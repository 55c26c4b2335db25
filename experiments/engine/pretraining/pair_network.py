"""Names in a config -> what reads each column of a pair set by itself.

Those are towers, or the two encoders of a fusion model with their heads, which embed,
measure and export like the towers "image" and "text".
"""

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import ml_collections

from experiments.engine.pretraining import fusion_network, tower_network
from experiments.engine.pretraining.tower_method import Reading
from multimodal.towers import Embeddings

METHODS = ("towers", "fusion")


class PairNetwork(Protocol):
  """Towers, or what embeds inputs as they do."""

  def embed(
    self, variables: Mapping[str, Any], name: str, inputs: jax.Array
  ) -> Embeddings:
    """Embeddings of one tower in evaluation mode."""


def build_pair_network(config: ml_collections.ConfigDict) -> PairNetwork:
  """The towers of a config, or the encoders of its fusion model, by its `method`."""
  if config.method == "fusion":
    return fusion_network.build_fusion(config)
  return tower_network.build_towers(config)


def reading_config(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A copy of a config that has `towers`, as `pair_loading` and `build_readings` read.

  A fusion model reads a picture and a caption of each example.

  Args:
    config: of configs/towers.py or configs/fusion.py.
  """
  made = ml_collections.ConfigDict(config.to_dict())
  if config.method == "fusion":
    context = fusion_network.build_fusion(config).context
    made.towers = {
      "image": dict(kind="image", input="", view=config.view),
      "text": dict(kind="text", input="", view="", encoder=dict(context=context)),
    }
  return made


def build_readings(config: ml_collections.ConfigDict) -> dict[str, Reading]:
  """How each tower reads its column, by tower; pictures have three channels.

  Args:
    config: of `reading_config`.
  """
  shape = (config.data.image_size, config.data.image_size, 3)
  return {
    name: tower_network.build_reading(tower, config.data, shape)
    for name, tower in config.towers.items()
  }
