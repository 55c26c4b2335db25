"""Sets of questions about pictures: four builders, loading, what cannot be used."""

import gzip
import io
import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from experiments import prepare
from experiments.engine import errors
from experiments.engine.datasets import builders, question_sets
from experiments.engine.datasets.builders import questioned, recipe, writer
from experiments.engine.datasets.captioned import load_captioned
from experiments.engine.datasets.question_sets import load_questions
from tests.experiments import archives
from tests.experiments.test_bad_data import DAMAGE

_PROVENANCE = dict(title="t", homepage="h", citation="c", licence="MIT")
raises = lambda kind, words: pytest.raises(kind, match=words)


def flat(number, size=(8, 8), kind="PNG"):
  return archives.encode(np.full((*size, 3), (number, 7, 0), np.uint8), kind)


def palette(number, size):
  """As `flat`, as a PNG with a palette."""
  image = Image.new("P", size[::-1], number)
  image.putpalette([value for i in range(256) for value in (i, 7, 0)])
  stream = io.BytesIO()
  image.save(stream, "PNG")
  return stream.getvalue()


def write_files(folder, archive, pictures, **lines):
  """An archive of pictures, and files of records: NAME__jsonl or NAME__jsonl__gz."""
  folder.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(folder / archive, "w") as opened:
    for name, content in pictures.items():
      opened.writestr(name, content)
  for name, records in lines.items():
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    name = name.replace("__", ".")
    packed = gzip.compress(text, 1) if name.endswith(".gz") else text
    (folder / name).write_bytes(packed)
  return folder


def prepared(name, source, tmp_path, monkeypatch):
  archives.accept_any_checksum(monkeypatch, name)
  return prepare.run(name, source=str(source), data_dir=str(tmp_path / "d"))


def question(key, text="what is it?", *given, **groups):
  return recipe.Question(key, text, given or ("x",), groups)


def write_set(folder, examples, name="pets", side=8, split="train", **options):
  found = [recipe.QuestionExample(*example) for example in examples]
  pictures = recipe.QuestionPictures((side, side, 3), {split: lambda: found}, **options)
  writer.write(name, pictures, _PROVENANCE, str(folder))
  return str(folder)


def numbered(count):
  """Picture i is filled with i; three questions ask for i, i + 1, i + 2."""
  return [
    (
      f"p{i}",
      (flat(i),),
      tuple(
        question(f"p{i}-{k}", f"{i} and {k}?", str(i + k), "zero", kind=f"plus {k}")
        for k in range(3)
      ),
    )
    for i in range(count)
  ]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
  folder = tmp_path_factory.mktemp("pets")
  return write_set(folder, numbered(20), groups=("kind",))


def check_questions(found):
  rows = np.arange(len(found.texts))
  for row, image in zip(rows, found.pictures(rows), strict=True):
    i, k = map(int, found.ids[row].removeprefix("p").split("-"))
    assert (image == (i, 7, 0)).all() and found.texts[row] == f"{i} and {k}?"
    assert found.given[row] == (str(i + k), "zero")
    assert found.answers[row] == str(i + k)
    assert found.groups["kind"][row] == f"plus {k}"


def test_questions_keep_their_pictures_answers_and_groups(pets):
  load = lambda limit=None, **o: load_questions(
    "pets", o.pop("split", "train"), data_dir=pets, limit=limit, **o
  )
  whole, some = load(), load(25)
  check_questions(whole)
  check_questions(some)
  assert len(whole.texts) == 60 and whole.images.shape == (20, 8, 8, 3)
  assert whole.image_index.dtype == np.int32 and whole.image_index.shape == (60,)
  assert whole.labels.tolist() == [-1] * 60 and whole.label_names == ()
  assert whole.describe() == "pets: 60 texts, 20 images of 8 x 8 x 3"
  # Pictures that nothing asks about are not held.
  assert len(some.images) == len(np.unique(some.image_index)) < 20
  assert len(set(some.ids)) == 25 and load(25).ids == some.ids != load(25, seed=1).ids
  assert sorted(some.ids, key=whole.ids.index) == list(some.ids)
  part = load(split="train[:25%]")
  assert part.ids == whole.ids[:15] and len(part.images) == 5
  taken = whole.take(np.array([7, 3]))
  check_questions(taken)
  assert taken.ids == (whole.ids[7], whole.ids[3])
  with raises(errors.UsageError, r"limit of 61 .* has 60"):
    load(61)
  with raises(errors.UsageError, "unknown split of 'pets' 'val'"):
    load(split="val")


