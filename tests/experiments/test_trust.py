"""A run that is stopped, disturbed or misused loses nothing and says what happened."""

import os
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import pretrain
from experiments.engine import errors, loop, record
from experiments.engine.pretraining import view_pairs
from tests.experiments.test_pretrain import losses, small_config

pytestmark = pytest.mark.usefixtures("pageless")


def config(**changes):
  everything = {
    "objective.name": "augmented",
    "method": "moco_v3",
    "evaluate.knn": False,
    "save_minutes": 0.0,
  }
  return small_config(**(everything | changes))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  pretrain.run(config(), str(workdir))
  return workdir


def lines(workdir):
  """Lines of metrics.jsonl without the time that they were written at."""
  found = record.read_metrics(f"{workdir}/metrics.jsonl")
  return [{k: v for k, v in line.items() if k != "wall"} for line in found]


def at_step(monkeypatch, number, act):
  """Calls `act` when the batch of a step is drawn."""
  original = loop.draw

  def draw(images, plan, step):
    # The batch of step 0 is drawn once more, to compile.
    if step == number:
      act()
    return original(images, plan, step)

  monkeypatch.setattr(loop, "draw", draw)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_command_goes_on(
  number, whole, tmp_path, monkeypatch
):
  before = signal.getsignal(number)
  with monkeypatch.context() as patch:
    at_step(patch, 3, lambda: os.kill(os.getpid(), number))
    with pytest.raises(errors.Stopped, match="after step 4 of 8, which is saved") as e:
      pretrain.run(config(), str(tmp_path))
  assert e.value.exit_code == 75
  assert signal.getsignal(number) is before
  assert (tmp_path / "checkpoints" / "4").is_dir()
  pretrain.run(config(), str(tmp_path))
  assert lines(tmp_path) == lines(whole)
  summaries = (record.read_json(d / "summary.json") for d in (tmp_path, whole))
  first, second = ({k: v for k, v in s.items() if "min" not in k} for s in summaries)
  assert first == second


def test_a_run_killed_before_its_first_checkpoint_begins_again(
  whole, tmp_path, monkeypatch
):
  class Killed(Exception):
    pass

  def kill():
    raise Killed

  with monkeypatch.context() as patch:
    at_step(patch, 3, kill)
    with pytest.raises(Killed):
      pretrain.run(config(), str(tmp_path))
  assert len(lines(tmp_path)) == 2 and not list((tmp_path / "checkpoints").iterdir())
  pretrain.run(config(), str(tmp_path))
  assert lines(tmp_path) == lines(whole)


def test_a_run_goes_on_with_another_number_of_devices(whole, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Stopped):
      pretrain.run(config(), str(tmp_path))
  two = jax.devices()[:2]
  monkeypatch.setattr(jax, "devices", lambda *args: two)
  pretrain.run(config(), str(tmp_path))
  found, expected = lines(tmp_path), lines(whole)
  assert found[:4] == expected[:4]
  # What was saved is the same state: the next step has the same numbers to rounding.
  for name, value in expected[4].items():
    assert found[4][name] == pytest.approx(value, rel=1e-6), name
  # Sums are taken in another order from there on, and training grows the rounding.
  np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=1e-4)


def test_checkpoints_by_the_clock(tmp_path, monkeypatch):
  class Enough(Exception):
    pass

  def stop():
    raise Enough

  at_step(monkeypatch, 3, stop)
  with pytest.raises(Enough):
    pretrain.run(config(save_minutes=1e-9), str(tmp_path))
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
  assert {2, 3} <= kept


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
  with record.Recorder(str(tmp_path), {"seed": 0}):
    with pytest.raises(errors.UserError, match="another process is writing to"):
      record.Recorder(str(tmp_path), {"seed": 0})
  record.Recorder(str(tmp_path), {"seed": 0}).close()


def test_another_config_is_refused_unless_forced(whole, tmp_path, monkeypatch):
  del whole
  with monkeypatch.context() as patch:
    at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Stopped):
      pretrain.run(config(), str(tmp_path))
  changed = {"optimizer.learning_rate": 1e-4}
  with pytest.raises(errors.UsageError, match=r"learning_rate: .* --resume=force"):
    pretrain.run(config(**changed), str(tmp_path))
  pretrain.run(config(**changed, resume="force"), str(tmp_path))
  assert len(losses(tmp_path)) == 8
  about = record.read_json(tmp_path / "run.json")
  assert about["config"]["optimizer"]["learning_rate"] == 1e-4


def test_a_dry_run_says_what_would_be_and_writes_nothing(tmp_path, capsys):
  workdir = tmp_path / "run"
  found = pretrain.run(config(dry_run=True), str(workdir))
  text = capsys.readouterr().out
  assert "16 examples in 1 part(s); an anchor has 1 positive and" in text
  assert "8 in 2 epochs" in found["steps"] and "8 x cpu" in found["devices"]
  assert "parameters" in found["training"] and "examples/s" in found["time"]
  assert not workdir.exists()


def poisoned(monkeypatch, step):
  """Makes the pixels of one step's views NaN; a label carries the news into the jit."""
  original, augmented = loop.draw, view_pairs._augmented

  def draw(images, plan, number):
    batch = original(images, plan, number)
    return batch._replace(labels=batch.labels * 0 - 7) if number == step else batch

  def spoilt(key, batch, recipes):
    views = augmented(key, batch, recipes)
    return jnp.where(jnp.any(batch.labels == -7), jnp.nan, views)

  monkeypatch.setattr(loop, "draw", draw)
  monkeypatch.setattr(view_pairs, "_augmented", spoilt)


def test_a_bad_step_is_named_with_its_examples(tmp_path, monkeypatch):
  poisoned(monkeypatch, 3)
  with pytest.raises(
    errors.UserError,
    match=r"the loss is nan and the gradient's norm is nan at step 4 .*examples \d+, ",
  ):
    pretrain.run(config(), str(tmp_path))


def test_bad_steps_can_be_skipped_up_to_a_number(tmp_path, monkeypatch):
  poisoned(monkeypatch, 3)
  pretrain.run(config(skip_bad_steps=1), str(tmp_path))
  found = lines(tmp_path)
  assert found[3]["loss"] is None
  rest = [line["loss"] for i, line in enumerate(found) if i != 3]
  assert len(rest) == 7 and np.all(np.isfinite(rest))


def test_an_unwritable_folder_is_found_at_the_start(tmp_path):
  file = tmp_path / "file"
  file.write_text("")
  with pytest.raises(errors.UserError, match="choose another --workdir"):
    pretrain.run(config(), str(file / "run"))
  assert pathlib.Path(file).read_text() == ""
