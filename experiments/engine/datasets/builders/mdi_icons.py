"""Material Design Icons of Pictogrammers with their names, aliases and tags."""

import pathlib
from collections.abc import Mapping

from experiments.engine.datasets.builders import zipped
from experiments.engine.datasets.builders.recipe import (
  CaptionedPictures,
  File,
  Form,
  Recipe,
)

# What one drawing is turned into another with: thin lines, a second try, a bar across.
_VARIANTS = frozenset(("outline", "variant", "off"))
# Icons that make a class: each has 55 or more in "train", enough for 20 shots.
_LEAST = 60


def write_captions(record: dict) -> list[str]:
  """Returns the captions of an icon.

  The name; "an icon of NAME"; if it has tags, "an icon of NAME for TAG and TAG" in
  small letters without / and +; and its aliases, if any.
  """
  icon = f"an icon of {record['name']}"
  tags = [_spell(tag) for tag in record["tags"]]
  tagged = [f"{icon} for {' and '.join(tags)}"] if tags else []
  return [record["name"], icon, *tagged, *record["aliases"]]


def class_name(record: dict) -> str:
  """Returns the first tag, spelled as in the captions; "" without tags."""
  return _spell(record["tags"][0]) if record["tags"] else ""


def _spell(tag: str) -> str:
  return " ".join(tag.lower().replace("/", " ").replace("+", " ").split())


def base_name(record: dict) -> str:
  """Returns the name without the words outline, variant and off."""
  words = [word for word in record["name"].split() if word not in _VARIANTS]
  return " ".join(words) or record["name"]


def _read(paths: Mapping[str, pathlib.Path]) -> CaptionedPictures:
  archive, records = paths["png_64.zip"], paths["captions.jsonl"]
  return zipped.drawings(
    archive, records, 64, base_name, write_captions, class_name, _LEAST
  )


RECIPE = Recipe(
  name="mdi_icons",
  title="Material Design Icons: 7,188 black 64x64 drawings on white with their names",
  homepage="https://github.com/Templarian/MaterialDesign",
  licence="Apache-2.0 (Pictogrammers Free License)",
  citation="Pictogrammers: Material Design Icons",
  forms=(
    Form(
      files=(
        File(
          "png_64.zip",
          "aa1a3424e5bf0c65368af2f483741bfb7194071236b8c4d99a3e59f2b36ccaaa",
        ),
        File(
          "captions.jsonl",
          "dee12b95bd3a2ee2882d687d7cf7d23650ebac10eea156458f14b80dae2aab78",
        ),
      ),
      read=_read,
      note=(
        "rendered from SVG, without brands and deprecated icons; captions are the "
        "name, 'an icon of' it, this with its tags, and its aliases; test is the tenth "
        "of the names whose hash is 0 modulo 10, without outline, variant and off; "
        "icons that are drawn alike are in one split; the class is the first tag if "
        f"that is the first of at least {_LEAST} icons (30 classes; the other icons "
        "have none), and captions tell the tags"
      ),
    ),
  ),
)