def test_pictures_are_scaled_whole_not_cropped(tmp_path):
  wide = np.zeros((4, 16, 3), np.uint8)
  wide[:, :4] = 200  # would be lost with the centre square
  examples = [("w", (archives.encode(wide),), (question("q"),))]
  folder = write_set(tmp_path, examples, side=None)
  load = lambda size: load_questions("pets", "train", data_dir=folder, image_size=size)
  assert load((4, 16)).images.shape == load(None).images.shape == (1, 4, 16, 3)
  square = load(4).images
  assert square.shape == (1, 4, 4, 3) and (square[0, :, 0] > 150).all()
  assert (load([2, 8]).images[0, :, :2] > 150).all()
  for size in (-1, (4,), (4, 0), (4.0, 4)):
    with raises(errors.UsageError, r"is a side or \(height, width\)"):
      load(size)


def pairs(count=30):
  return [
    (f"e{i}", (flat(i), flat(100 + i % 3)), (question(f"e{i}", "alike?", "no"),))
    for i in range(count)
  ]


def test_several_pictures_an_example_each_held_once(tmp_path):
  folder = write_set(tmp_path, pairs(), pictures=2, answer_names=("yes", "no"))
  load = lambda **o: load_questions("pets", "train", data_dir=folder, **o)
  found = load()
  assert found.image_index.shape == (30, 2) and len(found.images) == 33
  left, right = found.images[found.image_index][:, :, 0, 0, 0].T
  assert [f"e{i}" for i in left] == list(found.ids) and (right == 100 + left % 3).all()
  assert found.pictures(np.arange(4)).shape == (4, 2, 8, 8, 3)
  assert found.labels.dtype == np.int32 and set(found.labels) == {1}
  assert found.answers == ("no",) * 30 and found.label_names == ("yes", "no")
  assert found.describe().startswith("pets: 30 texts, 2 answers, 33 images")
  only = load(picture=1)
  assert only.image_index.shape == (30,) and len(only.images) == 3
  assert (only.images[only.image_index][:, 0, 0, 0] == right).all()
  with raises(errors.UsageError, "picture 2 was asked for, but a text of 'pets' has 2"):
    load(picture=2)


def test_what_cannot_be_used_is_skipped_counted_and_said(tmp_path, capsys):
  examples = pairs()
  examples[4] = ("e4", (flat(4), b"no picture"), examples[4][2])
  examples[9] = ("e9", examples[9][1], (question("e9", " "), question("e9b", "?", "")))
  folder = write_set(tmp_path, examples, pictures=2)
  load = lambda **o: load_questions("pets", "train", data_dir=folder, **o)
  reasons = "1 with a picture that cannot be decoded, 2 without a text or an answer"
  said = f"3 of 31 examples of 'train' of 'pets': {reasons}"
  with raises(errors.UserError, f"cannot use {said}; more than 0.01"):
    load()
  assert not capsys.readouterr().err
  found = load(max_skipped=0.1)
  assert capsys.readouterr().err == f"skips {said}\n"
  assert found.skipped == 3 and len(found.texts) == 28
  # The whole picture of the broken pair is idle, so it is not held.
  assert len(found.images) == 28 + 3 == found.image_index.max() + 1
  left = found.images[found.image_index[:, 0]][:, 0, 0, 0]
  assert [f"e{i}" for i in left] == list(found.ids)
  assert load(max_skipped=1.0, picture=0).skipped == 2


