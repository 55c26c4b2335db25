"""Objectives at batch B and 2B on real images, over seeds, with equal epochs.

  python -m experiments.batch_study --config=configs/batch_study.py:smoke

Each run is a whole pretraining run under <workdir>/runs, so the study continues where
it was stopped and `experiments.probe` works on each. With several learning rates the
study is a tuning: it names the best one of each arm by validation accuracy.
"""

import itertools
import pathlib
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from experiments import pretrain
from experiments.engine import cli, errors, record
from experiments.engine.reporting import curves, report

METRICS = {"probe/top1": "linear probe, top-1", "knn/top1": "kNN, top-1"}


class Cell(NamedTuple):
  """One run of the study."""

  data: str
  arm: str
  batch: int
  rate: float
  seed: int

  @property
  def path(self) -> str:
    """Folder of the run below the study's."""
    return (
      f"runs/{self.data}/{self.arm}/batch{self.batch}/rate{self.rate:g}/seed{self.seed}"
    )


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs all cells that are not complete yet and writes table, figure and report.

  Args:
    config: of configs/batch_study.py.
    workdir: folder of the study.

  Returns:
    The contents of summary.json: {"cells": [...], "tuned": {...}}.
  """
  cells = plan(config)
  with record.Recorder(workdir, config) as recorder:
    finals = {}
    for i, cell in enumerate(cells):
      print(f"[{i + 1}/{len(cells)}] {cell.path}", flush=True)
      folder = str(pathlib.Path(workdir) / cell.path)
      finals[cell] = pretrain.run(cell_config(config, cell), folder)
    summary = summarise(config, finals)
    recorder.summary(summary)
  write_page(workdir, config, summary)
  print(report.markdown_table(*table_rows(config, summary)))
  return summary


def plan(config: ml_collections.ConfigDict) -> list[Cell]:
  """All cells, seeds outermost, so that a stopped study is balanced over the arms.

  Raises:
    UsageError: an arm or data set that the config does not define.
  """
  for name in config.study.arms:
    if name not in config.arms:
      raise errors.unknown("arm", name, config.arms)
  for name in config.study.data:
    if name not in config.data:
      raise errors.unknown("data set of the study", name, config.data)
  grid = itertools.product(
    config.study.seeds, config.study.data, config.study.batches, config.study.arms
  )
  cells = []
  for seed, data, batch, arm in grid:
    rates = config.study.learning_rates or [config.tuned[data][arm]]
    cells += [Cell(data, arm, batch, float(rate), seed) for rate in rates]
  return cells


def cell_config(
  config: ml_collections.ConfigDict, cell: Cell
) -> ml_collections.ConfigDict:
  """Pretraining config of a cell: base, then data set, arm, batch, rate, seed."""
  merged = ml_collections.ConfigDict(config.base.to_dict())
  merged.update(config.data[cell.data].to_dict())
  merged.objective.update(config.arms[cell.arm].objective.to_dict())
  merged.update(seed=cell.seed, batch=cell.batch, data_dir=config.data_dir)
  # The rate is tuned at the first batch size; others follow the scaling rule.
  factor = (cell.batch / config.study.batches[0]) ** config.study.rate_exponent
  merged.optimizer.learning_rate = cell.rate * factor
  return merged


def summarise(config, finals: dict[Cell, dict]) -> dict[str, Any]:
  """Means with 95 % intervals, differences to the first arm, and the best rates.

  An arm is compared with the first arm at that one's best rate.
  """
  best, rows = _best_rates(finals), []
  first = config.study.arms[0]
  groups = _groups(finals)
  for group, members in groups.items():
    base_rate = best[group.data][first]
    base = groups[group._replace(arm=first, rate=base_rate)]
    row = dict(group._asdict(), seeds=sorted(members))
    row.pop("seed")
    for metric in METRICS:
      values = [members[s][metric] for s in sorted(members)]
      row[metric] = {"values": values, **curves.interval(values)._asdict()}
      other = [base[s][metric] for s in sorted(members) if s in base]
      if group.arm != first and len(other) == len(values) > 1:
        gain = curves.paired_difference(values, other)
        row[metric]["difference"] = gain._asdict()
    row["minutes"] = float(np.mean([m["minutes/train"] for m in members.values()]))
    rows.append(row)
  return {"cells": rows, "tuned": best}


def _groups(finals):
  groups: dict[Cell, dict[int, dict]] = {}
  for cell, final in finals.items():
    groups.setdefault(cell._replace(seed=-1), {})[cell.seed] = final
  return groups


def _best_rates(finals) -> dict[str, dict[str, float]]:
  scores: dict[tuple[str, str], dict[float, list[float]]] = {}
  for cell, final in finals.items():
    by_rate = scores.setdefault((cell.data, cell.arm), {})
    by_rate.setdefault(cell.rate, []).append(final["probe/validation_top1"])
  best: dict[str, dict[str, float]] = {}
  for (data, arm), by_rate in scores.items():
    best.setdefault(data, {})[arm] = max(by_rate, key=lambda r: np.mean(by_rate[r]))
  return best


def table_rows(config, summary) -> tuple[list[str], list[list[str]]]:
  """Header and rows of the result table, accuracies in per cent."""
  headers = ["data", "batch", "objective", "seeds"]
  for title in METRICS.values():
    headers += [title, "minus " + config.arms[config.study.arms[0]].label]
  rows = []
  for row in sorted(summary["cells"], key=lambda r: (r["data"], r["batch"])):
    line = [row["data"], str(row["batch"]), config.arms[row["arm"]].label]
    if config.study.learning_rates:
      line[-1] += f", rate {row['rate']:g}"
    line.append(str(len(row["seeds"])))
    for metric in METRICS:
      line.append(_percent(row[metric]))
      line.append(_percent(row[metric].get("difference")))
    rows.append(line)
  return headers, rows


def write_page(workdir, config, summary) -> None:
  """Writes report.html, batch_study.png and .svg."""
  folder = pathlib.Path(workdir)
  panels = []
  for data, metric in itertools.product(config.study.data, METRICS):
    series = []
    for arm in config.study.arms:
      runs = [
        [_accuracy(summary, data, arm, b, metric)[s] for b in config.study.batches]
        for s in range(len(config.study.seeds))
      ]
      series.append(
        curves.Series(config.arms[arm].label, np.array(config.study.batches), runs)
      )
    panels.append(
      curves.Panel(
        title=f"{data}: {METRICS[metric]}",
        series=series,
        xlabel="batch",
        ylabel="accuracy",
        log_x=True,
      )
    )
  figure = curves.figure(panels, columns=2)
  curves.save(figure, folder / "batch_study")
  page = report.Report("Batch study")
  about = record.read_json(folder / "run.json")
  page.command(about["command"])
  page.figure(
    figure, "Accuracy over the batch size; mean and 95 % interval over seeds."
  )
  page.table(
    *table_rows(config, summary), "Per cent; mean ± half of the 95 % interval."
  )
  page.environment(about)
  page.write(folder / "report.html")


def _accuracy(summary, data, arm, batch, metric):
  wanted = (data, arm, batch, summary["tuned"][data][arm])
  for row in summary["cells"]:
    if (row["data"], row["arm"], row["batch"], row["rate"]) == wanted:
      return row[metric]["values"]
  raise KeyError((data, arm, batch))


def _percent(found: dict | None) -> str:
  if found is None:
    return ""
  mean, low, high = (100 * found[name] for name in ("mean", "low", "high"))
  return curves.format_interval(curves.Interval(mean, low, high, found["n"]), digits=1)


if __name__ == "__main__":
  cli.launch(run, default_config="configs/batch_study.py")
