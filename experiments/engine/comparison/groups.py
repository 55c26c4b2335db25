"""Groups of runs that differ in their seed only, or that share the keys asked for."""

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.engine import errors
from experiments.engine.comparison import runs as records

# Keys that do not make another experiment: its seed, and where it reads and writes.
_IGNORED = ("seed", "workdir", "data_dir")
_START = "init_from"
# More keys than these do not fit into a name.
_NAMED_KEYS = 3
_MISSING = "–"


class Group(NamedTuple):
  """Runs that are replicates of each other."""

  name: str
  runs: list[records.Run]


class Grouping(NamedTuple):
  """The groups of a comparison.

  `differing` are the config keys in which groups differ, `mixed` those in which runs of
  one group do, `repeated` pairs (left out, kept) of runs with the same config and seed.
  """

  groups: list[Group]
  differing: list[str]
  mixed: list[str]
  repeated: list[tuple[records.Run, records.Run]]


def group_runs(runs: Sequence[records.Run], keys: Sequence[str] = ()) -> Grouping:
  """Sorts runs into groups, in the order in which they first appear.

  Args:
    runs: the runs.
    keys: config keys that make a group, with or without `config.` before them; without
      any, runs whose configs are equal apart from the seed.

  Returns:
    The groups. They are named by the keys asked for, else by those in which they
    differ; if these are many, by as few of them as tell the groups apart.

  Raises:
    UsageError: no run's config has such a key.
  """
  runs, repeated = _without_repeats(runs)
  known = list(dict.fromkeys(key for run in runs for key in run.config))
  varying = [k for k in known if k not in _IGNORED and len(_texts(runs, k)) > 1]
  keys = [key.removeprefix("config.") for key in keys]
  for key in keys:
    if key not in known:
      raise errors.unknown("config key", key, known)
  members: dict[tuple[str, ...], list[records.Run]] = {}
  for run in runs:
    label = tuple(_text(run, key) for key in keys or varying)
    members.setdefault(label, []).append(run)
  sorted_runs = list(members.values())
  differing = [k for k in varying if len({_values(g, k) for g in sorted_runs}) > 1]
  mixed = [k for k in varying if any(len(_texts(g, k)) > 1 for g in sorted_runs)]
  naming = keys or _naming_keys(sorted_runs, varying)
  groups = [Group(_name(group[0], naming), group) for group in sorted_runs]
  return Grouping(groups, differing, mixed, repeated)


def find_group(groups: Sequence[Group], name: str) -> Group:
  """The group of a name, or the only one whose name contains it.

  Raises:
    UsageError: no group, or several.
  """
  exact = [group for group in groups if group.name == name]
  found = exact or [group for group in groups if name in group.name]
  if not found:
    raise errors.unknown("group", name, [group.name for group in groups])
  if len(found) > 1:
    names = records.few([group.name for group in found])
    raise errors.UsageError(
      f"'{name}' stands for {len(found)} groups ({names}); give the whole name"
    )
  return found[0]


def group_values(group: Group, key: str) -> str:
  """The values of a config key in a group, as text."""
  return ", ".join(_values(group.runs, key))


def config_of(run: records.Run, keys: Sequence[str]) -> tuple[str, ...]:
  """The values of some keys, comparable between runs."""
  return tuple(_text(run, key) for key in keys)


def _without_repeats(
  runs: Sequence[records.Run],
) -> tuple[list[records.Run], list[tuple[records.Run, records.Run]]]:
  """Drops all but one of the runs of one config and seed: they are one observation."""
  kept: dict[Any, records.Run] = {}
  repeated = []
  for run in runs:
    rest = {k: v for k, v in run.config.items() if k not in _IGNORED}
    label = (run.replicate, _canonical(rest))
    other = kept.get(label)
    if other is None:
      kept[label] = run
    elif _progress(run) > _progress(other):
      kept[label] = run
      repeated.append((other, run))
    else:
      repeated.append((run, other))
  return list(kept.values()), repeated


def _progress(run: records.Run) -> tuple[bool, int]:
  return run.finished, run.last_step or 0


def _naming_keys(members: list[list[records.Run]], keys: list[str]) -> list[str]:
  """Keys that tell the groups apart: all of them if few, else greedily chosen ones."""
  if len(keys) <= _NAMED_KEYS:
    return keys
  chosen: list[str] = []
  told = 1
  while told < len(members):
    count = lambda key: len({config_of(g[0], [*chosen, key]) for g in members})
    best = max(keys, key=count)  # of equals the first in the config
    chosen.append(best)
    told = len({config_of(g[0], chosen) for g in members})
  return [key for key in keys if key in chosen]


def _name(run: records.Run, keys: Sequence[str]) -> str:
  return " ".join(f"{key}={_text(run, key)}" for key in keys) or "all runs"


def _texts(runs: Sequence[records.Run], key: str) -> set[str]:
  return {_text(run, key) for run in runs}


def _values(runs: Sequence[records.Run], key: str) -> tuple[str, ...]:
  return tuple(dict.fromkeys(_text(run, key) for run in runs))


def _text(run: records.Run, key: str) -> str:
  if key not in run.config:
    return _MISSING
  value = run.config[key]
  if key == _START and isinstance(value, str):
    # Of a sweep each seed has a run of its own to start from.
    value = re.sub(r"\bseed=\d+", "seed", value)
  return value if isinstance(value, str) and value else _canonical(value)


def _canonical(value: Any) -> str:
  """JSON in which 1.0 is 1."""
  return json.dumps(_whole(value), sort_keys=True)


def _whole(value: Any) -> Any:
  if isinstance(value, dict):
    return {k: _whole(v) for k, v in value.items()}
  if isinstance(value, list):
    return [_whole(v) for v in value]
  return int(value) if isinstance(value, float) and value.is_integer() else value
