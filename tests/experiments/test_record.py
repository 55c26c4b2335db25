import json
import math
import subprocess

import ml_collections
import pytest

from experiments.engine import errors, record


@pytest.fixture
def config():
  return ml_collections.ConfigDict(
    {"seed": 3, "data_dir": "", "model": {"width": 8, "rate": 0.1}}
  )


def test_a_run_directory_tells_config_seed_versions_and_command(tmp_path, config):
  with record.Recorder(str(tmp_path), config, command="python -m x"):
    pass
  about = record.read_json(tmp_path / "run.json")
  assert about["config"]["model"] == {"width": 8, "rate": 0.1}
  assert about["seed"] == 3 and about["command"] == "python -m x"
  assert about["versions"]["jax"] and about["devices"]


def test_metrics_are_one_object_a_line_and_nan_becomes_null(tmp_path, config):
  with record.Recorder(str(tmp_path), config) as recorder:
    recorder.write(1, loss=0.5)
    recorder.write(2, loss=math.nan)
  lines = record.read_metrics(tmp_path / "metrics.jsonl")
  assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, None)]


def test_a_torn_last_line_is_dropped_and_lines_after_a_step_are_forgotten(
  tmp_path, config
):
  with record.Recorder(str(tmp_path), config) as recorder:
    for step in (1, 2, 3):
      recorder.write(step, loss=step / 10)
  path = tmp_path / "metrics.jsonl"
  with open(path, "a", encoding="utf-8") as file:
    file.write('{"step": 4, "lo')
  with record.Recorder(str(tmp_path), config) as recorder:
    recorder.drop_after(2)
    recorder.write(3, loss=0.33)
  lines = [json.loads(text) for text in path.read_text().splitlines()]
  assert [line["step"] for line in lines] == [1, 2, 3]
  assert lines[-1]["loss"] == 0.33


def test_a_folder_with_another_config_is_refused_naming_the_key(tmp_path, config):
  record.Recorder(str(tmp_path), config).close()
  config.model.width = 16
  with pytest.raises(errors.UsageError, match=r"model.width: 8 -> 16"):
    record.Recorder(str(tmp_path), config)


def test_the_data_folder_is_no_part_of_the_config_that_is_compared(tmp_path, config):
  with record.Recorder(str(tmp_path), config) as recorder:
    recorder.summary({"loss": 1.0})
  config.data_dir = "elsewhere"
  assert record.finished(str(tmp_path), config) == {"loss": 1.0}
  config.seed = 4
  assert record.finished(str(tmp_path), config) is None


def test_broken_and_missing_records_are_named(tmp_path):
  with pytest.raises(errors.UserError, match="not found"):
    record.read_json(tmp_path / "run.json")
  (tmp_path / "run.json").write_text("{")
  with pytest.raises(errors.UserError, match="not valid JSON"):
    record.read_json(tmp_path / "run.json")


def test_flatten_names_nested_keys_with_dots():
  assert record.flatten({"a": {"b": 1, "c": {"d": 2}}}) == {"a.b": 1, "a.c.d": 2}


def test_the_state_of_the_code_is_its_commit_and_whether_it_was_changed(
  tmp_path, monkeypatch
):
  git = lambda *words: subprocess.run(
    ["git", "-c", "user.name=n", "-c", "user.email=e", *words],
    cwd=tmp_path,
    check=True,
    capture_output=True,
    text=True,
  )
  code = tmp_path / "experiments" / "engine" / "record.py"
  code.parent.mkdir(parents=True)
  code.write_text("one")
  monkeypatch.setattr(record, "__file__", str(code))
  assert record.code_state() == {"commit": None, "changed": None}
  git("init")
  assert record.code_state() == {"commit": None, "changed": None}  # no commit yet
  git("add", ".")
  git("commit", "-m", "one")
  commit = git("rev-parse", "HEAD").stdout.strip()
  assert record.code_state() == {"commit": commit, "changed": False}
  code.write_text("two")
  assert record.code_state() == {"commit": commit, "changed": True}
