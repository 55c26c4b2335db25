"""Files of predictions: what the scorers read, what is refused, written as a whole."""

import json

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.evaluation import prediction_files as files

raises = lambda words: pytest.raises(errors.UserError, match=words)


@pytest.fixture
def path(tmp_path):
  return tmp_path / "made" / "predictions"


def test_answers_of_vqa(path):
  files.write_answers(path, np.array([7, 3, 11]), ["yes", "2", "café"])
  assert json.loads(path.read_text()) == [
    {"question_id": 7, "answer": "yes"},
    {"question_id": 3, "answer": "2"},
    {"question_id": 11, "answer": "café"},
  ]
  assert files.read_answers(path, [3, 7, 11]) == ("2", "yes", "café")
  assert files.read_answers(path, [3, 7, 11], known=("2", "yes", "café"))[0] == "2"
  with raises("answers question 7 by 'yes', which is not one of the 2 known"):
    files.read_answers(path, [3, 7, 11], known=("2", "café"))


def nlvr_script(path):
  """How the scorers read: the first two fields of every line."""
  fields = [line.strip().split(",") for line in path.read_text().splitlines() if line]
  return {field[0]: field[1].lower() for field in fields}


def test_judgements_of_nlvr(path):
  names = files.picture_names("test", "1572-0")
  assert names[5] == "test-1572-0-5.png" and len(names) == 6
  files.write_truths(path, names, np.array([1, 0, 1, 1, 0, 1]))
  assert path.read_text().splitlines()[1] == "test-1572-0-1.png,False"
  read = nlvr_script(path)
  # NLVR's scorer drops the part and the suffix of the name.
  keys = ["-".join(name.split(".")[0].split("-")[1:]) for name in read]
  assert keys == [f"1572-0-{k}" for k in range(6)]
  assert list(read.values()) == ["true", "false", "true", "true", "false", "true"]
  found = files.read_truths(path, names[::-1])
  assert found.dtype == bool and found.tolist() == [1, 0, 1, 1, 0, 1]
  path.write_text("dev-0-0-0, TRUE\n\ndev-0-1-0,false\n")
  assert files.read_truths(path, ["dev-0-1-0", "dev-0-0-0"]).tolist() == [False, True]


def test_labels_of_entailment(path):
  files.write_entailments(path, ["a", "b", "c"], np.array([2, 0, 1]))
  assert path.read_text().splitlines()[0] == '{"id": "a", "label": "entailment"}'
  found = files.read_entailments(path, ["c", "a", "b"])
  assert found.dtype == np.int32 and found.tolist() == [1, 2, 0]


READ = {
  "answers": lambda path: files.read_answers(path, [1, 2]),
  "truths": lambda path: files.read_truths(path, ["1", "2"]),
  "entailments": lambda path: files.read_entailments(path, ["1", "2"]),
}
LINE = {
  "answers": lambda key: {"question_id": int(key), "answer": "x"},
  "truths": lambda key: f"{key},True",
  "entailments": lambda key: json.dumps({"id": key, "label": "neutral"}),
}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize(
  ("keys", "words"),
  [
    ("1", r"lacks predictions for 1 \(2\) of 2 examples"),
    ("", r"lacks predictions for 2 \(1, 2\) of 2"),
    ("121", r"has 1 \(1\) twice"),
    ("1234", r"has 2 \(3, 4\), not among the 2 examples: it belongs to another split"),
  ],
)
def test_each_example_has_one_prediction(kind, keys, words, path):
  path.parent.mkdir()
  lines = [LINE[kind](key) for key in keys]
  path.write_text(json.dumps(lines) if kind == "answers" else "\n".join(lines))
  with raises(words) as raised:
    READ[kind](path)
  assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
  ("kind", "content", "words"),
  [
    ("answers", b"[{", "is no JSON"),
    ("answers", b"{}", "holds no list"),
    ("answers", b"[1]", "entry 0 .* is not a number question_id with a text answer"),
    ("answers", b'[{"question_id": "1", "answer": "x"}]', "entry 0"),
    ("answers", b'[{"question_id": true, "answer": "x"}]', "entry 0"),
    ("answers", b'[{"question_id": 1, "answer": 2}]', "entry 0"),
    ("answers", b"\xff\xfe", "is no text"),
    ("truths", b"1,True\n2", "line 2 .* is '2' instead of an identifier"),
    ("truths", b"1,yes", "line 1 "),
    ("entailments", b'{"id": "1", "label": "true"}', "line 1 .* neutral"),
    ("entailments", b'{"id": 1, "label": "neutral"}', "line 1"),
    ("entailments", b"[]", "line 1"),
    ("entailments", b"{", "line 1"),
  ],
)
def test_what_is_no_such_file_is_refused(kind, content, words, path):
  path.parent.mkdir()
  path.write_bytes(content)
  with raises(words):
    READ[kind](path)


@pytest.mark.parametrize("kind", READ)
def test_a_file_that_is_not_there(kind, path):
  with raises("cannot read .*No such file"):
    READ[kind](path)


@pytest.mark.parametrize(
  ("write", "words"),
  [
    (lambda p: files.write_answers(p, [1, 1], ["a", "b"]), r"1 \(1\) occur twice"),
    (lambda p: files.write_answers(p, [1], ["a", "b"]), "2 predictions for 1 examples"),
    (lambda p: files.write_truths(p, ["a,b"], [1]), "'a,b' cannot be an identifier"),
    (lambda p: files.write_truths(p, ["a"], [2]), "prediction for a is 2, not 0 or 1"),
    (lambda p: files.write_truths(p, ["a"], []), "0 predictions for 1"),
    (lambda p: files.write_entailments(p, ["a"], [3]), r"for a is 3; there are 0 to 2"),
    (lambda p: files.write_entailments(p, ["a"], [-1]), "for a is -1"),
  ],
)
def test_nothing_is_written_that_could_not_be_read(write, words, path):
  with raises(words):
    write(path)
  assert not path.exists()


def test_a_place_that_cannot_be_written(tmp_path):
  (tmp_path / "taken").mkdir()
  with raises("cannot write .*; choose another path"):
    files.write_truths(tmp_path / "taken", ["a"], [1])
