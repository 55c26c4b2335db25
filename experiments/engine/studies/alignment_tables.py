"""Tables of the alignment study: headers and rows, for the page, CSV and Markdown."""

from typing import Any

from experiments.engine.reporting import curves
from experiments.engine.studies import alignment_arms
from experiments.engine.studies.alignment_summary import HEADLINES

Table = tuple[list[str], list[list[Any]]]

_MAIN = {
  "s: z": "shared_image/z/linear",
  "u_V: z": "specific_image/z/linear",
  "u_V: z^i": "specific_image/own/linear",
  "u_V: [z, z^i]": "specific_image/both/linear",
  "u_V: h": "specific_image/h/linear",
  "u_T: [z, z^i]": "specific_text/both/linear",
  "(u_V, u_T): z's": "mixed/pair/linear",
  "(u_V, u_T): all": "mixed/all/linear",
  "5-shot: z": "few_shot/z",
  "5-shot: [z, z^i]": "few_shot/both",
  "zero-shot s": "zero_shot",
  "R@1": "recall@1",
}
_SHAPE = {
  "u_V nats, linear": "specific_image/pair/linear/nats",
  "u_V nats, MLP": "specific_image/pair/mlp/nats",
  "gap": "modality_gap",
  "cosine": "paired_cosine",
  "uniformity": "uniformity",
  "(z.z^i)^2": "squared_overlap",
  "scale": "scale",
}
_DOSE = {
  "cosine": "paired_cosine",
  "s: z": "shared_image/z/linear",
  "R@1": "recall@1",
  "zero-shot s": "zero_shot",
  "u_V: z": "specific_image/z/linear",
  "u_V: z, MLP": "specific_image/z/mlp",
  "u_V: z, noise .2": "specific_image/z/linear@0.2",
  "u_V: h": "specific_image/h/linear",
  "u_V nats, linear": "specific_image/pair/linear/nats",
  "u_V nats, MLP": "specific_image/pair/mlp/nats",
  "(u_V, u_T): z's": "mixed/pair/linear",
  "uniformity": "uniformity",
}
_SMALL = {
  "u_V: z": "specific_image/z/linear",
  "u_V: z^i": "specific_image/own/linear",
  "u_V: [z, z^i]": "specific_image/both/linear",
  "5-shot: [z, z^i]": "few_shot/both",
  "(u_V, u_T): all": "mixed/all/linear",
  "zero-shot s": "zero_shot",
  "R@1": "recall@1",
  "(z.z^i)^2": "squared_overlap",
}
# Group -> title, columns.
_GROUPS = {
  "dose": ("Dose of forced alignment", _DOSE),
  "destructive": ("Destructive augmentation", _SMALL),
  "ablation": ("Separation by parts", _SMALL),
  "time": ("Time of the bridge", _SMALL),
  "geometry": ("Weight of the geometry", _SMALL),
}


def all_tables(summary: dict[str, Any]) -> dict[str, tuple[str, Table]]:
  """File name -> (caption, table), in the order of the page."""
  groups = summary["groups"]
  tables = {
    "main": (
      "Accuracies of linear probes, few-shot, zero-shot and R@1",
      metric_table(groups["main"], _MAIN),
    ),
    "embeddings": (
      "Cross entropy of u_V from both towers' z, and how the embeddings lie",
      metric_table(groups["main"], _SHAPE),
    ),
    "noise": ("Probes with noise on the features", noise_table(groups["main"])),
  }
  for control, label in (("four", "four terms"), ("clip", "CLIP")):
    caption = (
      f"Difference to {label} of the same seed; * where p < .05 after Holm's "
      "correction over this table"
    )
    tables[f"minus_{control}"] = (caption, difference_table(groups["main"], control))
  for group, (caption, columns) in _GROUPS.items():
    if group in groups:
      entries = groups[group]
      if group == "dose":
        entries = {"0": groups["main"]["four"], **entries}
      tables[group] = (caption, metric_table(entries, columns, intact=group == "dose"))
      if group == "destructive":
        label = "Destructive augmentation: difference to four terms at the same keep"
        tables["destructive_minus_four"] = (label, difference_table(entries, "four"))
  if summary["tuning"]:
    caption = "Criterion of every trial of the tuning; the last column was chosen"
    tables["tuning"] = (caption, tuning_table(summary))
  return tables


