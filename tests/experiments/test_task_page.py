"""What a fine-tuning run's page shows, and how pictures are shaded."""

import numpy as np
import pytest

from experiments.engine.finetuning.shown import rows_shown
from experiments.engine.reporting import question_pictures, task_page
from experiments.engine.reporting.question_pictures import Example, answers_shown


def test_a_patch_is_as_bright_as_it_is_looked_at():
  pixels = np.full((8, 12, 3), 200, np.uint8)
  attention = np.array([[0.0, 0.1, 0.2], [0.4, 0.2, 0.0]])
  found = question_pictures.shade(pixels, attention, 0.4)
  assert found.shape == pixels.shape and found.dtype == np.uint8
  for row in range(2):
    for column in range(3):
      patch = found[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
      light = 0.25 + 0.75 * attention[row, column] / 0.4
      assert np.unique(patch).tolist() == [round(200 * light)]
  # Nothing is looked at: dark, not a division by zero.
  assert question_pictures.shade(pixels, attention * 0, 0.0).max() == 50


def test_a_sheet_has_all_pictures_and_answers():
  images = np.zeros((2, 16, 16, 3), np.uint8)
  maps = np.full((2, 2, 2), 0.1)
  examples = [
    Example(images, maps, "both show $a star", "true", "true", True),
    Example(images[:1], None, "a " * 200, "false", "true", False),
  ]
  fig = answers_shown(examples)
  words = [text.get_text() for text in fig.texts]
  assert len(fig.axes) == 4 + 1
  assert "✓ model: true" in words and "model: true" in words
  assert "data: true" in words and "data: false" in words
  assert any("$a star" in text for text in words)
  assert max(len(text.split("\n")) for text in words) <= 3


def test_examples_are_taken_evenly():
  assert rows_shown(3).tolist() == [0, 1, 2]
  assert rows_shown(4000)[[0, -1]].tolist() == [0, 3999] and len(rows_shown(4000)) == 8


@pytest.mark.parametrize(
  ("config", "title"),
  [
    (
      {"method": "answering", "sees": "both", "init_from": "a"},
      "Answers in words on x",
    ),
    (
      {"method": "judging", "sees": "text", "init_from": ""},
      "Judging from the text alone on x, from scratch",
    ),
    (
      {"method": "assigning", "init_from": "a"},
      "Assignment of texts to pictures on x",
    ),
  ],
)
def test_the_title_says_what_was_seen(config, title):
  assert task_page.task_title(config | {"data": {"name": "x"}}) == title


def test_tables_have_intervals_and_kinds():
  final = {"examples": 40.0, "answerable": 0.9, "train/loss": 1.0, "minutes/total": 2.0}
  for name, share in (("accuracy", 0.5), ("accuracy/kind/both", 0.25)):
    final |= {name: share, f"{name}_low": share - 0.1, f"{name}_high": share + 0.1}
  final["accuracy/kind/both/examples"] = 8.0
  main, kinds, others = task_page.task_tables(final)
  assert main[1] == [["accuracy", 0.5, 0.4, 0.6]] and "40 examples" in main[2]
  assert kinds[1] == [["kind: both", 0.25, 0.15, 0.35, 8]]
  assert ["answerable", 0.9] in others[1] and "answerable" in others[2]
  panels = task_page.task_panels([{"step": 1, "loss": 2.0, "accuracy": 0.5}], 0.7)
  assert [panel.lines for panel in panels] == [{"chance": 0.7}, {}]
