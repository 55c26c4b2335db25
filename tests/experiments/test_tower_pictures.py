import dataclasses
import sys
import types

import numpy as np
import pytest

from configs import pretrain as pretrain_config
from configs import towers as towers_config
from experiments import pretrain
from experiments.engine import errors, record, task_run
from experiments.engine.evaluation import paired
from experiments.engine.pretraining import pairs, tower_illustration
from experiments.engine.reporting import (
  curves,
  pictures,
  run_page,
  tower_page,
  tower_pictures,
)
from multimodal import tokenizer

CAPTIONS = (("a red $disc", "red"), ("one blue disc$",), ("a star",), ("stars", "2"))


def unit(rows):
  return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def image_text_set(n=4):
  """Pictures and captions whose embeddings agree, with three classes."""
  rng = np.random.default_rng(0)
  captions = [CAPTIONS[i % 4] for i in range(n)]
  labels = (np.arange(n) % 3).astype(np.int32)
  pixels = rng.integers(0, 255, (n, 8, 8, 3), np.uint8)
  texts = pairs.make_texts(captions, tokenizer.load(), 8)
  columns = {"text": texts, "image": pairs.Images(pixels)}
  attributes = {"class": labels, "shape": labels % 2, "style": labels[:, None]}
  found = pairs.PairSet("x", columns, labels, ("disc", "star", "moon"), attributes)
  rows = unit(rng.normal(size=(n, 5))).astype(np.float32)
  example = texts.example()
  split = paired.Split(
    {
      "text": paired.TowerTable({"shared": rows[example]}, example),
      "image": paired.TowerTable({"shared": rows}, np.arange(n)),
    },
    attributes,
  )
  return split, found


def vector_set(n=6):
  rng = np.random.default_rng(1)
  rows = rng.normal(size=(3, n, 4)).astype(np.float32)
  columns = {name: pairs.Vectors(x) for name, x in zip("abc", rows, strict=True)}
  found = pairs.PairSet("toy", columns, np.full(n, -1, np.int32))
  tables = {
    name: paired.TowerTable({"shared": unit(x)}, np.arange(n))
    for name, x in zip("abc", rows, strict=True)
  }
  return paired.Split(tables, {}), found


def words(figure):
  """All that is written in a figure, and by weight."""
  texts = [*figure.texts, *(ax.xaxis.label for ax in figure.axes)]
  return [(text.get_text(), text.get_fontweight()) for text in texts]


def test_ranks_are_those_of_a_loop_over_all_keys():
  rng = np.random.default_rng(2)
  queries, keys = rng.normal(size=(4, 3)), 7 * rng.normal(size=(9, 3))
  group = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
  rankings = tower_pictures.rank_keys(queries, keys, np.array([0, 1, 2, 2]), group, 5)
  for query, wanted, found in zip(queries, (0, 1, 2, 2), rankings, strict=True):
    cosine = [q @ k / np.sqrt((q @ q) * (k @ k)) for k in keys for q in [query]]
    order = sorted(range(9), key=lambda i: -cosine[i])
    assert found.keys.tolist() == order[:5]
    np.testing.assert_allclose(found.cosines, [cosine[i] for i in order[:5]])
    assert found.right.tolist() == [group[i] == wanted for i in order[:5]]
    first = next(i for i in order if group[i] == wanted)
    assert found.nearest_right == first and found.rank == order.index(first) + 1


def test_fewer_keys_than_asked_for_are_all_shown():
  (found,) = tower_pictures.rank_keys(
    np.eye(1, 2), np.eye(2), np.zeros(1), np.arange(2), 5
  )
  assert found.keys.tolist() == [0, 1] and found.rank == 1


