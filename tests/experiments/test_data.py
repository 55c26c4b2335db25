"""Image sets: loading, limits, splits, and the order of a run."""

import pathlib

import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from experiments import prepare
from experiments.engine import data, errors
from experiments.engine.datasets import pictures
from multimodal import scenes
from tests.experiments import archives


def _labelled(labels):
  labels = np.asarray(labels, np.int32)
  images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
  return data.ImageSet("made", images, labels, tuple(map(str, range(10))))


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
  """A folder with a small prepared fashion_mnist: 40 and 20 pictures."""
  root = tmp_path_factory.mktemp("data")
  with pytest.MonkeyPatch.context() as patch:
    archives.accept_any_checksum(patch, "fashion_mnist")
    source = archives.fashion_files(root / "files")
    prepare.run("fashion_mnist", source=str(source), data_dir=str(root))
  return str(root)


def test_parts_of_a_split_cover_it_without_overlap(fashion):
  load = lambda split: data.load("fashion_mnist", split, data_dir=fashion)
  whole = load("train").images
  parts = [load("train[:25%]").images, load("train[10:]").images]
  np.testing.assert_array_equal(whole, np.concatenate(parts))
  for split, sentence in (
    ("valid", "unknown split of 'fashion_mnist' 'valid'"),
    ("train[90:95]", "incompatible with 40 examples"),
  ):
    with pytest.raises(errors.UsageError, match=sentence):
      load(split)


def test_limit_is_balanced_seeded_and_without_repetition(fashion):
  load = lambda limit, seed=0: data.load(
    "fashion_mnist", "train", data_dir=fashion, limit=limit, seed=seed
  )
  chosen = load(25)
  counts = np.bincount(chosen.labels, minlength=10)
  assert counts.sum() == 25 and set(counts) == {2, 3}
  identity = chosen.images[:, 0, 0, 0]
  assert len(set(identity)) == 25 and (chosen.labels == identity % 10).all()
  np.testing.assert_array_equal(load(25).images, chosen.images)
  assert (load(25, seed=1).images != chosen.images).any()
  assert len(load(0).labels) == len(load(None).labels) == len(load(40).labels) == 40
  with pytest.raises(errors.UsageError, match=r"limit of 41 .* has 40"):
    load(41)


def test_limit_is_as_even_as_an_uneven_set_allows():
  labels = np.repeat([0, 1, 2], [2, 50, 50])
  counts = np.bincount(labels[data._subset(labels, 22, 0, "it")])
  assert counts.tolist() == [2, 10, 10]


def test_image_size_scales_every_picture(fashion):
  scaled = data.load("fashion_mnist", "test", data_dir=fashion, image_size=16)
  assert scaled.images.shape == (20, 16, 16, 1)
  assert (scaled.images == scaled.images[:, :1, :1]).all()  # flat pictures stay flat


def test_load_pair_follows_the_config(fashion):
  config = ml_collections.ConfigDict(
    dict(
      name="fashion_mnist",
      image_size=0,
      train="train[:30]",
      test="test",
      train_limit=20,
      test_limit=10,
    )
  )
  first, second = (data.load_pair(config, fashion, seed) for seed in (0, 1))
  assert [len(part.labels) for part in first] == [20, 10]
  assert (first[0].images != second[0].images).any()
  np.testing.assert_array_equal(first[1].images, second[1].images)


def test_varied_sizes_need_image_size(tmp_path):
  source = archives.picture_folder(tmp_path / "pets")
  prepare.run("pets", source=str(source), data_dir=str(tmp_path), from_folder=True)
  with pytest.raises(errors.UserError, match=r"vary in size .* give image_size"):
    data.load("pets", "train", data_dir=str(tmp_path))
  loaded = data.load("pets", "train", data_dir=str(tmp_path), image_size=8)
  assert loaded.images.shape == (4, 8, 8, 3) and loaded.class_names == ("cat", "dog")


@pytest.mark.parametrize(("width", "height"), [(40, 20), (20, 40), (20, 20), (10, 10)])
def test_fit_keeps_the_centre_square(width, height):
  """A red centre square before a blue border comes out as all red."""
  side = min(width, height)
  pixels = np.zeros((height, width, 3), np.uint8) + np.uint8([0, 0, 255])
  top, left = (height - side) // 2, (width - side) // 2
  pixels[top : top + side, left : left + side] = (255, 0, 0)
  fitted = np.asarray(pictures.fit(Image.fromarray(pixels), 10))
  assert fitted.shape == (10, 10, 3) and (fitted == (255, 0, 0)).all()


