"""Examples of a task for the page of its run."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.engine.finetuning.asked import Asked
from experiments.engine.finetuning.network import TaskNetwork
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.reporting import pictures
from experiments.engine.reporting.question_pictures import Example, answers_shown

_SHOWN = 8


def rows_shown(count: int) -> np.ndarray:
  """Numbers of the examples that are shown: evenly over all, not by their success."""
  return np.unique(np.linspace(0, count - 1, min(count, _SHOWN)).round().astype(int))


def show_examples(
  network: TaskNetwork,
  image: Reading,
  sees: str,
  params: Any,
  test: Asked,
  said: Sequence[str],
  right: Sequence[bool],
  folder: pathlib.Path,
) -> None:
  """Writes a sheet of examples, their answers and where the model looked.

  Args:
    network: of a `Judge` or an `Answerer`.
    image: how pictures are read.
    sees: one of `asked.SEES`; from the text alone nothing is looked at.
    params: of the network.
    test: the split.
    said: answers to the examples `rows_shown`.
    right: whether they count as right.
    folder: of the run.

  Raises:
    UserError: matplotlib is missing, or the folder cannot be written.
  """
  rows = rows_shown(len(test.tokens))
  pixels = test.pictures(rows)
  maps = None
  if sees != "text":
    look = jax.jit(lambda p, x, t: network.bind(p)("attention", image.prepare(x), t))
    h, w = (side // network.module.model.image.patch for side in pixels.shape[-3:-1])
    found = np.asarray(look(params, pixels, test.tokens[rows]))
    maps = found.reshape(*found.shape[:2], h, w)
  if pixels.ndim == 4:
    pixels = pixels[:, None]
  examples = [
    Example(
      pixels[i],
      None if maps is None else maps[i],
      test.questions.texts[row],
      test.questions.answers[row],
      said[i],
      bool(right[i]),
    )
    for i, row in enumerate(rows.tolist())
  ]
  blind = {"text": " The model saw no picture.", "image": " The model saw no text."}
  looked = (
    " Beside each picture: the attention of the last layer's heads and the text's "
    "words to its patches, on average; the brighter, the more."
  )
  caption = (
    f"{len(rows)} examples taken evenly over the test split, not chosen by their "
    f"success: {sum(map(bool, right))} of them are right (tick)."
    f"{'' if maps is None else looked}{blind.get(sees, '')}"
  )
  drawn = pictures.Picture("answers", answers_shown(examples), caption)
  pictures.write_pictures([drawn], folder)
