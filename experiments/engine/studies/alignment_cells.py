"""Runs the cells of the alignment study and keeps each in a file of its own.

A killed study goes on at the first cell without file. A file counts only for the very
knobs, sizes and seeds that made it.
"""

import concurrent.futures
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.engine import record
from experiments.engine.studies import alignment_readings, alignment_training
from experiments.engine.studies.alignment_arms import Cell


class Result(NamedTuple):
  """A cell that is done: metrics by name, each [seeds]."""

  cell: Cell
  metrics: dict[str, np.ndarray]


class Runner:
  """Trains and reads cells, several runs at a time.

  Args:
    workdir: folder of the study; cells lie in <workdir>/cells.
    plan: what all trainings have in common.
    seed: of the study.
    workers: runs at a time.
    total: cells of the whole study, for the progress line.
    note: called with the number of each cell that is done, and its result.
  """

  def __init__(
    self,
    workdir: str,
    plan: alignment_training.Plan,
    *,
    seed: int,
    workers: int,
    total: int,
    note: Callable[[int, Result], None],
  ):
    self._folder = pathlib.Path(workdir) / "cells"
    self._plan = plan
    self._seed = seed
    self._workers = workers
    self._total = total
    self._note = note
    self._train = alignment_training.make_train(plan)
    self._start = time.perf_counter()
    # Cells of equal knobs share their runs.
    self._jobs: dict[tuple, concurrent.futures.Future] = {}
    self._done = 0
    self._fresh = 0

  def run(
    self, cells: list[Cell], exam: alignment_readings.Examination
  ) -> list[Result]:
    """Results of cells in their order; those with a file are read from it."""
    reader = alignment_readings.make_reader(self._plan, exam)
    stored = {cell: self._load(cell, exam) for cell in cells}
    with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
      jobs: dict[Cell, list] = {}
      for cell in cells:
        if stored[cell] is None:
          jobs[cell] = [
            self._job(pool, cell, seed, exam, reader) for seed in cell.seeds
          ]
      try:
        return [
          self._finish(cell, stored[cell], jobs.get(cell, ()), exam) for cell in cells
        ]
      except BaseException:
        pool.shutdown(cancel_futures=True)
        raise

  def _job(self, pool, cell: Cell, run_seed: int, exam, reader):
    name = cell.knobs, run_seed, exam
    if name not in self._jobs:
      first = not self._jobs
      self._jobs[name] = pool.submit(self._measure, cell, run_seed, reader)
      if first:  # it compiles, and the others find that done
        self._jobs[name].result()
    return self._jobs[name]

  def _finish(self, cell, metrics, jobs, exam) -> Result:
    self._done += 1
    if metrics is None:
      runs = [job.result() for job in jobs]
      metrics = {name: np.array([run[name] for run in runs]) for name in runs[0]}
      self._save(cell, exam, metrics)
      self._fresh += 1
      print(self._line(cell, metrics), flush=True)
    result = Result(cell, metrics)
    self._note(self._done, result)
    return result

  def _measure(self, cell: Cell, run_seed: int, reader) -> dict[str, float]:
    keys = alignment_training.run_keys(self._seed, run_seed)
    if cell.knobs.rate == 0:
      towers = alignment_training.make_towers(self._plan)
      params = alignment_training.initial(towers, self._plan, keys.start)
    else:
      # NumPy scalars: a Python float would be another type to jit.
      knobs = alignment_training.Knobs(*map(np.float32, cell.knobs))
      params = self._train(keys, knobs)
    return reader(keys, jax.tree.map(np.asarray, params))

  def _line(self, cell: Cell, metrics) -> str:
    seconds = time.perf_counter() - self._start
    left = (self._total - self._done) * seconds / self._fresh
    shown = {
      "s": "shared_image/z/linear",
      "u_V z": "specific_image/z/linear",
      "u_V both": "specific_image/both/linear",
      "zero-shot": "zero_shot",
      "R@1": "recall@1",
    }
    said = ", ".join(f"{k} {metrics[v].mean():.3f}" for k, v in shown.items())
    return (
      f"[{self._done}/{self._total}] {cell.group}: {cell.label}: {said}  "
      f"({seconds:.0f} s, about {left:.0f} s left)"
    )

  def _path(self, cell: Cell) -> pathlib.Path:
    return self._folder / cell.group / f"{cell.name}.json"

  def _identity(self, cell: Cell, exam) -> dict[str, Any]:
    plan = self._plan._asdict() | {"sizes": self._plan.sizes._asdict()}
    return {
      "knobs": cell.knobs._asdict(),
      "seeds": list(cell.seeds),
      "seed": self._seed,
      "plan": record.config_dict(plan) | {"widths": list(self._plan.widths)},
      "exam": exam._asdict() | {"noise": list(exam.noise)},
    }

  def _load(self, cell: Cell, exam) -> dict[str, np.ndarray] | None:
    path = self._path(cell)
    if not path.exists():
      return None
    kept = record.read_json(path)
    if kept["identity"] != self._identity(cell, exam):
      return None
    return {
      name: np.array(values, np.float64) for name, values in kept["metrics"].items()
    }

  def _save(self, cell: Cell, exam, metrics) -> None:
    path = self._path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"identity": self._identity(cell, exam), "metrics": metrics}
    record.write_json(path, content)
