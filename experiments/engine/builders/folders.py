"""Where prepared data sets lie: <data folder>/<name>[/<config>]/<version>/."""

import json
import os
import pathlib
import re

from experiments.engine import errors

INFO = "dataset_info.json"
PROVENANCE = "provenance.json"


def data_folder(data_dir: str = "") -> pathlib.Path:
  """Returns the folder of prepared data sets.

  Args:
    data_dir: the folder; empty means the environment variable DATA_DIR, then
      TFDS_DATA_DIR, then ~/tensorflow_datasets, the default of TFDS.
  """
  chosen = (
    data_dir
    or os.environ.get("DATA_DIR")
    or os.environ.get("TFDS_DATA_DIR")
    or "~/tensorflow_datasets"
  )
  return pathlib.Path(chosen).expanduser().absolute()


def find_prepared(name: str, data_dir: str = "") -> pathlib.Path | None:
  """Finds the newest version of a prepared data set, whoever prepared it.

  Looking before asking TFDS matters: TFDS answers a missing data set with minutes of
  network retries.

  Args:
    name: "name" or "name/config", as in TFDS.
    data_dir: see `data_folder`.

  Returns:
    The folder with dataset_info.json, or None if there is none.

  Raises:
    UserError: it exists, but in another file format than array_record.
    UsageError: it exists in several configs and `name` says none.
  """
  base = data_folder(data_dir) / name
  found = _versions(base)
  if not found and "/" not in name:
    configs = {path.name: _versions(path) for path in _subfolders(base)}
    configs = {config: versions for config, versions in configs.items() if versions}
    if len(configs) > 1:
      known = ", ".join(f"{name}/{config}" for config in sorted(configs))
      raise errors.UsageError(f"data set '{name}' exists as {known}; name one of them")
    found = [version for versions in configs.values() for version in versions]
  if not found:
    return None
  readable = [path for path in found if _file_format(path) == "array_record"]
  if not readable:
    raise errors.UserError(
      f"{found[-1]} is in the format {_file_format(found[-1])}, which needs "
      "TensorFlow to read; prepare it with file_format='array_record'"
    )
  return readable[-1]


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
  return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """Version folders that are whole, oldest first."""
  found = [
    path
    for path in _subfolders(folder)
    if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and (path / INFO).is_file()
  ]
  return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")])


def _file_format(folder: pathlib.Path) -> str:
  info = json.loads((folder / INFO).read_text("utf-8"))
  return info.get("fileFormat", "tfrecord")


def read_provenance(folder: pathlib.Path) -> dict:
  """Returns what `prepare` wrote of the sources; {} if somebody else prepared it."""
  path = folder / PROVENANCE
  return json.loads(path.read_text("utf-8")) if path.is_file() else {}
