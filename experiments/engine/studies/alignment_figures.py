"""Figures of the alignment study's learned part."""

from typing import Any

import numpy as np

from experiments.engine.reporting import curves

_ARMS = {
  "s from z": "shared_image/z/linear",
  "u_V from z": "specific_image/z/linear",
  "u_V from [z, z^i]": "specific_image/both/linear",
  "u_V from [z, z^i], noise .5": "specific_image/both/linear@0.5",
  "(u_V, u_T) from both z": "mixed/pair/linear",
  "5-shot (s, u_V), [z, z^i]": "few_shot/both",
  "zero-shot s": "zero_shot",
  "R@1, image to text": "recall@1",
}


def make_figures(summary: dict[str, Any], columns: int = 2) -> dict[str, Any]:
  """File name -> figure, in the order of the page."""
  figures = {"arms": arms_figure(summary, columns)}
  groups = summary["groups"]
  if "dose" in groups:
    figures["dose"] = dose_figure(summary, columns)
  if "destructive" in groups:
    figures["destructive"] = destructive_figure(summary, columns)
  return figures


def arms_figure(summary: dict[str, Any], columns: int = 2) -> Any:
  """A panel for each of the headlines, a row for each arm, dots for the seeds."""
  entries = summary["groups"]["main"]
  panels = []
  for title, name in _ARMS.items():
    groups = {
      entry["label"]: entry["metrics"][name]["runs"]
      for arm, entry in entries.items()
      # Untrained towers would stretch the axes of what all the others can.
      if name in entry["metrics"] and arm != "untrained"
    }
    if not groups:
      continue
    four = entries["four"]["metrics"][name]["mean"]
    panels.append(
      curves.PointPanel(title, groups, xlabel="accuracy", lines={"four terms": four})
    )
  return curves.figure(panels, columns=columns)


def dose_figure(summary: dict[str, Any], columns: int = 2) -> Any:
  """What is lost, and what is kept, as the weight of forced alignment grows."""
  dose = summary["groups"]["dose"]
  base = summary["groups"]["main"]["four"]
  broken = [entry["place"] for entry in dose.values() if not entry["intact"]]
  floor = summary["floor_nats"]

  def panel(title, names, ylabel, lines, ylim):
    series = [line(dose, label, name) for label, name in names.items()]
    guides = []
    if broken:
      x = np.full(2, min(broken))
      guides = [("not intact", x, np.array(ylim))]
    return curves.Panel(
      title, series, "weight of |z_V - z_T|^2", ylabel, True,
      lines=lines, guides=guides, ylim=ylim,
    )  # fmt: skip

  def at_zero(name, label="without"):
    return {label: base["metrics"][name]["mean"]}

  panels = [
    panel(
      "What only the image knows: u_V from z",
      {
        "linear probe": "specific_image/z/linear",
        "MLP probe": "specific_image/z/mlp",
        "linear, noise .2": "specific_image/z/linear@0.2",
        "linear, noise .5": "specific_image/z/linear@0.5",
      },
      "accuracy",
      at_zero("specific_image/z/linear"),
      (0.0, 1.03),
    ),
    panel(
      "Cross entropy of u_V from both towers' z",
      {
        "linear probe": "specific_image/pair/linear/nats",
        "MLP probe": "specific_image/pair/mlp/nats",
      },
      "nats",
      {"price of exact alignment": floor} | at_zero("specific_image/pair/linear/nats"),
      (0.0, 1.1 * floor),
    ),
    panel(
      "What both know, and retrieval",
      {
        "s from z": "shared_image/z/linear",
        "zero-shot s": "zero_shot",
        "R@1": "recall@1",
      },
      "accuracy",
      at_zero("recall@1", "R@1 without"),
      (0.0, 1.03),
    ),
    panel(
      "Both towers' own: (u_V, u_T) from z's",
      {"linear probe": "mixed/pair/linear", "MLP probe": "mixed/pair/mlp"},
      "accuracy",
      at_zero("mixed/pair/linear"),
      (0.0, 1.03),
    ),
  ]
  return curves.figure(panels, columns=columns)


def line(entries: dict[str, dict], label: str, name: str) -> curves.Series:
  """A series over the varied number; a metric that was not read is missing."""
  places = [entry["place"] for entry in entries.values()]
  count = max(len(entry["seeds"]) for entry in entries.values())
  missing = {"runs": [np.nan] * count}
  runs = [entry["metrics"].get(name, missing)["runs"] for entry in entries.values()]
  return curves.Series(label, np.array(places), np.array(runs).T)


def destructive_figure(summary: dict[str, Any], columns: int = 2) -> Any:
  """Accuracy over the share of specific detail that a view keeps."""
  groups = summary["groups"]
  labels = {entry["label"] for entry in groups["destructive"].values()}
  whole = [
    entry | {"place": 1.0}
    for entry in groups["main"].values()
    if entry["label"] in labels
  ]
  entries = [*whole, *groups["destructive"].values()]
  panels = []
  for title, name in (
    ("u_V from z", "specific_image/z/linear"),
    ("u_V from [z, z^i]", "specific_image/both/linear"),
    ("(u_V, u_T) from all", "mixed/all/linear"),
    ("zero-shot s", "zero_shot"),
  ):
    series = []
    for label in dict.fromkeys(entry["label"] for entry in whole):
      own = {
        f"{entry['place']}": entry
        for entry in sorted(entries, key=lambda entry: entry["place"])
        if entry["label"] == label
      }
      series.append(line(own, label, name))
    panels.append(
      curves.Panel(
        title, series, "chance of a specific attribute to survive a view", "accuracy"
      )
    )
  return curves.figure(panels, columns=columns)
