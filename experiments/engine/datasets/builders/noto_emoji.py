"""Noto's emoji with the names and keywords of the Unicode CLDR."""

import pathlib
import re
from collections.abc import Mapping

from experiments.engine.datasets.builders import zipped
from experiments.engine.datasets.builders.recipe import (
  CaptionedPictures,
  File,
  Form,
  Recipe,
)

# An emoji is drawn alike for each of these.
_PERSONS = frozenset(("man", "woman", "person", "men", "women", "people", "and"))
_MOST = 8  # keywords in a sentence


def write_captions(record: dict) -> list[str]:
  """Returns the captions of an emoji; each contains its name, so no two share one.

  The name; "a drawing of NAME"; and where keywords say more than the name, "a drawing
  of NAME: KEYWORD, KEYWORD", with at most eight of these, dealt out in turn to as many
  sentences as that takes. Keywords that are a part of the name are left out.
  """
  drawing = f"a drawing of {record['name'].replace(': ', ', ')}"
  said = _spaced(record["name"])
  more = [word for word in record["keywords"] if _spaced(word) not in said]
  sentences = -(-len(more) // _MOST)
  return [
    record["name"],
    drawing,
    *(f"{drawing}: {', '.join(more[i::sentences])}" for i in range(sentences)),
  ]


def _spaced(text: str) -> str:
  """Small letters, a space around each word, so that `in` compares whole words."""
  words = re.findall(r"[^\W_]+", text.lower())
  return f" {' '.join(words)} "


def base_name(record: dict) -> str:
  """Returns what variants of an emoji have in common.

  The name without skin tone, hair and family members (all that follows a colon),
  without "facing right", and without man, woman, person.
  """
  name = record["name"].partition(":")[0].removesuffix(" facing right")
  words = [word for word in name.split() if word not in _PERSONS]
  return " ".join(words) or "person"


def _read(paths: Mapping[str, pathlib.Path]) -> CaptionedPictures:
  archive, records = paths["png_72.zip"], paths["captions.jsonl"]
  return zipped.drawings(archive, records, 72, base_name, write_captions)


RECIPE = Recipe(
  name="noto_emoji",
  title="Noto emoji: 3,530 colour 72x72 drawings with the Unicode CLDR's names",
  homepage="https://github.com/googlefonts/noto-emoji",
  licence="drawings Apache-2.0 (some public domain); names Unicode License v3",
  citation="Google: Noto Emoji; Unicode, Inc.: Common Locale Data Repository (CLDR)",
  forms=(
    Form(
      files=(
        File(
          "png_72.zip",
          "861e3e712f7f2f3521c3cde80b962ca3d937350a2a81c45b37b2decab2cb9dab",
        ),
        File(
          "captions.jsonl",
          "1446b44ced46e0f6cf066b41f3edf78923239e7b5bd36bd312545d13755f6665",
        ),
      ),
      read=_read,
      note=(
        "put on white and reduced to 256 colours; captions are the name, 'a drawing "
        "of' it, and this with its keywords; test is the tenth of the names whose hash "
        "is 0 modulo 10, without skin tone, hair, man, woman, person: variants of one "
        "emoji are in one split"
      ),
    ),
  ),
)
