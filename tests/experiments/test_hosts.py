"""Several processes: the same curve as one, records by the first, clear refusals."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import pretrain as pretrain_config
from experiments import pretrain
from experiments.engine import errors, hosts, record

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHANGES = {
  "encoder.name": "mlp",
  "objective.name": "augmented",
  "data.train_limit": 96,
  "data.test_limit": 48,
  "data.image_size": 16,
  "epochs": 1,
  "log_every": 1,
  "evaluate.few_shot": False,
  "evaluate.knn": False,
  "evaluate.untrained": False,
}
COMMAND = [
  *(sys.executable, "-m", "experiments.pretrain"),
  "--config=configs/pretrain.py:smoke",
  *(f"--config.{name}={value}" for name, value in CHANGES.items()),
]


def _start(workdir, devices, *flags):
  """The command in a process of so many devices, compiled as conftest has it."""
  count = f"--xla_force_host_platform_device_count={devices}"
  compiled = f"{os.environ['XLA_FLAGS']} {count}"
  environment = dict(os.environ, XLA_FLAGS=compiled, JAX_PLATFORMS="cpu")
  return subprocess.Popen(
    [*COMMAND, f"--workdir={workdir}", *flags],
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def _free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


def _values(workdir, name):
  return [line[name] for line in record.read_metrics(f"{workdir}/metrics.jsonl")]


@pytest.mark.usefixtures("pageless")
def test_two_processes_of_two_devices_give_the_curve_of_one_of_four(
  tmp_path, monkeypatch
):
  one, two = tmp_path / "one", tmp_path / "two"
  four, config = jax.devices()[:4], pretrain_config.get_config("smoke")
  config.update_from_flattened_dict(CHANGES)
  with monkeypatch.context() as patch:
    patch.setattr(jax, "devices", lambda *args: four)
    pretrain.run(config, str(one))
  together = ("--distributed", f"--coordinator=127.0.0.1:{_free_port()}")
  pair = [
    _start(two, 2, *together, f"--process_id={i}", "--process_count=2")
    for i in range(2)
  ]
  results = [process.communicate(timeout=300) for process in pair]
  for process, (_, text) in zip(pair, results, strict=True):
    assert process.returncode == 0, text
  assert "4 x cpu of 2 processes; 8 examples on each" in results[0][0]
  # The second says nothing (the library that connects them does, in torn lines).
  assert all("step" not in text and "loss" not in text for text in results[1])
  assert len(_values(two, "loss")) == 3
  for name in ("loss", "lag", "grad_norm"):
    np.testing.assert_allclose(_values(two, name), _values(one, name), rtol=1e-4)
  assert record.read_json(two / "run.json")["processes"] == 2
  found, expected = (record.read_json(d / "summary.json") for d in (two, one))
  assert found["probe/top1"] == pytest.approx(expected["probe/top1"], abs=0.05)
  assert (two / "checkpoints" / "3").is_dir()


@pytest.mark.parametrize(
  "given, kind, words",
  [
    (("127.0.0.1:1", -1, 2), errors.UsageError, "go together"),
    (("127.0.0.1:1", 2, 2), errors.UsageError, "numbered 0 to 1"),
    (("localhost", 1, 2), errors.UsageError, "not HOST:PORT"),
    (("127.0.0.1:1", 1, 2), errors.UserError, "cannot be reached within 0 s"),
  ],
)
def test_processes_that_cannot_meet_are_refused(given, kind, words):
  with pytest.raises(kind, match=words):
    hosts.start(*given, timeout=0.1)


def _run(statement, **variables):
  return subprocess.run(
    [sys.executable, "-c", f"from experiments.engine import hosts; {statement}"],
    cwd=ROOT,
    env=os.environ | variables,
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_a_process_whose_peers_stay_away_ends_with_a_sentence():
  done = _run(f"hosts.start('127.0.0.1:{_free_port()}', 0, 2, timeout=1)")
  assert done.returncode == 1
  assert "not all 2 processes came within 1 s" in done.stderr


def test_a_process_without_a_device_is_told_so():
  # What a surplus process on a host of GPUs meets; here no process has a GPU.
  done = _run(f"hosts.start('127.0.0.1:{_free_port()}', 0, 1)", JAX_PLATFORMS="cuda")
  assert "process 0 finds no device of its own" in done.stderr


def test_one_process_is_the_first_and_need_not_wait():
  assert hosts.first()
  hosts.wait("nothing")
