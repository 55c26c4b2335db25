"""Several positives or graded ones: supervised contrastive loss and soft targets.

Both are a cross entropy between a target distribution over the candidates and the
softmax of the logits. Values are in nats, one per anchor, not reduced.
"""

import jax
import jax.numpy as jnp

from contrastive import axes, blockwise, numerics
from contrastive.rows import own_columns
from contrastive.sums import numbered, queries_of
from contrastive.tiles import Keys


def sup_con(
  embeddings: jax.Array,
  labels: jax.Array,
  *,
  scale: jax.Array | float,
  where: jax.Array | None = None,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Supervised contrastive loss with the mean over positives outside the log, L_out.

  `-1/|P(i)| sum_{p in P(i)} log(e^s_ip / sum_{a != i} e^s_ia)`, P(i) the other rows of
  the same label; Khosla et al. 2020, eq. 2, without their factor t / t_base. To train
  on several views of an image, stack them and repeat the labels. Labels that are all
  pairs make it NT-Xent.

  The mean over the rows with a positive (`masked_mean(loss, has_positive(labels))`) is
  pytorch-metric-learning's `SupConLoss`.

  Args:
    embeddings: [n, d] unit rows.
    labels: [n] integer classes.
    scale: inverse temperature > 0.
    where: [n] False for rows to leave out as anchors and as candidates, or None.
    axis_name: device axis with the rest of the batch of N rows, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [n] nats; 0 for a row without positives; log(N - 1) when all logits are equal.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  numerics.check_scale(scale)
  if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
    raise ValueError(
      "sup_con takes embeddings [n, d] and labels [n], not shapes "
      f"{embeddings.shape} and {labels.shape}; repeat the labels for stacked views"
    )
  plan = blockwise.plan(embeddings.shape[0], axis_name, block_size, ring)
  if plan is not None:
    return _sup_con_in_blocks(plan, embeddings, labels, scale, where)
  logits = scale * numerics.similarity(embeddings, axes.gather(embeddings, axis_name))
  positive, candidate = _pairs(labels, where, axis_name)
  count = jnp.sum(positive, axis=-1, keepdims=True)
  targets = positive / jnp.maximum(count, 1).astype(logits.dtype)
  return _cross_entropy(logits, targets, candidate)


def has_positive(
  labels: jax.Array,
  *,
  where: jax.Array | None = None,
  axis_name: str | None = None,
) -> jax.Array:
  """[n] True for rows whose label another row of the global batch shares.

  Args:
    labels: [n] integer classes.
    where: [n] False for rows that are left out, or None.
    axis_name: device axis with the rest of the batch, or None.
  """
  return _positives(labels, where, axis_name) > 0


def soft_nce(
  query: jax.Array,
  key: jax.Array,
  targets: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
) -> jax.Array:
  """Cross entropy of the softmax over the keys against a target distribution.

  `-sum_j t_ij log(e^s_ij / sum_l e^s_il)`, one direction. The identity as targets
  gives InfoNCE's forward direction; a mixture of it with another model's softmax gives
  ALBEF's momentum distillation; equal weights on duplicates give several positives.

  Args:
    query: [n, d] unit rows.
    key: [n, d] unit rows, or [m, d] without `axis_name`.
    targets: [n, N] weights of the N keys of the global batch, >= 0. A row that sums to
      c instead of 1 has c times the loss. Gradient flows to them unless stopped.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix.

  Returns:
    [n] nats, at least the entropy of the targets; 0 for a row of zeros.

  Raises:
    ValueError: the shape of the targets or the scale.
  """
  numerics.check_scale(scale)
  pairs = query.shape[0], key.shape[0] * axes.size(axis_name)
  if targets.shape != pairs:
    raise ValueError(
      f"targets must have a row for each query and a column for each key of the global "
      f"batch, {pairs}, not {targets.shape}"
    )
  plan = blockwise.plan(query.shape[0], axis_name, block_size)
  if plan is not None:
    return _soft_nce_in_blocks(plan, query, key, targets, scale)
  logits = scale * numerics.similarity(query, axes.gather(key, axis_name))
  everybody = jnp.ones_like(logits, bool)
  return _cross_entropy(logits, targets.astype(logits.dtype), everybody)


def _sup_con_in_blocks(plan, embeddings, labels, scale, where):
  number = numbered(embeddings, plan.axis_name)
  tag = number if where is None else jnp.where(where, number, -1)
  log_sum = blockwise.self_log_sums(plan, queries_of(embeddings, scale, tag))
  group = blockwise.Group(labels, tag)
  count = _positives(labels, where, plan.axis_name).astype(log_sum.dtype)
  total = blockwise.group_sums(plan, group, embeddings.astype(log_sum.dtype))
  inner = jnp.sum(embeddings.astype(log_sum.dtype) * total, axis=-1)
  some = count > 0
  mean = scale * inner / jnp.where(some, count, 1)
  return jnp.where(some, jnp.where(some, log_sum, 0) - mean, 0)


def _soft_nce_in_blocks(plan, query, key, targets, scale):
  dtype = jnp.promote_types(jnp.result_type(query, key), jnp.float32)
  targets = targets.astype(dtype)
  # Two tags that differ: every pair counts.
  queries = queries_of(query, scale, jnp.ones(query.shape[0], jnp.int32))
  keys = Keys(key, jnp.zeros(key.shape[0], jnp.int32))
  log_sum = blockwise.row_log_sums(plan, queries, keys)
  mean_key = numerics.product("nm,md->nd", targets, axes.gather(key, plan.axis_name))
  inner = jnp.sum(query.astype(dtype) * mean_key, axis=-1)
  return jnp.sum(targets, axis=-1) * log_sum - scale * inner


def _positives(labels, where, axis_name):
  """Number of other admitted rows with the label, int32 [n], in linear memory."""
  labels = jnp.asarray(labels)
  admitted = jnp.ones_like(labels, bool) if where is None else jnp.asarray(where)
  every = axes.gather(labels, axis_name)
  order = jnp.argsort(every)
  ranked = every[order]
  # Admitted rows among the first k of the sorted labels, k = 0 .. N.
  before = jnp.cumsum(axes.gather(admitted, axis_name)[order].astype(jnp.int32))
  before = jnp.concatenate([jnp.zeros_like(before[:1]), before])
  first, last = (jnp.searchsorted(ranked, labels, side=s) for s in ("left", "right"))
  return jnp.where(admitted, before[last] - before[first] - 1, 0)


def _pairs(
  labels: jax.Array, where: jax.Array | None, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
  """[n, N] masks of the positives and of all candidates of each row."""
  n = labels.shape[0]
  every = axes.gather(labels, axis_name)
  candidate = ~own_columns(n, every.shape[0], axis_name)
  if where is not None:
    candidate &= where[:, None] & axes.gather(where, axis_name)[None, :]
  return candidate & (labels[:, None] == every[None, :]), candidate


def _cross_entropy(
  logits: jax.Array, targets: jax.Array, candidate: jax.Array
) -> jax.Array:
  """`sum_j t_ij (log sum_l e^s_il - s_ij)` over the candidates; 0 without targets."""
  mass = jnp.sum(targets, axis=-1)
  some = mass > 0
  mean = jnp.sum(targets * logits, axis=-1) / jnp.where(some, mass, 1)
  # Logits relative to the targets' mean: at a large scale `log sum e^s - mean` would
  # cancel. The mask is widened on empty rows, so that no -inf enters the gradient.
  log_sum = numerics.log_sum_exp(logits - mean[:, None], candidate | ~some[:, None])
  return jnp.where(some, mass * log_sum, 0)
