"""Arms and cells of the alignment study: which knobs, tuned how, on which seeds.

A cell is an arm with its seeds. Every tuned arm has one number and as many trials for
it: the plain losses their learning rate, the others the weight of what they add, at the
learning rate that was best for the plain loss below them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.engine import errors
from experiments.engine.studies.alignment_training import Knobs


class Cell(NamedTuple):
  """One arm on its seeds.

  Attributes:
    group: table to which it belongs.
    name: within the group; also that of its file.
    label: for tables and figures.
    knobs: of the training.
    seeds: of the runs.
    place: varied number of a dose-response, else None.
  """

  group: str
  name: str
  label: str
  knobs: Knobs
  seeds: tuple[int, ...]
  place: float | None = None


class Arm(NamedTuple):
  """A row of the main table.

  Attributes:
    label: for tables and figures.
    grid: name of the grid that its number is tuned on; "" if it has none.
    stage: of the tuning; later stages use what earlier ones chose.
    base: the plain loss below it.
  """

  label: str
  grid: str
  stage: int
  base: str


ARMS = {
  "untrained": Arm("untrained", "", 0, ""),
  "clip": Arm("CLIP (two terms)", "rate", 1, "clip"),
  "clip_penalty": Arm("CLIP + squared distance", "penalty", 2, "clip"),
  "cyclip": Arm("CLIP + geometry (CyCLIP)", "cyclic", 2, "clip"),
  "clip_bridge": Arm("CLIP + bridge", "bridge", 2, "clip"),
  "clip_separation": Arm("CLIP + separation", "separation", 2, "clip"),
  "four": Arm("four terms", "rate", 1, "four"),
  "four_separation": Arm("four + separation", "separation", 2, "four"),
  "four_bridge": Arm("four + bridge", "bridge", 2, "four"),
  "four_geometry": Arm("four + geometry", "geometry", 2, "four"),
  "four_all": Arm("four + all three", "factor", 3, "four"),
  "four_separation_small_geometry": Arm(
    "four + separation + small geometry", "small_geometry", 3, "four"
  ),
}

# Six readings of one unit each, from chance 0 to perfect 1: the tuning's criterion.
CRITERION = (
  "shared_image/z/linear",
  "specific_image/both/linear",
  "specific_text/both/linear",
  "mixed/all/linear",
  "zero_shot",
  "recall@1",
)

ABLATIONS = {
  "full": ("full separation", ("orthogonality", "contrast", "uniformity"), False),
  "no_orthogonality": ("without orthogonality", ("contrast", "uniformity"), False),
  "no_contrast": ("without contrast", ("orthogonality", "uniformity"), False),
  "no_uniformity": ("without uniformity", ("orthogonality", "contrast"), False),
  "orthogonality": ("orthogonality alone", ("orthogonality",), False),
  "literal": ("contrast as printed", ("orthogonality", "uniformity"), True),
}


def knobs_of(arm: str, number: float, chosen: Mapping[str, float]) -> Knobs:
  """Knobs of an arm at its own number, given those of the earlier stages.

  Raises:
    UsageError: an unknown arm, or a number that is missing.
  """
  if arm not in ARMS:
    raise errors.unknown("arm", arm, ARMS)
  spec = ARMS[arm]
  if arm == "untrained":
    return Knobs(rate=0.0)
  four = float(spec.base == "four")
  if spec.grid == "rate":
    return Knobs(rate=number, four=four)
  base = Knobs(rate=_known(chosen, spec.base), four=four)
  if arm == "four_all":
    return base._replace(
      **_separation(number * _known(chosen, "four_separation")),
      bridge=number * _known(chosen, "four_bridge"),
      geometry=number * _known(chosen, "four_geometry"),
    )
  if arm == "four_separation_small_geometry":
    known = _known(chosen, "four_separation")
    return base._replace(**_separation(known), geometry=number)
  if spec.grid == "separation":
    return base._replace(**_separation(number))
  return base._replace(**{spec.grid: number})


def tuning_cells(config, stage: int, chosen: Mapping[str, float]) -> list[Cell]:
  """Cells of one stage of the tuning: every arm at each number of its grid."""
  cells = []
  for arm in needed_arms(config):
    spec = ARMS[arm]
    if spec.stage != stage:
      continue
    for number in config.grids[spec.grid]:
      knobs = knobs_of(arm, number, chosen)
      cells.append(
        Cell(
          "tuning",
          f"{arm}_{number:g}",
          f"{spec.label} at {number:g}",
          knobs,
          tuple(config.tuning_seeds),
          number,
        )
      )
  return cells


def needed_arms(config) -> list[str]:
  """The config's arms and those whose numbers they use, in the order of the stages."""
  wanted = {*config.arms, *config.destructive_arms, "clip", "four"}
  for arm in tuple(wanted):
    if arm not in ARMS:
      raise errors.unknown("arm", arm, ARMS)
  if "four_all" in wanted:
    wanted |= {"four_separation", "four_bridge", "four_geometry"}
  if "four_separation_small_geometry" in wanted:
    wanted.add("four_separation")
  if config.ablations:
    wanted.add("clip_separation")
  if config.times:
    wanted.add("four_bridge")
  return [arm for arm in sorted(wanted, key=_order) if ARMS[arm].grid]


