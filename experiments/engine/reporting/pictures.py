"""Pictures of a run beside its records: files, and a list of what they show."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.engine import files, record
from experiments.engine.reporting import curves

_LIST = "pictures.json"
# Beyond this a page takes the PNG.
_SVG_BYTES = 400_000


class Picture(NamedTuple):
  """A figure to be kept.

  Attributes:
    name: of its file, without suffix.
    figure: a matplotlib Figure.
    caption: what it shows, in words that do without it.
    vector: whether it is kept as SVG, too.
  """

  name: str
  figure: Any
  caption: str
  vector: bool = False


def write_pictures(pictures: Sequence[Picture], folder: pathlib.Path) -> None:
  """Writes NAME.png (and NAME.svg) of each, and pictures.json, which lists them.

  Raises:
    UserError: the files cannot be written.
  """
  listed = []
  for name, figure, caption, vector in pictures:
    shown = folder / f"{name}.png"
    files.write(shown, curves.encode(figure, "png"), "--workdir")
    if vector:
      drawn = curves.encode(figure, "svg")
      files.write(folder / f"{name}.svg", drawn, "--workdir")
      shown = shown.with_suffix(".svg") if len(drawn) <= _SVG_BYTES else shown
    listed.append({"file": shown.name, "caption": caption})
  record.write_json(folder / _LIST, listed)


def read_pictures(folder: pathlib.Path) -> list[tuple[pathlib.Path, str]]:
  """(file, caption) of the pictures that a run's folder has; of none without a list."""
  if not (folder / _LIST).exists():
    return []
  listed = record.read_json(folder / _LIST)
  found = [(folder / entry["file"], entry["caption"]) for entry in listed]
  return [(path, caption) for path, caption in found if path.exists()]
