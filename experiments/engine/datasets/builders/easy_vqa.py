"""easy-VQA: template questions about one coloured shape."""

import functools
import pathlib
from collections.abc import Mapping

from experiments.engine.datasets.builders import formats, questioned, zipped
from experiments.engine.datasets.builders.recipe import (
  File,
  Form,
  Question,
  QuestionPictures,
  Recipe,
)

_KINDS = {
  "yes/no": ("yes", "no"),
  "shape": ("circle", "rectangle", "triangle"),
}


def answer_type(answer: str) -> str:
  """Returns what an answer is: "yes/no", "shape", or else "colour"."""
  return next((kind for kind, words in _KINDS.items() if answer in words), "colour")


def _read(paths: Mapping[str, pathlib.Path]) -> QuestionPictures:
  known = tuple(paths["answers.txt"].read_text("utf-8").split())

  def question(record: dict, key: str) -> Question:
    said, groups = record["answer"], {"answer_type": answer_type(record["answer"])}
    return questioned.ask(key, record["question"], [said], groups, known)

  def asked(split: str) -> list[questioned.Asked]:
    records = zipped.read_records(paths[f"{split}_questions.jsonl.gz"])
    return questioned.by_picture(records, "image", question)

  return QuestionPictures(
    shape=(64, 64, 3),
    splits={
      split: functools.partial(
        questioned.examples, paths["images.zip"], asked(split), formats.as_rgb
      )
      for split in ("train", "test")
    },
    answer_names=known,
    groups=("answer_type",),
  )


RECIPE = Recipe(
  name="easy_vqa",
  title="easy-VQA: 48,248 questions about 5,000 made 64x64 pictures of one shape",
  homepage="https://github.com/vzhou842/easy-VQA",
  licence="MIT",
  citation="Zhou: easy-VQA, a beginner-friendly data set for visual question answering",
  forms=(
    Form(
      files=(
        File(
          "images.zip",
          "2e60f1d3d6f628fca0e44a34fa8a426b5629efa6de7b2ff2a53fd00a193f5cc6",
        ),
        File(
          "train_questions.jsonl.gz",
          "4d3493e00dbfcb8397a2203ef0388c6e2c626a8bd9d05ca35e518b376e7be93f",
        ),
        File(
          "test_questions.jsonl.gz",
          "82b9e408edf8d9adf53a5c0a128e65468650dc258709d10f01814e80466e83be",
        ),
        File(
          "answers.txt",
          "f004fd115e14db5f70a3a4e1b06d89fd76d45d7446a62d12b50ed1ac2a1a824c",
        ),
      ),
      read=_read,
      note=(
        "made by a program, 107 distinct questions with 13 answers; learnable to "
        "nearly 100 %, so it tests that training works and compares nothing"
      ),
    ),
  ),
)
