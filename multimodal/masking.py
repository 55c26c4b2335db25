"""Masked language modelling given a picture, the third loss of ALBEF.

Some tokens of a text are hidden, and told from the others and the picture, which stays
whole (Devlin et al. 2019, BERT, sec. 3.1; Li et al. 2021, Align before Fuse, eq. 7):

  masked = mask_tokens(key, tokens, vocabulary_size=tokenizer.vocabulary_size)
  states = ...  # [n, t, d] of masked.inputs
  picked = jnp.take_along_axis(states, masked.positions[:, :, None], axis=1)
  logits = ...  # [n, k, V] of picked: the wide layer is at the masked positions only
  loss = masked_loss(logits, masked.targets, masked.where)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import axes
from multimodal import tokenizer
from multimodal.distillation import global_mean, mixed_targets, soft_cross_entropy

SPECIAL = (tokenizer.PAD, tokenizer.START, tokenizer.END, tokenizer.MASK)

# Of the tokens to be told, how many are hidden and how many are another token; the
# others stay as they are, so that the model must doubt what it reads (BERT, app. C.2).
_HIDDEN, _OTHER = 0.8, 0.1


class MaskedTokens(NamedTuple):
  """Texts with hidden tokens, and what is to be told of them.

  Attributes:
    inputs: [n, t] the tokens to read.
    positions: [n, k] int32, different ones in a row, in no order.
    targets: [n, k] the tokens that stood there.
    where: [n, k] True for the positions that count; others were not touched.
  """

  inputs: jax.Array
  positions: jax.Array
  targets: jax.Array
  where: jax.Array


def mask_tokens(
  key: jax.Array,
  tokens: jax.Array,
  *,
  vocabulary_size: int,
  rate: float = 0.15,
  count: int | None = None,
  special: Sequence[int] = SPECIAL,
  mask: int = tokenizer.MASK,
  axis_name: str | None = None,
) -> MaskedTokens:
  """Chooses tokens to be told: 80 % become MASK, 10 % another token, 10 % stay.

  Of m tokens that are not special, `round(rate m)` are chosen, at least 1 of any, all
  sets being equally likely. As in BERT's own preparation of data, and unlike a coin for
  every token (ALBEF): at the same share, no short caption goes without a hidden token,
  which of 8 tokens happens to every fourth, and k positions always hold all.

  A row's draw is a function of (key, its global number, t): with the default generator
  of keys (threefry) it does not depend on the number of devices. "Another token" is
  drawn evenly from the vocabulary without the special ids, and may be the same one.

  Args:
    key: typed PRNG key, the same on all devices.
    tokens: integers [n, t] in [0, vocabulary_size).
    vocabulary_size: V.
    rate: share of the tokens to choose, in (0, 1].
    count: k; fewer than a row's number cut it. None for the number of a row without
      special tokens, `round(rate t)`, which never cuts.
    special: ids that are neither chosen nor drawn, besides `mask`.
    mask: id that hides a token.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    Tokens and positions of fixed shapes; a row of special ids only has where = False.

  Raises:
    ValueError: a rate, count or id out of range, or no token to draw.
  """
  if tokens.ndim != 2 or tokens.shape[1] < 1:
    raise ValueError(f"tokens must be [n, t] with t >= 1, not {tokens.shape}")
  n, t = tokens.shape
  reserved = _reserved(special, mask, vocabulary_size)
  chosen = _chosen(t, rate)
  k = int(chosen[-1]) if count is None else count
  if not 1 <= k <= t:
    raise ValueError(f"count is a number of positions of {t} tokens, 1 to {t}, not {k}")

  def one(number, row):
    place_key, kind_key, word_key = jax.random.split(jax.random.fold_in(key, number), 3)
    free = jnp.all(row[:, None] != reserved[None, :], axis=1)
    score = jnp.where(free, jax.random.uniform(place_key, (t,)), -1)
    _, positions = jax.lax.top_k(score, k)
    where = jnp.arange(k) < jnp.asarray(chosen)[jnp.sum(free)]
    targets = row[positions]
    kind = jax.random.uniform(kind_key, (k,))
    word = _draw_words(word_key, k, reserved, vocabulary_size).astype(row.dtype)
    read = jnp.where(kind < _HIDDEN + _OTHER, word, targets)
    read = jnp.where(kind < _HIDDEN, jnp.asarray(mask, row.dtype), read)
    inputs = row.at[positions].set(jnp.where(where, read, targets), unique_indices=True)
    return MaskedTokens(inputs, positions, targets, where)

  numbers = jnp.arange(n) + axes.row_offset(n, axis_name)
  return jax.vmap(one)(numbers, jnp.asarray(tokens))


def masked_loss(
  logits: jax.Array,
  targets: jax.Array,
  where: jax.Array,
  *,
  momentum_logits: jax.Array | None = None,
  alpha: jax.Array | float = 0.0,
  axis_name: str | None = None,
) -> jax.Array:
  """Mean over the masked positions of all devices of the cross entropy, distilled.

  `(1 - alpha) CE(targets) + alpha CE(softmax(momentum_logits))`. No gradient flows to
  the momentum logits.

  Args:
    logits: [n, k, V].
    targets: integers [n, k] in [0, V).
    where: [n, k] True for the positions that count.
    momentum_logits: [n, k, V] of the momentum model at the same positions, or None.
    alpha: weight of the momentum model in [0, 1]; the number 0 if there is none.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [] nats, the same on all devices; log V when all logits are equal, 0 without masked
    positions, NaN for a target outside the vocabulary.

  Raises:
    ValueError: the shapes, or alpha.
  """
  shapes = [targets.shape, where.shape]
  shapes += [] if momentum_logits is None else [momentum_logits.shape[:-1]]
  width = logits.shape[-1]
  widths = {width if momentum_logits is None else momentum_logits.shape[-1], width}
  if logits.ndim != 3 or set(shapes) != {logits.shape[:2]} or len(widths) > 1:
    raise ValueError(
      "masked_loss takes logits [n, k, V] (momentum_logits too) and targets and where "
      f"[n, k], not shapes {logits.shape}, {targets.shape} and {where.shape}"
    )
  here = where[:, :, None]
  # Logits elsewhere may be anything, and must not enter the gradient.
  blank = lambda x: jnp.where(here, x, 0)
  teacher = None if momentum_logits is None else blank(momentum_logits)
  hard = jax.nn.one_hot(targets, width)
  values = soft_cross_entropy(blank(logits), mixed_targets(hard, teacher, alpha=alpha))
  known = (0 <= targets) & (targets < width)
  return global_mean(jnp.where(known, values, jnp.nan), where, axis_name)


def _chosen(t: int, rate: float) -> np.ndarray:
  """[t + 1] how many of 0 .. t tokens are chosen."""
  if not 0 < rate <= 1:
    raise ValueError(f"rate is a share of the tokens, in (0, 1], not {rate}")
  # Halves go up; the small term undoes the rounding of rate * length below a half.
  numbers = [max(1, math.floor(rate * m + 0.5 + 1e-9)) for m in range(1, t + 1)]
  return np.array([0, *numbers], np.int32)


def _reserved(special: Sequence[int], mask: int, vocabulary_size: int) -> np.ndarray:
  """The special ids in order."""
  reserved = sorted({*map(int, special), int(mask)})
  if reserved[0] < 0 or reserved[-1] >= vocabulary_size:
    raise ValueError(
      f"special ids {reserved} must lie in the vocabulary of {vocabulary_size} tokens"
    )
  if len(reserved) >= vocabulary_size:
    raise ValueError(
      f"all {vocabulary_size} tokens are special; there is no token to mask or draw"
    )
  return np.array(reserved, np.int32)


def _draw_words(key, k: int, reserved: np.ndarray, vocabulary_size: int) -> jax.Array:
  """[k] ids, evenly from those that are not reserved."""
  word = jax.random.randint(key, (k,), 0, vocabulary_size - len(reserved))
  for i in reserved:  # in order: each shifts the ids from its own on by one
    word += word >= i
  return word
