"""Pictures with captions: three sets and their divisions, layouts, damage, scenes."""

import collections
import io
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds

from experiments import prepare
from experiments.engine import errors
from experiments.engine.datasets import builders, captioned
from experiments.engine.datasets.builders import (
  mdi_icons,
  noto_emoji,
  recipe,
  writer,
  zipped,
)
from experiments.engine.datasets.captioned import load_captioned
from tests.experiments import archives
from tests.experiments.test_bad_data import DAMAGE

_PROVENANCE = dict(title="t", homepage="h", citation="c", licence="MIT")


def flat(number, side=8):
  """A PNG picture filled with the colour (number, 7, 0)."""
  return archives.encode(np.full((side, side, 3), (number, 7, 0), np.uint8))


def write_set(folder, examples, name="pets", side=8, class_names=()):
  """Writes examples (id, picture, captions, label) as the training split of a set."""
  found = [recipe.CaptionedExample(*example) for example in examples]
  pictures = recipe.CaptionedPictures(
    (side, side, 3), {"train": lambda: found}, class_names
  )
  writer.write(name, pictures, _PROVENANCE, str(folder))
  return str(folder)


def numbered(count):
  return [(f"p{i}", flat(i), (f"number {i}", f"a {i}")) for i in range(count)]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
  return write_set(tmp_path_factory.mktemp("pets"), numbered(40))


def check_pairs(loaded):
  """Picture i is filled with i; so say its id and its captions."""
  for image, captions, known_as in zip(
    loaded.images, loaded.captions, loaded.ids, strict=True
  ):
    number = image[0, 0, 0]
    assert (image == (number, 7, 0)).all() and known_as == f"p{number}"
    assert captions == (f"number {number}", f"a {number}")


def emoji(name, keywords=()):
  return {"file": f"{name}.png", "name": name, "keywords": list(keywords)}


