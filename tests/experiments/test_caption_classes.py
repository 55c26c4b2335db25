"""Classes of pictures with captions: written, read, and those that have none."""

import collections

import numpy as np
import pytest

from experiments import prepare
from experiments.engine import errors
from experiments.engine.datasets.captioned import load_captioned
from experiments.engine.pretraining import trained
from tests.experiments import archives
from tests.experiments.test_captioned import check_pairs, flat, numbered, write_set

CLASSES = ("big", "small one")


def labelled(count):
  """Pictures whose class is their number modulo 3, where 2 is none."""
  return [
    (*example, i % 3 if i % 3 < 2 else -1) for i, example in enumerate(numbered(count))
  ]


def numbers(loaded):
  return loaded.images[:, 0, 0, 0].astype(np.int32)


def check_classes(loaded):
  found = loaded.attributes["class"]
  assert found.dtype == np.int32 and loaded.label_names == {"class": CLASSES}
  expected = numbers(loaded) % 3
  np.testing.assert_array_equal(found, np.where(expected < 2, expected, -1))


def test_labels_stay_with_their_pictures(tmp_path):
  examples = labelled(40)
  examples[4] = ("p4", b"no picture", ("number 4",), 1)
  examples[7] = ("p7", flat(7), (" ",), 1)
  folder = write_set(tmp_path, examples, class_names=CLASSES)
  load = lambda **o: load_captioned(
    "pets", "train", data_dir=folder, max_skipped=1.0, **o
  )
  whole = load()
  assert whole.skipped == 2 and len(whole.ids) == 38
  for loaded in (whole, load(limit=20), whole.take(np.array([9, 0, 3]))):
    check_pairs(loaded)
    check_classes(loaded)
  about = prepare.describe(next((tmp_path / "pets").iterdir()))
  assert prepare._words(about) == "2 classes, 78 captions"


def icons(counts, alone):
  """Records whose first tag is so frequent, and some without tags."""
  tags = [[tag, "Alone"] for tag, count in counts.items() for _ in range(count)]
  return [
    {"file": f"i{i}.png", "name": f"thing {i}", "aliases": [], "tags": found}
    for i, found in enumerate([*tags, *[[]] * alone])
  ]


def test_icons_are_classed_by_first_tags_that_are_frequent(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "mdi_icons")
  records = icons({"Sport": 62, "Files / Folders": 60, "Math": 59}, alone=70)
  pictures = {record["file"]: flat(i, 64) for i, record in enumerate(records)}
  source = archives.write_captioned(
    tmp_path / "f", "png_64.zip", "captions.jsonl", records, pictures
  )
  about, load_images = archives.prepared("mdi_icons", source, tmp_path)
  assert about["classes"] == 2 and "captions tell the tags" in about["note"]
  folder = str(tmp_path / "d")
  counts: collections.Counter = collections.Counter()
  for split in ("train", "test"):
    loaded = load_captioned("mdi_icons", split, data_dir=folder)
    assert loaded.label_names["class"] == ("files folders", "sport")
    for number, label in zip(numbers(loaded), loaded.attributes["class"], strict=True):
      first = (records[number]["tags"] or [""])[0]
      assert label == {"Files / Folders": 0, "Sport": 1}.get(first, -1)
      counts[label] += 1
    # The commands that ask for classes see the icons that have one.
    images = trained.labelled_images("mdi_icons", split, image_size=64, data_dir=folder)
    assert images.class_names == ("files folders", "sport")
    np.testing.assert_array_equal(
      images.labels, loaded.attributes["class"][loaded.attributes["class"] >= 0]
    )
    np.testing.assert_array_equal(
      images.images, loaded.images[loaded.attributes["class"] >= 0]
    )
    assert set(load_images(split).labels) == {-1, 0, 1}
  assert counts == {0: 60, 1: 62, -1: 129}


@pytest.mark.parametrize(
  ("classes", "sentence"),
  [((), "captions and no classes"), (("a",), "none of the 4 examples of 'train'")],
)
def test_a_set_without_labels_is_a_sentence(classes, sentence, tmp_path):
  examples = numbered(4)
  # As it was prepared before icons had classes; or with classes that nothing has.
  folder = write_set(tmp_path, examples, name="mdi_icons", class_names=classes)
  loaded = load_captioned("mdi_icons", "train", data_dir=folder)
  assert ("class" in loaded.attributes) == bool(classes)
  assert loaded.label_names.get("class", ()) == classes
  with pytest.raises(errors.UserError, match=sentence):
    trained.labelled_images("mdi_icons", "train", image_size=8, data_dir=folder)