@pytest.mark.parametrize(
  "damage, words", DAMAGE, ids=lambda x: getattr(x, "__name__", "")
)
def test_damaged_sets_are_named_as_the_others_are(damage, words, pets, tmp_path):
  folder = pathlib.Path(shutil.copytree(pets, tmp_path / "d"))
  damage(folder)
  words = words.replace("data set 'pets' not found", "'pets'.* not found")
  with raises(errors.UserError, words) as found:
    load_questions("pets", "train", data_dir=str(folder))
  assert "\n" not in str(found.value)


@pytest.mark.parametrize(
  ("name", "kind", "sentence"),
  [
    ("nlvr_v1", errors.UserError, "prepare it: python -m experiments.prepare nlvr_v1"),
    ("nlvr", errors.UsageError, r"did you mean 'nlvr_v1'\?.*sets with questions: "),
    ("coco_cc", errors.UsageError, "'coco_cc' has no questions; sets with questions"),
    ("scenes", errors.UsageError, "'scenes' has no questions"),
    ("labelled", errors.UserError, "'labelled' in .* image, label; .*'questions' is"),
  ],
)
def test_names_that_do_not_fit(name, kind, sentence, tmp_path):
  if name == "labelled":
    source = archives.picture_folder(tmp_path / "labelled")
    archives.prepared(name, source, tmp_path, from_folder=True)
  with raises(kind, sentence) as raised:
    load_questions(name, "train", data_dir=str(tmp_path / "d"))
  assert raised.type is kind
  prepared = set(builders.QUESTIONED)
  assert prepared < set(question_sets.NAMES) and prepared < set(builders.RECIPES)
  with raises(errors.UsageError, "'nlvr_v1' has questions but no captions"):
    load_captioned("nlvr_v1", "train", data_dir=str(tmp_path))


def nlvr_files(folder, parts=("hidden", "dev", "test")):
  """Three examples a part; order k of number i is filled with 6 i + k."""
  records, pictures = [], {}
  for part in parts:
    for i in range(3):
      key, at = f"{10 * len(records)}-{i}", len(records)
      records.append(
        {
          "split": part,
          "identifier": key,
          "directory": "5",
          "sentence": f"There  is {at} ",
          "label": at % 2 == 0,
        }
      )
      for k in range(6):
        name = f"{part}/{part}-{key}-{k}.png"
        pictures[name] = palette(6 * at + k, (100, 400))
  files = {"examples__jsonl__gz": records}
  return write_files(folder, "images.zip", pictures, **files)


def test_nlvr_has_six_orders_and_the_stated_division(tmp_path, monkeypatch):
  about = prepared("nlvr_v1", nlvr_files(tmp_path / "f"), tmp_path, monkeypatch)
  assert about["splits"] == {"train": 6, "test": 3} and about["classes"] == 2
  assert about["pictures"] == 6 and about["shape"] == [100, 400, 3]
  assert "2 answers, 9 questions; each 6 pictures of" in prepare._report("x", about)
  assert "not the published division" in about["note"]
  load = lambda split, **o: load_questions(
    "nlvr_v1", split, data_dir=str(tmp_path / "d"), **o
  )
  for split, parts in (("train", {"hidden", "dev"}), ("test", {"test"})):
    found = load(split, image_size=(10, 40))
    assert found.images.shape[1:] == (10, 40, 3)
    assert set(found.groups["part"]) == parts
    for row, text in enumerate(found.texts):
      at = int(text.removeprefix("There is "))
      colours = found.images[found.image_index[row], 5, 20]
      assert (colours == [(6 * at + k, 7, 0) for k in range(6)]).all()
      assert found.ids[row] == f"{10 * at}-{at % 3}"
      assert found.groups["presentation"][row] == str(10 * at)
      assert found.answers[row] == ("true" if at % 2 == 0 else "false")
      assert found.labels[row] == (at % 2 == 0)
  assert load("test", picture=5).image_index.shape == (3,)


