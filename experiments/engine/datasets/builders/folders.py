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
  network retries. Versions in other formats than array_record are passed over.

  Args:
    name: "name" or "name/config", as in TFDS.
    data_dir: see `data_folder`.

  Returns:
    The folder with dataset_info.json, or None if there is none.

  Raises:
    UserError: a dataset_info.json is damaged.
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
  return found[-1] if found else None


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
  return [p for p in folder.iterdir() if p.is_dir()] if folder.is_dir() else []


def _versions(folder: pathlib.Path) -> list[pathlib.Path]:
  """Version folders that are whole and readable without TensorFlow, oldest first."""
  found = [
    path
    for path in _subfolders(folder)
    if re.fullmatch(r"\d+\.\d+\.\d+", path.name) and _is_array_record(path / INFO)
  ]
  return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")])


def _is_array_record(info: pathlib.Path) -> bool:
  if not info.is_file():
    return False
  try:
    return json.loads(info.read_text("utf-8")).get("fileFormat") == "array_record"
  except ValueError as error:
    raise errors.UserError(
      f"{info} is damaged ({error}); remove its folder and prepare the data set again"
    ) from error


def picture_names(count: int) -> tuple[str, ...]:
  """Returns what the pictures of an example are called: image, or image_0, image_1."""
  return ("image",) if count == 1 else tuple(f"image_{i}" for i in range(count))


def read_provenance(folder: pathlib.Path) -> dict:
  """Returns what `prepare` wrote of the sources; {} if somebody else prepared it."""
  path = folder / PROVENANCE
  return json.loads(path.read_text("utf-8")) if path.is_file() else {}
