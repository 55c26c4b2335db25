"""What it takes to prepare a data set: its files, their checksums, how to read them."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from experiments.engine import errors

# Key (unique within the split; it fixes the order on disk), encoded picture, label.
Example = tuple[str, bytes, int]


class CaptionedExample(NamedTuple):
  """A picture with captions.

  Attributes:
    key: unique within the split; it becomes the id.
    picture: encoded.
    captions: at least one.
    label: of its class; -1 where there is none.
  """

  key: str
  picture: bytes
  captions: tuple[str, ...]
  label: int = -1


class Question(NamedTuple):
  """A text about a picture, with its answer: a question, or a sentence to judge.

  Attributes:
    key: unique within the split; it becomes the id.
    text: what is asked or said.
    answers: what each human answered; one for most sets.
    groups: name -> value; measures are also given for those with one value.
  """

  key: str
  text: str
  answers: tuple[str, ...]
  groups: Mapping[str, str] = {}


class QuestionExample(NamedTuple):
  """A picture, or several that are seen together, with all that is asked about it.

  Attributes:
    key: unique within the split; it becomes the id.
    pictures: encoded; as many for each example of a set.
    questions: at least one.
  """

  key: str
  pictures: tuple[bytes, ...]
  questions: tuple[Question, ...]


@dataclasses.dataclass(frozen=True)
class File:
  """A source file; `sha256` is that of the published file, `url` where it lies."""

  name: str
  sha256: str | None = None
  url: str | None = None


@dataclasses.dataclass(frozen=True)
class Pictures:
  """What the reader of a form returns.

  Attributes:
    class_names: the word of each label, in the order of the labels.
    shape: (height, width, channels); None for a side that varies.
    splits: per split a function that iterates over its examples, PNG or JPEG
      encoded, label -1 where there is none.
  """

  class_names: tuple[str, ...]
  shape: tuple[int | None, int | None, int]
  splits: Mapping[str, Callable[[], Iterator[Example]]]


@dataclasses.dataclass(frozen=True)
class CaptionedPictures:
  """What the reader of a form returns if captions describe its pictures.

  Attributes:
    shape: (height, width, channels); None for a side that varies.
    splits: per split a function that iterates over its examples, PNG or JPEG encoded.
    class_names: the word of each label, in the order of the labels; empty for a set
      without labels.
  """

  shape: tuple[int | None, int | None, int]
  splits: Mapping[str, Callable[[], Iterator[CaptionedExample]]]
  class_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class QuestionPictures:
  """What the reader of a form returns if its pictures have questions and answers.

  Attributes:
    shape: (height, width, channels); None for a side that varies.
    splits: per split a function that iterates over its examples, PNG or JPEG encoded.
    pictures: how many an example has.
    answer_names: all answers that there are, in the order of their labels; empty if
      any answer may occur.
    groups: names of the groups that every question has a value of.
  """

  shape: tuple[int | None, int | None, int]
  splits: Mapping[str, Callable[[], Iterator[QuestionExample]]]
  pictures: int = 1
  answer_names: tuple[str, ...] = ()
  groups: tuple[str, ...] = ()


# What a reader may return.
Content = Pictures | CaptionedPictures | QuestionPictures


@dataclasses.dataclass(frozen=True)
class Form:
  """One published form of a data set: its files and the function that reads them.

  Attributes:
    files: all of them are needed.
    read: from the path of each file, by name, to the pictures.
    note: what a reader of results must know of this form.
  """

  files: tuple[File, ...]
  read: Callable[[Mapping[str, pathlib.Path]], Content]
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A data set under its TFDS name; the first form is the official one."""

  name: str
  title: str
  homepage: str
  licence: str
  citation: str
  forms: tuple[Form, ...]


def locate(recipe: Recipe, where: str) -> tuple[Form, dict[str, pathlib.Path]]:
  """Finds the form of a data set whose files lie in a folder.

  Args:
    recipe: the data set.
    where: the folder, or the path of one of the files in it.

  Returns:
    The form and the path of each of its files, by name.

  Raises:
    UserError: no form is complete there.
  """
  path = pathlib.Path(where).expanduser()
  names = {file.name for form in recipe.forms for file in form.files}
  folder = path.parent if path.is_file() and path.name in names else path
  if not folder.is_dir():
    raise errors.UserError(
      f"'{where}' is neither a folder nor a file of '{recipe.name}' "
      f"(expected {_expected(recipe)})"
    )
  missing = {}
  for form in recipe.forms:
    paths = {file.name: folder / file.name for file in form.files}
    missing[form] = [name for name, p in paths.items() if not p.is_file()]
    if not missing[form]:
      return form, paths
  started = [form for form in recipe.forms if len(missing[form]) < len(form.files)]
  if started:
    lacking = ", ".join(missing[started[0]])
    raise errors.UserError(f"{folder} lacks {lacking}, needed for '{recipe.name}'")
  raise errors.UserError(
    f"{folder} holds no files of '{recipe.name}'; expected {_expected(recipe)}"
  )


def _expected(recipe: Recipe) -> str:
  return ", or ".join(
    " + ".join(file.name for file in form.files) for form in recipe.forms
  )


def sha256(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file in hexadecimal."""
  with path.open("rb") as stream:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def check_files(
  form: Form, paths: Mapping[str, pathlib.Path]
) -> list[dict[str, str | int]]:
  """Checks every file against its published checksum.

  Returns:
    Name, bytes and SHA-256 of each file as read, for the record.

  Raises:
    UserError: a file differs from the published one.
  """
  record: list[dict[str, str | int]] = []
  for file in form.files:
    path = paths[file.name]
    digest = sha256(path)
    if file.sha256 is not None and digest != file.sha256:
      raise errors.UserError(
        f"{path} has SHA-256 {digest} instead of {file.sha256}: it is damaged or "
        "another file; fetch it again"
      )
    record.append({"file": file.name, "bytes": path.stat().st_size, "sha256": digest})
  return record
