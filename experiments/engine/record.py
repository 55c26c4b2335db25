"""What a run leaves behind: run.json, metrics.jsonl, summary.json, TensorBoard.

A run directory answers by itself what was run (config, command, versions, devices,
seed), how it went (one object a line: step, wall, name -> number) and how it ended.
"""

import contextlib
import fcntl
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import time
from typing import Any, TextIO

import jax
import ml_collections

from experiments.engine import errors, files, hosts

_PACKAGES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "orbax-checkpoint",
  "tensorflow-datasets",
  "ml-collections",
  "numpy",
)


class Recorder:
  """Writes the records of one run; use as a context manager.

  Of several processes only the first writes; the others check the folder and are mute.

  Args:
    workdir: folder of the run, made if missing.
    config: the run's config; a folder that holds a run of another config is refused.
    command: how to run it again; default this process's command line.

  Raises:
    UsageError: the folder holds a run with another config, and this one's key `resume`
      is not "force".
    UserError: the folder cannot be written, or another process is writing to it.
  """

  def __init__(
    self, workdir: str, config: ml_collections.ConfigDict, command: str | None = None
  ):
    self.workdir = pathlib.Path(workdir)
    self._config = config_dict(config)
    with contextlib.ExitStack() as opened:  # closes again what an error leaves open
      try:
        self._open(opened, command)
      except OSError as error:
        raise errors.UserError(
          f"cannot write to {self.workdir} ({error.strerror}); choose another --workdir"
        ) from error
      self._files = opened.pop_all()
    self._start = time.time()
    self._board = _tensorboard(self.workdir) if hosts.first() else None

  def _open(self, opened: contextlib.ExitStack, command: str | None) -> None:
    self.workdir.mkdir(parents=True, exist_ok=True)
    if hosts.first():
      opened.enter_context(_locked(self.workdir))
    if self._config.get("resume") != "force":
      _refuse_other_config(self.workdir, self._config)
    if hosts.first():
      write_json(self.workdir / "run.json", describe(self._config, command))
      drop_torn_line(self.workdir / "metrics.jsonl")
    lines = self.workdir / "metrics.jsonl" if hosts.first() else os.devnull
    self._metrics = open(lines, "a", encoding="utf-8")
    opened.callback(lambda: self._metrics.close())

  def write(self, step: int, **metrics: Any) -> None:
    """Appends one line of metrics and flushes it; non-finite numbers become null."""
    line = {"step": int(step), "wall": round(time.time() - self._start, 3)}
    line.update({name: _plain(value) for name, value in metrics.items()})
    self._metrics.write(json.dumps(line) + "\n")
    self._metrics.flush()
    if self._board is not None:
      for name, value in line.items():
        if name not in ("step", "wall") and isinstance(value, int | float):
          self._board.add_scalar(name, value, step)

  def drop_after(self, step: int) -> None:
    """Forgets lines of steps beyond `step`, which a resumed run will write again."""
    if not hosts.first():
      return
    path = self.workdir / "metrics.jsonl"
    self._metrics.close()
    kept = [line for line in read_metrics(path) if line["step"] <= step]
    _replace(path, "".join(json.dumps(line) + "\n" for line in kept))
    self._metrics = open(path, "a", encoding="utf-8")

  def summary(self, final: dict[str, Any]) -> None:
    """Writes summary.json; its presence says that the run is complete."""
    if hosts.first():
      write_json(self.workdir / "summary.json", final)

  def close(self) -> None:
    """Closes the files."""
    self._files.close()
    if self._board is not None:
      self._board.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()


def conclude(workdir: str, config: ml_collections.ConfigDict, final: dict) -> None:
  """Records an evaluation, run.json and summary.json, and prints its numbers."""
  with Recorder(workdir, config) as recorder:
    recorder.summary(final)
  for name, value in final.items():
    shown = f"{value:.4f}" if isinstance(value, float) else value
    print(f"{name:32} {shown}")
  print(f"-> {workdir}/summary.json")


def finished(workdir: str, config: ml_collections.ConfigDict) -> dict | None:
  """Summary of a complete run of this very config in the folder, or None."""
  folder = pathlib.Path(workdir)
  if not (folder / "summary.json").exists() or not (folder / "run.json").exists():
    return None
  if read_json(folder / "run.json").get("config") != _comparable(config_dict(config)):
    return None
  return read_json(folder / "summary.json")


