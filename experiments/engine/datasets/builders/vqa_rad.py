"""VQA-RAD: questions of clinicians about radiological pictures."""

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

_GROUPS = ("answer_type", "question_type", "phrase_type", "organ")


def _question(record: dict, unused: str) -> Question:
  del unused  # they have names of their own
  groups = {name: record[name] for name in _GROUPS}
  return questioned.ask(record["qid"], record["question"], [record["answer"]], groups)


def _read(paths: Mapping[str, pathlib.Path]) -> QuestionPictures:
  records = zipped.read_records(paths["qa.jsonl"])
  of_split = lambda split: (r for r in records if r["split"] == split)
  return QuestionPictures(
    shape=(None, None, 1),
    splits={
      split: functools.partial(
        questioned.examples,
        paths["images_256.zip"],
        questioned.by_picture(of_split(split), "image", _question),
        formats.as_grey,
      )
      for split in ("train", "test")
    },
    groups=_GROUPS,
  )


RECIPE = Recipe(
  name="vqa_rad",
  title="VQA-RAD: 2,248 questions of clinicians about 314 radiological pictures",
  homepage="https://osf.io/89kps/",
  licence="CC0 1.0",
  citation=(
    "Lau, Gayen, Ben Abacha, Demner-Fushman: A dataset of clinically generated visual "
    "questions and answers about radiology images, Scientific Data 5:180251, 2018"
  ),
  forms=(
    Form(
      files=(
        File(
          "images_256.zip",
          "cd771fb1fba54c6d0e7ec209d0ba2ea2ee2cd522831db90f215cc1238178e23f",
        ),
        File(
          "qa.jsonl",
          "9e7c6b2ae1bd3686c90976dbce45557965d98bfd5e370aefdb3027c91834054a",
        ),
      ),
      read=_read,
      note=(
        "grey, at most 256 px a side, without the one picture that has no question; "
        "the official division, in which 202 of the 203 test pictures are also in "
        "train (with other questions but for one), so that test says little of new "
        "pictures; one answer a question; types as published, a few of them misspelt"
      ),
    ),
  ),
)
