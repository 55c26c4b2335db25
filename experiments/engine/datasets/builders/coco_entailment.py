"""True and false sentences about photographs of COCO (SugarCrepe and VSR)."""

import functools
import itertools
import pathlib
from collections.abc import Mapping

from experiments.engine import errors
from experiments.engine.datasets.builders import formats, questioned, zipped
from experiments.engine.datasets.builders.recipe import (
  File,
  Form,
  Question,
  QuestionPictures,
  Recipe,
)
from multimodal.answers import TRUTHS

_GROUPS = ("source", "type", "pair")


def _number_pairs(records: list[dict]) -> list[dict]:
  """Adds a "pair" to each record: one for a caption and the hard negative after it.

  SugarCrepe's sentences come in such pairs; a sentence of VSR stands alone.

  Raises:
    UserError: a caption of SugarCrepe without its negative.
  """
  paired = [record for record in records if record["source"] == "sugar_crepe"]
  numbers = itertools.count()
  pairs = {}
  for caption, negative in itertools.zip_longest(paired[::2], paired[1::2]):
    belong = negative is not None and caption["file"] == negative["file"]
    if not belong or (caption["label"], negative["label"]) != (True, False):
      raise errors.UserError(
        f"the sentence '{caption['sentence']}' about {caption['file']} is not followed "
        "by its negative: the records are damaged"
      )
    pairs[id(caption)] = pairs[id(negative)] = next(numbers)
  return [
    record | {"pair": str(pairs[id(record)] if id(record) in pairs else next(numbers))}
    for record in records
  ]


def _question(record: dict, key: str) -> Question:
  groups = {name: record[name] for name in _GROUPS}
  truth = [str(record["label"]).lower()]
  return questioned.ask(key, record["sentence"], truth, groups, TRUTHS)


def _read(paths: Mapping[str, pathlib.Path]) -> QuestionPictures:
  records = _number_pairs(zipped.read_records(paths["entailment.jsonl"]))
  of_split = lambda split: (r for r in records if r["split"] == split)
  return QuestionPictures(
    shape=(None, None, 3),
    splits={
      split: functools.partial(
        questioned.examples,
        paths["images_320.zip"],
        questioned.by_picture(of_split(split), "file", _question),
        formats.as_rgb,
      )
      for split in ("train", "test")
    },
    answer_names=TRUTHS,
    groups=_GROUPS,
  )


RECIPE = Recipe(
  name="coco_entailment",
  title="COCO entailment: 1,574 true and false sentences about 176 photographs",
  homepage="https://github.com/RAIVNLab/sugar-crepe",
  licence=(
    "sentences of SugarCrepe MIT, of VSR Apache-2.0; each photograph its own: "
    "BY-NC-SA 72, BY 55, BY-NC 28, BY-SA 21; images.jsonl of coco_cc names licence and "
    "source of each"
  ),
  citation=(
    "Hsieh, Zhang, Ma, Kembhavi, Krishna: SugarCrepe, NeurIPS 2023; Liu, Emerson, "
    "Collier: Visual Spatial Reasoning, TACL 2023; Lin et al.: Microsoft COCO, 2014"
  ),
  forms=(
    Form(
      files=(
        File(
          "images_320.zip",
          "e1b377f64d055b647d70751d30051c95279ad50d0dfab28007db619e52293e8b",
        ),
        File(
          "entailment.jsonl",
          "2d7e3f49d40bd3ad3e9a0522ec37ffdd0b09dd95e6af856b22ef62dc5748aada",
        ),
      ),
      read=_read,
      note=(
        "764 captions with a hard negative each (SugarCrepe; a pair shares its number "
        "'pair', and a caption with several negatives occurs with each) and 46 "
        "sentences on places (VSR); neither set's own division: test is a hash of the "
        "photograph; small, for evaluation and tests; shrunk to at most 320 px a side"
      ),
    ),
  ),
)
