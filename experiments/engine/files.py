"""Files that are there whole or not at all."""

import os
import pathlib

from experiments.engine import errors


def replace(path: pathlib.Path, content: bytes) -> None:
  """Writes under a temporary name and moves into place; raises OSError."""
  partial = path.with_name(path.name + ".partial")
  partial.write_bytes(content)
  os.replace(partial, path)


def write(path: pathlib.Path, content: bytes, flag: str) -> None:
  """As `replace`, in a folder that is made if missing.

  Args:
    path: of the file.
    content: of the file.
    flag: that chooses the folder, such as "--out".

  Raises:
    UserError: the file cannot be written.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, content)
  except OSError as error:
    raise errors.UserError(
      f"cannot write {path} ({error.strerror}); choose another {flag}"
    ) from error
