"""What loading any set takes: which rows, which can be used, what is missing."""

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.engine import errors, hosts
from experiments.engine.datasets.builders import folders


def draw_rows(count: int, limit: int | None, seed: int, what: str) -> np.ndarray:
  """Draws a subset of `limit` of `count` examples, uniformly without replacement.

  Args:
    count: number of examples.
    limit: size of the subset; None or 0: all.
    seed: of the draw.
    what: the examples, for the error.

  Returns:
    Rows, ascending.

  Raises:
    UsageError: there are not so many.
  """
  if not limit:
    return np.arange(count)
  if limit < 0 or limit > count:
    raise errors.UsageError(
      f"a limit of {limit} examples was asked for, but {what} has {count}"
    )
  rng = np.random.default_rng([seed, *b"limit"])
  return np.sort(rng.choice(count, limit, replace=False))


def decode_usable(
  encoded: Sequence[bytes], image_size: int | tuple[int, int] | None, name: str
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes those pictures that can be decoded, as RGB.

  Args:
    encoded: m pictures.
    image_size: see `pictures.decode_pictures`.
    name: of the data set, for errors.

  Returns:
    uint8 [k, height, width, 3], and which of the m they are: rising, int [k].

  Raises:
    UserError: sizes vary without `image_size`, or there is not enough memory.
  """
  from experiments.engine.datasets import pictures

  def decode(chosen: Sequence[bytes], size: int | tuple[int, int] | None) -> np.ndarray:
    return pictures.decode_pictures(chosen, channels=3, image_size=size, name=name)

  def decodes(picture: bytes) -> bool:
    try:
      decode([picture], 1)
    except pictures.UndecodableError:
      return False
    return True

  try:
    return decode(encoded, image_size), np.arange(len(encoded))
  except pictures.UndecodableError:  # rare, so only then each is tried on its own
    kept = [row for row, picture in enumerate(encoded) if decodes(picture)]
    chosen = [encoded[row] for row in kept]
    return decode(chosen, image_size), np.array(kept, np.int64)


def judge_skipped(
  what: str, count: int, skipped: Mapping[str, int], most: float
) -> int:
  """Says on standard error how many examples were skipped.

  Args:
    what: the examples, for people.
    count: how many were to be loaded.
    skipped: reason -> how many.
    most: greatest share of `count` that may be.

  Returns:
    How many in all.

  Raises:
    UserError: they are more than that.
  """
  total = sum(skipped.values())
  if not total:
    return 0
  reasons = ", ".join(f"{number} {why}" for why, number in skipped.items() if number)
  said = f"{total} of {count} examples of {what}: {reasons}"
  if total > most * count:
    raise errors.UserError(
      f"cannot use {said}; more than {most:.3g} of them: prepare the data set again, "
      "or allow more with max_skipped"
    )
  if hosts.first():
    print(f"skips {said}", file=sys.stderr, flush=True)
  return total


def not_prepared(name: str, data_dir: str) -> errors.UserError:
  """Builds the error for a known set that is not there, with the command that helps."""
  option = f" --data_dir={data_dir}" if data_dir else ""
  return errors.UserError(
    f"data set '{name}' not found in {folders.data_folder(data_dir)}; prepare it: "
    f"python -m experiments.prepare {name} --from=DIR{option}"
  )