def metric_table(
  entries: dict[str, dict], columns: dict[str, str], intact: bool = False
) -> Table:
  """A row for each cell, mean and half of the 95 % interval."""
  keeps = {entry["knobs"]["keep"] for entry in entries.values()} - {1.0}
  headers = ["arm", *(["keep"] if keeps else []), *columns]
  headers += ["intact"] if intact else []
  rows = []
  for entry in entries.values():
    row: list[Any] = [entry["label"]]
    row += [f"{entry['knobs']['keep']:g}"] if keeps else []
    row += [_interval(entry, name) for name in columns.values()]
    row += ["yes" if entry["intact"] else "no"] if intact else []
    rows.append(row)
  return headers, rows


def noise_table(entries: dict[str, dict]) -> Table:
  """u_V by both probes at every noise, and both modalities' attributes at the most."""
  first = next(iter(entries.values()))["metrics"]
  prefix = "specific_image/z/linear@"
  noises = sorted(
    {float(name.removeprefix(prefix).split("/")[0]) for name in first if prefix in name}
  )
  columns = {}
  for source, label in (("z", "z"), ("own", "z^i"), ("both", "[z, z^i]")):
    for kind, word in (("linear", ""), ("mlp", ", MLP")):
      for noise in (0.0, *noises):
        mark = f"@{noise:g}" if noise else ""
        name = f"specific_image/{source}/{kind}{mark}"
        if name in first:
          columns[f"u_V: {label}{word}, {noise:g}"] = name
  for noise in noises:
    columns[f"s: z, {noise:g}"] = f"shared_image/z/linear@{noise:g}"
    columns[f"(u_V, u_T): all, {noise:g}"] = f"mixed/all/linear@{noise:g}"
  return metric_table(entries, columns)


def difference_table(entries: dict[str, dict], control: str) -> Table:
  """A row for each cell but the control, a column for each headline."""
  keeps = {entry["knobs"]["keep"] for entry in entries.values()} - {1.0}
  headers = ["arm", *(["keep"] if keeps else []), *HEADLINES.values()]
  rows = []
  for entry in entries.values():
    found = entry["differences"].get(control)
    if not found:
      continue
    row: list[Any] = [entry["label"]]
    row += [f"{entry['knobs']['keep']:g}"] if keeps else []
    row += [_signed(found.get(name)) for name in HEADLINES]
    rows.append(row)
  return headers, rows


def tuning_table(summary: dict[str, Any]) -> Table:
  """A row for each tuned arm: its trials' numbers and scores, and the choice."""
  rows = []
  for arm, scores in summary["tuning"].items():
    tried = [f"{number}: {score:.4f}" for number, score in scores.items()]
    label = alignment_arms.ARMS[arm].label
    rows.append([label, alignment_arms.ARMS[arm].grid, *tried, summary["chosen"][arm]])
  count = max(len(scores) for scores in summary["tuning"].values())
  trials = [f"trial {i + 1}" for i in range(count)]
  return ["arm", "number", *trials, "chosen"], rows


def plain(table: Table) -> Table:
  """The table with intervals as text of three decimals, for CSV and Markdown."""
  headers, rows = table
  return headers, [
    [curves.format_interval(x) if isinstance(x, curves.Interval) else x for x in row]
    for row in rows
  ]


def metric_rows(summary: dict[str, Any]) -> Table:
  """Every metric of every cell in long form, runs and all."""
  headers = ["table", "cell", "keep", "metric", "mean", "low", "high", "n", "runs"]
  rows = []
  for group, entries in summary["groups"].items():
    for cell, entry in entries.items():
      for name, value in entry["metrics"].items():
        runs = " ".join(f"{run:.6g}" for run in value["runs"])
        numbers = [value[key] for key in ("mean", "low", "high", "n")]
        rows.append([group, cell, entry["knobs"]["keep"], name, *numbers, runs])
  return headers, rows


def difference_rows(summary: dict[str, Any]) -> Table:
  """Every paired difference with its p-values in long form."""
  names = ["mean", "low", "high", "n", "wins", "p", "p_holm"]
  rows = []
  for group, entries in summary["groups"].items():
    for cell, entry in entries.items():
      for control, found in entry["differences"].items():
        for metric, value in found.items():
          numbers = [value[name] for name in names]
          rows.append([group, cell, control, metric, *numbers])
  return ["table", "cell", "control", "metric", *names], rows


def _interval(entry: dict, name: str) -> curves.Interval | None:
  value = entry["metrics"].get(name)
  if value is None:
    return None
  return curves.Interval(*(value[key] for key in ("mean", "low", "high", "n")))


def _signed(difference: dict | None) -> str | None:
  if difference is None:
    return None
  text = f"{difference['mean']:+.3f}"
  half = (difference["high"] - difference["low"]) / 2
  if half == half:  # two or more seeds
    text += f" ± {half:.3f}"
  return text + (" *" if difference["p_holm"] < 0.05 else "")