def describe(config: dict, command: str | None = None) -> dict:
  """Contents of run.json: everything that is needed to run it again."""
  return {
    "command": command or command_line(),
    "config": _comparable(config),
    "seed": config.get("seed"),
    "versions": versions(),
    "code": code_state(),
    "devices": [d.device_kind for d in jax.devices()],
    "backend": jax.default_backend(),
    "processes": jax.process_count(),
    "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
  }


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that can change a number."""
  found = {"python": platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = "not installed"
  return found


def code_state() -> dict[str, Any]:
  """Commit of the checkout, and whether tracked files were changed since.

  Both are None where the code does not lie in a git checkout of its own.
  """
  root = pathlib.Path(__file__).resolve().parents[2]
  unknown = {"commit": None, "changed": None}
  if not (root / ".git").exists():
    return unknown
  ask = lambda *words: subprocess.run(
    ["git", *words], cwd=root, capture_output=True, text=True, check=True
  ).stdout.strip()
  try:
    changed = ask("status", "--porcelain", "--untracked-files=no") != ""
    return {"commit": ask("rev-parse", "HEAD"), "changed": changed}
  except (OSError, subprocess.CalledProcessError):  # no git, or no commit yet
    return unknown


def command_line() -> str:
  """This process's command as one would type it from the checkout."""
  path = pathlib.Path(sys.argv[0])
  if path.parent.name == "experiments":
    words = ["python", "-m", f"experiments.{path.stem}", *sys.argv[1:]]
  else:
    words = ["python", path.name, *sys.argv[1:]]
  return shlex.join(words)


def config_dict(config: ml_collections.ConfigDict | dict) -> dict:
  """Plain nested dict of a config, with references resolved."""
  if isinstance(config, ml_collections.ConfigDict):
    return json.loads(config.to_json_best_effort())
  return config


def read_metrics(path: str | pathlib.Path) -> list[dict]:
  """Lines of a metrics.jsonl; a torn last line is left out."""
  lines = []
  for text in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break
  return lines


def drop_torn_line(path: pathlib.Path) -> None:
  """Cuts off what a killed process left behind the last whole line of a file."""
  if path.exists():
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
      path.write_bytes(whole)


def read_json(path: str | pathlib.Path) -> Any:
  """Parses a JSON file.

  Raises:
    UserError: the file is missing or broken.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise errors.UserError(
      f"{path} not found; is this the folder of a run (--workdir of the run)?"
    ) from error
  except json.JSONDecodeError as error:
    raise errors.UserError(f"{path} is not valid JSON ({error}); run again") from error


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON atomically; non-finite numbers become null."""
  _replace(path, json.dumps(_plain(content), indent=1) + "\n")


def _replace(path: pathlib.Path, text: str) -> None:
  files.replace(path, text.encode())


def _refuse_other_config(folder: pathlib.Path, config: dict) -> None:
  if not (folder / "run.json").exists():
    return
  old = flatten(read_json(folder / "run.json").get("config", {}))
  new = flatten(_comparable(config))
  keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
  if keys:
    shown = ", ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in keys[:4])
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    raise errors.UsageError(
      f"{folder} holds a run with another config ({shown}{more}); choose another "
      "--workdir, delete that folder, or go on with the new config: --resume=force"
    )


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
  """Nested dict -> {"a.b": value}."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, dict):
      flat.update(flatten(value, f"{prefix}{name}."))
    else:
      flat[prefix + name] = value
  return flat


# Keys of a config that do not change a run's numbers.
_INDIFFERENT = {"data_dir", "resume", "dry_run", "save_every", "save_minutes", "keep"}


def _comparable(config: dict) -> dict:
  """The config without what does not change a run's numbers."""
  plain = json.loads(json.dumps(config))
  return {k: v for k, v in plain.items() if k not in _INDIFFERENT}


def _locked(folder: pathlib.Path) -> TextIO:
  """Holds the folder until the file is closed or the process ends, however it ends."""
  file = open(folder / "lock", "a", encoding="utf-8")
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    file.close()
    raise errors.UserError(
      f"another process is writing to {folder}; wait for it or choose another --workdir"
    ) from error
  return file


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, str | bool | int) or value is None:
    return value
  if hasattr(value, "tolist"):
    return _plain(value.tolist())
  return float(value) if math.isfinite(value) else None


def _tensorboard(workdir: pathlib.Path):
  """A TensorBoard writer if tensorboardX is installed, else None."""
  try:
    import tensorboardX
  except ImportError:
    return None
  return tensorboardX.SummaryWriter(str(workdir / "tensorboard"))