def test_the_plane_holds_the_largest_eigenvalues_of_the_covariance():
  rng = np.random.default_rng(3)
  rows = rng.normal(size=(50, 6)) * np.array([1, 4, 1, 2, 1, 1]) + 3
  plane = tower_pictures.principal_plane(rows)
  values, vectors = np.linalg.eigh(np.cov(rows.T))
  np.testing.assert_allclose(plane.shares, values[::-1][:2] / values.sum())
  turned = np.abs(plane.axes @ vectors[:, ::-1][:, :2])
  np.testing.assert_allclose(turned, np.eye(2), atol=1e-12)
  np.testing.assert_allclose(plane.share_of(rows), plane.shares.sum())
  np.testing.assert_allclose(plane.points(rows).mean(axis=0), 0, atol=1e-12)
  assert (plane.axes.max(axis=1) == np.abs(plane.axes).max(axis=1)).all()


def test_the_explained_share_is_that_of_the_group_means():
  labels = np.array([0, 0, 1, 1])
  points = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
  assert tower_pictures.explained_share(points, labels) == 0.5
  assert tower_pictures.explained_share(points, np.arange(4)) == 1
  assert tower_pictures.explained_share(np.ones((4, 2)), labels) == 0


def test_a_group_named_for_a_colour_is_drawn_in_one_like_it():
  plane = tower_pictures.principal_plane(np.eye(3))
  points = {"a": plane.points(np.eye(3))}
  draw = lambda *names: [
    tuple(np.round(255 * x.get_facecolor()[0, :3]).astype(int).tolist())
    for x in tower_pictures.embedding_map(points, plane, np.arange(3), names)
    .axes[0]
    .collections
  ]
  red, blue, green = draw("red", "blue", "green")
  assert max(red) == red[0] and max(blue) == blue[2] and max(green) == green[1]
  assert draw("red", "star", "moon") == draw("a", "b", "c") != [red, blue, green]


def test_a_collapsed_tower_has_a_map():
  plane = tower_pictures.principal_plane(np.ones((4, 3)))
  assert plane.shares.tolist() == [0, 0] and plane.share_of(np.ones((2, 3))) == 0
  places = {"a": plane.points(np.ones((4, 3)))}
  assert curves.encode(tower_pictures.embedding_map(places, plane), "png")


def test_right_answers_bear_a_tick_bold_type_and_a_frame():
  split, found = image_text_set()
  made = {x.name: x for x in tower_illustration.draw_towers(split, found)}
  assert list(made) == [
    "retrieval_image_to_text",
    "retrieval_text_to_image",
    "embedding_map",
    "similarity_image_text",
  ]
  captions = words(made["retrieval_image_to_text"].figure)
  # Six captions of four pictures, whose own have cosine 1; five are shown.
  assert captions.count(("✓", "bold")) == 6 and captions.count(("1.00", "bold")) == 6
  assert ("a red $disc", "bold") in captions
  assert "4 of 4 find one, 4 in first place" in made["retrieval_image_to_text"].caption
  images = made["retrieval_text_to_image"].figure
  assert words(images).count(("✓ 1.00", "bold")) == 4
  framed = [ax.spines["left"].get_linewidth() > 1 for ax in images.axes]
  assert sum(framed) == 4 and framed == [i % 4 == 0 for i in range(16)]


def test_what_is_not_among_the_first_is_shown_with_its_rank():
  split, found = image_text_set(8)
  images = split.towers["image"]
  away = {"shared": -images.parts["shared"]}  # the own one is the farthest
  split.towers["image"] = images._replace(parts=away)
  made = {x.name: x for x in tower_illustration.draw_towers(split, found)}
  said = [text for text, _ in words(made["retrieval_text_to_image"].figure)]
  assert said.count("own: rank 8") == 6
  said = [text for text, _ in words(made["retrieval_image_to_text"].figure)]
  assert sum("its nearest own caption has rank" in text for text in said) == 6
  assert "0 of 6 find one" in made["retrieval_image_to_text"].caption


