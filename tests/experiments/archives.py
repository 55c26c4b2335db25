"""Tiny archives in the published formats, and recipes without their checksums."""

import dataclasses
import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
from PIL import Image

from experiments import prepare
from experiments.engine import data
from experiments.engine.datasets import builders


def accept_any_checksum(monkeypatch, name):
  """Lets a test prepare an archive of its own under the name of a known set."""
  recipe = builders.RECIPES[name]
  forms = tuple(
    dataclasses.replace(
      form, files=tuple(dataclasses.replace(f, sha256=None) for f in form.files)
    )
    for form in recipe.forms
  )
  monkeypatch.setitem(builders.RECIPES, name, dataclasses.replace(recipe, forms=forms))


def write_idx(path, values):
  header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
  path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes(), 1))


def write_tar(path, files, mode="w:gz"):
  path.parent.mkdir(parents=True, exist_ok=True)
  with tarfile.open(path, mode) as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


def write_captioned(folder, archive, lines, records, pictures):
  """A zip archive of pictures (name -> bytes), and a file with a record a line."""
  folder.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(folder / archive, "w") as opened:
    for name, content in pictures.items():
      opened.writestr(name, content)
  text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
  (folder / lines).write_text(text, "utf-8")
  return folder


def encode(pixels, kind="PNG", mode=None):
  stream = io.BytesIO()
  image = Image.fromarray(pixels)
  (image.convert(mode) if mode else image).save(stream, kind)
  return stream.getvalue()


def fashion_files(folder, train=40, test=20):
  """Four idx files whose pictures are filled with their number."""
  folder.mkdir(parents=True, exist_ok=True)
  for stem, n in (("train", train), ("t10k", test)):
    images = np.broadcast_to(np.arange(n)[:, None, None], (n, 28, 28))
    write_idx(folder / f"{stem}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.arange(n) % 10)
  return folder


def picture_folder(folder, sizes=((12, 8), (8, 12))):
  """train/{cat,dog} and test/{cat,dog}, two RGB PNGs a class, of the sizes given."""
  rng = np.random.default_rng(0)
  for split in ("train", "test"):
    for label in ("cat", "dog"):
      (folder / split / label).mkdir(parents=True)
      for i, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (folder / split / label / f"{i}.png").write_bytes(encode(pixels))
  return folder


def prepared(name, source, tmp_path, **options):
  """Prepares into tmp_path/d; returns what was made, and `load(split, **options)`."""
  folder = str(tmp_path / "d")
  about = prepare.run(name, source=str(source), data_dir=folder, **options)
  return about, lambda split, **o: data.load(name, split, data_dir=folder, **o)