@pytest.mark.parametrize("repeats", [1, 40])
def test_large_pictures_are_decoded_by_threads_in_order(repeats):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (5, 60, 60, 3), dtype=np.uint8)
  encoded = [archives.encode(image) for image in pixels] * repeats
  assert len(encoded[0]) > pictures._BYTES_WORTH_A_THREAD
  decoded = pictures.decode_pictures(encoded, channels=3, image_size=None, name="x")
  np.testing.assert_array_equal(decoded, np.concatenate([pixels] * repeats))
  encoded[-1] = encoded[-1][:500]
  with pytest.raises(errors.UserError, match="'x' holds a picture that cannot be deco"):
    pictures.decode_pictures(encoded, channels=3, image_size=None, name="x")


@pytest.mark.parametrize("damage", ["cut", "cut to a block", "flipped", "gone"])
def test_a_damaged_shard_is_named(damage, tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "fashion_mnist")
  source = archives.fashion_files(tmp_path / "files")
  about = prepare.run("fashion_mnist", source=str(source), data_dir=str(tmp_path))
  (shard,) = pathlib.Path(about["folder"]).glob("*-test.array_record-*")
  content = bytearray(shard.read_bytes())
  if damage == "cut":
    shard.write_bytes(content[:-50_000])
  elif damage == "cut to a block":
    shard.write_bytes(content[:65536])
  elif damage == "flipped":
    content[80] ^= 1
    shard.write_bytes(content)
  else:
    shard.unlink()
  with pytest.raises(errors.UserError) as raised:
    data.load("fashion_mnist", "test", data_dir=str(tmp_path))
  assert str(raised.value).startswith(f"{shard} is damaged or cut short")
  assert len(data.load("fashion_mnist", "train", data_dir=str(tmp_path)).labels) == 40


def test_a_missing_set_names_the_command_at_once(tmp_path, monkeypatch):
  with pytest.raises(errors.UserError) as raised:
    data.load("cifar10", "train", data_dir=str(tmp_path))
  assert str(raised.value) == (
    f"data set 'cifar10' not found in {tmp_path}; prepare it: "
    f"python -m experiments.prepare cifar10 --from=DIR --data_dir={tmp_path}"
  )
  monkeypatch.setenv("DATA_DIR", str(tmp_path / "by_variable"))
  with pytest.raises(errors.UserError, match="by_variable; prepare it"):
    data.load("cifar10", "train")
  with pytest.raises(errors.UsageError, match=r"did you mean 'cifar10'\?"):
    data.load("cifar1O", "train")


def test_a_set_prepared_by_tfds_is_found_by_config_and_version(fashion, tmp_path):
  made = pathlib.Path(fashion) / "fashion_mnist" / "1.0.0"
  for place in ("mine/a/1.2.0", "mine/a/1.10.0", "mine/b/1.0.0"):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).symlink_to(made)
  found = data.folders.find_prepared("mine/a", str(tmp_path))
  assert found is not None and found.name == "1.10.0"
  with pytest.raises(errors.UsageError, match="exists as mine/a, mine/b"):
    data.folders.find_prepared("mine", str(tmp_path))


@pytest.mark.parametrize(
  ("name", "level"), [("scenes", scenes.EASY), ("scenes_hard", scenes.HARD)]
)
def test_scenes_are_rendered_as_they_are_labelled(name, level):
  loaded = data.load(name, "train[100:130]", image_size=16)
  ids = scenes.split_ids("train", 30, start=100)
  rendered = scenes.render(ids, size=16, level=level)
  np.testing.assert_array_equal(loaded.images, rendered)
  found = scenes.factors(ids)
  for label, shape, texture in zip(
    loaded.labels, found["shape"], found["texture"], strict=True
  ):
    words = f"{scenes.TEXTURES[texture]} {scenes.SHAPES[shape]}"
    assert loaded.class_names[label] == words
  limited = data.load(name, "test", image_size=8, limit=240)
  assert set(np.bincount(limited.labels)) == {10}
  for split in ("val", "train[5:5]", "train[:4294967297]", "train[1]"):
    with pytest.raises(errors.UsageError, match=f"'{name}'"):
      data.load(name, split)


