"""Predictions in files, as the scorers of the benchmarks read them.

VQA v2 takes a JSON list, NLVR and NLVR2 take lines of "identifier,True". SNLI-VE fixes
no format; here it is JSON lines of "id" and "label". Nor do the retrieval sets: they
are measured from scores, so there is no file for them.

What is read is checked: every example has one prediction, and there is no other one.
"""

import collections
import json
import pathlib
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from experiments.engine import errors, files
from multimodal.answers import ENTAILMENTS, TRUTHS

_Key = TypeVar("_Key", int, str)
_TRUE = {name: bool(number) for number, name in enumerate(TRUTHS)}


def write_answers(
  path: pathlib.Path, question_ids: Sequence[int], answers: Sequence[str]
) -> None:
  """Writes answers as VQA v2 takes them: [{"question_id": 1, "answer": "yes"}, ...].

  Args:
    path: of the file; replaced as a whole.
    question_ids: n numbers, each once.
    answers: n answers.

  Raises:
    UserError: an id twice, another number of answers, or the file cannot be written.
  """
  _check_ids(question_ids, len(answers))
  found = [
    {"question_id": int(key), "answer": str(answer)}
    for key, answer in zip(question_ids, answers, strict=True)
  ]
  _write(path, json.dumps(found) + "\n")


def read_answers(
  path: pathlib.Path, question_ids: Sequence[int], *, known: Collection[str] = ()
) -> tuple[str, ...]:
  """Reads a file of VQA v2.

  Args:
    path: of the file.
    question_ids: n numbers of the questions.
    known: the answers that there may be; empty for any.

  Returns:
    n answers, in the order of `question_ids`.

  Raises:
    UserError: it cannot be read or is no such file, a question is missing, double or
      another one, or an answer is not known.
  """
  try:
    content = json.loads(_read(path))
  except ValueError as error:
    raise errors.UserError(
      f"{path} is no JSON ({error}); write it again, a list of question_id and answer"
    ) from error
  if not isinstance(content, list):
    raise errors.UserError(
      f"{path} holds no list of question_id and answer; VQA v2 takes a list"
    )
  found = []
  for place, entry in enumerate(content):
    key, answer = _fields(entry, ("question_id", "answer"))
    if type(key) is not int or not isinstance(answer, str):
      raise errors.UserError(
        f"entry {place} of {path} is not a number question_id with a text answer"
      )
    if known and answer not in known:
      raise errors.UserError(
        f"{path} answers question {key} by '{answer}', which is not one of the "
        f"{len(known)} known answers{errors.nearest(answer, known)}"
      )
    found.append((key, answer))
  return tuple(_arrange(found, question_ids, path))


def write_truths(
  path: pathlib.Path, identifiers: Sequence[str], truths: Iterable[Any]
) -> None:
  """Writes judgements as NLVR and NLVR2 take them: a line "identifier,True" each.

  Args:
    path: of the file; replaced as a whole.
    identifiers: n identifiers of NLVR2; for NLVR the names of its pictures
      (`picture_names`).
    truths: n of 1 or 0, True or False.

  Raises:
    UserError: an identifier twice or with a comma, another number of judgements or
      another value, or the file cannot be written.
  """
  values = list(truths)
  _check_ids(identifiers, len(values))
  for key, value in zip(identifiers, values, strict=True):
    if "," in key or not key.strip() or "\n" in key:
      raise errors.UserError(
        f"'{key}' cannot be an identifier: a comma ends it, a line has one"
      )
    if value not in (0, 1):
      raise errors.UserError(f"the prediction for {key} is {value}, not 0 or 1")
  lines = (f"{key},{bool(v)}\n" for key, v in zip(identifiers, values, strict=True))
  _write(path, "".join(lines))


def read_truths(path: pathlib.Path, identifiers: Sequence[str]) -> np.ndarray:
  """Reads a file of NLVR or NLVR2; "true" may be written in any case.

  Args:
    path: of the file.
    identifiers: n identifiers, or names of pictures, as written.

  Returns:
    Booleans [n], in the order of `identifiers`.

  Raises:
    UserError: it cannot be read, a line is no such one, or an identifier is missing,
      double or another one.
  """
  found = []
  for number, line in _lines(path):
    key, _, said = line.partition(",")
    truth = _TRUE.get(said.strip().lower())
    if truth is None:
      raise errors.UserError(
        f"line {number} of {path} is '{line}' instead of an identifier, a comma and "
        "True or False"
      )
    found.append((key.strip(), truth))
  return np.array(_arrange(found, identifiers, path), bool)


