"""Which scenes a split of a set means, and whether their pictures can be had."""

import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import embedded
from experiments.engine.datasets.loading import draw_rows
from multimodal import scenes


def choose_scenes(
  name: str,
  split: str,
  size: tuple[int, int],
  painted: int,
  limit: int | None,
  seed: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses examples of a set whose pictures are painted scenes, before any is.

  Args:
    name: of the data set, for errors.
    split: "train" or "test", or a part of it as in TFDS; see `embedded.read_range`.
    size: (height, width) of the pictures, which must be squares.
    painted: at most so many pictures of each example.
    limit: so many examples, drawn as in `draw_rows`; None or 0: all.
    seed: of that draw.

  Returns:
    Their numbers within the split, ascending, and their ids for `multimodal.scenes`,
    both int64 [n].

  Raises:
    UsageError: no such split, a size that cannot be painted, or a limit beyond the
      number of examples.
    UserError: the pictures do not fit into memory.
  """
  from experiments.engine.datasets import pictures

  counts = embedded.SCENE_COUNTS
  part, start, stop = embedded.read_range(split, counts, name, most=2**31)
  height, width = size
  if height != width or height < scenes.MIN_SIZE:
    raise errors.UsageError(
      f"pictures of '{name}' are squares with an image_size of at least "
      f"{scenes.MIN_SIZE}, not {height} x {width}"
    )
  pictures.require_memory(3.0 * painted * (limit or stop - start) * height**2, name)
  rows = start + draw_rows(stop - start, limit, seed, f"'{split}' of '{name}'")
  return rows, int(scenes.split_ids(part, 1)[0]) + rows
