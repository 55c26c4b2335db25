"""Downloads the official files of a data set."""

import hashlib
import http.client
import pathlib
import urllib.error
import urllib.request

from experiments.engine import errors
from experiments.engine.datasets.builders.recipe import File, Form, Recipe, sha256

_SECONDS = 60  # without a byte from the server
_CHUNK = 1 << 20


def fetch(recipe: Recipe, folder: pathlib.Path) -> tuple[Form, dict[str, pathlib.Path]]:
  """Downloads the files of the official form, except those that are there already.

  Args:
    recipe: the data set.
    folder: where the files go; made if needed.

  Returns:
    The form and the path of each of its files, by name.

  Raises:
    UserError: a file could not be fetched, or is not the published one.
  """
  form = recipe.forms[0]
  folder.mkdir(parents=True, exist_ok=True)
  for file in form.files:
    _fetch_file(file, folder / file.name, recipe.name)
  return form, {file.name: folder / file.name for file in form.files}


def _fetch_file(file: File, path: pathlib.Path, name: str) -> None:
  if path.is_file() and sha256(path) == file.sha256:
    return
  if file.url is None:
    raise errors.UserError(f"{file.name} has no public address{_remedy(name)}")
  print(f"downloads {file.url}", flush=True)
  part = path.with_name(path.name + ".part")
  digest = hashlib.sha256()
  try:
    with urllib.request.urlopen(file.url, timeout=_SECONDS) as source:
      with part.open("wb") as target:
        while chunk := source.read(_CHUNK):
          digest.update(chunk)
          target.write(chunk)
    if file.sha256 not in (None, digest.hexdigest()):
      raise errors.UserError(
        f"{file.url} gave a file with SHA-256 {digest.hexdigest()} instead of "
        f"{file.sha256}: an incomplete download, or another file{_remedy(name)}"
      )
    part.rename(path)
  except (OSError, ValueError, http.client.HTTPException) as error:
    if isinstance(error, urllib.error.HTTPError):
      error.close()  # it holds the connection
    raise errors.UserError(
      f"could not download {file.url} ({error}){_remedy(name)}"
    ) from error
  finally:
    part.unlink(missing_ok=True)


def _remedy(name: str) -> str:
  return (
    "; try again, or fetch the file elsewhere and give its folder: "
    f"python -m experiments.prepare {name} --from=DIR"
  )
