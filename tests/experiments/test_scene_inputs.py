"""Scenes as a set with captions: made from ids, with several inputs of each."""

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.datasets import captioned, scene_inputs
from experiments.engine.datasets.captioned import load_captioned
from multimodal import scenes


@pytest.mark.parametrize(
  "name, most, zoom",
  [("scenes_text_easy", 1, 1.7), ("scenes_text", 2, 1.0), ("scenes_text_hard", 4, 1.0)],
)
def test_scenes_are_those_of_their_ids(name, most, zoom, monkeypatch):
  load = lambda split, **o: load_captioned(name, split, **o)
  level = scenes.Crowd(counts=(1, most), zoom=zoom)
  monkeypatch.setattr(scene_inputs, "_CHUNK", 5)
  first = load("train[:8]")
  ids = np.arange(8)
  assert first.images.shape == (8, 64, 64, 3) and first.ids == tuple("01234567")
  np.testing.assert_array_equal(first.images, scenes.paint(ids, level=level).images)
  assert first.captions == tuple(map(tuple, scenes.captions(ids, level=level)))
  assert {len(captions) for captions in first.captions} == {5}
  expected = scenes.attributes(ids, level=level)
  assert first.attributes.keys() == expected.keys() == first.label_names.keys()
  for key, labels in first.attributes.items():
    np.testing.assert_array_equal(labels, expected[key])
    assert labels.dtype == np.int32 and len(labels) == 8
    assert 0 <= labels.min() and labels.max() < len(first.label_names[key])
  # The word of a label is what the factor behind it is called.
  shapes = [first.label_names["shape"][k] for k in first.attributes["shape"]]
  classes = [first.label_names["class"][k] for k in first.attributes["class"]]
  assert [name.split()[1] for name in classes] == shapes
  later = load("train[4:12]", image_size=16)
  assert later.images.shape == (8, 16, 16, 3) and later.ids[:4] == first.ids[4:]
  assert later.captions[:4] == first.captions[4:]
  far = load("train[2000000000:2000000002]", image_size=16)
  assert far.ids == ("2000000000", "2000000001")
  some = load("test", limit=6, image_size=16)
  assert all(2**31 <= int(known) < 2**31 + 4000 for known in some.ids)
  assert load("test", limit=6, image_size=16).ids == some.ids
  assert load("test", limit=6, image_size=16, seed=1).ids != some.ids
  taken = some.take(np.array([5, 0]))
  assert (taken.attributes["style"] == some.attributes["style"][[5, 0]]).all()
  for split, options, sentence in (
    ("valid", {}, f"unknown split of '{name}' 'valid'"),
    ("train[5:5]", {}, "is empty or reaches beyond"),
    ("test[:9]", {"limit": 10}, r"limit of 10 .* has 9"),
    ("test[:9]", {"image_size": 8}, "image_size of at least 16, not 8"),
  ):
    with pytest.raises(errors.UsageError, match=sentence):
      load(split, **options)
  with pytest.raises(errors.UserError, match="are held in memory"):
    load("train[:2000000000]", image_size=256)


def test_scenes_have_further_inputs(monkeypatch):
  """A second picture and German captions, with labels of their own; made if asked."""
  load = lambda **o: load_captioned("scenes_text", "train[:12]", image_size=16, **o)
  level, ids = captioned.EMBEDDED["scenes_text"], np.arange(12)
  painted = []
  paint = scenes.paint
  record = lambda *args, **o: painted.append(o["take"]) or paint(*args, **o)
  monkeypatch.setattr(scenes, "paint", record)
  for inputs, takes in (
    (("text", "text_de"), []),
    (("image", "image_2", "image"), [0, 1]),
    (("image_2",), [1]),
  ):
    painted.clear()
    found = load(inputs=inputs)
    assert painted == takes and set(found.inputs) == set(inputs)
    assert set(found.own) == set(inputs) - {"image", "text"}
  both = load(inputs=captioned.known_inputs("scenes_text"))
  second = paint(ids, size=16, level=level, take=1).images
  np.testing.assert_array_equal(both.inputs["image_2"], second)
  german = scenes.captions(ids, level=level, language="de")
  assert both.inputs["text_de"] == tuple(map(tuple, german))
  assert both.languages == {"text": "en", "text_de": "de"}
  assert both.captions == load().captions and (both.images == load().images).all()
  taken = both.take(np.array([7, 1]))
  for name, keys, options in (
    ("image_2", {"pose", "background"}, {"take": 1}),
    ("text_de", {"style"}, {"language": "de"}),
  ):
    assert set(both.own[name]) == keys
    expected = scenes.attributes(ids, level=level, **options)
    for key in keys:
      np.testing.assert_array_equal(both.own[name][key], expected[key])
      np.testing.assert_array_equal(taken.own[name][key], expected[key][[7, 1]])
  assert taken.inputs["text_de"] == tuple(tuple(german[row]) for row in (7, 1))
  np.testing.assert_array_equal(taken.inputs["image_2"], second[[7, 1]])
  assert both.describe() == (
    "scenes_text: 12 images of 16 x 16 x 3, 12 images of 16 x 16 x 3 (image_2), "
    "60 captions, 60 captions (text_de)"
  )
  with pytest.raises(errors.UsageError, match=r"unknown input of 'scenes_text' 'texd'"):
    load(inputs=["image", "texd"])


def test_painting_for_long_says_so_once(monkeypatch, capsys):
  load = lambda: load_captioned("scenes_text", "test[:30]", image_size=16)
  quiet = load()
  assert not capsys.readouterr().err
  monkeypatch.setattr(scene_inputs, "_PATIENCE", -1.0)
  monkeypatch.setattr(scene_inputs, "_CHUNK", 10)
  said = load()
  assert capsys.readouterr().err == "paints 30 pictures of 'scenes_text': 0:00 left\n"
  np.testing.assert_array_equal(said.images, quiet.images)
