import pathlib
import subprocess
import sys

import pytest

from experiments.engine import cli, errors

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(*args):
  """Runs an entry point; returns exit code, standard output, standard error."""
  done = subprocess.run(
    [sys.executable, "-m", *args], cwd=ROOT, capture_output=True, text=True
  )
  return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
  "args, words",
  [
    (["--config.objective.nmae=x"], ["'nmae'", "did you mean 'name'"]),
    (["--config=configs/pretrain.py:smok"], ["unknown preset 'smok'", "smoke"]),
    (["--config=configs/pretrian.py"], ["configs/pretrian.py not found"]),
    (["--config.batch=x"], ["batch"]),
    (["--confg.batch=3"], ["confg"]),
  ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(args, words):
  code, _, err = command("experiments.pretrain", *args)
  assert code == 2, err
  assert "Traceback" not in err
  assert len(err.strip().splitlines()) == 1
  for word in words:
    assert word in err


def test_workdir_is_named_for_command_and_preset():
  name = cli.default_workdir
  assert name(["x/pretrain.py", "--config=configs/pretrain.py:smoke"]) == (
    "runs/pretrain/smoke"
  )
  assert name(["x/pretrain.py", "--config", "a/other.py:b"]) == "runs/pretrain/other-b"
  assert name(["x/pretrain.py"]) == "runs/pretrain/default"


def test_sentences_of_errors():
  assert cli.sentence(errors.UserError("no  data\n here")) == "no data here"
  assert cli.sentence(ValueError("batch 3")) == "batch 3"
  assert "KeyError" in cli.sentence(KeyError("x")) and "--debug" in cli.sentence(
    KeyError("x")
  )


def test_an_unknown_name_comes_with_the_nearest_known_one():
  error = errors.unknown("objective", "infonce", ["info_nce", "decoupled"])
  assert "did you mean 'info_nce'" in str(error) and "decoupled" in str(error)
  assert error.exit_code == 2
