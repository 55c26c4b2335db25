"""Flags, start-up and exit codes shared by all entry points.

Exit codes: 0 done; 1 failed, with a sentence; 2 bad usage; 75 stopped by a signal, and
the same command goes on. A traceback is printed with --debug only.
"""

import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from experiments.engine import errors, hosts

# Flags defined here belong to the entry point, so that --help lists them.
flags.disclaim_key_flags()

ROOT = pathlib.Path(__file__).resolve().parents[2]

Run = Callable[[ml_collections.ConfigDict, str], dict[str, Any]]


_DATA_DIR = "folder of prepared data sets; default $DATA_DIR, then TFDS's own"


def launch(
  run: Run,
  *,
  default_config: str,
  settings: Mapping[str, str] | None = None,
  switches: Mapping[str, str] | None = None,
  workdir_of: Callable[[ml_collections.ConfigDict], str] | None = None,
) -> None:
  """Parses the flags, calls `run(config, workdir)` and exits.

  Args:
    run: the entry point's function; what it returns is not printed.
    default_config: config file below the checkout, such as "configs/pretrain.py".
    settings: further flags, name -> help; each sets the config's key of its name.
    switches: the same for flags without a value.
    workdir_of: config -> default of --workdir; runs/<command>/<preset> if None.
  """
  # The default is added to the command line rather than to the flag: overrides are
  # applied to a flag's default first, and would fail there on keys of another file.
  if not any(arg == "--config" or arg.startswith("--config=") for arg in sys.argv):
    sys.argv.insert(1, f"--config={default_config}")
  config = config_flags.DEFINE_config_file(
    "config",
    None,
    f"config file, with a preset behind a colon; default {default_config}",
    lock_config=True,
  )
  workdir = flags.DEFINE_string(
    "workdir", "", "folder of the run; default runs/<command>/<preset>"
  )
  settings = {"data_dir": _DATA_DIR, **(settings or {})}
  values = {
    name: flags.DEFINE_string(name, "", text) for name, text in settings.items()
  } | {
    name: flags.DEFINE_bool(name, False, text)
    for name, text in (switches or {}).items()
  }

  processes = _process_flags()

  def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      raise errors.UsageError(
        f"unexpected argument '{argv[1]}'; options are written --name=value"
      )
    if processes.pop("distributed").value:
      hosts.start(**{name: flag.value for name, flag in processes.items()})
    use_compilation_cache()
    loaded = _loaded(config)
    for name, flag in values.items():
      if flag.value and name in loaded:
        loaded[name] = flag.value
    default = workdir_of(loaded) if workdir_of else default_workdir(sys.argv)
    run(loaded, workdir.value or default)

  guard(main)


def _process_flags() -> dict[str, Any]:
  """Flags of a run over several processes; see `hosts.start`."""
  return {
    "distributed": flags.DEFINE_bool(
      "distributed", False, "one of several processes that train together"
    ),
    "coordinator": flags.DEFINE_string(
      "coordinator", "", "HOST:PORT of process 0; default as the cluster says"
    ),
    "process_id": flags.DEFINE_integer(
      "process_id", -1, "number of this process, from 0; default as the cluster says"
    ),
    "process_count": flags.DEFINE_integer(
      "process_count", 0, "number of processes; default as the cluster says"
    ),
  }


def _loaded(config) -> ml_collections.ConfigDict:
  try:
    config.value.keys()  # a file that could not be read fails at the first access
    return config.value
  except OSError as error:
    name = re.search(r"'([^']+)'$", str(error).strip())
    raise errors.UsageError(
      f"config file {name[1] if name else ''} not found; the files are in configs/"
    ) from error


def guard(main: Callable[[Sequence[str]], None]) -> None:
  """Runs an absl main whose errors become one sentence and an exit code."""
  flags.DEFINE_bool("debug", False, "show the traceback of an error")
  signal.signal(signal.SIGTERM, _terminated)

  def guarded(argv):
    if not any(arg.startswith("--verbosity") for arg in sys.argv):
      # Libraries log what they do at info level; the progress line would drown in it.
      logging.set_verbosity(logging.WARNING)
    try:
      main(argv)
    except KeyboardInterrupt:
      _leave("interrupted; run the same command again to go on", 75)
    except Exception as error:
      if "--debug" in sys.argv or flags.FLAGS.debug:
        traceback.print_exc()
      _leave(sentence(error), getattr(error, "exit_code", 1))

  app.run(guarded, flags_parser=_parse)


def _terminated(number, frame):
  """Where nothing is being trained there is nothing to save."""
  raise errors.Stopped("terminated; run the same command again to go on")


def sentence(error: BaseException) -> str:
  """What to tell the user of an error: its own words, or its type and a hint."""
  text = " ".join(str(error).split())
  if isinstance(error, errors.UserError | ValueError | NotImplementedError) and text:
    return text
  return f"{type(error).__name__}: {text or 'no message'} (--debug shows where)"


def default_workdir(argv: Sequence[str]) -> str:
  """`runs/<command>/<config file and preset>` for a command line."""
  name = pathlib.Path(argv[0]).stem
  preset = "default"
  for i, arg in enumerate(argv):
    value = arg.removeprefix("--config=") if arg.startswith("--config=") else ""
    if arg == "--config" and i + 1 < len(argv):
      value = argv[i + 1]
    if value:
      file, _, preset_name = value.partition(":")
      stem = pathlib.Path(file).stem
      preset = "-".join(filter(None, [stem if stem != name else "", preset_name]))
  return str(pathlib.Path("runs") / name / (preset or "default"))


def use_compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder, unless told where.

  Not with several CPU devices: a program that XLA reads back there loses the order of
  its collectives, so that devices wait for each other for ever (jaxlib 0.10.2).
  """
  if _cpu_devices_talk():
    jax.config.update("jax_enable_compilation_cache", False)
  elif getattr(jax.config, "jax_compilation_cache_dir", None) is None:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(home) / "contrastive-jax")
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _cpu_devices_talk() -> bool:
  """Found out without asking for devices, so that their number can still be set."""
  if jax.distributed.is_initialized():
    return jax.default_backend() == "cpu"
  flag = "xla_force_host_platform_device_count=([0-9]+)"
  asked = re.search(flag, os.environ.get("XLA_FLAGS", ""))
  count = int(asked[1]) if asked else getattr(jax.config, "jax_num_cpu_devices", 1)
  return count > 1


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    return flags.FLAGS(list(argv))
  except Exception as error:
    if "--debug" in argv:
      traceback.print_exc()
    _leave(_usage_sentence(error), 2)
    raise


def _usage_sentence(error: Exception) -> str:
  text = " ".join(str(error).split())
  guess = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', text)
  if guess:
    return f"unknown config key '{guess[2]}' (did you mean '{guess[1]}'?)"
  if isinstance(error, AttributeError):
    name = text.strip("\"'")
    return f"unknown config key '{name}'; the config file lists the keys there are"
  # A config file's own error arrives as the text of its traceback.
  raised = re.search(r"Traceback .*\b\w+(?:Error|Exception): (.+)$", text)
  return raised[1] if raised else text


def _leave(text: str, code: int) -> None:
  print(f"error: {text}", file=sys.stderr, flush=True)
  sys.exit(code)
