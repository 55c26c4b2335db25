"""Any folder of pictures: DIR/<split>/<class>/*.png or *.jpg."""

import functools
import hashlib
import pathlib
from collections.abc import Iterator

from experiments.engine import errors
from experiments.engine.datasets.builders import formats
from experiments.engine.datasets.builders.recipe import Example, Pictures


def read_folder(where: str) -> tuple[Pictures, list[dict[str, str | int]]]:
  """Reads DIR/<split>/<class>/<picture>.

  The classes are the sorted names of the class folders of all splits together.

  Args:
    where: DIR.

  Returns:
    The pictures (RGB, sizes as they are) and, for the record, one entry per split
    with the bytes in all and the SHA-256 over names and contents in sorted order.

  Raises:
    UserError: there is no such folder, or no picture in it.
  """
  root = pathlib.Path(where).expanduser()
  if not root.is_dir():
    raise errors.UserError(f"'{where}' is not a folder of pictures")
  files = {
    split.name: sorted(
      path
      for path in split.glob("*/*")
      if path.suffix.lower() in formats.PICTURE_SUFFIXES and _visible(path, root)
    )
    for split in sorted(root.iterdir())
    if split.is_dir() and not split.name.startswith(".")
  }
  files = {split: paths for split, paths in files.items() if paths}
  if not files:
    raise errors.UserError(
      f"{root} holds no picture of the form <split>/<class>/*.png or *.jpg"
    )
  classes = tuple(sorted({p.parent.name for paths in files.values() for p in paths}))

  def split(paths: list[pathlib.Path]) -> Iterator[Example]:
    for path in paths:
      content = formats.as_rgb(path.read_bytes(), str(path))
      yield f"{path.parent.name}/{path.name}", content, classes.index(path.parent.name)

  pictures = Pictures(
    class_names=classes,
    shape=(None, None, 3),
    splits={name: functools.partial(split, paths) for name, paths in files.items()},
  )
  return pictures, [_digest(root / name, paths) for name, paths in files.items()]


def _visible(path: pathlib.Path, root: pathlib.Path) -> bool:
  return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _digest(folder: pathlib.Path, paths: list[pathlib.Path]) -> dict[str, str | int]:
  digest, size = hashlib.sha256(), 0
  for path in paths:
    content = path.read_bytes()
    size += len(content)
    digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
    digest.update(hashlib.sha256(content).digest())
  return {"file": f"{folder.name}/", "bytes": size, "sha256": digest.hexdigest()}
