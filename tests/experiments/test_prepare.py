"""Preparation: official formats, checksums, atomicity, folders, downloads."""

import http.server
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from experiments import prepare
from experiments.engine import builders, data, errors
from experiments.engine.builders import folders, formats, recipe
from tests.experiments import archives

ROOT = pathlib.Path(__file__).parents[2]


def _prepared(name, source, tmp_path, **options):
  about = prepare.run(name, source=str(source), data_dir=str(tmp_path / "d"), **options)
  return about, lambda split, **o: data.load(
    name, split, data_dir=str(tmp_path / "d"), **o
  )


def test_fashion_mnist_round_trip(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "fashion_mnist")
  source = archives.fashion_files(tmp_path / "files")
  about, load = _prepared("fashion_mnist", source, tmp_path)
  assert about["made"] and about["splits"] == {"train": 40, "test": 20}
  train = load("train")
  assert train.images.shape == (40, 28, 28, 1) and train.images.dtype == np.uint8
  assert train.labels.dtype == np.int32 and train.class_names[9] == "Ankle boot"
  # Picture i is filled with i and has label i % 10; the order on disk is shuffled.
  filled = train.images[:, 0, 0, 0]
  assert (train.images == filled[:, None, None, None]).all()
  assert sorted(filled) == list(range(40)) and (train.labels == filled % 10).all()


