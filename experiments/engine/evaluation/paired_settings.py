"""What is measured of frozen towers, as a config names it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.engine import errors
from experiments.engine.evaluation import evaluate
from multimodal import prompts

PARTS = ("shared", "specific", "both", "features")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What to measure; a config gives any of these by name.

  Attributes:
    seed: of every draw.
    retrieval: recall between each two towers, both ways.
    ks: numbers of keys to look at.
    zero_shot: classification by prompts.
    prompts: set of templates (`multimodal.prompts`).
    guesses: numbers of classes to name.
    probe: linear probes of the attributes.
    knn: nearest neighbours, too.
    attributes: that are probed; empty for all of the data set's.
    parts: of a tower that are probed; those that it lacks are left out.
    few_shot: few-shot classification of "class".
    shots: examples of each class.
    draws: of each of `shots`.
    few_shot_classifiers: "ridge" (closed form), "softmax" (L-BFGS).
    rows: most labelled rows of the training split that probes are fitted on.
    geometry: modality gap, alignment, uniformity, effective rank.
    untrained: whether the same is measured before the first step.
  """

  seed: int = 0
  retrieval: bool = True
  ks: tuple[int, ...] = (1, 5, 10)
  zero_shot: bool = True
  prompts: str = "scenes"
  guesses: tuple[int, ...] = (1, 3, 5)
  probe: bool = True
  knn: bool = False
  attributes: tuple[str, ...] = ()
  parts: tuple[str, ...] = PARTS
  few_shot: bool = True
  shots: tuple[int, ...] = (1, 5, 20)
  draws: int = 3
  few_shot_classifiers: tuple[str, ...] = ("ridge", "softmax")
  rows: int = 4000
  geometry: bool = True
  untrained: bool = False

  @property
  def fits(self) -> bool:
    """Whether classifiers are fitted to the training split."""
    return self.probe or self.knn or self.few_shot


def read_settings(config: Mapping[str, Any]) -> Settings:
  """Settings from a flat config; what it does not name keeps its default.

  Raises:
    UsageError: for an unknown name, or a value out of range.
  """
  settings = evaluate.named_settings(Settings, config)
  for part in settings.parts:
    if part not in PARTS:
      raise errors.unknown("part", part, PARTS)
  for name in ("ks", "guesses", "shots"):
    values = getattr(settings, name)
    if not len(values) or min(values) < 1:
      raise errors.UsageError(
        f"evaluate.{name} must list numbers above 0, not {values}"
      )
  if settings.prompts not in prompts.TEMPLATE_SETS:
    raise errors.unknown("prompt set", settings.prompts, prompts.TEMPLATE_SETS)
  for name in ("draws", "rows"):
    if getattr(settings, name) < 1:
      raise errors.UsageError(
        f"evaluate.{name} must be at least 1, not {getattr(settings, name)}"
      )
  return settings
