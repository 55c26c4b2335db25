"""What exact alignment costs: information on finite alphabets, in NumPy and float64.

A joint distribution is an array [a, b, c] of the probabilities of (x_T, x_V, y). Let
Z_T and Z_V be functions of X_T and X_V. By data processing nothing computed from
(Z_T, Z_V) predicts Y better than (X_T, X_V) does; the best cross entropies differ by

  price(Z_T, Z_V) = I(X_T, X_V; Y) - I(Z_T, Z_V; Y) >= 0.

If Z_T = Z_V almost surely (up to a bijection), the price is at least the information
gap |I(X_T; Y) - I(X_V; Y)| (Jiang et al. 2023, theorem 3.1). That is a lower bound
only, and may be 0 where alignment costs all there is to know. The least price of exact
alignment is known exactly: the best Z is the common part C of X_T and X_V (Gacs &
Koerner 1973), of which every aligned Z is a function, so `aligned_price` is
I(X_T, X_V; Y) - I(C; Y).

Information is in nats.
"""

import itertools
from collections.abc import Iterator

import numpy as np

# More symbols than this have too many encoders to go through them all.
_MOST_SYMBOLS = 5


def mutual_information(joint: np.ndarray) -> float:
  """I(A; B) of the probabilities [a, b].

  Raises:
    ValueError: not probabilities.
  """
  p = _checked(joint, 2)
  independent = p.sum(axis=1)[:, None] * p.sum(axis=0)[None, :]
  some = p > 0
  return float(np.sum(p[some] * np.log(p[some] / independent[some])))


def conditional_entropy(joint: np.ndarray) -> float:
  """H(A | B) of the probabilities [a, b]."""
  p = _checked(joint, 2)
  some = p > 0
  given = np.broadcast_to(p.sum(axis=0)[None, :], p.shape)
  return float(-np.sum(p[some] * np.log(p[some] / given[some])))


def information_gap(joint: np.ndarray) -> float:
  """`|I(X_T; Y) - I(X_V; Y)|` of [a, b, c]: the theorem's bound of the price."""
  return abs(text_information(joint) - image_information(joint))


def text_information(joint: np.ndarray) -> float:
  """I(X_T; Y) of [a, b, c]: what the first modality alone knows."""
  return mutual_information(_checked(joint, 3).sum(axis=1))


def image_information(joint: np.ndarray) -> float:
  """I(X_V; Y) of [a, b, c]: what the second modality alone knows."""
  return mutual_information(_checked(joint, 3).sum(axis=0))


def joint_information(joint: np.ndarray) -> float:
  """I(X_T, X_V; Y) of [a, b, c]."""
  p = _checked(joint, 3)
  return mutual_information(p.reshape(-1, p.shape[2]))