def test_the_map_is_coloured_by_few_values_and_the_matrix_sorted_by_class():
  split, found = image_text_set(7)
  made = {x.name: x for x in tower_illustration.draw_towers(split, found)}
  caption, (left, right) = (
    made["embedding_map"].caption,
    made["embedding_map"].figure.axes,
  )
  plane = tower_pictures.principal_plane(split.towers["image"].parts["shared"])
  places = plane.points(split.towers["image"].parts["shared"])
  share = tower_pictures.explained_share(places, found.labels)
  assert "Colour and marker: class, which" in caption and f"({share:.0%} of" in caption
  assert [len(x.get_offsets()) for x in left.collections] == [3, 2, 2]
  assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
  ax, bar = made["similarity_image_text"].figure.axes
  assert [x.get_text() for x in ax.get_yticklabels()] == ["disc", "star", "moon"]
  matrix = np.asarray(ax.images[0].get_array())
  chosen = [0, 3, 6, 1, 4, 2, 5]
  rows = split.towers["image"].parts["shared"][chosen].astype(np.float64)
  np.testing.assert_allclose(matrix, rows @ rows.T, atol=1e-6)
  low, high = ax.images[0].get_clim()
  assert low <= matrix.min() and bar.get_ylabel() == "cosine"
  said = f"from {low:.1f} (dark) to {high:.1f} (bright)"
  assert said in made["similarity_image_text"].caption


def test_towers_without_pictures_or_attributes_have_map_and_matrices():
  made = tower_illustration.draw_towers(*vector_set())
  names = ["embedding_map", "similarity_a_b", "similarity_a_c"]
  assert [x.name for x in made] == names
  assert len(made[0].figure.axes) == 3 and not made[0].figure.legends
  assert "Colour" not in made[0].caption and "in their order" in made[1].caption


def test_a_matrix_shows_the_examples_that_have_a_class():
  split, found = image_text_set(8)
  labels = np.where(np.arange(8) < 5, -1, found.labels)
  for known, words in (
    (labels, "of 3 test examples, the first of each class"),
    (np.full(8, -1), "of 8 test examples, in their order"),
  ):
    shown = dataclasses.replace(found, labels=known, attributes={"class": known})
    made = tower_illustration.draw_towers(split, shown)
    assert words in made[-1].caption and "Colour" not in made[-2].caption


def test_pictures_are_the_same_bytes_twice_and_are_found_again(tmp_path):
  assert pictures.read_pictures(tmp_path) == []
  folders = tmp_path / "a", tmp_path / "b"
  for folder in folders:
    made = tower_illustration.draw_towers(*vector_set())[:2]
    pictures.write_pictures(made, folder)
  files = ["embedding_map.png", "embedding_map.svg", "pictures.json"]
  assert sorted(x.name for x in folders[0].iterdir()) == [*files, "similarity_a_b.png"]
  for path in folders[0].iterdir():
    assert path.read_bytes() == (folders[1] / path.name).read_bytes()
  found = pictures.read_pictures(folders[0])
  assert [x.name for x, _ in found] == ["embedding_map.svg", "similarity_a_b.png"]
  assert found[1][1] == made[1].caption
  found[1][0].unlink()
  assert pictures.read_pictures(folders[0]) == found[:1]


def test_embeddings_that_are_not_finite_are_a_sentence():
  split, found = image_text_set()
  split.towers["text"].parts["shared"][0, 0] = np.nan
  with pytest.raises(errors.UserError, match="'text' are not finite"):
    tower_illustration.draw_towers(split, found)


