"""Curves of what a run logged over its steps (metrics.jsonl)."""

from collections.abc import Sequence

import numpy as np

from experiments.engine.reporting import curves


def logged_series(label: str, lines: Sequence[dict], metric: str) -> curves.Series:
  """One metric over the steps in which it was logged.

  Args:
    label: of the curve.
    lines: what `record.read_metrics` gives.
    metric: its key.
  """
  kept = [line for line in lines if line.get(metric) is not None]
  steps = np.array([line["step"] for line in kept])
  return curves.Series(label, steps, np.array([[line[metric] for line in kept]]))


def logged_panel(
  lines: Sequence[dict], metric: str, title: str, ylabel: str, chance: float | None
) -> curves.Panel:
  """Panel of one metric; that of the loss has its chance level, if there is one.

  Args:
    lines: what `record.read_metrics` gives.
    metric: its key.
    title: of the panel.
    ylabel: what stands at its axis.
    chance: loss of equal embeddings or answers, or None.
  """
  return curves.Panel(
    title=title,
    series=[logged_series("this run", lines, metric)],
    xlabel="step",
    ylabel=ylabel,
    lines={"chance": chance} if metric == "loss" and chance is not None else {},
  )
