"""Contrast of images and texts with momentum keys and queues, with soft targets.

The first loss of ALBEF (Li et al. 2021, Align before Fuse, eqs. 1, 2 and 6). Keys come
from a momentum copy of the model; candidates of an image are the text keys of the whole
batch and those of earlier batches, which a queue holds; and the other way round. One
step:

  target = contrastive.target.ema(target, online, decay)  # before the keys, as ALBEF
  alpha = distillation.alpha_ramp(step, steps=epoch)
  rows = (image, text, image_key, text_key)
  loss = jnp.mean(momentum_nce(*rows, queues, scale=scale, alpha=alpha))
  queues = push_pairs(queues, image_key, text_key)  # after the loss
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, numerics, queue
from contrastive.queue import Queue
from contrastive.rows import check_queue, own_columns
from multimodal.distillation import check_alpha, mixed_targets, soft_cross_entropy
from multimodal.pairing import check_towers


class PairQueues(NamedTuple):
  """Keys of the k latest pairs; row j of every queue belongs to one pair.

  Attributes:
    image: the images' keys.
    text: the texts' keys.
    ids: the pairs' ids as keys of width 1, int32; or None.
  """

  image: Queue
  text: Queue
  ids: Queue | None


def init_pairs(size: int, width: int, *, ids: bool = False) -> PairQueues:
  """Empty queues of `size` pairs of keys of `width` entries.

  Args:
    size: k, any number of at least 1; it goes with any batch.
    width: d.
    ids: whether they hold the pairs' ids too.
  """
  empty = queue.init(size, width)
  numbers = Queue(jnp.zeros((size, 1), jnp.int32), jnp.zeros_like(empty.start))
  # Arrays of its own for each queue, so that a step may be given all of them to reuse.
  return PairQueues(empty, queue.init(size, width), numbers if ids else None)


def push_pairs(
  queues: PairQueues,
  image_key: jax.Array,
  text_key: jax.Array,
  ids: jax.Array | None = None,
  *,
  axis_name: str | None = None,
) -> PairQueues:
  """Replaces the oldest pairs by those of a batch, as `contrastive.queue.push`.

  Args:
    queues: the state, the same on all devices.
    image_key: [n, d] unit rows of the momentum model.
    text_key: [n, d] unit rows of the momentum model.
    ids: [n] integers, if the queues hold ids.
    axis_name: device axis whose devices hold other pairs of the batch, or None.

  Raises:
    ValueError: shapes differ, or ids are given and not held, or the reverse.
  """
  check_towers({"image_key": image_key, "text_key": text_key})
  _check_ids(queues, ids, image_key.shape[0])
  numbers = queues.ids
  if numbers is not None and ids is not None:
    numbers = queue.push(numbers, jnp.asarray(ids)[:, None], axis_name)
  return PairQueues(
    queue.push(queues.image, image_key, axis_name),
    queue.push(queues.text, text_key, axis_name),
    numbers,
  )


def momentum_nce(
  image: jax.Array,
  text: jax.Array,
  image_key: jax.Array,
  text_key: jax.Array,
  queues: PairQueues | None = None,
  *,
  scale: jax.Array | float,
  alpha: jax.Array | float = 0.0,
  ids: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """Mean of the image-to-text and the text-to-image cross entropy, per pair.

  Image i has the logits `scale image_i . key_j` with the N text keys of the batch and
  the k of the queue, and the targets

    alpha softmax_j(scale image_key_i . key_j) + (1 - alpha) positive_ij,

  positive_ij = 1 for its own text; texts with the pair's id, if there are ids, share
  the 1 equally, in the batch and in the queue. An empty slot of a queue (a zero row) is
  no candidate. Gradients flow to image, text and scale: not to keys, queues or targets.

  It holds a few matrices [n, N + k] of float32 at a time: 16 MiB each for n = 64 rows
  a device and ALBEF's k = 65,536.

  Args:
    image: [n, d] unit rows of the model that is trained.
    text: [n, d] unit rows of the model that is trained.
    image_key: [n, d] unit rows of the momentum model.
    text_key: [n, d] unit rows of the momentum model.
    queues: keys of earlier batches, the same on all devices; None for none.
    scale: inverse temperature > 0.
    alpha: weight of the momentum model's targets, in [0, 1].
    ids: [n] integers, equal for pairs that belong together (several captions of one
      image); None if every pair stands alone.
    axis_name: device axis with the rest of the batch of N pairs, or None.

  Returns:
    [n] nats; log of the number of candidates when all logits are equal, 0 without
    other candidates than the own one.

  Raises:
    ValueError: shapes differ, scale or alpha is out of range, or the queues hold ids
      and none are given, or the reverse.
  """
  check_towers(
    {"image": image, "text": text, "image_key": image_key, "text_key": text_key}
  )
  numerics.check_scale(scale)
  check_alpha(alpha)
  _check_ids(queues, ids, image.shape[0])
  image_key, text_key = jax.lax.stop_gradient((image_key, text_key))
  images, texts = axes.gather((image_key, text_key), axis_name)
  held = None
  if queues is not None:
    check_queue(image, queues.image.keys)
    check_queue(text, queues.text.keys)
    held = jax.lax.stop_gradient((queues.image.keys, queues.text.keys))
  same = _same_pairs(image.shape[0], queues, ids, axis_name)
  how = (same, scale, alpha)
  forward = _one_way(image, image_key, texts, held and held[1], *how)
  back = _one_way(text, text_key, images, held and held[0], *how)
  return (forward + back) / 2


def _one_way(query, query_key, keys, held, same, scale, alpha) -> jax.Array:
  """Cross entropy [n] of queries with one tower's keys and its queue."""
  filled = jnp.ones(keys.shape[0], bool)
  if held is not None:
    keys = jnp.concatenate([keys, held])
    filled = jnp.concatenate([filled, jnp.any(held != 0, axis=-1)])
  where = jnp.broadcast_to(filled[None, :], same.shape)
  logits = scale * numerics.similarity(query, keys)
  positive = (same & where).astype(logits.dtype)
  # A pair's own key is among the batch's, so that no row is empty.
  positive /= jnp.sum(positive, axis=-1, keepdims=True)
  teacher = None
  if not isinstance(alpha, (int, float)) or alpha:
    teacher = scale * numerics.similarity(query_key, keys)
  targets = mixed_targets(positive, teacher, alpha=alpha, where=where)
  return soft_cross_entropy(logits, targets, where)


