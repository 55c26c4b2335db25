"""Compares runs over seeds, finished ones and ones in progress.

  python -m experiments.compare runs/a runs/b
  python -m experiments.compare runs --group_by=objective.name --metric=probe/top1,loss
  python -m experiments.compare runs --threshold=loss=1.0 --baseline=name=decoupled

A RUN is the folder of a run, or a folder with runs in it at any depth. Runs whose
configs are equal apart from the seed are one group. Prints a table, and writes
compare.csv and compare.html to --out (default runs/compare).
"""

import fnmatch
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments.engine import cli, errors
from experiments.engine.comparison import groups, page, runs, statistics, tables

# What is compared unless --metric says otherwise: those of these that there are.
_METRICS = ("probe/top1", "knn/top1", "train/loss", "loss")
_MOST_OTHERS = 4


def run(
  folders: Sequence[str], *, out: str = "runs/compare", **options: Any
) -> statistics.Comparison:
  """Compares runs, writes compare.csv and compare.html and prints the tables.

  Args:
    folders: run folders, or folders with runs in them.
    out: folder of the two files, made if missing.
    **options: see `collect`.

  Returns:
    What was computed.

  Raises:
    UsageError: an unknown metric, key or group.
    UserError: no run, unreadable records, or a folder that cannot be written.
  """
  comparison = collect(folders, **options)
  tables.write_csv(comparison, pathlib.Path(out) / "compare.csv")
  page.write_page(comparison, pathlib.Path(out) / "compare.html")
  print(tables.text_tables(comparison))
  print(f"\n-> {pathlib.Path(out) / 'compare.html'}, compare.csv beside it")
  return comparison


def collect(
  folders: Sequence[str],
  *,
  group_by: Sequence[str] = (),
  metrics: Sequence[str] = (),
  threshold: str = "",
  baseline: str = "",
  at_step: str = "",
) -> statistics.Comparison:
  """Reads runs and computes what is compared; writes nothing.

  Args:
    folders: run folders, or folders with runs in them.
    group_by: config keys that make a group; none: all but the seed.
    metrics: names or patterns (`probe/*`); none: accuracies and loss.
    threshold: `loss=1.0,...`, see `statistics.parse_thresholds`.
    baseline: name of a group, or a part of one; empty: the first group.
    at_step: compare the values of metrics.jsonl at this step instead of the final ones;
      `common`: the last one that all runs have reached.

  Raises:
    UsageError: an unknown metric, key or group.
    UserError: no run, or unreadable records.
  """
  found = [runs.read_run(folder) for folder in runs.find_runs(folders)]
  step: int | None = None
  late: list[runs.Run] = []
  if at_step:
    found, late, step = runs.cut_runs(found, _step(at_step))
  chosen = _metrics(metrics, found)
  curve_names = {name for one in found for name in one.curves}
  thresholds = statistics.parse_thresholds(threshold, curve_names)
  grouped = groups.group_runs(found, group_by)
  base = groups.find_group(grouped.groups, baseline) if baseline else grouped.groups[0]
  comparison = statistics.compare_groups(grouped, base, chosen, thresholds)
  return comparison._replace(step=step, late=late)


def _step(text: str) -> int | None:
  """A step, or None for `common`."""
  if text != "common" and not text.isdecimal():
    raise errors.UsageError(f"--at_step is a step or 'common', not '{text}'")
  return None if text == "common" else int(text)


def _metrics(asked: Sequence[str], found: Sequence[runs.Run]) -> list[str]:
  """The metrics to compare; patterns are expanded."""
  known = runs.metric_names(found)
  if not known:
    raise errors.UserError(
      "the runs have no metrics yet: neither summary.json nor metrics.jsonl has a "
      "number; compare them when they have made a step"
    )
  if not asked:
    usual = [name for name in _METRICS if name in known]
    if "train/loss" in usual and "loss" in usual:
      usual.remove("train/loss")  # the same number, and runs in progress have it too
    return usual or [name for name in known if name != "wall"][:_MOST_OTHERS] or known
  chosen: dict[str, None] = {}
  for name in asked:
    matches = [name] if name in known else fnmatch.filter(known, name)
    if not matches:
      # A run that was cut at a step has no summary.json any more.
      place = "" if any(one.final for one in found) else " in metrics.jsonl"
      raise errors.unknown(f"metric{place}", name, known)
    chosen.update(dict.fromkeys(matches))
  return list(chosen)


def main(argv: Sequence[str]) -> None:
  """Reads the command line; see the module's docstring."""
  values = flags.FLAGS.flag_values_dict()
  run(
    argv[1:],
    out=values["out"],
    group_by=values["group_by"],
    metrics=values["metric"],
    threshold=values["threshold"],
    baseline=values["baseline"],
    at_step=values["at_step"],
  )


if __name__ == "__main__":
  flags.DEFINE_string("out", "runs/compare", "folder for compare.csv and compare.html")
  flags.DEFINE_list(
    "group_by", "", "config keys that make a group; default: all but the seed"
  )
  flags.DEFINE_list(
    "metric", "", "metrics, or patterns such as probe/*; default: accuracies and loss"
  )
  flags.DEFINE_string(
    "threshold",
    "",
    "METRIC=VALUE,...: first step that reaches it, from above for losses and errors, "
    "else from below; METRIC=VALUE:falling or :rising says which",
  )
  flags.DEFINE_string(
    "baseline", "", "group that the others are compared with; default: the first"
  )
  flags.DEFINE_string(
    "at_step", "", "compare at this step, or at the last 'common' one, not at the ends"
  )
  flags.FLAGS.set_gnu_getopt(True)  # runs and flags in any order
  cli.guard(main)
