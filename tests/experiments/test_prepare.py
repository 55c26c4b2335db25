"""Preparation: official formats, checksums, atomicity, folders, downloads."""

import http.server
import io
import os
import pathlib
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from experiments import prepare
from experiments.engine import errors
from experiments.engine.datasets import builders
from experiments.engine.datasets.builders import folders, formats, recipe
from tests.experiments import archives

ROOT = pathlib.Path(__file__).parents[2]


def test_image_folder_keeps_pixels_and_brings_every_mode_to_rgb(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
  (source / "train" / "owl").mkdir()
  (source / "train" / "owl" / "grey.png").write_bytes(archives.encode(grey))
  palette = archives.encode(np.full((6, 8, 3), (204, 0, 51), np.uint8), mode="P")
  (source / "train" / "owl" / "palette.png").write_bytes(palette)
  (source / "train" / "owl" / "notes.txt").write_text("no picture")
  about, load = archives.prepared("my_pets", source, tmp_path, from_folder=True)
  assert about["splits"] == {"test": 4, "train": 6} and about["classes"] == 3
  owls = load("train", image_size=6)
  owls = owls.images[owls.labels == 2]
  assert owls.shape == (2, 6, 6, 3)
  coloured = owls[owls[..., 0].std((1, 2)) == 0][0]
  assert coloured[0, 0].tolist() == [204, 0, 51]
  shaded = owls[owls[..., 0].std((1, 2)) > 0][0]
  assert (shaded == grey[:, 1:7, None]).all()
  assert {source["file"] for source in about["sources"]} == {"train/", "test/"}


@pytest.mark.parametrize(
  ("content", "sentence"),
  [
    (b"no picture at all", "not a readable PNG or JPEG"),
    (archives.encode(np.zeros((90, 90, 3), np.uint8))[:60], "not a readable"),
    (archives.encode(np.zeros((4, 4), np.uint16)), "more than 8 bits"),
  ],
  ids=["no picture", "truncated", "16 bits"],
)
def test_a_bad_picture_is_named_and_nothing_is_written(content, sentence, tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  (source / "train" / "cat" / "bad.png").write_bytes(content)
  with pytest.raises(errors.UserError, match=sentence) as raised:
    archives.prepared("pets", source, tmp_path, from_folder=True)
  assert "bad.png" in str(raised.value)
  assert folders.find_prepared("pets", str(tmp_path / "d")) is None
  assert not [p for p in (tmp_path / "d").iterdir() if p.is_dir()]


def test_wrong_checksum_is_one_sentence_and_writes_nothing(tmp_path):
  source = archives.fashion_files(tmp_path / "files")
  with pytest.raises(errors.UserError, match=r"SHA-256 .* instead of 3aede38d"):
    prepare.run("fashion_mnist", source=str(source), data_dir=str(tmp_path / "d"))
  assert not (tmp_path / "d").exists()


def test_truncated_files_are_refused(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "fashion_mnist")
  source = archives.fashion_files(tmp_path / "files")
  path = source / "train-images-idx3-ubyte.gz"
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(errors.UserError, match="could not be prepared"):
    archives.prepared("fashion_mnist", source, tmp_path)
  archives.write_idx(path, np.zeros((40, 28, 28)))
  archives.write_idx(source / "train-labels-idx1-ubyte.gz", np.zeros(39))
  with pytest.raises(errors.UserError, match="40 pictures but 39 labels"):
    archives.prepared("fashion_mnist", source, tmp_path)
  with pytest.raises(errors.UserError, match="ends with 3 bytes of a record of 5"):
    list(formats.records(io.BytesIO(b"12345678"), 5, "x.bin"))


def test_preparing_twice_changes_nothing_and_says_so(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  first, _ = archives.prepared("pets", source, tmp_path, from_folder=True)
  stamp = os.stat(first["folder"]).st_mtime_ns
  second, _ = archives.prepared("pets", "/nowhere", tmp_path, from_folder=True)
  assert first["made"] and not second["made"]
  assert {**second, "made": True} == first
  assert os.stat(first["folder"]).st_mtime_ns == stamp


def test_killed_prepare_leaves_nothing_that_looks_prepared(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  code = f"""
import os, signal
from experiments import prepare
from experiments.engine.datasets.builders import formats
seen = []
def kill(encoded, where):
  seen.append(where)
  if len(seen) == 6:
    os.kill(os.getpid(), signal.SIGKILL)
  return encoded
formats.as_rgb = kill
prepare.run("pets", source={str(source)!r}, data_dir={str(tmp_path / "d")!r},
            from_folder=True)
"""
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
  assert done.returncode == -signal.SIGKILL
  assert (tmp_path / "d" / ".pets.preparing").exists()
  assert folders.find_prepared("pets", str(tmp_path / "d")) is None
  about, load = archives.prepared("pets", source, tmp_path, from_folder=True)
  assert about["made"] and len(load("train", image_size=8).labels) == 4
  assert not (tmp_path / "d" / ".pets.preparing").exists()


def test_what_is_in_the_way_is_left_alone(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  (tmp_path / "d" / "pets" / "1.0.0").mkdir(parents=True)
  with pytest.raises(errors.UserError, match="remove it first"):
    archives.prepared("pets", source, tmp_path, from_folder=True)
  info = tmp_path / "d" / "pets" / "1.0.0" / "dataset_info.json"
  info.write_text("{")
  with pytest.raises(errors.UserError, match="is damaged"):
    archives.prepared("pets", source, tmp_path, from_folder=True)


def test_a_folder_without_the_files_names_what_is_expected(tmp_path):
  with pytest.raises(errors.UserError, match=r"expected cifar-10-binary\.tar\.gz, or "):
    prepare.run("cifar10", source=str(tmp_path), data_dir=str(tmp_path / "d"))
  with pytest.raises(errors.UserError, match="neither a folder nor a file"):
    prepare.run("cifar10", source="/nowhere", data_dir=str(tmp_path / "d"))


@pytest.mark.parametrize(
  ("name", "options", "sentence"),
  [
    ("cifar1O", {}, r"did you mean 'cifar10'\?"),
    ("scenes", {}, "needs no preparation"),
    ("scenes_questions", {}, "needs no preparation"),
    ("cifar10", {"from_folder": True}, "choose another name"),
    ("Pets", {"from_folder": True}, "cannot name a data set"),
    ("pets", {"from_folder": True}, "needs the folder of pictures"),
  ],
)
def test_bad_names_are_usage_errors(name, options, sentence, tmp_path):
  with pytest.raises(errors.UsageError, match=sentence):
    prepare.run(name, data_dir=str(tmp_path), **options)


@pytest.fixture
def server(tmp_path):
  """A web server on this machine: (folder that it serves, its address)."""
  folder = tmp_path / "served"
  folder.mkdir()

  class Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=str(folder))

    def log_message(self, *args):
      pass

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as running:
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{running.server_port}/"
    running.shutdown()
    thread.join()


def test_download_checks_keeps_and_reuses_the_files(tmp_path, monkeypatch, server):
  folder, address = server
  archives.fashion_files(folder)
  known = builders.RECIPES["fashion_mnist"]
  files = tuple(
    recipe.File(f.name, recipe.sha256(folder / f.name), address + f.name)
    for f in known.forms[0].files
  )
  forms = (recipe.Form(files, known.forms[0].read),)
  changed = recipe.Recipe("fashion_mnist", "t", "h", "MIT", "c", forms)
  monkeypatch.setitem(builders.RECIPES, "fashion_mnist", changed)
  last = folder / files[-1].name
  content = last.read_bytes()
  last.write_bytes(content[:-1])
  with pytest.raises(errors.UserError, match="incomplete download, or another file"):
    prepare.run("fashion_mnist", data_dir=str(tmp_path / "d"))
  last.unlink()
  with pytest.raises(errors.UserError, match=r"could not download http.*404.*--from="):
    prepare.run("fashion_mnist", data_dir=str(tmp_path / "d"))
  last.write_bytes(content)
  (folder / files[0].name).unlink()  # it lies in the folder of downloads already
  about = prepare.run("fashion_mnist", data_dir=str(tmp_path / "d"))
  assert about["made"] and about["splits"] == {"train": 40, "test": 20}
  downloads = tmp_path / "d" / "downloads" / "fashion_mnist"
  assert {p.name for p in downloads.iterdir()} == {f.name for f in files}


def test_command_line(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  command = [sys.executable, "-m", "experiments.prepare"]
  options = [f"--from={source}", "--image_folder", f"--data_dir={tmp_path / 'd'}"]
  call = lambda *args: subprocess.run(
    [*command, *args], cwd=ROOT, capture_output=True, text=True, check=False
  )
  made = call("pets", *options)
  assert made.returncode == 0 and not made.stderr
  assert "pets: test 4, train 4; 2 classes; pictures of varied size" in made.stdout
  wrong = call("cifar1O", "--from=/nowhere")
  assert wrong.returncode == 2 and "did you mean 'cifar10'?" in wrong.stderr
  assert "Traceback" not in wrong.stderr


def test_list_names_every_set_and_file(capsys):
  print(prepare.list_known())
  text = capsys.readouterr().out
  for known in builders.RECIPES.values():
    assert known.name in text
    assert all(file.name in text for form in known.forms for file in form.files)


def test_archives_are_never_unpickled_nor_unpacked():
  """Members of an archive are streams: no path of theirs ever reaches the disk."""
  for path in (ROOT / "experiments" / "engine" / "datasets" / "builders").glob("*.py"):
    text = path.read_text("utf-8")
    assert "import pickle" not in text and "extractall" not in text


real = pytest.mark.skipif(
  not os.environ.get("CONTRASTIVE_DATA"),
  reason="CONTRASTIVE_DATA names no folder with the real fashion_mnist, cifar10, ...",
)


@real
@pytest.mark.parametrize(
  ("name", "splits"),
  [
    ("fashion_mnist", {"train": 60_000, "test": 10_000}),
    ("cifar10", {"train": 50_000, "test": 10_000}),
    ("caltech101", {"train": 5_784, "test": 2_893}),
  ],
)
def test_real_files(name, splits, tmp_path):
  source = pathlib.Path(os.environ["CONTRASTIVE_DATA"]) / name
  if not source.is_dir():
    pytest.skip(f"no {source}")
  about, load = archives.prepared(name, source, tmp_path)
  assert about["splits"] == splits
  test = load("test", image_size=32, limit=200)
  assert len(test.labels) == 200 and test.images.std() > 30
