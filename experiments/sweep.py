"""Pretrains every point of a config file's grid, then compares them over seeds.

  python -m experiments.sweep --config=configs/pretrain.py:smoke --workdir=runs/sweep
  python -m experiments.sweep --config=configs/pretrain.py:quick --seeds=5
  python -m experiments.sweep --config=configs/tower_study.py:scenes --grid=scenes

The grid is what `sweep()` of the config file returns, or the function that --grid
names: a list of {"key": value}, each the changes of one point. Every point is a
pretraining run in its own folder; the same command goes on where a stopped sweep was,
run by run.

Several processes share a sweep by --part: 1/2 takes the first, third ... point, 2/2 the
others, and the last to end compares all.
"""

import importlib.util
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from experiments import compare, pretrain
from experiments.engine import cli, errors, record
from experiments.engine.progress import clock

Point = dict[str, Any]


def run(
  config: ml_collections.ConfigDict, workdir: str, points: Sequence[Point]
) -> dict[str, dict[str, Any]]:
  """Runs the points that are not complete yet, and compares all.

  Args:
    config: of configs/pretrain.py, or a file like it.
    workdir: folder of the sweep; each point has a folder in it.
    points: changes of each point, by dotted key.

  Returns:
    Folder of each point -> its summary.

  Raises:
    UsageError: no points, two that are the same, or a key that the config lacks.
  """
  folders = [folder_of(point) for point in points]
  if not points or len(set(folders)) < len(folders):
    raise errors.UsageError(
      "the sweep has no points, or some of them twice; sweep() of the config file "
      "returns a list of {'key': value}, all different"
    )
  configs = [changed(config, point) for point in points]
  finals, start, ran = {}, time.perf_counter(), 0
  for i, (folder, point_config) in enumerate(zip(folders, configs, strict=True)):
    path = str(pathlib.Path(workdir) / folder)
    fresh = record.finished(path, point_config) is None
    left = len(points) - i
    expected = ""
    if ran:
      each = (time.perf_counter() - start) / ran
      expected = f", {clock(each * left)} left"
    print(f"[{i + 1}/{len(points)}] {folder}{expected}", flush=True)
    finals[folder] = pretrain.run(point_config, path)
    ran += fresh
  if not config.get("dry_run"):
    compare.run([workdir], out=workdir)
  return finals


def changed(
  config: ml_collections.ConfigDict, point: Point
) -> ml_collections.ConfigDict:
  """The config with a point's changes.

  Raises:
    UsageError: a key that the config lacks, or a value of another type.
  """
  result = config.copy_and_resolve_references()
  known = record.flatten(result.to_dict())
  for key, value in point.items():
    if key not in known:
      raise errors.unknown("key of sweep()", key, known)
    try:
      result.update_from_flattened_dict({key: value})
    except TypeError as error:
      raise errors.UsageError(f"sweep() sets {key} to {value!r}: {error}") from error
  return result


def folder_of(point: Point) -> str:
  """Name of a point's folder, such as `objective.name=decoupled,seed=0`."""
  return ",".join(f"{key}={value}" for key, value in point.items()).replace("/", "_")


def part_of(points: Sequence[Point], part: str) -> list[Point]:
  """The points of one of several processes.

  Args:
    points: of all.
    part: "i/n", the i-th (from 1) of n processes: it takes every n-th point.

  Raises:
    UsageError: anything else.
  """
  number, _, count = part.partition("/")
  if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
    raise errors.UsageError(f"--part is '{part}'; write 1/2 for the first half of two")
  return list(points[int(number) - 1 :: int(count)])


def grid(file: str, seeds: int = 0, name: str = "sweep") -> list[Point]:
  """Points of a config file's `sweep()`.

  Args:
    file: path of the config file.
    seeds: more than 0: seeds 0 .. seeds - 1 of each point, whatever its own seed.
    name: of the function, for files with several grids.

  Raises:
    UsageError: the file has no such function.
  """
  spec = importlib.util.spec_from_file_location("swept", file)
  if spec is None or spec.loader is None:
    raise errors.UsageError(f"config file {file} cannot be read")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if name.startswith("_") or not callable(getattr(module, name, None)):
    raise errors.UsageError(
      f"{file} has no function {name}(), which returns the points as a list of "
      "{'key': value}; see configs/pretrain.py"
    )
  points = [dict(point) for point in getattr(module, name)()]
  if seeds > 0:
    bare = [{k: v for k, v in p.items() if k != "seed"} for p in points]
    unique = [p for i, p in enumerate(bare) if p not in bare[:i]]
    points = [p | {"seed": seed} for seed in range(seeds) for p in unique]
  return points


if __name__ == "__main__":
  count = flags.DEFINE_integer(
    "seeds", 0, "seeds of each point; default as sweep() says"
  )
  named = flags.DEFINE_string("grid", "sweep", "function that returns the points")
  part = flags.DEFINE_string("part", "1/1", "which of several processes this is: i/n")

  def _main(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
    file = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]
    points = grid(file, count.value, named.value)
    return run(config, workdir, part_of(points, part.value))

  cli.launch(_main, default_config="configs/pretrain.py")
