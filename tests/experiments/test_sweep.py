"""A sweep runs the points of a config file, goes on where it was, and compares."""

import re

import pytest

from configs import pretrain as pretrain_config
from experiments import sweep
from experiments.engine import errors, record
from tests.experiments.test_pretrain import small_config


def test_the_grid_is_that_of_the_config_file():
  points = sweep.grid(pretrain_config.__file__)
  assert points == pretrain_config.sweep()
  assert {"objective.name": "decoupled", "seed": 4} in points
  more = sweep.grid(pretrain_config.__file__, seeds=2)
  assert len(more) == 6 and {p["seed"] for p in more} == {0, 1}


def test_a_file_may_have_several_grids(tmp_path):
  file = tmp_path / "several.py"
  file.write_text("rates = [1]\ndef tuning():\n  return [{'a': 1}, {'a': 2}]\n")
  assert sweep.grid(str(file), name="tuning") == [{"a": 1}, {"a": 2}]
  for name in ("sweep", "rates"):
    with pytest.raises(errors.UsageError, match=rf"no function {name}\(\)"):
      sweep.grid(str(file), name=name)


def test_processes_share_a_sweep():
  points = [{"seed": seed} for seed in range(5)]
  parts = [sweep.part_of(points, f"{i}/2") for i in (1, 2)]
  assert parts == [points[::2], points[1::2]]
  assert sweep.part_of(points, "1/1") == points
  for wrong in ("", "2", "0/2", "3/2", "1/x", "-1/2"):
    with pytest.raises(errors.UsageError, match="write 1/2"):
      sweep.part_of(points, wrong)


def test_a_file_without_a_grid_says_so(tmp_path):
  file = tmp_path / "plain.py"
  file.write_text("def get_config():\n  return None\n")
  with pytest.raises(errors.UsageError, match=r"no function sweep\(\)"):
    sweep.grid(str(file))


@pytest.mark.parametrize(
  "points, words",
  [
    ([], "no points"),
    ([{"seed": 1}, {"seed": 1}], "some of them twice"),
    ([{"objective.nam": "dcl"}], "did you mean 'objective.name'"),
    ([{"batch": "many"}], "sets batch to 'many'"),
  ],
)
def test_a_grid_that_cannot_be_is_refused(points, words, tmp_path):
  with pytest.raises(errors.UsageError, match=words):
    sweep.run(small_config(), str(tmp_path), points)


def test_a_sweep_goes_on_and_compares(tmp_path, monkeypatch, capsys):
  points = [{"objective.name": n, "seed": s} for s in (0, 1) for n in ("dcl", "flat")]
  trained = []

  def train(config, workdir):
    """Stands for `pretrain.run`, whose own tests are elsewhere."""
    done = record.finished(workdir, config)
    if done is not None:
      return done
    if len(trained) == 3:
      trained.append("stopped")
      raise errors.Stopped("stopped")
    trained.append(workdir)
    final = {"probe/top1": 0.5 + config.seed / 10, "train/loss": 1.0}
    with record.Recorder(workdir, config, "command") as recorder:
      recorder.write(1, loss=1.0)
      recorder.summary(final)
    return final

  monkeypatch.setattr(sweep.pretrain, "run", train)
  with pytest.raises(errors.Stopped):
    sweep.run(small_config(), str(tmp_path), points)
  finals = sweep.run(small_config(), str(tmp_path), points)
  assert list(finals) == [sweep.folder_of(p) for p in points]
  assert len(trained) == 5 and len(set(trained)) == 5  # each once, and the stop
  text = capsys.readouterr().out
  assert "[4/4] objective.name=flat,seed=1" in text
  assert re.search(r"objective\.name=dcl \(baseline\) +2 +0\.55 ", text)
  assert (tmp_path / "compare.html").exists()
