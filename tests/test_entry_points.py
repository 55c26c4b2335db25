"""Each command runs at its smallest preset, as a user would call it."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.engine import record

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENTRY_POINTS = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))
# Parses a command's --help in a fork, so that third-party imports are paid for once; a
# child imports the project's own modules and runs the command's, as `python -m` does.
_HELP = """
import contextlib, os, pathlib, runpy, sys, warnings
import absl.app, flax, jax, ml_collections, optax, orbax.checkpoint
warnings.simplefilter("ignore")  # of a fork beside JAX's threads
folder, *names = sys.argv[1:]
for name in names:
  child = os.fork()
  if not child:
    with open(pathlib.Path(folder, name), "w") as out, contextlib.redirect_stdout(out):
      with contextlib.redirect_stderr(out):
        sys.argv = [name, "--help"]
        try:
          runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        except SystemExit:
          pass
    os._exit(0)
  os.waitpid(child, 0)
"""


def command(*args, quick=False):
  """Compiled as for users, or, where it is quick, as conftest has it for the tests."""
  kept = lambda name: quick or name != "XLA_FLAGS"
  return subprocess.run(
    [sys.executable, "-m", *args],
    cwd=ROOT,
    env={k: v for k, v in os.environ.items() if kept(k)},
    capture_output=True,
    text=True,
  )


def _smoke(name, workdir, *changes, **how):
  flags = (f"--config=configs/{name}.py:smoke", f"--workdir={workdir}", *changes)
  done = command(f"experiments.{name}", *flags, **how)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
  """Folder of the two parts of the quickstart, the second a pretraining run."""
  folder = tmp_path_factory.mktemp("quickstart")
  _smoke("quickstart", folder)
  return folder


def _complete(folder):
  return all(
    (folder / name).exists() for name in ("summary.json", "run.json", "report.html")
  )


def test_the_quickstart_leaves_a_summary_and_a_report(quickstart):
  assert _complete(quickstart)


@pytest.mark.parametrize(
  "name, changes",
  [("bias_study", ()), ("batch_study", ("--config.study.batches=(16,)",))],
)
def test_a_command_runs_at_smoke_and_leaves_a_summary_and_a_report(
  name, changes, tmp_path
):
  _smoke(name, tmp_path, *changes, quick=True)
  assert _complete(tmp_path)


def test_the_doctor_finds_nothing_wrong(tmp_path):
  told = _smoke("doctor", tmp_path)
  # 2 losses x (1 + 2 + 2 executions on 1, 2, 4 devices) x 2 block sizes
  assert "all 20 cases agree" in told and "WRONG" not in told
  assert record.read_json(tmp_path / "summary.json")["worst"] < 1e-5


def test_the_probe_command_reads_the_folder_of_a_run(quickstart):
  folder = quickstart / "pretrain"
  probed = command(
    "experiments.probe",
    "--config=configs/probe.py:smoke",
    f"--run={folder}",
    quick=True,
  )
  assert probed.returncode == 0, probed.stderr
  assert "probe/top1" in probed.stdout and (folder / "probe/summary.json").exists()


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
  """Folder with what each command says to --help."""
  folder = tmp_path_factory.mktemp("helps")
  done = subprocess.run(
    [sys.executable, "-c", _HELP, folder, *ENTRY_POINTS],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return folder


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_lists_the_flags(name, helps):
  text = (helps / name).read_text()
  assert "--[no]debug" in text and "Traceback" not in text