def picture_names(part: str, identifier: str, count: int = 6) -> tuple[str, ...]:
  """Names of the pictures of an example of NLVR, by which its scorer knows predictions.

  Args:
    part: the published one, "dev", "test" or "hidden" (group "part" of "nlvr_v1").
    identifier: of the example, such as "1572-0".
    count: of pictures.
  """
  return tuple(f"{part}-{identifier}-{order}.png" for order in range(count))


def write_entailments(
  path: pathlib.Path, ids: Sequence[str], labels: Iterable[Any]
) -> None:
  """Writes labels of SNLI-VE: a line {"id": "x", "label": "neutral"} each.

  Args:
    path: of the file; replaced as a whole.
    ids: n names of the pairs ("pairID" of SNLI).
    labels: n of contradiction 0, neutral 1, entailment 2.

  Raises:
    UserError: an id twice, another number of labels, a label that is none of the three,
      or the file cannot be written.
  """
  values = list(labels)
  _check_ids(ids, len(values))
  for key, label in zip(ids, values, strict=True):
    if label not in range(len(ENTAILMENTS)):
      raise errors.UserError(
        f"the label for {key} is {label}; there are 0 to 2 ({', '.join(ENTAILMENTS)})"
      )
  lines = (
    json.dumps({"id": key, "label": ENTAILMENTS[int(label)]}) + "\n"
    for key, label in zip(ids, values, strict=True)
  )
  _write(path, "".join(lines))


def read_entailments(path: pathlib.Path, ids: Sequence[str]) -> np.ndarray:
  """Reads what `write_entailments` wrote.

  Args:
    path: of the file.
    ids: n names of the pairs.

  Returns:
    int32 [n], in the order of `ids`.

  Raises:
    UserError: it cannot be read, a line is no such one, an id is missing, double or
      another one, or a label is none of the three.
  """
  found = []
  for number, line in _lines(path):
    try:
      key, label = _fields(json.loads(line), ("id", "label"))
    except ValueError:
      key = label = None
    if not isinstance(key, str) or label not in ENTAILMENTS:
      raise errors.UserError(
        f"line {number} of {path} is not an id with one of the labels "
        f"{', '.join(ENTAILMENTS)}"
      )
    found.append((key, ENTAILMENTS.index(label)))
  return np.array(_arrange(found, ids, path), np.int32)


def _fields(entry: Any, names: Sequence[str]) -> list[Any]:
  """The values of an object's fields; None for one that is not there."""
  known = entry if isinstance(entry, dict) else {}
  return [known.get(name) for name in names]


def _arrange(
  found: Sequence[tuple[_Key, Any]], expected: Sequence[_Key], path: pathlib.Path
) -> list[Any]:
  """The value of each key that is expected; none may be double, strange or missing."""
  values = dict(found)
  if double := _double(key for key, _ in found):
    raise errors.UserError(
      f"{path} has {_some(double)} twice; keep one prediction each"
    )
  wanted = dict.fromkeys(expected)
  if strange := [key for key in values if key not in wanted]:
    raise errors.UserError(
      f"{path} has {_some(strange)}, not among the {len(wanted)} examples: it belongs "
      "to another split"
    )
  if missing := [key for key in wanted if key not in values]:
    raise errors.UserError(
      f"{path} lacks predictions for {_some(missing)} of {len(wanted)} examples; "
      "predict all of them"
    )
  return [values[key] for key in expected]


def _check_ids(ids: Sequence, count: int) -> None:
  if len(ids) != count:
    raise errors.UserError(f"there are {count} predictions for {len(ids)} examples")
  if double := _double(ids):
    raise errors.UserError(f"{_some(double)} occur twice; each example has one id")


def _double(keys: Iterable) -> list:
  return [key for key, count in collections.Counter(keys).items() if count > 1]


def _some(keys: Sequence) -> str:
  named = ", ".join(map(str, keys[:3])) + (", ..." if len(keys) > 3 else "")
  return f"{len(keys)} ({named})"


def _lines(path: pathlib.Path) -> Iterable[tuple[int, str]]:
  lines = enumerate(_read(path).splitlines(), 1)
  return [(number, line.strip()) for number, line in lines if line.strip()]


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text("utf-8")
  except OSError as error:
    raise errors.UserError(f"cannot read {path} ({error.strerror})") from error
  except ValueError as error:
    raise errors.UserError(f"{path} is no text ({error}); write it again") from error


def _write(path: pathlib.Path, text: str) -> None:
  files.write(path, text.encode("utf-8"), "path")
