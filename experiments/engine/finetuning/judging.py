"""Tasks whose answer is one of a few labels: truth of a statement, entailment."""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from experiments.engine import errors
from experiments.engine.datasets.question_sets import QuestionSet
from experiments.engine.evaluation import prediction_files, task_metrics
from experiments.engine.finetuning.asked import Asked, load_asked
from experiments.engine.finetuning.network import TaskNetwork, build_model, predict
from experiments.engine.finetuning.shown import rows_shown, show_examples
from experiments.engine.objective import Objective
from experiments.engine.pretraining import fusion_start, tower_network
from experiments.engine.pretraining.task import Task
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.step import Method
from multimodal.answers import ENTAILMENTS, TRUTHS
from multimodal.tasks import Judge

_MOST_GROUPS = 20  # kinds of examples that are told apart


class Judged(NamedTuple):
  """Logits [n, answers] of a batch, and its labels [n]."""

  logits: jax.Array
  labels: jax.Array


def build_judging_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/finetune.py with method "judging".

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  del devices  # the loss is over the global batch as jit divides it
  model = build_model(config)
  train, test = load_asked(config, model.text.context)
  names = train.questions.label_names
  if not names:
    raise errors.UsageError(
      f"'{config.data.name}' has no list of answers to judge by; take it for "
      "questions: --config=configs/finetune.py:vqa"
    )
  sample = train.sample()
  image = read_pictures(config, sample)
  network = TaskNetwork(
    Judge(model, len(names), picture_count(sample)), ("image", "text")
  )
  network.check(sample)
  return Task(
    title=f"fusion model of size {config.model.size} that judges {len(names)} answers"
    f"{sees_of(config.sees)}",
    network=network,
    objective=judging_objective(len(names)),
    method=judging_method(network, image, config.sees),
    train_set=train,
    sample=sample,
    evaluate=functools.partial(_evaluate, network, image, config.sees, test),
    start=fusion_start.start_task,
    illustrate=functools.partial(_illustrate, network, image, config.sees, test),
  )


def picture_count(sample: dict[str, Any]) -> int:
  """Pictures of a text."""
  return sample["image"].shape[1] if sample["image"].ndim == 5 else 1


def read_pictures(config: ml_collections.ConfigDict, sample: dict[str, Any]) -> Reading:
  """How the pictures of a config are read: they are not augmented."""
  shape = sample["image"].shape[-3:]
  knobs = ml_collections.ConfigDict(dict(kind="image", view=""))
  return tower_network.build_reading(knobs, config.data, shape)


def sees_of(sees: str) -> str:
  """What a baseline sees, in words; nothing for what sees both."""
  return "" if sees == "both" else f", from the {sees} alone"


def judging_objective(answers: int) -> Objective:
  """Cross entropy of the labels."""

  def loss(params, batch: Judged, state, key):
    del params, key
    values = optax.softmax_cross_entropy_with_integer_labels(batch.logits, batch.labels)
    return values, state, {}

  return Objective(
    params={},
    init=lambda examples, width: (),
    loss=loss,
    negatives=lambda n: None,
    chance=lambda n: float(np.log(answers)),
  )


def judging_method(network: TaskNetwork, image: Reading, sees: str) -> Method:
  """How a batch becomes logits.

  Args:
    network: of a `Judge`.
    image: how pictures are read.
    sees: one of `asked.SEES`.
  """

  def embed(params, stats, target, batch, key):
    del target, key
    return judge(network.bind(params), image, sees, batch.inputs), stats

  def compared(params, logits, batch):
    del params
    # Of a task whose labels are drawn anew in each epoch they come with the inputs.
    return Judged(logits, batch.inputs.get("labels", batch.labels))

  def watch(batch: Judged):
    right = jnp.argmax(batch.logits, -1) == batch.labels
    return {"accuracy": jnp.mean(right.astype(jnp.float32))}

  return Method(
    embed=embed,
    compared=compared,
    watch=watch,
  )


