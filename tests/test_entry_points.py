"""Each command runs at its smallest preset, as a user would call it."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.engine import record

ROOT = pathlib.Path(__file__).resolve().parents[1]
ENTRY_POINTS = sorted(path.stem for path in (ROOT / "experiments").glob("[a-z]*.py"))
STUDIES = ("quickstart", "bias_study", "batch_study")


def command(*args):
  # Compiled as for users, not as conftest has it for the tests.
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  return subprocess.run(
    [sys.executable, "-m", *args],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )


@pytest.mark.parametrize("name", STUDIES)
def test_a_command_runs_at_smoke_and_leaves_a_summary_and_a_report(name, tmp_path):
  done = command(
    f"experiments.{name}", f"--config=configs/{name}.py:smoke", f"--workdir={tmp_path}"
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / "summary.json").exists() and (tmp_path / "run.json").exists()
  assert (tmp_path / "report.html").exists()


def test_the_doctor_finds_nothing_wrong(tmp_path):
  done = command(
    "experiments.doctor", "--config=configs/doctor.py:smoke", f"--workdir={tmp_path}"
  )
  assert done.returncode == 0, done.stderr
  # 2 losses x (1 + 2 + 2 executions on 1, 2, 4 devices) x 2 block sizes
  assert "all 20 cases agree" in done.stdout and "WRONG" not in done.stdout
  assert record.read_json(tmp_path / "summary.json")["worst"] < 1e-5


def test_the_probe_command_reads_the_folder_of_a_run(tmp_path):
  smoke = ["--config=configs/pretrain.py:smoke", "--config.encoder.name=mlp"]
  trained = command("experiments.pretrain", *smoke, f"--workdir={tmp_path}")
  assert trained.returncode == 0, trained.stderr
  probed = command(
    "experiments.probe", "--config=configs/probe.py:smoke", f"--run={tmp_path}"
  )
  assert probed.returncode == 0, probed.stderr
  assert "probe/top1" in probed.stdout and (tmp_path / "probe/summary.json").exists()


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_lists_the_flags(name):
  text = command(f"experiments.{name}", "--help").stdout
  assert "--[no]debug" in text and "Traceback" not in text
