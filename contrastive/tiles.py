"""Sums over all pairs of two sets of rows, a tile of logits at a time.

Pairs are chosen by tags: a pair counts if its two tags differ and neither is negative.
So rows of one image share a tag, and padding, empty slots of a queue and rows that are
left out have tag -1.

The matrix of logits is never there: a tile is made, summed and dropped, and made once
more for the gradient. The functions here know one set of keys; `blockwise` puts the
sets of several devices together and tells JAX about the gradients.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, numerics

# Keys of a tile that is reduced. Reductions of wider ones take ten times as long on CPU
# (jaxlib 0.10.2, YNNPACK), and tiles of a few megabytes serve other devices as well.
_WIDEST = 16_384


class Queries(NamedTuple):
  """Anchors: rows [n, d], factor of each one's logits [n], and tags, int32 [n]."""

  rows: jax.Array
  scale: jax.Array
  tag: jax.Array


class Keys(NamedTuple):
  """Candidates: rows [m, d] and tags, int32 [m]."""

  rows: jax.Array
  tag: jax.Array


class Shares(NamedTuple):
  """What a pair's weight is made of: sums [n] over its pairs, and their cotangents."""

  sums: jax.Array
  weight: jax.Array


def log_sums(
  queries: Queries, keys: Keys, *, block_size: int, columns: bool = False
) -> tuple[jax.Array, Any]:
  """Log sums of exponentials `s_ij = scale_i q_i . k_j`.

  Args:
    queries: n of them.
    keys: m of them.
    block_size: queries of a tile; a tile has block_size * m logits, of at most
      16,384 keys.
    columns: also sum over the queries.

  Returns:
    [n] for each query over the keys, and [m] for each key over the queries or None;
    -inf where no pair counts.
  """
  blocks = _split(block_size, queries)

  def of_piece(piece):
    def visit(total, block):
      logits = _tile(block, piece)
      if columns:
        total = numerics.log_add(total, numerics.log_sum_exp(logits, axis=0))
      return total, numerics.log_sum_exp(logits)

    start = jnp.full(piece.rows.shape[0], -jnp.inf, _wide(queries.rows))
    start = axes.vary(start, queries.rows, keys.rows)
    return jax.lax.scan(visit, start, blocks)

  n, m = queries.rows.shape[0], keys.rows.shape[0]
  size = -(-m // -(-m // _WIDEST))
  pieces = Keys(_cut(size, keys.rows, 0), _cut(size, keys.tag, -1))
  totals, sums = jax.lax.map(of_piece, pieces)
  sums = numerics.log_sum_exp(sums.reshape(sums.shape[0], -1)[:, :n], axis=0)
  return sums, totals.reshape(-1)[:m] if columns else None


def softplus_sums(queries: Queries, keys: Keys, *, block_size: int) -> jax.Array:
  """Sums [n] of `log(1 + e^s_ij)` over the keys."""
  blocks = _split(block_size, queries)
  sums = jax.lax.map(lambda b: jnp.sum(jax.nn.softplus(_tile(b, keys)), -1), blocks)
  return sums.reshape(-1)[: queries.rows.shape[0]]


def log_sum_gradients(
  queries: Queries,
  keys: Keys,
  rows: Shares,
  columns: Shares | None = None,
  *,
  block_size: int,
  towards_keys: bool = True,
) -> tuple[jax.Array, jax.Array, Any]:
  """Gradients of `log_sums`.

  A pair's weight is `g_i e^(s_ij - L_i) + h_j e^(s_ij - C_j)`: its share in the sum of
  its row, and in that of its column.

  Args:
    queries: n of them.
    keys: m of them.
    rows: sums L and cotangents g, [n].
    columns: sums C and cotangents h, [m], or None.
    block_size: queries of a tile.
    towards_keys: False leaves the keys' gradient out.

  Returns:
    Gradients of the queries' rows [n, d] and scale [n], and of the keys' rows [m, d] or
    None, all in float32 or wider.
  """
  rows = _finite(rows)
  columns = None if columns is None else _finite(columns)

  def weigh(logits, sums, weight):
    weights = weight[:, None] * jnp.exp(logits - sums[:, None])
    if columns is not None:
      shares = jnp.exp(logits - columns.sums[None, :])
      weights += columns.weight[None, :] * shares
    return weights

  return _gradients(queries, keys, rows, weigh, block_size, towards_keys)


def softplus_gradients(
  queries: Queries, keys: Keys, weight: jax.Array, *, block_size: int
) -> tuple[jax.Array, jax.Array, Any]:
  """Gradients of `softplus_sums` with cotangents `weight` [n]; as above."""

  def weigh(logits, weight):
    return weight[:, None] * jax.nn.sigmoid(logits)

  return _gradients(queries, keys, (weight,), weigh, block_size, True)


def group_sums(
  label: jax.Array,
  tag: jax.Array,
  other_label: jax.Array,
  other_tag: jax.Array,
  rows: jax.Array,
  *,
  block_size: int,
) -> jax.Array:
  """Sums [n, d] of those `rows` [m, d] whose label is the same and whose tag differs.

  Args:
    label: int32 [n].
    tag: int32 [n]; negative: left out.
    other_label: int32 [m].
    other_tag: int32 [m].
    rows: [m, d] in float32 or wider.
    block_size: rows of a tile of [block_size, m] pairs.
  """

  def visit(block):
    label, tag = block
    same = label[:, None] == other_label[None, :]
    belongs = same & _counts(tag, other_tag)
    return numerics.product("nm,md->nd", belongs.astype(rows.dtype), rows)

  blocks = _cut(block_size, label, 0), _cut(block_size, tag, -1)
  return jax.lax.map(visit, blocks).reshape(-1, rows.shape[1])[: label.shape[0]]


def _gradients(queries, keys, vectors, weigh, block_size, towards_keys):
  wide = _wide(queries.rows)
  key_rows = keys.rows.astype(wide)

  def visit(d_keys, block):
    block, parts = block
    weights = weigh(_tile(block, keys), *parts)
    # What both the query's and the scale's gradient are made of.
    pulled = numerics.product("nm,md->nd", weights, key_rows)
    scale, rows = block.scale[:, None], block.rows.astype(wide)
    if towards_keys:
      d_keys += numerics.product("nm,nd->md", weights, scale * rows)
    return d_keys, (scale * pulled, jnp.sum(pulled * rows, axis=-1))

  start = jnp.zeros_like(key_rows) if towards_keys else jnp.zeros((), wide)
  start = axes.vary(start, queries.rows, keys.rows)
  blocks = _split(block_size, queries), _cut(block_size, vectors, 0)
  d_keys, (d_rows, d_scale) = jax.lax.scan(visit, start, blocks)
  n, d = queries.rows.shape
  d_rows, d_scale = d_rows.reshape(-1, d)[:n], d_scale.reshape(-1)[:n]
  return d_rows, d_scale, d_keys if towards_keys else None


def _tile(block: Queries, keys: Keys) -> jax.Array:
  """Logits [b, m], -inf for pairs that do not count."""
  logits = block.scale[:, None] * numerics.similarity(block.rows, keys.rows)
  return jnp.where(_counts(block.tag, keys.tag), logits, -jnp.inf)


def _counts(tag: jax.Array, other: jax.Array) -> jax.Array:
  """[b, m] True for pairs that count."""
  differ = tag[:, None] != other[None, :]
  return differ & (tag >= 0)[:, None] & (other >= 0)[None, :]


def _split(block_size: int, queries: Queries) -> Queries:
  """Leaves [n, ...] -> [blocks, b, ...]; rows past the end have tag -1."""
  rows, scale = _cut(block_size, (queries.rows, queries.scale), 0)
  return Queries(rows, scale, _cut(block_size, queries.tag, -1))


def _cut(block_size, tree, fill):
  def cut(x):
    n = x.shape[0]
    size = min(block_size, n)
    blocks = -(-n // size)
    missing = blocks * size - n
    if missing:
      rest = [(0, 0)] * (x.ndim - 1)
      x = jnp.pad(x, [(0, missing), *rest], constant_values=fill)
    return x.reshape(blocks, size, *x.shape[1:])

  return jax.tree.map(cut, tree)


def _wide(x):
  return jnp.promote_types(x.dtype, jnp.float32)


def _finite(shares: Shares) -> Shares:
  """An empty sum passes no gradient on, whatever its cotangent."""
  some = jnp.isfinite(shares.sums)
  return Shares(*(jnp.where(some, x, 0) for x in shares))
