"""Pictures in a zip archive, described by one JSON record a line."""

import collections
import functools
import gzip
import hashlib
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence

from experiments.engine import errors
from experiments.engine.datasets.builders import formats
from experiments.engine.datasets.builders.recipe import (
  CaptionedExample,
  CaptionedPictures,
)


def read_records(path: pathlib.Path) -> list[dict]:
  """Returns the JSON object of every line that is not blank.

  Args:
    path: of the file; one that ends with .gz is decompressed.

  Raises:
    UserError: a line is no JSON object.
  """
  content = path.read_bytes()
  text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
  found = []
  for number, line in enumerate(text.splitlines(), 1):
    try:
      record = json.loads(line) if line.strip() else {}
    except ValueError as error:
      raise errors.UserError(
        f"line {number} of {path} is no JSON object ({error}): it is damaged"
      ) from error
    if record:
      found.append(record)
  return found


def read_pictures(archive: pathlib.Path, names: Iterable[str]) -> Iterator[bytes]:
  """Streams over the members `names`, as they are, unpacking nothing.

  Raises:
    UserError: the archive lacks one.
  """
  with zipfile.ZipFile(archive) as opened:
    members = set(opened.namelist())
    for name in names:
      if name not in members:
        raise errors.UserError(
          f"{archive} holds no picture {name}: the files do not belong together"
        )
      yield opened.read(name)


def examples(
  archive: pathlib.Path,
  records: Sequence[dict],
  write: Callable[[dict], Iterable[str]],
  label: Callable[[dict], int] = lambda record: -1,
) -> Iterator[CaptionedExample]:
  """Pairs the picture of each record with its captions.

  Args:
    archive: of the pictures; those of other modes become RGB.
    records: each with the `file` in the archive; its stem becomes the id.
    write: record -> captions. White space is evened out, and what is then empty or
      said before is left out.
    label: record -> number of its class; -1 for none.

  Raises:
    UserError: no such picture, it cannot be decoded, or no caption is left.
  """
  names = [record["file"] for record in records]
  encoded = read_pictures(archive, names)
  for name, record, picture in zip(names, records, encoded, strict=True):
    evened = (" ".join(caption.split()) for caption in write(record))
    captions = tuple(dict.fromkeys(caption for caption in evened if caption))
    if not captions:
      raise errors.UserError(f"{archive}:{name} has no caption: its record is damaged")
    yield CaptionedExample(
      pathlib.PurePosixPath(name).stem,
      formats.as_rgb(picture, f"{archive}:{name}"),
      captions,
      label(record),
    )


def divide(
  archive: pathlib.Path, records: Sequence[dict], group: Callable[[dict], str]
) -> dict[str, list[dict]]:
  """Divides records into about nine tenths "train" and one tenth "test".

  Records of one group, and groups that share a picture (byte for byte), stay together:
  nothing in "test" was drawn alike for "train". A group is in "test" if the SHA-256 of
  its name (of what shares a picture, the alphabetically first) is 0 modulo 10.

  Args:
    archive: of the pictures.
    records: each with the `file` in the archive.
    group: record -> name of its group.

  Returns:
    The records by split, in their order; without a split that has none.
  """
  groups = [group(record) for record in records]
  leader = {name: name for name in groups}

  def lead(name: str) -> str:
    while leader[name] != name:
      name = leader[name]
    return name

  seen: dict[bytes, str] = {}
  pictures = read_pictures(archive, (record["file"] for record in records))
  for name, picture in zip(groups, pictures, strict=True):
    other = seen.setdefault(hashlib.sha256(picture).digest(), name)
    first, second = sorted((lead(name), lead(other)))
    leader[second] = first
  held = {name: _tenth(lead(name)) for name in leader}
  parts: dict[str, list[dict]] = {"train": [], "test": []}
  for name, record in zip(groups, records, strict=True):
    parts["test" if held[name] else "train"].append(record)
  return {split: part for split, part in parts.items() if part}


def frequent_names(names: Iterable[str], least: int) -> tuple[str, ...]:
  """Returns the names that occur at least so often, in alphabetical order.

  The empty name is none.
  """
  counts = collections.Counter(names)
  return tuple(sorted(x for x, count in counts.items() if x and count >= least))


def drawings(
  archive: pathlib.Path,
  described: pathlib.Path,
  side: int,
  group: Callable[[dict], str],
  write: Callable[[dict], Iterable[str]],
  classify: Callable[[dict], str] = lambda record: "",
  least: int = 1,
) -> CaptionedPictures:
  """Square RGB drawings with captions, divided by `divide`.

  Args:
    archive: of the pictures.
    described: JSON lines, a record for each.
    side: of the pictures in pixels.
    group: record -> name of its group.
    write: record -> captions.
    classify: record -> name of its class, or "".
    least: drawings, of all splits together, that make a class; those of smaller
      classes have the label -1.

  Raises:
    UserError: the files are damaged or do not belong together.
  """
  records = read_records(described)
  parts = divide(archive, records, group)
  names = frequent_names(map(classify, records), least)
  numbers = {name: number for number, name in enumerate(names)}
  label = lambda record: numbers.get(classify(record), -1)
  return CaptionedPictures(
    shape=(side, side, 3),
    splits={
      split: functools.partial(examples, archive, part, write, label)
      for split, part in parts.items()
    },
    class_names=names,
  )


def _tenth(name: str) -> bool:
  return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % 10 == 0