def score(metrics: Mapping[str, float], values: int, gallery: int) -> float:
  """The tuning's criterion: mean of `CRITERION`, each 0 at chance and 1 if perfect."""
  chances = {"mixed/all/linear": 1 / values**2, "recall@1": 1 / gallery}
  parts = []
  for name in CRITERION:
    chance = chances.get(name, 1 / values)
    parts.append((metrics[name] - chance) / (1 - chance))
  return float(np.mean(parts))


def report_cells(config, chosen: Mapping[str, float]) -> list[Cell]:
  """All cells of the report, table by table."""
  seeds = tuple(config.seeds)
  cells = []

  def add(group, name, label, knobs, place=None):
    cells.append(Cell(group, name, label, knobs, seeds, place))

  def knobs(arm, **changes):
    own = chosen.get(arm, 0.0)
    return knobs_of(arm, own, chosen)._replace(**changes)

  # Both controls are in every study: what else is read against them.
  for arm in sorted({*config.arms, "clip", "four"}, key=_order):
    own = knobs(arm)  # refuses an unknown name
    add("main", arm, ARMS[arm].label, own)
  for weight in config.doses:
    label = f"four + {weight:g} squared distance"
    add("dose", f"{weight:g}", label, knobs("four", penalty=weight), weight)
  for keep in config.keeps:
    for arm in config.destructive_arms:
      own = knobs(arm, keep=keep)
      add("destructive", f"{arm}_keep_{keep:g}", ARMS[arm].label, own, keep)
  for name in config.ablations:
    if name not in ABLATIONS:
      raise errors.unknown("ablation", name, ABLATIONS)
    label, parts, literal = ABLATIONS[name]
    weight = _known(chosen, "clip_separation")
    changes = dict.fromkeys(parts, weight) | {"literal": weight * literal}
    add("ablation", name, f"CLIP: {label}", knobs("clip", **changes))
  for time in config.times:
    label = f"four + bridge, t {'sampled' if time < 0 else f'= {time:g}'}"
    add("time", f"{time:g}", label, knobs("four_bridge", time=time), time)
  for weight in config.geometry_weights:
    label = f"four + {weight:g} geometry"
    add("geometry", f"{weight:g}", label, knobs("four", geometry=weight), weight)
  return cells


def _order(arm: str) -> int:
  names = list(ARMS)
  return names.index(arm) if arm in names else -1


def _separation(weight: float) -> dict[str, float]:
  return dict.fromkeys(("orthogonality", "contrast", "uniformity"), weight)


def _known(chosen: Mapping[str, Any], arm: str) -> float:
  if arm not in chosen:
    raise errors.UsageError(
      f"chosen.{arm} is missing: set it to the number of that arm, or set tune=True"
    )
  return float(chosen[arm])
