"""The paired world of vectors as a data set: two modalities with known factors.

Both splits are drawn once, from keys of their own: a fixed number of examples, the same
in every run. Towers read "image" or "text"; both are plain vectors.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from experiments.engine import errors
from experiments.engine.datasets import embedded, loading
from multimodal import paired_factors

NAME = "paired_factors"
_COUNTS = {"train": 10_000, "test": 2_000}
_WORLD, _SPLITS = 0, {"train": 1, "test": 2}
_SEED = 0


class FactorVectors(NamedTuple):
  """A split of n examples.

  Attributes:
    values: by modality, float32 [n, width].
    views: by modality, float32 [n, width]: the same attributes with other nuisances and
      other noise.
    attributes: int32 [n] by name: shared_0, ... of both modalities, image_0, ... and
      text_0, ... of one alone.
  """

  values: dict[str, np.ndarray]
  views: dict[str, np.ndarray]
  attributes: dict[str, np.ndarray]


def load_vectors(
  split: str, *, limit: int | None = None, seed: int = 0, inputs: Iterable[str] = ()
) -> FactorVectors:
  """Draws a split of the world of `multimodal.paired_factors`.

  Args:
    split: "train" (10,000 examples) or "test" (2,000), or a part: "train[:500]".
    limit: so many examples of it, drawn without replacement; None (or 0): all.
    seed: of that draw; the examples do not depend on it.
    inputs: what towers want of it, to be checked.

  Raises:
    UsageError: an unknown split or input, or a limit beyond the size of the split.
  """
  part, start, stop = embedded.read_range(split, _COUNTS, NAME)
  sizes = paired_factors.Sizes()
  key = jax.random.fold_in(jax.random.key(_SEED), _SPLITS[part])
  factor_key, input_key, view_key = jax.random.split(key, 3)
  world = paired_factors.make_world(
    jax.random.fold_in(jax.random.key(_SEED), _WORLD), sizes
  )
  factors = paired_factors.draw_factors(factor_key, _COUNTS[part], sizes)
  rows = start + loading.draw_rows(stop - start, limit, seed, f"'{split}' of {NAME}")
  render = lambda key: {
    name: np.asarray(values)[rows]
    for name, values in paired_factors.render(key, world, factors, sizes).items()
  }
  values = render(input_key)
  for wanted in inputs:
    if wanted not in values:
      raise errors.unknown(f"input of '{NAME}'", wanted, values)
  attributes = {
    f"{kind}_{number}": labels.astype(np.int32)
    for kind, table in factors._asdict().items()
    for number, labels in enumerate(np.asarray(table)[rows].T)
  }
  return FactorVectors(values, render(view_key), attributes)