def common_part(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The finest variable that is a function of either of the two (Gacs & Koerner).

  Its values are the connected components of the graph that joins x_T and x_V where
  their pair has mass.

  Args:
    joint: [a, b] probabilities, or [a, b, c], whose last axis is summed out.

  Returns:
    Integer labels [a] and [b], numbered from 0; -1 for a symbol without mass.
  """
  p = np.asarray(joint, np.float64)
  p = _checked(p.sum(axis=2) if p.ndim == 3 else p, 2)
  text, image = np.full(p.shape[0], -1), np.full(p.shape[1], -1)
  parts = 0
  for start in range(p.shape[0]):
    if text[start] >= 0 or not p[start].any():
      continue
    text[start] = parts
    grown = True
    while grown:
      image[(p[text == parts] > 0).any(axis=0)] = parts
      reached = (p[:, image == parts] > 0).any(axis=1)
      grown = bool(np.any(reached & (text < 0)))
      text[reached] = parts
    parts += 1
  return text, image


def encoded(
  joint: np.ndarray, encode_text: np.ndarray, encode_image: np.ndarray
) -> np.ndarray:
  """Probabilities [k, l, c] of (z_T, z_V, y) for functions of the symbols.

  Args:
    joint: [a, b, c] probabilities.
    encode_text: [a] label of each x_T; any integers.
    encode_image: [b] label of each x_V.
  """
  p = _checked(joint, 3)
  text, rows = np.unique(encode_text, return_inverse=True)
  image, columns = np.unique(encode_image, return_inverse=True)
  result = np.zeros((text.size, image.size, p.shape[2]))
  np.add.at(result, (rows[:, None], columns[None, :]), p)
  return result


def encoder_price(
  joint: np.ndarray, encode_text: np.ndarray, encode_image: np.ndarray
) -> float:
  """Information on Y that a pair of encoders loses, >= 0 up to rounding.

  Args:
    joint: [a, b, c] probabilities.
    encode_text: [a] label of each x_T.
    encode_image: [b] label of each x_V.
  """
  return joint_information(joint) - joint_information(
    encoded(joint, encode_text, encode_image)
  )


def aligned_price(joint: np.ndarray) -> float:
  """The least that exact alignment costs: I(X_T, X_V; Y) - I(C; Y), of [a, b, c]."""
  return encoder_price(joint, *common_part(joint))


def approximate_bound(
  joint: np.ndarray, encode_text: np.ndarray, encode_image: np.ndarray
) -> float:
  """A lower bound of `encoder_price` for encoders that are not quite aligned.

  `gap - H(Z_strong | Z_weak)`, strong being the modality with more information on Y:
  I(Z_T, Z_V; Y) <= I(Z_weak; Y) + H(Z_strong | Z_weak). Exactly aligned encoders have
  no such entropy, and the bound is the theorem's.

  Args:
    joint: [a, b, c] probabilities.
    encode_text: [a] label of each x_T.
    encode_image: [b] label of each x_V.
  """
  pairs = encoded(joint, encode_text, encode_image).sum(axis=2)
  if text_information(joint) < image_information(joint):
    pairs = pairs.T
  return information_gap(joint) - conditional_entropy(pairs)


def aligned_encoders(joint: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Every pair of encoders with Z_T = Z_V almost surely, by trying them all.

  The slow truth behind `aligned_price`. Labels are numbered by first use in Z_T, so
  that a renaming in both towers is not another pair; a pair may differ from another
  only on symbols without mass.

  Args:
    joint: [a, b] or [a, b, c] probabilities with a, b <= 5.

  Yields:
    Labels [a] and [b].

  Raises:
    ValueError: the alphabets are too large to go through.
  """
  p = np.asarray(joint, np.float64)
  p = _checked(p.sum(axis=2) if p.ndim == 3 else p, 2)
  a, b = p.shape
  if max(a, b) > _MOST_SYMBOLS:
    raise ValueError(
      f"{a} x {b} symbols have too many encoders to try; give at most {_MOST_SYMBOLS} "
      "each, or use aligned_price, which needs no search"
    )
  rows, columns = np.nonzero(p)
  for text in _partitions(a):
    labels = range(text.max() + 1)
    images = np.array(list(itertools.product(labels, repeat=b)))
    agree = np.all(images[:, columns] == text[rows][None, :], axis=1)
    for image in images[agree]:
      yield text, image


def block_joint(
  rng: np.random.Generator, *, symbols: int = 4, blocks: int = 2, classes: int = 3
) -> np.ndarray:
  """A random joint [symbols, symbols, classes] whose common part has `blocks` values.

  Args:
    rng: source of all randomness.
    symbols: of either modality.
    blocks: from 1 (full support) to `symbols` (one modality is the other, renamed).
    classes: of Y, which depends on both symbols.

  Raises:
    ValueError: more blocks than symbols.
  """
  if not 1 <= blocks <= symbols:
    raise ValueError(f"{symbols} symbols make 1 to {symbols} blocks, not {blocks}")

  def members():
    # Every block has a symbol; the rest fall anywhere.
    rest = rng.integers(blocks, size=symbols - blocks)
    return rng.permutation(np.concatenate([np.arange(blocks), rest]))

  text, image = members(), members()
  mass = rng.exponential(size=(symbols, symbols)) * (text[:, None] == image[None, :])
  given = rng.dirichlet(np.full(classes, 0.5), size=(symbols, symbols))
  return mass[:, :, None] / mass.sum() * given


def separate_factors(values: int = 2) -> np.ndarray:
  """The case in which the theorem says nothing: Y = (X_T, X_V), independent, uniform.

  Both modalities know equally much, so the information gap is 0; they have nothing in
  common, so exact alignment costs all of it, 2 log(values).

  Args:
    values: of each modality.

  Returns:
    [values, values, values^2] probabilities.
  """
  joint = np.zeros((values, values, values * values))
  for text, image in itertools.product(range(values), repeat=2):
    joint[text, image, text * values + image] = 1 / values**2
  return joint


def modality_gap(first: np.ndarray, second: np.ndarray) -> float:
  """Distance of the mean rows of two towers [n, d].

  It predicts little: good and bad embeddings are found at any gap.
  """
  means = [np.mean(np.asarray(x, np.float64), axis=0) for x in (first, second)]
  return float(np.linalg.norm(means[0] - means[1]))


def _checked(joint: np.ndarray, ndim: int) -> np.ndarray:
  """Probabilities in float64."""
  p = np.asarray(joint, np.float64)
  if p.ndim != ndim or not np.all(p >= 0) or abs(p.sum() - 1) > 1e-9:
    raise ValueError(
      f"a joint distribution here is an array of {ndim} axes with entries >= 0 that "
      f"sum to 1, not of shape {p.shape} with sum {p.sum():.6g}; divide by the sum"
    )
  return p


def _partitions(n: int) -> Iterator[np.ndarray]:
  """All ways to label n symbols, labels numbered by first use."""

  def extend(labels):
    if len(labels) == n:
      yield np.array(labels)
      return
    for label in range(max(labels, default=-1) + 2):
      yield from extend([*labels, label])

  yield from extend([])
