"""Questions and sentences about pictures in a zip archive."""

import itertools
import pathlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from experiments.engine import errors
from experiments.engine.datasets.builders import zipped
from experiments.engine.datasets.builders.recipe import Question, QuestionExample


class Asked(NamedTuple):
  """All that is asked about one picture, or several, before these are read.

  Attributes:
    key: of the example.
    files: names of its pictures in the archive.
    questions: at least one.
  """

  key: str
  files: tuple[str, ...]
  questions: tuple[Question, ...]


def by_picture(
  records: Iterable[dict], file: str, write: Callable[[dict, str], Question]
) -> list[Asked]:
  """Gathers records of one question each by their picture.

  Args:
    records: in any order.
    file: key of a record's picture, a name in the archive; its stem becomes the key of
      the example.
    write: (record, STEM-K) -> question; STEM-K is the stem with the question's number
      among those of its picture, from 0, for sets whose questions have no name.
  """
  found: dict[str, list[Question]] = {}
  for record in records:
    questions = found.setdefault(record[file], [])
    stem = pathlib.PurePosixPath(record[file]).stem
    questions.append(write(record, f"{stem}-{len(questions)}"))
  return [
    Asked(pathlib.PurePosixPath(name).stem, (name,), tuple(questions))
    for name, questions in found.items()
  ]


def ask(
  key: str,
  text: str,
  answers: Sequence[str],
  groups: dict[str, str],
  known: Collection[str] = (),
) -> Question:
  """Returns a question with white space evened out.

  Args:
    key: of the question.
    text: what is asked.
    answers: what was answered.
    groups: see `Question`.
    known: all answers that there may be; empty for any.

  Raises:
    UserError: the text or an answer is blank, or an answer is not in `known`.
  """
  evened = " ".join(text.split())
  said = tuple(" ".join(answer.split()) for answer in answers)
  if not evened or not said or not all(said):
    raise errors.UserError(
      f"question {key} has no {'answer' if evened else 'text'}: its record is damaged"
    )
  for answer in said:
    if known and answer not in known:
      raise errors.UserError(
        f"question {key} has the answer '{answer}', which is not one of the "
        f"{len(known)} answers of its set{errors.nearest(answer, known)}: the files do "
        "not belong together"
      )
  return Question(key, evened, said, groups)


def examples(
  archive: pathlib.Path,
  asked: Sequence[Asked],
  convert: Callable[[bytes, str], bytes],
) -> Iterator[QuestionExample]:
  """Reads the pictures of what is asked.

  Args:
    archive: of the pictures.
    asked: what is asked.
    convert: (picture, its name for errors) -> picture, as `formats.as_rgb`.

  Raises:
    UserError: the archive lacks a picture, or it cannot be decoded.
  """
  names = [name for each in asked for name in each.files]
  pictures = zipped.read_pictures(archive, names)
  for each in asked:
    encoded = itertools.islice(pictures, len(each.files))
    converted = tuple(
      convert(picture, f"{archive}:{name}")
      for name, picture in zip(each.files, encoded, strict=True)
    )
    yield QuestionExample(each.key, converted, each.questions)
