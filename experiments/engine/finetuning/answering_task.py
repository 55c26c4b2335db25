"""Visual question answering: a decoder learns to say the answers."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from experiments.engine import errors
from experiments.engine.evaluation import prediction_files, task_metrics
from experiments.engine.finetuning.asked import (
  Asked,
  known_answers,
  load_asked,
  read_texts,
  with_answers,
)
from experiments.engine.finetuning.judging import (
  Drawn,
  kinds,
  question_numbers,
  read_pictures,
  sees_of,
)
from experiments.engine.finetuning.network import TaskNetwork, build_model, predict
from experiments.engine.finetuning.shown import rows_shown, show_examples
from experiments.engine.objective import Objective
from experiments.engine.pretraining import fusion_start
from experiments.engine.pretraining.task import Task
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.step import Method
from multimodal import answering, answers, tokenizer


class Said(NamedTuple):
  """Logits [n, k, a, vocabulary] of a batch, answers [n, k, a], weights [n, k]."""

  logits: jax.Array
  answers: jax.Array
  weights: jax.Array


class Choice(NamedTuple):
  """What an answer is chosen from.

  Attributes:
    names: the list.
    tokens: int32 [c, a] of its answers.
    most: answers that are scored as a whole.
  """

  names: tuple[str, ...]
  tokens: np.ndarray
  most: int


def build_answering_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """The task of a config of configs/finetune.py with method "answering".

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  del devices  # the loss is over the global batch as jit divides it
  model, knobs = build_model(config), config.answers
  if knobs.context < 3 or knobs.most < 1:
    raise errors.UsageError(
      f"answers.context is {knobs.context} and answers.most {knobs.most}; an answer "
      "has at least 3 tokens, its ends counted, and at least 1 is scored"
    )
  train, test = load_asked(config, model.text.context)
  if train.questions.image_index.ndim > 1:
    raise errors.UsageError(
      f"texts of '{train.name}' are about several pictures; judge them: "
      "--config=configs/finetune.py:statements"
    )
  names = known_answers(train, knobs.listed)
  train = with_answers(train, knobs.context)
  listed = read_texts(names, knobs.context, f"the list of answers of {train.name}")
  choice = Choice(names, listed, knobs.most)
  sample = train.sample()
  image = read_pictures(config, sample)
  network = TaskNetwork(
    answering.Answerer(model, knobs.context), ("image", "text", "answers")
  )
  network.check(sample)
  shown = (network, image, config.sees, choice, test)
  return Task(
    title=f"fusion model of size {config.model.size} that answers in words, "
    f"{len(names)} answers to choose from{sees_of(config.sees)}",
    network=network,
    objective=_objective(),
    method=_method(network, image, config.sees),
    train_set=train,
    sample=sample,
    evaluate=functools.partial(_evaluate, *shown),
    start=fusion_start.start_task,
    illustrate=functools.partial(_illustrate, *shown),
  )


def _objective() -> Objective:
  def loss(params, batch: Said, state, key):
    del params, key
    return answering.answer_loss(*batch), state, {}

  return Objective(
    params={},
    init=lambda examples, width: (),
    loss=loss,
    negatives=lambda n: None,
    chance=lambda n: None,
  )


def _method(network: TaskNetwork, image: Reading, sees: str) -> Method:
  def embed(params, stats, target, batch, key):
    del target, key
    inputs = batch.inputs
    pixels = image.prepare(inputs["image"])
    logits = network.bind(params)(
      "__call__", pixels, inputs["text"], inputs["answers"], _present(sees, pixels)
    )
    return logits, stats

  def compared(params, logits, batch):
    del params
    return Said(logits, batch.inputs["answers"], batch.inputs["weights"])

  return Method(
    embed=embed,
    compared=compared,
    watch=lambda batch: {"token_accuracy": jnp.mean(answering.token_accuracy(*batch))},
  )


def _present(sees: str, pixels: jax.Array) -> jax.Array | None:
  return jnp.zeros(len(pixels), bool) if sees == "text" else None


def answer_all(
  network: TaskNetwork,
  image: Reading,
  sees: str,
  choice: Choice,
  params: Any,
  rows: Any,
) -> tuple[list[str], list[str]]:
  """Answers chosen from the list, and those said freely.

  Args:
    network: of an `Answerer`.
    image: how pictures are read.
    sees: one of `asked.SEES`.
    choice: the list.
    params: of the network.
    rows: {"image", "text"} of the questions.
  """
  context = choice.tokens.shape[1]

  def apply(call, rows):
    pixels = image.prepare(rows["image"])
    memory, mask = call("look", pixels, rows["text"], _present(sees, pixels))
    say = functools.partial(call, "say")
    scores, numbers = answering.rank_answers(
      say, memory, mask, jnp.asarray(choice.tokens), choice.most
    )
    best = jnp.argmax(scores, -1)[:, None]
    chosen = jnp.take_along_axis(numbers, best, axis=1)
    free = answering.generate_answers(say, memory, mask, context)
    return jnp.concatenate([chosen, free], axis=1)

  # Numbers below 2^24 are exact as floats.
  found = predict(network, params, rows, apply, "question").astype(np.int32)
  decode = tokenizer.load().decode
  chosen = [choice.names[number] for number in found[:, 0]]
  return chosen, [decode(row.tolist()) for row in found[:, 1:]]


def _evaluate(network, image, sees, choice, test: Asked, variables, before, folder):
  del before
  rows = {"image": Drawn(test), "text": test.tokens}
  chosen, free = answer_all(network, image, sees, choice, variables["params"], rows)
  questions = test.questions
  numbers = question_numbers(questions.ids)
  prediction_files.write_answers(folder / "predictions.json", numbers, chosen)
  prediction_files.write_answers(folder / "predictions_free.json", numbers, free)
  how = (questions.given, kinds(questions))
  listed = {answers.normalize_answer(name) for name in choice.names}
  known = [
    any(answers.normalize_answer(x) in listed for x in given)
    for given in questions.given
  ]
  return (
    task_metrics.answer_report(chosen, *how)
    | {f"free/{k}": v for k, v in task_metrics.answer_report(free, *how).items()}
    | {"answerable": float(np.mean(known))}
  )


def _illustrate(network, image, sees, choice, test: Asked, variables, folder) -> None:
  params, rows = variables["params"], rows_shown(len(test.tokens))
  inputs = {"image": test.pictures(rows), "text": test.tokens[rows]}
  chosen, _ = answer_all(network, image, sees, choice, params, inputs)
  right = [
    answers.vqa_accuracy(said, test.questions.given[row]) > 0
    for said, row in zip(chosen, rows.tolist(), strict=True)
  ]
  show_examples(network, image, sees, params, test, chosen, right, folder)