@pytest.mark.parametrize("make", [image_text_set, vector_set])
def test_no_matplotlib_is_a_sentence(make, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  monkeypatch.delitem(sys.modules, "experiments.engine.reporting.drawing", False)
  with pytest.raises(errors.UserError, match="need matplotlib"):
    tower_illustration.draw_towers(*make())


def final_numbers():
  """A summary with a number of every kind, all different."""
  names = [
    "train/step",
    "train/loss",
    "train/term/image_to_text",
    "image_to_text/recall@1",
    "image_to_text/median_rank",
    "zero_shot/top1",
    "chance/class",
    "chance/pose",
    "probe/image/class/shared",
    "probe/image/pose/both",
    "probe/text/class/features",
    "fewshot_1/image/class/shared",
    "fewshot_20/image/class/shared",
    "geometry/image_text/modality_gap",
    "geometry/image/uniformity",
    "untrained/image_to_text/recall@1",
    "minutes/total",
    "of_tomorrow",
  ]
  final = {name: (i + 3) / 64 for i, name in enumerate(names)}
  low = {"probe/image/class/shared_low": final["probe/image/class/shared"] - 0.01}
  return final | low


def test_every_number_of_a_summary_is_in_a_table_once():
  final = final_numbers()
  tables = tower_page.tower_tables(final)
  cells = [x for t in tables for row in t.rows for x in row if isinstance(x, float)]
  for name, value in final.items():
    times = 2 if name == "chance/class" else 1  # beside the probes of both towers
    assert cells.count(value) == (0 if name.endswith("_low") else times), name
  assert tables[-1].rows == [["of_tomorrow", final["of_tomorrow"]]]
  probes = next(t for t in tables if "probes on the image tower" in t.caption)
  assert probes.headers == [
    "attribute",
    "shared",
    "shared and specific",
    "commonest label",
  ]
  assert [row[0] for row in probes.rows] == ["class", "pose"]
  assert "within ±0.010" in probes.caption
  assert any(t.caption.startswith("Before training. Retrieval") for t in tables)


def write_records(folder, config, final):
  record.write_json(folder / "run.json", {"config": record.config_dict(config)})
  record.write_json(folder / "summary.json", final)
  line = {"step": 1, "loss": 2.0, "scale": 14.0, "term/image_to_text": 1.0}
  (folder / "metrics.jsonl").write_text(f"{line}\n".replace("'", '"'))


def test_the_page_of_towers_is_made_of_records_and_pictures_alone(tmp_path):
  config = towers_config.get_config("smoke")
  config.structures.bridge.weight = 0.5
  write_records(tmp_path, config, final_numbers())
  pictures.write_pictures(tower_illustration.draw_towers(*image_text_set()), tmp_path)
  page = run_page.write_run_page(str(tmp_path)).read_text(encoding="utf-8")
  assert "Towers (image, text) with info_nce, two terms + bridge × 0.5" in page
  assert page.count("<figure>") == 5 and page.count('alt="Cosines of 4') == 1
  assert 'src="data:' in page and 'src="retrieval' not in page


def test_the_page_of_images_is_as_it_was(tmp_path):
  config = pretrain_config.get_config("smoke")
  write_records(tmp_path, config, {"probe/top1": 0.5, "other": 1})
  page = run_page.write_run_page(str(tmp_path)).read_text(encoding="utf-8")
  assert "<h1>simclr with info_nce on scenes</h1>" in page
  assert "linear probe, top-1" in page and "<nav" not in page


def test_a_failure_of_drawing_does_not_lose_the_numbers(tmp_path, monkeypatch):
  config = pretrain_config.get_config("smoke")

  def illustrate(variables, folder):
    assert variables["params"] == {"w": 1} and not (folder / "summary.json").exists()
    raise errors.UserError("no paint")

  task = types.SimpleNamespace(
    objective=types.SimpleNamespace(chance=lambda n: None),
    evaluate=lambda variables, before, folder: {"probe/top1": 0.5},
    untrained=False,
    illustrate=illustrate,
  )
  state = types.SimpleNamespace(params={"network": {"w": 1}}, batch_stats={})
  monkeypatch.setattr(task_run, "build_task", lambda *x: task)
  monkeypatch.setattr(task_run, "_train", lambda *x: state)
  with pytest.raises(errors.UserError, match="no paint"):
    pretrain.run(config, str(tmp_path))
  final = pretrain.run(config, str(tmp_path))  # complete, but for the page
  assert final["probe/top1"] == 0.5 and (tmp_path / "report.html").exists()
