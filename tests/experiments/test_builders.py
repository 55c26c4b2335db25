"""Published formats: each archive, made here in small, comes back pixel for pixel."""

import json
import sys
import zipfile

import numpy as np
import pytest

from experiments import prepare
from experiments.engine import errors
from tests.experiments import archives


def test_fashion_mnist_round_trip(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "fashion_mnist")
  source = archives.fashion_files(tmp_path / "files")
  about, load = archives.prepared("fashion_mnist", source, tmp_path)
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
  about, _ = archives.prepared("fashion_mnist", source, tmp_path)
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
  about, load = archives.prepared(name, archive, tmp_path)
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
  about, load = archives.prepared("cifar10", tmp_path / "f", tmp_path)
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
  about, load = archives.prepared("stl10", tmp_path, tmp_path)
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
  about, load = archives.prepared("caltech101", tmp_path, tmp_path)
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
  about, load = archives.prepared("caltech101", source, tmp_path)
  assert about["splits"] == {"train": 2, "test": 1}
  assert sorted(load("train").labels) == [0, 1] and load("test").labels == [0]
  (source / "train.txt").unlink()
  with pytest.raises(errors.UserError, match=r"lacks train\.txt"):
    prepare.run("caltech101", source=str(source), data_dir=str(tmp_path / "other"))