def _same_pairs(n, queues, ids, axis_name) -> jax.Array:
  """Booleans [n, N + k]: candidates of a row's own pair, or of its id."""
  total = n * axes.size(axis_name)
  held = 0 if queues is None else queues.text.keys.shape[0]
  if ids is None:
    return own_columns(n, total + held, axis_name)
  every = axes.gather(ids, axis_name)
  if queues is not None and queues.ids is not None:
    every = jnp.concatenate([every, queues.ids.keys[:, 0].astype(every.dtype)])
  return ids[:, None] == every[None, :]


def _check_ids(queues: PairQueues | None, ids: jax.Array | None, n: int) -> None:
  if ids is not None and ids.shape != (n,):
    raise ValueError(f"ids must be [n], one for each of {n} pairs, not {ids.shape}")
  if queues is None:
    return
  sizes = {part.keys.shape[0] for part in queues if part is not None}
  if len(sizes) > 1:
    raise ValueError(f"the queues must be of one size, not {sorted(sizes)}")
  if (queues.ids is None) != (ids is None):
    held, given = ("no ids", "were") if queues.ids is None else ("ids", "were not")
    raise ValueError(
      f"the queues hold {held} and ids {given} given; make them by "
      "init_pairs(..., ids=True) if and only if you pass ids="
    )