def test_digits_come_with_sklearn():
  pytest.importorskip("sklearn")
  train, test = (data.load("digits", split) for split in ("train", "test"))
  assert len(train.labels) + len(test.labels) == 1797
  assert train.images.shape[1:] == (8, 8, 1) and train.images.max() == 255
  flat = lambda part: {image.tobytes() for image in part.images}
  assert len(flat(train) & flat(test)) < 5  # a few digits were drawn twice alike
  assert data.load("digits", "test[:7]", image_size=12).images.shape == (7, 12, 12, 1)


def test_train_validation_is_stratified_and_disjoint():
  whole = _labelled(np.repeat([0, 1, 2, 3], [40, 20, 3, 1]))
  train, validation = data.train_validation(whole, 0.1, seed=3)
  assert np.bincount(validation.labels, minlength=4).tolist() == [4, 2, 1, 0]
  together = np.concatenate([train.images, validation.images]).ravel()
  assert sorted(together) == list(range(64))
  again = data.train_validation(whole, 0.1, seed=3)[1]
  np.testing.assert_array_equal(again.images, validation.images)
  other = data.train_validation(whole, 0.1, seed=4)[1]
  assert (other.images != validation.images).any()
  with pytest.raises(errors.UsageError, match="not in"):
    data.train_validation(whole, 1.0, seed=0)


def test_class_balanced_draw_takes_each_example_equally_often():
  labels = np.repeat([0, 1, 2], [4, 8, 6])
  times = np.zeros(len(labels))
  draws = 600
  for seed in range(draws):
    rows = data.class_balanced_draw(labels, 2, seed)
    assert np.bincount(labels[rows]).tolist() == [2, 2, 2]
    assert len(set(rows)) == 6
    times[rows] += 1
  expected = 2 / np.array([4, 8, 6])[labels]
  error = np.sqrt(expected * (1 - expected) / draws)
  assert (np.abs(times / draws - expected) < 4 * error).all()


@pytest.mark.parametrize(
  ("labels", "shots", "sentence"),
  [
    ([0, 0, 1], 2, "class 1 has 1 examples, but 2"),
    ([-1, -1, 0], 1, "needs labels"),
    ([0, 1], 0, "at least 1"),
  ],
)
def test_class_balanced_draw_refuses(labels, shots, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    data.class_balanced_draw(np.array(labels), shots, 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.data())
def test_an_epoch_shows_every_row_at_most_once(seed, examples, drawn):
  batch = drawn.draw(st.integers(1, examples))
  steps = data.epoch_steps(examples, batch)
  epoch = drawn.draw(st.integers(0, 5))
  rows = np.concatenate(
    [data.rows_at(seed, epoch * steps + i, examples, batch) for i in range(steps)]
  )
  assert len(set(rows)) == len(rows) == steps * batch
  assert rows.min() >= 0 and rows.max() < examples
  assert examples - len(rows) < batch


def test_rows_are_a_pure_function_of_seed_and_step():
  rows = lambda seed, step: data.rows_at(seed, step, 100, 30).tolist()
  first = [rows(0, step) for step in range(9)]
  assert [rows(0, step) for step in reversed(range(9))] == first[::-1]
  assert first[0] != first[3] and rows(1, 0) != first[0]
  held = data.rows_at(0, 0, 100, 30)
  held[:] = 0  # a caller's change stays the caller's
  assert rows(0, 0) == first[0]


def test_rows_of_an_epoch_are_uniform():
  """Every row comes first equally often over epochs: chi-square of 2,000 epochs."""
  n, epochs = 20, 2000
  first = [data.rows_at(5, step, n, n)[0] for step in range(epochs)]
  counts = np.bincount(first, minlength=n)
  chi_square = ((counts - epochs / n) ** 2 / (epochs / n)).sum()
  assert abs(chi_square - (n - 1)) < 4 * np.sqrt(2 * (n - 1))


def test_a_batch_larger_than_the_data_names_both():
  with pytest.raises(errors.UserError, match="batch of 64 cannot be drawn from 40"):
    data.rows_at(0, 0, 40, 64)


def test_more_than_the_memory_is_refused():
  with pytest.raises(errors.UserError, match=r"take 1000000 GB .* train\[:10%\]"):
    pictures.require_memory(1e15, "huge")
