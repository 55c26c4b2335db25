"""Configs are data: every preset builds, and every command in the docs parses."""

import importlib
import json
import pathlib
import re
import shlex

import pytest

from experiments.engine import record

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(path.stem for path in (ROOT / "configs").glob("[a-z]*.py"))
DOCUMENTS = [
  *ROOT.glob("*.md"),
  *(ROOT / "docs").glob("*.md"),
  *(ROOT / "configs").glob("*.py"),
  *(ROOT / "experiments").glob("*.py"),
]


def presets(name):
  module = importlib.import_module(f"configs.{name}")
  with pytest.raises(ValueError, match="unknown preset 'nonsense'") as error:
    module.get_config("nonsense")
  return str(error.value).split("known: ")[1].split(", ")


@pytest.mark.parametrize("name", FILES)
def test_every_preset_builds_and_survives_json(name):
  module = importlib.import_module(f"configs.{name}")
  for preset in presets(name):
    config = record.config_dict(module.get_config(preset))
    assert json.loads(json.dumps(config)) == config
    assert "seed" in config


def commands():
  """Commands of the documents, continued lines joined."""
  for path in DOCUMENTS:
    text = path.read_text(encoding="utf-8").replace("\\\\\n", "\\\n")
    text = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"python -m experiments\.[a-z_]+\b[^\n`|;()]*", text):
      line = line.strip().rstrip('"')
      yield pytest.param(line, id=f"{path.name}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_documented_command_names_a_module_a_preset_and_keys_that_exist(line):
  words = shlex.split(line, comments=True)
  module = words[2].split(".")[1]
  assert (ROOT / "experiments" / f"{module}.py").exists(), line
  chosen = f"configs/{module}.py"
  overrides = {}
  for word in words[3:]:
    name, _, value = word.partition("=")
    if name == "--config":
      chosen = value
    elif name.startswith("--config."):
      overrides[name.removeprefix("--config.")] = value
  if chosen == f"configs/{module}.py" and module not in FILES:  # has flags only
    assert not overrides, line
    return
  file, _, preset = chosen.partition(":")
  if preset.isupper():  # stands for any
    preset = ""
  get_config = importlib.import_module(f"configs.{pathlib.Path(file).stem}").get_config
  config = get_config(preset) if preset else get_config()
  flat = record.flatten(config.to_dict())
  for key in overrides:
    assert key in flat, f"{line}: no config key {key}"