def test_emoji_become_rgb_with_captions_and_a_stated_division(tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, "noto_emoji")
  words = [f"thing {i}" for i in range(36)]
  records = [emoji(name, ("thing", "x")) for name in words]
  palettes = {
    record["file"]: archives.encode(
      np.full((72, 72, 3), (0, 51 * (i % 6), 51 * (i // 6 % 6)), np.uint8), mode="P"
    )
    for i, record in enumerate(records)
  }
  source = archives.write_captioned(
    tmp_path / "f", "png_72.zip", "captions.jsonl", records, palettes
  )
  about, _ = archives.prepared("noto_emoji", source, tmp_path)
  assert about["classes"] == 0 and sum(about["splits"].values()) == 36
  assert sum(about["captions"].values()) == 3 * 36
  assert "variants of one emoji are in one split" in about["note"]
  assert "; 108 captions; pictures of 72x72 pixels" in prepare._report("emoji", about)
  load = lambda split: load_captioned("noto_emoji", split, data_dir=str(tmp_path / "d"))
  seen = []
  for part in (load("train"), load("test")):
    assert part.images.dtype == np.uint8 and part.images.shape[1:] == (72, 72, 3)
    for image, captions, known_as in zip(
      part.images, part.captions, part.ids, strict=True
    ):
      i = words.index(known_as)
      assert (image == (0, 51 * (i % 6), 51 * (i // 6 % 6))).all()
      assert captions == (
        known_as,
        f"a drawing of {known_as}",
        f"a drawing of {known_as}: x",
      )
      seen.append(i)
  assert sorted(seen) == list(range(36))
  assert not prepare.run("noto_emoji", data_dir=str(tmp_path / "d"))["made"]


def test_captions_of_emoji_and_icons_say_what_is_in_the_record():
  assert noto_emoji.write_captions(emoji("keycap: 4", ["keycap"])) == [
    "keycap: 4",
    "a drawing of keycap, 4",
  ]
  many = [f"k{i}" for i in range(9)]
  thumb = emoji("thumbs up: dark skin tone", ["up", "thumb", "dark skin tone", *many])
  assert noto_emoji.write_captions(thumb)[2:] == [
    "a drawing of thumbs up, dark skin tone: thumb, k1, k3, k5, k7",
    "a drawing of thumbs up, dark skin tone: k0, k2, k4, k6, k8",
  ]
  tags = ["Agriculture", "Transportation + Road", "Files / Folders"]
  icon = {"name": "car outline", "aliases": ["auto outline"], "tags": tags}
  assert mdi_icons.write_captions(icon) == [
    "car outline",
    "an icon of car outline",
    "an icon of car outline for agriculture and transportation road and files folders",
    "auto outline",
  ]
  icon |= {"aliases": [], "tags": []}
  assert mdi_icons.write_captions(icon) == ["car outline", "an icon of car outline"]


@pytest.mark.parametrize(
  ("base_name", "variants", "base"),
  [
    (
      noto_emoji.base_name,
      (
        "person running",
        "man running: light skin tone",
        "woman running: medium-dark skin tone, facing right",
        "man running facing right",
      ),
      "running",
    ),
    (noto_emoji.base_name, ("man: red hair", "woman", "person: bald"), "person"),
    (noto_emoji.base_name, ("women holding hands", "woman and man holding hands"), 0),
    (
      mdi_icons.base_name,
      ("eye", "eye outline", "eye off outline", "eye variant"),
      "eye",
    ),
    (mdi_icons.base_name, ("off",), "off"),
  ],
)
def test_variants_have_one_base(base_name, variants, base):
  found = {base_name({"name": variant}) for variant in variants}
  assert found == {base or "holding hands"}


def test_division_is_a_tenth_keeps_groups_and_pictures_together(tmp_path):
  records = [{"file": f"{i}.png", "group": f"g{i // 2}"} for i in range(2000)]
  # The picture of the last one of a group is that of the first of the next but one.
  alike = lambda i: f"picture {i - 3 if i % 20 == 4 else i}".encode()
  pictures = {record["file"]: alike(i) for i, record in enumerate(records)}
  archives.write_captioned(tmp_path, "a.zip", "r.jsonl", records, pictures)
  group = lambda record: record["group"]
  parts = zipped.divide(tmp_path / "a.zip", records, group)
  share = len(parts["test"]) / 2000
  assert abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 900)
  assert sorted(map(id, (*parts["train"], *parts["test"]))) == sorted(map(id, records))
  keys = [{group(r) for r in part} for part in parts.values()]
  assert not keys[0] & keys[1]
  drawn = [{pictures[r["file"]] for r in part} for part in parts.values()]
  assert not drawn[0] & drawn[1]
  # Neither the order of the records nor what else there is changes the division.
  again = zipped.divide(tmp_path / "a.zip", records[::-1][:1000], group)
  assert {r["file"] for r in again["test"]} == {
    r["file"] for r in parts["test"] if int(r["file"][:-4]) >= 1000
  }


def test_photographs_are_for_evaluation_and_only_those_with_captions(
  tmp_path, monkeypatch
):
  archives.accept_any_checksum(monkeypatch, "coco_cc")
  records = [
    {"file": "001.jpg", "captions": ["A cat. ", " A\ncat on a mat.", "A cat."]},
    {"file": "002.jpg", "captions": []},
    {"file": "003.jpg", "captions": ["A dog.", " "]},
  ]
  sizes = {"001.jpg": (20, 30), "002.jpg": (9, 9), "003.jpg": (30, 20)}
  pictures = {
    name: archives.encode(np.full((*size, 3), 90, np.uint8), "JPEG")
    for name, size in sizes.items()
  }
  source = archives.write_captioned(
    tmp_path / "f", "images_320.zip", "images.jsonl", records, pictures
  )
  about, _ = archives.prepared("coco_cc", source, tmp_path)
  assert about["splits"] == {"test": 2} and about["captions"] == {"test": 3}
  assert "evaluation only" in about["note"] and "BY-NC-SA 177" in about["licence"]
  folder = str(tmp_path / "d")
  loaded = load_captioned("coco_cc", "test", data_dir=folder, image_size=16)
  assert loaded.images.shape == (2, 16, 16, 3)
  assert dict(zip(loaded.ids, loaded.captions, strict=True)) == {
    "001": ("A cat.", "A cat on a mat."),
    "003": ("A dog.",),
  }
  with pytest.raises(errors.UserError, match=r"vary in size.*give image_size"):
    load_captioned("coco_cc", "test", data_dir=folder)
  with pytest.raises(errors.UsageError, match="unknown split of 'coco_cc' 'train'"):
    load_captioned("coco_cc", "train", data_dir=folder)


@pytest.mark.parametrize(
  ("records", "pictures", "sentence"),
  [
    ([emoji("cat")], {}, r"png_72.zip holds no picture cat.png"),
    ([emoji("cat")], {"cat.png": b"no picture"}, "not a readable PNG or JPEG"),
  ],
)
def test_files_that_do_not_fit_are_refused(
  records, pictures, sentence, tmp_path, monkeypatch
):
  archives.accept_any_checksum(monkeypatch, "noto_emoji")
  source = archives.write_captioned(
    tmp_path / "f", "png_72.zip", "captions.jsonl", records, pictures
  )
  with pytest.raises(errors.UserError, match=sentence):
    archives.prepared("noto_emoji", source, tmp_path)
  assert not (tmp_path / "d" / "noto_emoji").exists()


def test_damaged_files_are_one_sentence(tmp_path, monkeypatch):
  source = archives.write_captioned(
    tmp_path / "f", "png_64.zip", "captions.jsonl", [], {"a.png": flat(1)}
  )
  with pytest.raises(errors.UserError, match=r"SHA-256 .* instead of aa1a3424"):
    archives.prepared("mdi_icons", source, tmp_path)
  archives.accept_any_checksum(monkeypatch, "mdi_icons")
  (source / "captions.jsonl").write_text('{"file": "a.png"}\n\n{"file": "b.')
  with pytest.raises(errors.UserError, match=r"line 3 of .*captions\.jsonl is no JSON"):
    archives.prepared("mdi_icons", source, tmp_path)
  record = {"file": "a.png", "name": "", "aliases": [], "tags": []}
  with pytest.raises(errors.UserError, match=r"a\.png has no caption"):
    list(zipped.examples(source / "png_64.zip", [record], lambda r: [r["name"], " "]))
  (source / "captions.jsonl").write_text('{"file": "a.png", "name": "a"}')
  path = source / "png_64.zip"
  path.write_bytes(path.read_bytes()[:-30])
  with pytest.raises(errors.UserError, match="'mdi_icons' could not be prepared"):
    archives.prepared("mdi_icons", source, tmp_path)


def test_limit_is_seeded_without_repetition_and_keeps_pairs(pets):
  load = lambda limit=None, **o: load_captioned(
    "pets", o.pop("split", "train"), data_dir=pets, limit=limit, **o
  )
  whole, some = load(), load(25)
  check_pairs(whole)
  check_pairs(some)
  assert len(whole.ids) == 40 and len(set(some.ids)) == 25
  assert load(25).ids == some.ids != load(25, seed=1).ids
  assert sorted(some.ids, key=whole.ids.index) == list(some.ids)  # in stored order
  assert load(split="train[:25%]").ids == whole.ids[:10]
  assert load(0).ids == load(40).ids == whole.ids
  assert whole.attributes == {} and whole.skipped == 0
  assert whole.describe() == "pets: 40 images of 8 x 8 x 3, 80 captions"
  taken = whole.take(np.array([7, 3]))
  check_pairs(taken)
  assert taken.ids == (whole.ids[7], whole.ids[3])
  with pytest.raises(errors.UsageError, match=r"limit of 41 .* has 40"):
    load(41)


def test_what_cannot_be_used_is_skipped_counted_and_said(tmp_path, capsys):
  examples = numbered(40)
  examples[0] = ("p0", b"no picture", ("number 0",))
  examples[11] = ("p11", flat(11)[:-30], ("number 11",))
  examples[20] = ("p20", flat(20), (" ", ""))
  examples[21] = ("p21", flat(21), ("", "number 21", "a 21"))
  folder = write_set(tmp_path, examples)
  load = lambda **o: load_captioned("pets", "train", data_dir=folder, **o)
  with pytest.raises(errors.UserError) as raised:
    load()
  reasons = "2 with a picture that cannot be decoded, 1 without a caption"
  said = f"3 of 40 examples of 'train' of 'pets': {reasons}"
  assert said in str(raised.value) and "more than 0.01 of them" in str(raised.value)
  assert not capsys.readouterr().err
  loaded = load(max_skipped=0.075)
  assert capsys.readouterr().err == f"skips {said}\n"
  assert loaded.skipped == 3 and len(loaded.ids) == 37
  check_pairs(loaded)
  # Skipping does not change the draw.
  kept = load(limit=30, max_skipped=1.0)
  check_pairs(kept)
  assert len(kept.ids) + kept.skipped == 30


_PICTURE = tfds.features.Image(shape=(None, None, 3))
_LAYOUTS = {
  # That of coco_captions in TFDS.
  "coco": (
    {
      "image": _PICTURE,
      "image/filename": tfds.features.Text(),
      "image/id": np.int64,
      "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
      "objects": tfds.features.Sequence({"bbox": tfds.features.BBoxFeature()}),
    },
    lambda i, texts: {
      "image/filename": f"{i}.jpg",
      "image/id": 70 + i,
      "captions": [{"text": text, "id": k} for k, text in enumerate(texts)],
      "objects": [],
    },
    "7{}",
  ),
  "flickr": (
    {
      "image": _PICTURE,
      "caption": tfds.features.Sequence(tfds.features.Text()),
      "filename": tfds.features.Text(),
    },
    lambda i, texts: {"caption": texts, "filename": f"{i}.jpg"},
    "{}.jpg",
  ),
  "single": (
    {"image": _PICTURE, "text": tfds.features.Text()},
    lambda i, texts: {"text": texts[0]},
    None,
  ),
}


@pytest.mark.parametrize("layout", _LAYOUTS)
def test_layouts_of_others_are_read(layout, tmp_path):
  features, write, known_as = _LAYOUTS[layout]

  class Others(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.1.0")
    name = "others"

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self, features=tfds.features.FeaturesDict(features)
      )

    def _split_generators(self, dl_manager):
      return {"val": self._generate_examples()}

    def _generate_examples(self):
      for i in range(4):
        # One, two, ... captions, the first in another script.
        texts = [f"картина {i}", *(f"text {k}" for k in range(i))]
        yield i, {"image": io.BytesIO(flat(i, side=8 + i)), **write(i, texts)}

  Others(data_dir=tmp_path, file_format="array_record").download_and_prepare(
    download_config=tfds.download.DownloadConfig(try_download_gcs=False)
  )
  loaded = load_captioned("others", "val", data_dir=str(tmp_path), image_size=8)
  for row in range(4):
    i = loaded.images[row, 0, 0, 0]
    texts = (f"картина {i}", *(f"text {k}" for k in range(i)))
    assert loaded.captions[row] == (texts[:1] if layout == "single" else texts)
    assert loaded.ids[row] == (known_as.format(i) if known_as else str(row))
  assert len(set(loaded.ids)) == 4
  (shard,) = tmp_path.rglob("*-val.array_record-*")
  shard.write_bytes(shard.read_bytes()[: 1 << 16])
  with pytest.raises(errors.UserError, match="damaged or cut short"):
    load_captioned("others", "val", data_dir=str(tmp_path), image_size=8)


@pytest.mark.parametrize(
  "damage, words", DAMAGE, ids=lambda x: getattr(x, "__name__", "")
)
def test_damaged_sets_are_named_as_those_with_labels_are(damage, words, pets, tmp_path):
  folder = pathlib.Path(shutil.copytree(pets, tmp_path / "d"))
  damage(folder)
  with pytest.raises(errors.UserError, match=words) as found:
    load_captioned("pets", "train", data_dir=str(folder))
  assert "\n" not in str(found.value)


@pytest.mark.parametrize(
  ("name", "kind", "sentence"),
  [
    ("noto_emojis", errors.UsageError, r"did you mean 'noto_emoji'\?.*scenes_text"),
    ("scene_text", errors.UsageError, r"did you mean 'scenes_text'\?"),
    ("mdi_icons", errors.UserError, "prepare it: python -m experiments.prepare mdi_"),
    ("cifar10", errors.UsageError, "'cifar10' has labels but no captions; sets with"),
    ("scenes_hard", errors.UsageError, "has labels but no captions"),
    ("labelled", errors.UserError, "'labelled' in .* image, label; .*'captions' is"),
  ],
)
def test_names_that_do_not_fit(name, kind, sentence, tmp_path):
  if name == "labelled":
    source = archives.picture_folder(tmp_path / "labelled")
    archives.prepared(name, source, tmp_path, from_folder=True)
  with pytest.raises(kind, match=sentence) as raised:
    load_captioned(name, "train", data_dir=str(tmp_path / "d"))
  assert raised.type is kind


def test_scenes_text_needs_no_preparation():
  for from_folder, sentence in (
    (False, "needs no preparation"),
    (True, "another name"),
  ):
    with pytest.raises(errors.UsageError, match=sentence):
      prepare.run("scenes_text", from_folder=from_folder)
  assert set(captioned.NAMES) == {*captioned.EMBEDDED, *builders.CAPTIONED}
  assert set(builders.CAPTIONED) < set(builders.RECIPES)


def test_prepared_sets_have_images_and_text_alone(pets):
  with pytest.raises(errors.UsageError, match=r"'image_2'.*; known: image, text$"):
    load_captioned("pets", "train", data_dir=str(pets), inputs=["image_2"])


real = pytest.mark.skipif(
  not os.environ.get("CONTRASTIVE_DATA"),
  reason="CONTRASTIVE_DATA names no folder with the real noto_emoji, mdi_icons, ...",
)


@real
@pytest.mark.parametrize(
  ("name", "splits", "captions"),
  [
    ("noto_emoji", {"train": 3189, "test": 341}, 11_329),
    ("mdi_icons", {"train": 6438, "test": 750}, 26_474),
    ("coco_cc", {"test": 464}, 2_321),
  ],
)
def test_real_files(name, splits, captions, tmp_path):
  source = pathlib.Path(os.environ["CONTRASTIVE_DATA"]) / name
  if not source.is_dir():
    pytest.skip(f"no {source}")
  about, _ = archives.prepared(name, source, tmp_path)
  assert about["splits"] == splits and sum(about["captions"].values()) == captions
  parts = [
    load_captioned(name, split, data_dir=str(tmp_path / "d"), image_size=32)
    for split in splits
  ]
  assert sum(len(texts) for part in parts for texts in part.captions) == captions
  assert all(part.skipped == 0 and part.images.std() > 30 for part in parts)
  known = [x.attributes["class"] for x in parts if x.attributes]
  counts = [np.bincount(x[x >= 0]) for x in known]
  classes = {"mdi_icons": [(30, 3658, 55), (30, 418, 2)]}.get(name, [])
  assert [(len(x), x.sum(), x.min()) for x in counts] == classes
  seen = collections.Counter(i for part in parts for i in part.ids)
  assert max(seen.values()) == 1
  digests = [{image.tobytes() for image in part.images} for part in parts]
  assert len(parts) == 1 or not digests[0] & digests[1]