def judge(call: Any, image: Reading, sees: str, inputs: dict[str, Any]) -> jax.Array:
  """Logits [n, answers] of pictures and texts, or of texts alone."""
  pixels = image.prepare(inputs["image"])
  present = None
  if sees == "text":
    shape = pixels.shape[:2] if pixels.ndim == 5 else (len(pixels), 1)
    present = jnp.zeros(shape, bool)
  return call("__call__", pixels, inputs["text"], present)


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
  """Pictures of all examples in all drawings, fetched when they are asked for.

  The first drawings of all examples come first, then all second ones, and so on.
  """

  asked: Asked

  def __len__(self) -> int:
    return len(self.asked.tokens) * self.asked.drawings

  def __getitem__(self, places: np.ndarray) -> np.ndarray:
    drawing, rows = np.divmod(places, len(self.asked.tokens))
    return self.asked.pictures(rows, drawing)


def judge_all(
  network: TaskNetwork, image: Reading, sees: str, params: Any, test: Asked
) -> np.ndarray:
  """Numbers of the likeliest answers to all drawings of all examples, [n, drawings]."""
  rows = {"image": Drawn(test), "text": np.tile(test.tokens, (test.drawings, 1))}
  apply = lambda call, rows: judge(call, image, sees, rows)
  found = predict(network, params, rows, apply, "example").argmax(-1)
  return found.reshape(test.drawings, -1).T


def _evaluate(network, image, sees, test: Asked, variables, before, folder):
  del before
  found = judge_all(network, image, sees, variables["params"], test)
  questions = test.questions
  names = questions.label_names
  groups = kinds(questions)
  if names == TRUTHS:
    _write_truths(folder, questions, found)
    sentences = _sentences(questions)
    return task_metrics.truth_report(found, test.labels, sentences, groups)
  found = found[:, 0]
  if set(names) == set(ENTAILMENTS):
    numbers = np.array([ENTAILMENTS.index(name) for name in names])
    path = folder / "predictions.jsonl"
    prediction_files.write_entailments(path, questions.ids, numbers[found])
  else:
    said = [names[label] for label in found]
    prediction_files.write_answers(
      folder / "predictions.json", question_numbers(questions.ids), said
    )
  return task_metrics.label_report(found, test.labels, names, groups)


def kinds(questions: QuestionSet) -> dict[str, tuple[str, ...]]:
  """The groups of a split that have few values, such as kinds of questions."""
  named = questions.groups.items()
  return {name: values for name, values in named if len(set(values)) <= _MOST_GROUPS}


def question_numbers(ids: tuple[str, ...]) -> list[int]:
  """Numbers of questions for VQA's files: their ids; their places, if ids are none."""
  whole = all(name.isdigit() for name in ids) and len(set(map(int, ids))) == len(ids)
  return [int(name) for name in ids] if whole else list(range(len(ids)))


def _sentences(questions: QuestionSet) -> list[str]:
  """The name of each example's sentence: examples with one text have one."""
  if "presentation" in questions.groups:
    return list(questions.groups["presentation"])
  return list(questions.texts)


def _write_truths(
  folder: pathlib.Path, questions: QuestionSet, found: np.ndarray
) -> None:
  names = list(questions.ids)
  if found.shape[1] > 1:  # NLVR: each drawing has a name
    parts = questions.groups["part"]
    names = [
      name
      for part, key in zip(parts, questions.ids, strict=True)
      for name in prediction_files.picture_names(part, key, found.shape[1])
    ]
  path = folder / "predictions.csv"
  prediction_files.write_truths(path, names, found.reshape(-1).tolist())


def _illustrate(network, image, sees, test: Asked, variables, folder) -> None:
  params, rows = variables["params"], rows_shown(len(test.tokens))
  inputs = {"image": test.pictures(rows), "text": test.tokens[rows]}
  apply = lambda call, rows: judge(call, image, sees, rows)
  found = predict(network, params, inputs, apply, "example").argmax(-1)
  said = [test.questions.label_names[label] for label in found]
  right = found == test.labels[rows]
  show_examples(network, image, sees, params, test, said, right, folder)