def test_nlvr_with_a_picture_missing_is_refused(tmp_path, monkeypatch):
  source = nlvr_files(tmp_path / "f")
  with zipfile.ZipFile(source / "images.zip") as archive:
    kept = {name: archive.read(name) for name in archive.namelist()[:-1]}
  write_files(source, "images.zip", kept)
  with raises(errors.UserError, r"holds no picture test/test-80-2-5\.png: the files"):
    prepared("nlvr_v1", source, tmp_path, monkeypatch)
  assert not (tmp_path / "d" / "nlvr_v1").exists()
  with raises(errors.UserError, "example e has 1 pictures instead of 2"):
    write_set(tmp_path, [("e", (flat(1),), (question("q"),))], pictures=2)


def test_questions_of_clinicians_keep_grey_pictures_and_types(tmp_path, monkeypatch):
  grey = lambda number: archives.encode(
    np.full((20, 30 + number), number, np.uint8), "JPEG"
  )
  record = lambda qid, split, image, answer, kind: {
    **{"qid": qid, "split": split, "image": image, "question": f" q\n{qid} "},
    **{"answer": answer, "answer_type": kind, "question_type": "PRES"},
    **{"phrase_type": "freeform", "organ": "HEAD"},
  }
  records = [
    record("0", "train", "a.jpg", "Yes", "CLOSED"),
    record("1", "test", "a.jpg", "Left  side", "OPEN"),
    record("2", "train", "b.jpg", "No", "CLOSED"),
    record("3", "train", "a.jpg", "CT", "OPEN"),
  ]
  pictures = {"a.jpg": grey(90), "b.jpg": grey(30), "unasked.jpg": grey(1)}
  source = write_files(
    tmp_path / "f", "images_256.zip", pictures, **{"qa__jsonl": records}
  )
  about = prepared("vqa_rad", source, tmp_path, monkeypatch)
  assert about["splits"] == {"train": 2, "test": 1} and about["classes"] == 0
  assert about["questions"] == {"train": 3, "test": 1} and about["shape"][-1] == 1
  assert "202 of the 203 test pictures are also in train" in about["note"]
  load = lambda split: load_questions(
    "vqa_rad", split, data_dir=str(tmp_path / "d"), image_size=8
  )
  train, test = load("train"), load("test")
  said = dict(zip(train.ids, zip(train.texts, train.answers, strict=True), strict=True))
  assert said == {"0": ("q 0", "Yes"), "3": ("q 3", "CT"), "2": ("q 2", "No")}
  kinds = dict(zip(train.ids, train.groups["answer_type"], strict=True))
  assert kinds == {"0": "CLOSED", "3": "OPEN", "2": "CLOSED"}
  assert set(train.groups) == {"answer_type", "question_type", "phrase_type", "organ"}
  shades = {
    key: int(train.images[i, 4, 4, 0])
    for key, i in zip(train.ids, train.image_index, strict=True)
  }
  assert shades == {"0": 90, "3": 90, "2": 30} and len(train.images) == 2
  assert test.texts == ("q 1",) and test.given == (("Left side",),)
  assert (train.images.std(axis=-1) == 0).all()


def easy_files(folder, answer="red"):
  asked = lambda split: [
    {"image": f"{split}/{i}.png", "question": f"q{i}{said}", "answer": said}
    for i in range(3)
    for said in ("yes", "circle", answer)
  ]
  pictures = {
    f"{split}/{i}.png": palette(i, (64, 64))
    for split in ("train", "test")
    for i in range(3)
  }
  files = {f"{s}_questions__jsonl__gz": asked(s) for s in ("train", "test")}
  write_files(folder, "images.zip", pictures, **files)
  (folder / "answers.txt").write_text("circle\nyes\nred\n")
  return folder


