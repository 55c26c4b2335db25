"""What the page of a fine-tuning run has of its own: title, curves, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.engine.reporting import curves
from experiments.engine.reporting.logged import logged_panel

_TASKS = {
  "answering": "Answers in words",
  "judging": "Judging",
  "assigning": "Assignment of texts to pictures",
}
METHODS = tuple(_TASKS)
_SEES = {"text": " from the text alone", "image": " from the pictures alone"}
_PANELS = (
  ("loss", "Loss (nats)"),
  ("accuracy", "Accuracy in the batch"),
  ("token_accuracy", "Right tokens in the batch"),
)
_WORDS = {
  "accuracy": "accuracy",
  "free/accuracy": "accuracy, said freely",
  "consistency": "consistency: sentences of which every prediction is right",
}


def task_title(config: Mapping[str, Any]) -> str:
  """Title of the page of a run, from its config."""
  task = _TASKS[config["method"]] + _SEES.get(config.get("sees", ""), "")
  begun = config.get("init_from", "")
  return f"{task} on {config['data']['name']}" + ("" if begun else ", from scratch")


def task_panels(lines: Sequence[dict], chance: float | None) -> list[curves.Panel]:
  """Curves of what a run wrote over its steps."""
  return [
    logged_panel(lines, name, title, title.lower(), chance)
    for name, title in _PANELS
    if any(line.get(name) is not None for line in lines)
  ]


def task_tables(
  final: Mapping[str, Any],
) -> list[tuple[list[str], list[list], str]]:
  """Tables of final numbers: what was asked for with its interval, and by kind."""
  rows = [
    [words, final[name], final[f"{name}_low"], final[f"{name}_high"]]
    for name, words in _WORDS.items()
    if name in final
  ]
  headers = ["test split", "share", "low", "high"]
  count = int(final.get("examples", 0))
  said = f"{count:,} examples; low and high: Wilson's 95 % interval over them."
  tables = [(headers, rows, said)]
  kinds = [
    name.removesuffix("/examples")
    for name in final
    if name.startswith("accuracy/") and name.endswith("/examples")
  ]
  if kinds:
    rows = [
      [name.removeprefix("accuracy/").replace("/", ": ", 1)]
      + [final[name], final[f"{name}_low"], final[f"{name}_high"]]
      + [int(final[f"{name}/examples"])]
      for name in kinds
    ]
    tables.append(
      (["kind", "accuracy", "low", "high", "examples"], rows, "By kind of example.")
    )
  others = [
    [name, final[name]]
    for name in ("answerable", "minutes/train", "minutes/total")
    if name in final
  ]
  told = "answerable: share of the questions whose answer is in the list."
  tables.append((["quantity", "value"], others, told if "answerable" in final else ""))
  return tables
