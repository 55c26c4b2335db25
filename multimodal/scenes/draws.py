"""Random numbers by counter: every one is a hash of (seed, id, number of the draw).

So any subset of the scenes can be made in any order, and on any number of threads.
"""

import numpy as np

# Ids of the two splits: [start, stop). They never meet.
SPLITS = {"train": (0, 2**31), "test": (2**31, 2**32)}


def split_ids(split: str, count: int, *, start: int = 0) -> np.ndarray:
  """Returns the int64 ids start, ..., start + count - 1 of a split.

  Args:
    split: "train" or "test".
    count: how many, at most 2**31 - start.
    start: number of the first one within the split.

  Raises:
    ValueError: no such split, or ids beyond its end.
  """
  if split not in SPLITS:
    raise ValueError(f"scenes have no split '{split}'; choose from {list(SPLITS)}")
  first, stop = SPLITS[split]
  if start < 0 or count < 0 or first + start + count > stop:
    raise ValueError(
      f"scenes {start} to {start + count} lie outside split '{split}', which has "
      f"{stop - first} of them"
    )
  return np.arange(first + start, first + start + count, dtype=np.int64)


def words(seed: int, ids: np.ndarray, draws: int, stream: int = 0) -> np.ndarray:
  """uint64 [n, draws]: the SplitMix64 finaliser of (seed, id, draw), by counter.

  Args:
    seed: not negative.
    ids: [n] integers, not negative.
    draws: how many numbers for each.
    stream: another stream gives numbers that have nothing to do with these.
  """
  step = np.uint64(0x9E3779B97F4A7C15)
  start = _mix(np.full(1, seed, np.uint64) * step + step)
  if stream:
    start = _mix(start ^ _mix(np.full(1, stream, np.uint64) * step))
  rows = _mix(np.asarray(ids).astype(np.uint64) * step + start)
  return _mix(rows[:, None] + np.arange(1, draws + 1, dtype=np.uint64) * step)


def uniform(seed: int, ids: np.ndarray, draws: int, stream: int = 0) -> np.ndarray:
  """float32 [n, draws] in [0, 1), of 24 bits; the arguments are those of `words`."""
  bits = words(seed, ids, draws, stream) >> np.uint64(40)
  return bits.astype(np.float32) / 2**24


def normal(seed: int, ids: np.ndarray, draws: int) -> np.ndarray:
  """float32 [n, draws], mean 0, variance 1: the sum of four 16-bit uniforms."""
  quarters = words(~seed & (2**63 - 1), ids, draws).astype("<u8").view("<u2")
  total = quarters.reshape(len(quarters), draws, 4).sum(-1, dtype=np.float32)
  return (total / 65536 - np.float32(2)) * np.float32(np.sqrt(3))


def _mix(z: np.ndarray) -> np.ndarray:
  """The output function of SplitMix64 (Steele, Lea, Flood, 2014)."""
  z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return z ^ (z >> np.uint64(31))