def test_prepared_set_is_an_ordinary_tfds_set(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  archives.accept_any_checksum(monkeypatch, "fashion_mnist")
  source = archives.fashion_files(tmp_path / "files")
  about, _ = _prepared("fashion_mnist", source, tmp_path)
  read = tfds.builder_from_directory(about["folder"]).as_data_source("test")
  example = read[0]
  assert example["image"].shape == (28, 28, 1) and 0 <= example["label"] < 10
  assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_binary_archive(name, tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, name)
  rng = np.random.default_rng(0)
  # Three planes a picture, each in row order.
  planes = rng.integers(0, 256, (12, 3 * 32 * 32), dtype=np.uint8)
  labels = np.arange(12) % 10
  known = {planes[i].tobytes(): labels[i] for i in range(12)}
  if name == "cifar10":
    records = [bytes([labels[i]]) + planes[i].tobytes() for i in range(12)]
    files = {
      f"cifar-10-batches-bin/data_batch_{k}.bin": b"".join(records[2 * k - 2 : 2 * k])
      for k in range(1, 6)
    }
    files["cifar-10-batches-bin/test_batch.bin"] = b"".join(records[10:])
    archive = tmp_path / "cifar-10-binary.tar.gz"
  else:
    records = [bytes([7, labels[i]]) + planes[i].tobytes() for i in range(12)]
    names = "\n".join(f"class_{i}" for i in range(100))
    files = {
      "cifar-100-binary/train.bin": b"".join(records[:10]),
      "cifar-100-binary/test.bin": b"".join(records[10:]),
      "cifar-100-binary/fine_label_names.txt": names.encode() + b"\n",
    }
    archive = tmp_path / "cifar-100-binary.tar.gz"
  archives.write_tar(archive, files)
  about, load = _prepared(name, archive, tmp_path)
  assert about["splits"] == {"train": 10, "test": 2}
  assert about["classes"] == {"cifar10": 10, "cifar100": 100}[name]
  for split in (load("train"), load("test")):
    stored = split.images.transpose(0, 3, 1, 2).reshape(len(split.labels), -1)
    assert [known[row.tobytes()] for row in stored] == split.labels.tolist()


def test_cifar10_as_jpeg_says_that_it_is_not_the_original(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "cifar10")
  grey = archives.encode(np.full((32, 32, 3), 90, np.uint8), "JPEG")
  files = {
    f"{split}/{label}/0000.jpg": grey
    for split in ("train", "test")
    for label in ("airplane", "truck")
  }
  archives.write_tar(tmp_path / "f" / "cifar10_jpeg.tar.xz", files, "w:xz")
  about, load = _prepared("cifar10", tmp_path / "f", tmp_path)
  assert "not bit-identical" in about["note"]
  assert sorted(load("train").labels) == [0, 9]
  np.testing.assert_allclose(load("test").images, 90, atol=2)


def test_stl10_archive_has_column_order_labels_from_one_and_unlabelled(
  tmp_path, monkeypatch
):
  archives.accept_any_checksum(monkeypatch, "stl10")
  pixels = np.zeros((3, 96, 96, 3), np.uint8)
  pixels[:, :10, :, 0] = 200  # the ten upper rows are red
  pixels[:, :, :5, 1] = np.array([10, 20, 30])[:, None, None]
  # Published: planes, each column by column.
  raw = pixels.transpose(0, 3, 2, 1).tobytes()
  files = {
    "stl10_binary/test_X.bin": raw,
    "stl10_binary/test_y.bin": bytes([1, 10, 2]),
    "stl10_binary/train_X.bin": raw,
    "stl10_binary/train_y.bin": bytes([1, 10, 2]),
    "stl10_binary/unlabeled_X.bin": raw,
    "stl10_binary/class_names.txt": "\n".join(f"c{i}" for i in range(10)).encode(),
  }
  archives.write_tar(tmp_path / "stl10_binary.tar.gz", files)
  about, load = _prepared("stl10", tmp_path, tmp_path)
  assert about["splits"] == {"train": 3, "test": 3, "unlabelled": 3}
  train = load("train")
  label_of = {10: 0, 20: 9, 30: 1}
  for image, label in zip(train.images, train.labels, strict=True):
    assert (image[:10, :, 0] == 200).all() and (image[10:, :, 0] == 0).all()
    assert label_of[image[50, 2, 1]] == label
  assert (load("unlabelled").labels == -1).all()


def test_caltech101_official_archive(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "caltech101")
  rng = np.random.default_rng(0)
  files = {}
  for label, n in (("ant", 33), ("BACKGROUND_Google", 2), ("brain", 31)):
    for i in range(n):
      pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
      grey = "L" if i == 0 else None
      files[f"101_ObjectCategories/{label}/image_{i:04d}.jpg"] = archives.encode(
        pixels, "JPEG", grey
      )
  files["101_ObjectCategories/ant/._image_0001.jpg"] = b"no picture"
  archives.write_tar(tmp_path / "inner.tar.gz", files)
  with zipfile.ZipFile(tmp_path / "caltech-101.zip", "w") as outer:
    outer.write(tmp_path / "inner.tar.gz", "caltech-101/101_ObjectCategories.tar.gz")
    outer.writestr("__MACOSX/caltech-101/101_ObjectCategories.tar.gz", b"")
  about, load = _prepared("caltech101", tmp_path, tmp_path)
  assert about["splits"] == {"train": 60, "test": 4} and about["classes"] == 2
  assert load("train").class_names == ("ant", "brain")
  assert np.bincount(load("train").labels).tolist() == [30, 30]
  assert load("test", image_size=16).images.shape == (4, 16, 16, 3)


def test_caltech101_of_128_pixels_keeps_the_given_division(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "caltech101")
  source = tmp_path / "files"
  source.mkdir()
  picture = archives.encode(np.full((9, 7, 3), 50, np.uint8), "JPEG")
  with zipfile.ZipFile(source / "images_128.zip", "w") as pictures:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
      pictures.writestr(name, picture)
  (source / "train.txt").write_text("b/1.jpg\na/2.jpg\n")
  (source / "test.txt").write_text("a/1.jpg\n")
  (source / "classes.json").write_text(json.dumps(["a", "b"]))
  about, load = _prepared("caltech101", source, tmp_path)
  assert about["splits"] == {"train": 2, "test": 1}
  assert sorted(load("train").labels) == [0, 1] and load("test").labels == [0]
  (source / "train.txt").unlink()
  with pytest.raises(errors.UserError, match=r"lacks train\.txt"):
    prepare.run("caltech101", source=str(source), data_dir=str(tmp_path / "other"))


def test_image_folder_keeps_pixels_and_brings_every_mode_to_rgb(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
  (source / "train" / "owl").mkdir()
  (source / "train" / "owl" / "grey.png").write_bytes(archives.encode(grey))
  palette = archives.encode(np.full((6, 8, 3), (204, 0, 51), np.uint8), mode="P")
  (source / "train" / "owl" / "palette.png").write_bytes(palette)
  (source / "train" / "owl" / "notes.txt").write_text("no picture")
  about, load = _prepared("my_pets", source, tmp_path, from_folder=True)
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
    _prepared("pets", source, tmp_path, from_folder=True)
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
    _prepared("fashion_mnist", source, tmp_path)
  archives.write_idx(path, np.zeros((40, 28, 28)))
  archives.write_idx(source / "train-labels-idx1-ubyte.gz", np.zeros(39))
  with pytest.raises(errors.UserError, match="40 pictures but 39 labels"):
    _prepared("fashion_mnist", source, tmp_path)
  with pytest.raises(errors.UserError, match="ends with 3 bytes of a record of 5"):
    list(formats.records(io.BytesIO(b"12345678"), 5, "x.bin"))


def test_preparing_twice_changes_nothing_and_says_so(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  first, _ = _prepared("pets", source, tmp_path, from_folder=True)
  stamp = os.stat(first["folder"]).st_mtime_ns
  second, _ = _prepared("pets", "/nowhere", tmp_path, from_folder=True)
  assert first["made"] and not second["made"]
  assert {**second, "made": True} == first
  assert os.stat(first["folder"]).st_mtime_ns == stamp


def test_killed_prepare_leaves_nothing_that_looks_prepared(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  code = f"""
import os, signal
from experiments import prepare
from experiments.engine.builders import formats
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
  about, load = _prepared("pets", source, tmp_path, from_folder=True)
  assert about["made"] and len(load("train", image_size=8).labels) == 4
  assert not (tmp_path / "d" / ".pets.preparing").exists()


def test_what_is_in_the_way_is_left_alone(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  (tmp_path / "d" / "pets" / "1.0.0").mkdir(parents=True)
  with pytest.raises(errors.UserError, match="remove it first"):
    _prepared("pets", source, tmp_path, from_folder=True)
  info = tmp_path / "d" / "pets" / "1.0.0" / "dataset_info.json"
  info.write_text("{")
  with pytest.raises(errors.UserError, match="is damaged"):
    _prepared("pets", source, tmp_path, from_folder=True)


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
  for path in (ROOT / "experiments" / "engine" / "builders").glob("*.py"):
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
  about, load = _prepared(name, source, tmp_path)
  assert about["splits"] == splits
  test = load("test", image_size=32, limit=200)
  assert len(test.labels) == 200 and test.images.std() > 30