def test_easy_questions_have_a_closed_list_of_answers(tmp_path, monkeypatch):
  about = prepared("easy_vqa", easy_files(tmp_path / "f"), tmp_path, monkeypatch)
  assert about["splits"] == {"train": 3, "test": 3} and about["classes"] == 3
  found = load_questions("easy_vqa", "test", data_dir=str(tmp_path / "d"))
  assert found.label_names == ("circle", "yes", "red") and len(found.texts) == 9
  assert found.answers == tuple(found.label_names[label] for label in found.labels)
  named = zip(found.ids, found.answers, strict=True)
  assert found.texts == tuple(f"q{key[0]}{answer}" for key, answer in named)
  assert set(zip(found.answers, found.groups["answer_type"], strict=True)) == {
    ("yes", "yes/no"),
    ("circle", "shape"),
    ("red", "colour"),
  }


def test_an_answer_outside_the_list_is_refused(tmp_path, monkeypatch):
  source = easy_files(tmp_path / "f", answer="rad")
  with raises(
    errors.UserError, r"question 0-2 has the answer 'rad', .* 3 .*mean 'red'"
  ):
    prepared("easy_vqa", source, tmp_path, monkeypatch)
  for text, said, words in ((" ", "x", "7 has no text"), ("?", " ", "7 has no answer")):
    with raises(errors.UserError, f"question {words}"):
      questioned.ask("7", text, [said], {})


def coco_records():
  sentence = lambda file, text, label, source="sugar_crepe", split="train": {
    **{"file": file, "sentence": text, "label": label, "source": source},
    **{"split": split, "type": "add_att"},
  }
  return [
    sentence("1.jpg", "a cat", True),
    sentence("1.jpg", "a dog", False),
    sentence("2.jpg", "a car under a cat", False, "vsr", "test"),
    sentence("1.jpg", "a cat", True),
    sentence("1.jpg", "a red cat", False),
  ]


def test_sentences_about_photographs_come_in_pairs(tmp_path, monkeypatch):
  pictures = {f"{i}.jpg": flat(90, (20, 30), "JPEG") for i in (1, 2)}
  lines = {"entailment__jsonl": coco_records()}
  source = write_files(tmp_path / "f", "images_320.zip", pictures, **lines)
  about = prepared("coco_entailment", source, tmp_path, monkeypatch)
  assert about["splits"] == {"train": 1, "test": 1}
  assert about["questions"] == {"train": 4, "test": 1}
  load = lambda split: load_questions(
    "coco_entailment", split, data_dir=str(tmp_path / "d")
  )
  train, test = load("train"), load("test")
  assert train.label_names == ("false", "true")
  assert train.labels.tolist() == [1, 0, 1, 0] and test.labels.tolist() == [0]
  assert train.texts == ("a cat", "a dog", "a cat", "a red cat")
  assert train.groups["pair"] == ("0", "0", "1", "1") and test.groups["pair"] == ("2",)
  assert test.groups["source"] == ("vsr",) and train.ids[3] == "1-3"


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda r: r.pop(1), "'a cat' about 1.jpg is not followed by its negative"),
    (lambda r: r.pop(), "'a cat' about 1.jpg is not followed"),
    (lambda r: r[2].update(label="maybe"), "the answer 'maybe', which is not one of"),
    (lambda r: r[2].update(file="3.jpg"), "holds no picture 3.jpg"),
  ],
)
def test_damaged_sentences_are_refused(change, words, tmp_path, monkeypatch):
  records = coco_records()
  change(records)
  pictures = {f"{i}.jpg": flat(90, (20, 30), "JPEG") for i in (1, 2)}
  lines = {"entailment__jsonl": records}
  source = write_files(tmp_path / "f", "images_320.zip", pictures, **lines)
  with raises(errors.UserError, words):
    prepared("coco_entailment", source, tmp_path, monkeypatch)
