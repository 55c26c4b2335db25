"""A run on a data set that is missing, half made, cut short or altered."""

import pathlib
import shutil

import pytest

from experiments import pretrain
from experiments.engine import errors
from tests.experiments import archives
from tests.experiments.test_cli import command
from tests.experiments.test_pretrain import small_config


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
  """A data folder with the set "pets": 16 training pictures of two classes."""
  folder = tmp_path_factory.mktemp("pets")
  source = archives.picture_folder(folder / "pets", sizes=((12, 12),) * 8)
  archives.prepared("pets", source, folder, from_folder=True)
  return folder / "d"


@pytest.fixture
def folder(pets, tmp_path):
  return shutil.copytree(pets, tmp_path / "data")


def config_of(folder, **changes):
  everything = {"data.name": "pets", "data.train_limit": 0, "data.test_limit": 0}
  return small_config(data_dir=str(folder), **(everything | changes))


def shard(folder, split="train"):
  (found,) = pathlib.Path(folder).rglob(f"*-{split}.array_record-*")
  return found


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def half_prepared(folder):
  (folder / "pets").rename(folder / ".pets.preparing")


def without_description(folder):
  for path in folder.rglob("dataset_info.json"):
    path.unlink()


def without_a_shard(folder):
  shard(folder).unlink()


def cut_short(folder):
  path = shard(folder)
  path.write_bytes(path.read_bytes()[:-100])


def cut_to_a_block(folder):
  path = shard(folder)
  path.write_bytes(path.read_bytes()[: 1 << 16])


def empty_shard(folder):
  shard(folder).write_bytes(b"")


def altered(folder):
  path = shard(folder)
  content = bytearray(path.read_bytes())
  content[1000] ^= 1  # among the records; zeros fill the file up to its last block
  path.write_bytes(content)


def torn_description(folder):
  for path in folder.rglob("dataset_info.json"):
    path.write_text("{")


DAMAGE = [
  (empty, "data set 'pets' not found in"),
  (half_prepared, "data set 'pets' not found in"),
  (without_description, "data set 'pets' not found in"),
  (torn_description, "dataset_info.json"),
  (without_a_shard, "array_record-.* prepare the data set again"),
  (cut_short, "array_record-.* damaged or cut short .* prepare the data set again"),
  (cut_to_a_block, "array_record-.* damaged or cut short"),
  (empty_shard, "array_record-.* damaged or cut short"),
  (altered, "array_record-.* damaged or cut short"),
]


@pytest.mark.usefixtures("pageless", "one_device")
def test_the_set_itself_works(folder, tmp_path):
  final = pretrain.run(config_of(folder), str(tmp_path / "run"))
  assert final["train/step"] == 2


@pytest.mark.parametrize(
  "damage, words", DAMAGE, ids=lambda x: getattr(x, "__name__", "")
)
def test_damaged_data_is_named_before_anything_is_written(
  damage, words, folder, tmp_path
):
  damage(folder)
  workdir = tmp_path / "run"
  with pytest.raises(errors.UserError, match=words) as found:
    pretrain.run(config_of(folder), str(workdir))
  assert "\n" not in str(found.value)
  assert not workdir.exists()


def test_a_batch_beyond_the_data_is_refused(folder, tmp_path):
  with pytest.raises(errors.UserError, match=r"batch of 32 .* 16 examples"):
    pretrain.run(config_of(folder, batch=32), str(tmp_path / "run"))


def test_the_command_ends_with_a_sentence_and_1(folder, tmp_path):
  cut_short(folder)
  code, _, said = command(
    "experiments.pretrain",
    "--config=configs/pretrain.py:smoke",
    "--config.data.name=pets",
    f"--data_dir={folder}",
    f"--workdir={tmp_path / 'run'}",
  )
  assert code == 1 and "Traceback" not in said
  assert "prepare the data set again" in said
  assert not (tmp_path / "run").exists()
