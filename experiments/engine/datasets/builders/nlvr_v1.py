"""NLVR (v1): sentences that are true or false of a drawing of three boxes."""

import functools
import pathlib
from collections.abc import Mapping

from experiments.engine.datasets.builders import formats, questioned, zipped
from experiments.engine.datasets.builders.recipe import (
  File,
  Form,
  QuestionPictures,
  Recipe,
)
from multimodal.answers import TRUTHS

ORDERS = 6  # of the three boxes; picture k of an example has order k

# Split -> published parts.
_SPLITS = {"train": ("hidden", "dev"), "test": ("test",)}


def _asked(record: dict) -> questioned.Asked:
  part, key = record["split"], record["identifier"]
  stem = f"{part}-{key}"
  groups = {
    "presentation": key.partition("-")[0],
    "part": part,
    "directory": record["directory"],
  }
  truth = [str(record["label"]).lower()]
  return questioned.Asked(
    stem,
    tuple(f"{part}/{stem}-{order}.png" for order in range(ORDERS)),
    (questioned.ask(key, record["sentence"], truth, groups, TRUTHS),),
  )


def _read(paths: Mapping[str, pathlib.Path]) -> QuestionPictures:
  records = zipped.read_records(paths["examples.jsonl.gz"])
  of_parts = lambda parts: [_asked(r) for r in records if r["split"] in parts]
  return QuestionPictures(
    shape=(100, 400, 3),
    splits={
      split: functools.partial(
        questioned.examples, paths["images.zip"], of_parts(parts), formats.as_rgb
      )
      for split, parts in _SPLITS.items()
    },
    pictures=ORDERS,
    answer_names=TRUTHS,
    groups=("presentation", "part", "directory"),
  )


RECIPE = Recipe(
  name="nlvr_v1",
  title="NLVR v1: 2,964 sentences, true or false of a drawing of three boxes",
  homepage="https://lil.nlp.cornell.edu/nlvr/",
  licence="CC BY 4.0",
  citation=(
    "Suhr, Lewis, Yeh, Artzi: A Corpus of Natural Language for Visual Reasoning, ACL "
    "2017"
  ),
  forms=(
    Form(
      files=(
        File(
          "images.zip",
          "143853ce083c792f23252e97a74e8b1ddd2a8b18115e95124a0ff3890e4e0680",
        ),
        File(
          "examples.jsonl.gz",
          "01a211e5c6e9b7db038cf51357281268d3d0a72b252f2aa92e0c99ac4673dca0",
        ),
      ),
      read=_read,
      note=(
        "not the published division: the published training part is absent, so train "
        "is the published hidden test and dev, test the published public test; an "
        "example has six pictures, the same drawing with its boxes in each order; up "
        "to four examples of one presentation share a sentence, and all are in one "
        "split; 214 of 990 test examples have a sentence, and 63 a drawing, that is "
        "also in train, none both"
      ),
    ),
  ),
)
