"""Numbers of a pretraining config that make sense, checked before anything is made."""

import math
from typing import Any

from experiments.engine import errors, record

# Key -> lowest and highest value. What depends on other keys is checked where it is
# used.
_RANGES: dict[str, tuple[float, float]] = {
  "seed": (0, 2**32 - 1),
  "batch": (2, math.inf),
  "epochs": (0, math.inf),
  "log_every": (1, math.inf),
  "save_every": (0, math.inf),
  "save_minutes": (0, math.inf),
  "keep": (1, math.inf),
  "skip_bad_steps": (0, math.inf),
  "data.image_size": (0, math.inf),
  "data.train_limit": (0, math.inf),
  "data.test_limit": (0, math.inf),
  "width": (1, math.inf),
  "model.patch": (0, math.inf),
  "model.context": (0, math.inf),
  "model.width": (0, math.inf),
  "rerank": (0, math.inf),
  "objective.ramp_epochs": (0, math.inf),
  "projector.layers": (1, math.inf),
  "projector.hidden": (1, math.inf),
  "projector.out": (1, math.inf),
  "predictor.hidden": (1, math.inf),
  "optimizer.learning_rate": (0, math.inf),
  "optimizer.weight_decay": (0, math.inf),
  "optimizer.clip_norm": (0, math.inf),
  "optimizer.momentum": (0, 1),
  "optimizer.b2": (0, 1),
}


def check(config: Any) -> None:
  """Raises UsageError for the first value of a config that lies outside its range."""
  flat = record.flatten(record.config_dict(config))
  for key, (low, high) in _RANGES.items():
    value = flat.get(key)
    if isinstance(value, int | float) and not low <= value <= high:
      span = f"at least {low}" if high == math.inf else f"between {low} and {high}"
      raise errors.UsageError(f"{key} is {value}, but must be {span}")
  std = flat.get("data.std", (1.0,))
  if not all(0 < value < math.inf for value in std):
    raise errors.UsageError(f"data.std is {tuple(std)}, but must be positive")
  mean = flat.get("data.mean", (0.0,))
  if not all(map(math.isfinite, mean)):
    raise errors.UsageError(f"data.mean is {tuple(mean)}, but must be finite")
  if flat.get("resume", "") not in ("", "force"):
    raise errors.unknown("value of resume", flat["resume"], ["force"])
