"""What the page of a run of towers or of a fusion model says.

Title, curves, and tables of the final numbers.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.engine.reporting import curves
from experiments.engine.reporting.logged import logged_panel, logged_series

_TERM = "term/"
# Metric of a step -> title of its panel, label of its axis.
_PANELS = {
  "loss": ("Loss", "nats"),
  "cosine": ("Cosine of pairs", "cosine"),
  "modality_gap": ("Distance between the towers' means", "distance"),
  "uniformity": ("Uniformity: lower is more uniform", "log mean potential"),
  "scale": ("Inverse temperature", "scale"),
  "match_accuracy": ("Pairs and hard non-pairs told apart", "accuracy"),
  "word_accuracy": ("Hidden words told", "accuracy"),
  "orthogonality": ("Orthogonality of shared and specific parts", "loss part"),
  "specific_contrast": ("Contrast of the specific parts", "nats"),
  "bridge": ("Brownian bridge", "loss part"),
  "geometry": ("Geometric consistency", "loss part"),
  "penalty": ("Penalty on the distance of pairs", "loss part"),
}
_TRAINING = {
  "train/loss": "training loss, last step (nats)",
  "train/chance": "loss of equal embeddings (nats)",
  "train/step": "steps",
  "train/cosine": "cosine of pairs",
  "train/modality_gap": "distance between the towers' means",
  "train/uniformity": "uniformity, mean of the towers",
  "train/scale": "inverse temperature",
  "train/grad_norm": "norm of the gradient",
  "train/match_accuracy": "pairs and hard non-pairs told apart",
  "train/word_accuracy": "hidden words told",
  "train/alpha": "weight of the momentum copy's targets",
  "train/orthogonality": "orthogonality of shared and specific parts",
  "train/specific_contrast": "contrast of the specific parts (nats)",
  "train/bridge": "Brownian bridge",
  "train/geometry": "geometric consistency",
  "train/penalty": "penalty on the distance of pairs",
  "minutes/train": "minutes of training",
  "minutes/total": "minutes in all",
}
_PARTS = {
  "shared": "shared",
  "specific": "specific",
  "both": "shared and specific",
  "features": "encoder's features",
}
_PROBES = {"probe": "Linear probes", "knn": "Nearest neighbours"}
_UNTRAINED = "untrained/"
_NOT_NAMED = "by its name in summary.json"


class Table(NamedTuple):
  """A table of the page, as `Report.table` takes it."""

  headers: list[str]
  rows: list[list[Any]]
  caption: str


def tower_title(config: Mapping[str, Any]) -> str:
  """One line: towers or model, objective, terms, structures, data."""
  weights = {name: knobs["weight"] for name, knobs in config["structures"].items()}
  added = "".join(f" + {name} × {w:g}" for name, w in weights.items() if w)
  objective = config["objective"]
  if config["method"] == "fusion":
    losses = (name for name in ("contrast", "matching", "masking") if objective[name])
    return (
      f"Fusion model ({config['model']['size']}) with {', '.join(losses)}{added}, "
      f"on {config['data']['name']}"
    )
  return (
    f"Towers ({', '.join(config['towers'])}) with {objective['name']}, "
    f"{objective['terms']} terms{added}, on {config['data']['name']}"
  )


def tower_panels(lines: list[dict], chance: float | None) -> list[curves.Panel]:
  """Panels of what the steps logged: loss, its terms, geometry, structures."""
  logged = {name for line in lines for name in line}
  terms = sorted(name for name in logged if name.startswith(_TERM))
  panels = [
    logged_panel(lines, name, title, ylabel, chance)
    for name, (title, ylabel) in _PANELS.items()
    if name in logged
  ]
  if terms:
    series = [logged_series(_arrow(name[len(_TERM) :]), lines, name) for name in terms]
    panels.insert(1, curves.Panel("Terms of the loss", series, "step", "nats"))
  return panels


def tower_tables(final: Mapping[str, Any]) -> list[Table]:
  """Every number of a summary, in tables by what it measures."""
  before = {
    name.removeprefix(_UNTRAINED): value
    for name, value in final.items()
    if name.startswith(_UNTRAINED)
  }
  trained = {k: v for k, v in final.items() if not k.startswith(_UNTRAINED)}
  tables, told = _measured(trained)
  if before:
    earlier, told_before = _measured(before)
    tables += [x._replace(caption=f"Before training. {x.caption}") for x in earlier]
    told |= {_UNTRAINED + name for name in told_before}
  tables.append(_training(trained, told))
  rest = [[name, final[name]] for name in final if name not in told]
  if rest:
    tables.append(Table(["quantity", "value"], rest, f"Other numbers, {_NOT_NAMED}."))
  return tables


def _measured(final) -> tuple[list[Table], set[str]]:
  """Tables of the evaluation, and the names of the numbers in them."""
  makers = (_retrieval, _zero_shot, _probes, _few_shot, _pairs, _towers)
  told: set[str] = set()
  tables = [table for make in makers for table in make(final, told)]
  return tables, told


def _retrieval(final, told: set[str]) -> list[Table]:
  found = _matrix(final, r"(.+_to_.+)/(recall@\d+|median_rank)", told)
  if not found:
    return []
  headers = [x.replace("_", " ") for x in _columns(found)]
  way_of = lambda name: _arrow(name.replace("reranked/", "reranked: "))
  rows = [[way_of(way), *values] for way, values in _rows(found)]
  said = "Retrieval on the test split: share of queries with a key of their own among "
  said += "the first k, and the median rank of the first such key."
  return [Table(["query → key", *headers], rows, said)]


def _zero_shot(final, told: set[str]) -> list[Table]:
  found = _matrix(final, r"(zero_shot)/(top\d+)", told)
  if not found:
    return []
  headers = [x.replace("top", "top-") for x in _columns(found)]
  rows = [["classes by prompts", *values] for _, values in _rows(found)]
  said = "Zero-shot classification: accuracy among the first k guesses."
  return [Table(["", *headers], rows, said)]


def _probes(final, told: set[str]) -> list[Table]:
  """A table for each tower and kind of probe: attribute by part."""
  chances = _matrix(final, r"(chance)/(.+)", told).get("chance", {})
  tables = []
  for kind, title in _PROBES.items():
    found = _matrix(final, rf"{kind}/([^/]+)/(.+/[^/]+)", told)
    for tower, cells in found.items():
      by_attribute, half = _intervals(cells)
      parts = [p for p in _PARTS if any(p in row for row in by_attribute.values())]
      rows = [
        [name, *(row.get(part) for part in parts), chances.get(name)]
        for name, row in by_attribute.items()
      ]
      headers = ["attribute", *(_PARTS[part] for part in parts), "commonest label"]
      said = f"{title} on the {tower} tower, by the part of its embedding: accuracy"
      said += f", 95 % intervals within ±{half:.3f} (summary.json)." if half else "."
      tables.append(Table(headers, rows, said))
  if chances and not tables:
    rows = [[name, value] for name, value in chances.items()]
    tables.append(Table(["attribute", "accuracy"], rows, "The commonest label."))
  return tables


def _few_shot(final, told: set[str]) -> list[Table]:
  found = _matrix(final, r"fewshot_(\d+)/(.+/class/.+)", told)
  if not found:
    return []
  shots = sorted(found, key=int)
  places = [p for p in _columns(found) if not p.endswith(("_low", "_high"))]
  rows = []
  for place in places:
    tower, _, part = place.split("/")
    values = [found[shot].get(place) for shot in shots]
    rows.append([f"{tower}, {_PARTS.get(part, part)}", *values])
  headers = ["tower, part", *(f"{x} shot{'s' * (x != '1')}" for x in shots)]
  said = (
    "Few-shot classification: mean accuracy over draws of so many examples of each "
  )
  said += "class (intervals in summary.json)."
  return [Table(headers, rows, said)]


def _pairs(final, told: set[str]) -> list[Table]:
  names = {
    "cosine": "cosine of pairs",
    "alignment": "squared distance of pairs",
    "modality_gap": "distance of means",
  }
  found = _matrix(final, rf"geometry/(.+)/({'|'.join(names)})", told)
  rows = [
    [pair.replace("_", " – "), *(values.get(name) for name in names)]
    for pair, values in found.items()
  ]
  said = "Geometry of two towers on the test split, first captions."
  return [Table(["towers", *names.values()], rows, said)] if rows else []


def _towers(final, told: set[str]) -> list[Table]:
  found = _matrix(final, r"geometry/(.+)/(uniformity|effective_rank)", told)
  rows = [
    [tower, values.get("uniformity"), values.get("effective_rank")]
    for tower, values in found.items()
  ]
  said = "Geometry of each tower on the test split; uniformity is a log mean Gaussian "
  said += "potential, lower is more uniform."
  return [Table(["tower", "uniformity", "effective rank"], rows, said)] if rows else []


def _training(final, told: set[str]) -> Table:
  rows = [[words, final[name]] for name, words in _TRAINING.items() if name in final]
  told |= _TRAINING.keys() & final.keys()
  start = f"train/{_TERM}"
  terms = sorted(name for name in final if name.startswith(start))
  said = [[f"term {_arrow(x[len(start) :])} (nats)", final[x]] for x in terms]
  rows[1:1] = said
  told |= set(terms)
  return Table(["quantity", "value"], rows, "Training: the last step that was logged.")


def _matrix(final, pattern: str, told: set[str]) -> dict[str, dict[str, Any]]:
  """Numbers whose names match, by the pattern's two groups; `told` gets their names."""
  found: dict[str, dict[str, Any]] = {}
  for name, value in final.items():
    if match := re.fullmatch(pattern, name):
      found.setdefault(match[1], {})[match[2]] = value
      told.add(name)
  return found


def _columns(found) -> list[str]:
  return list(dict.fromkeys(name for values in found.values() for name in values))


def _rows(found) -> list[tuple[str, list[Any]]]:
  return [
    (row, [values.get(name) for name in _columns(found)])
    for row, values in found.items()
  ]


def _intervals(cells: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], float]:
  """ATTRIBUTE/PART -> value as a matrix, and the widest half of an interval."""
  found: dict[str, dict[str, Any]] = {}
  half = 0.0
  for name, value in cells.items():
    if name.endswith(("_low", "_high")):
      mean = cells.get(name.rsplit("_", 1)[0])
      if None not in (mean, value):
        half = max(half, abs(value - mean))
      continue
    attribute, part = name.rsplit("/", 1)
    found.setdefault(attribute, {})[part] = value
  return found, half


def _arrow(way: str) -> str:
  return way.replace("_to_", " → ")
