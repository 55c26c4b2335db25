"""Photographs of COCO 2017 under Creative Commons licences, with human captions."""

import functools
import pathlib
from collections.abc import Mapping

from experiments.engine.datasets.builders import zipped
from experiments.engine.datasets.builders.recipe import (
  CaptionedPictures,
  File,
  Form,
  Recipe,
)


def _read(paths: Mapping[str, pathlib.Path]) -> CaptionedPictures:
  captions = lambda record: record["captions"]
  described = [r for r in zipped.read_records(paths["images.jsonl"]) if captions(r)]
  return CaptionedPictures(
    shape=(None, None, 3),
    splits={
      "test": functools.partial(
        zipped.examples, paths["images_320.zip"], described, captions
      )
    },
  )


RECIPE = Recipe(
  name="coco_cc",
  title="COCO under Creative Commons: 464 photographs with 2,321 human captions",
  homepage="https://cocodataset.org",
  licence=(
    "captions CC BY 4.0; each photograph its own: BY-NC-SA 177, BY 134, BY-NC 83, "
    "BY-SA 69, no known restrictions 1; images.jsonl names licence and source of each"
  ),
  citation=(
    "Lin et al.: Microsoft COCO: Common Objects in Context, arXiv:1405.0312, 2014; "
    "Chen et al.: Microsoft COCO Captions, arXiv:1504.00325, 2015"
  ),
  forms=(
    Form(
      files=(
        File(
          "images_320.zip",
          "e1b377f64d055b647d70751d30051c95279ad50d0dfab28007db619e52293e8b",
        ),
        File(
          "images.jsonl",
          "e1cbde5edd3fd21f7146469c02832fd06889e451f01b99af11638892ae0b8063",
        ),
      ),
      read=_read,
      note=(
        "for evaluation only: the one split is test, the 464 of 552 photographs that "
        "have captions; shrunk to at most 320 px a side"
      ),
    ),
  ),
)
