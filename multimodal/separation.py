"""Deep feature separation: a second embedding a tower for what only it knows.

Every tower has two heads on one encoder: the shared embedding, which is aligned, and
the specific one, which three parts shape:

  orthogonality   the specific row is at right angles to the shared row of its example;
  contrast        in-modal InfoNCE of specific rows with those of the augmented input;
  uniformity      specific rows spread over the sphere (Gaussian potential).

Jiang et al. 2023, Understanding and Constructing Latent Modality Structures, sec. 4.1.
Right angles do not mean independence: specific rows still hold what is shared.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import contrastive
from contrastive import axes, numerics
from multimodal.pairing import check_towers, wide

REDUCTIONS = ("pairs", "paper")


class SeparationParts(NamedTuple):
  """The parts before their weights: [n], [n], and a scalar of the whole batch."""

  orthogonality: jax.Array
  contrast: jax.Array
  uniformity: jax.Array


def separation_loss(
  shared: Sequence[jax.Array],
  specific: Sequence[jax.Array],
  specific_view: Sequence[jax.Array] | None = None,
  *,
  scale: jax.Array | float,
  orthogonality: float = 1.0,
  contrast: float = 1.0,
  uniformity: float = 1.0,
  t: float = 2.0,
  reduction: str = "pairs",
  literal: bool = False,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Weighted sum of the three parts, over any number of towers.

  Uniformity is one number of the whole batch; it is added to every anchor's value, so
  that the mean of the values is the sum of the three parts.

  Args:
    shared: [n, d] unit rows of each tower's shared head.
    specific: [n, d] unit rows of its specific head.
    specific_view: [n, d] unit rows of the specific head for the augmented inputs;
      None only with `literal`.
    scale: inverse temperature > 0 of the contrast.
    orthogonality: weight of `orthogonality_loss`.
    contrast: weight of `specific_contrast`.
    uniformity: weight of `uniformity_loss`.
    t: precision of the Gaussian potential, > 0.
    reduction: of the uniformity, "pairs" or "paper".
    literal: the contrast's positive is the row itself, as printed.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix a tower.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [n] values.

  Raises:
    ValueError: numbers of towers or shapes differ, views are missing, or a knob is out
      of its range.
  """
  parts = separation_parts(
    shared,
    specific,
    specific_view,
    scale=scale,
    t=t,
    reduction=reduction,
    literal=literal,
    axis_name=axis_name,
    block_size=block_size,
    ring=ring,
  )
  per_anchor = orthogonality * parts.orthogonality + contrast * parts.contrast
  return per_anchor + uniformity * parts.uniformity


def separation_parts(
  shared: Sequence[jax.Array],
  specific: Sequence[jax.Array],
  specific_view: Sequence[jax.Array] | None = None,
  *,
  scale: jax.Array | float,
  t: float = 2.0,
  reduction: str = "pairs",
  literal: bool = False,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> SeparationParts:
  """The parts of `separation_loss`, which says what the arguments are."""
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  return SeparationParts(
    orthogonality_loss(shared, specific),
    specific_contrast(specific, specific_view, scale=scale, literal=literal, **how),
    uniformity_loss(specific, t=t, reduction=reduction, **how),
  )


def orthogonality_loss(
  shared: Sequence[jax.Array], specific: Sequence[jax.Array]
) -> jax.Array:
  """Sum over towers of the squared inner product of shared and specific row.

  Args:
    shared: [n, d] unit rows of each tower.
    specific: [n, d] unit rows of each tower.

  Returns:
    [n] in [0, towers].
  """
  squares = [
    jnp.square(jnp.sum(wide(z) * wide(own), axis=-1))
    for z, own in _paired(shared, specific, "shared")
  ]
  return sum(squares[1:], squares[0])


def specific_contrast(
  specific: Sequence[jax.Array],
  specific_view: Sequence[jax.Array] | None = None,
  *,
  scale: jax.Array | float,
  literal: bool = False,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Sum over towers of the InfoNCE of specific rows against augmented ones.

  Args:
    specific: [n, d] unit rows of each tower.
    specific_view: [n, d] unit rows of the augmented inputs; row i is the positive of
      specific row i, the others are its negatives.
    scale: inverse temperature > 0.
    literal: rows against rows, the positive being the row itself, as the paper prints
      it. Its logit is constant, so that only repulsion remains.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix a tower.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    [n] nats; chance level towers * log(N).

  Raises:
    ValueError: numbers of towers or shapes differ, or views are missing.
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  if specific_view is None and not literal:
    raise ValueError(
      "the contrast of specific embeddings needs those of the augmented inputs; pass "
      "specific_view=, or literal=True to contrast the rows with themselves"
    )
  keys = specific if literal or specific_view is None else specific_view
  losses = [
    contrastive.softmax_loss(contrastive.cross_sums(z, key, scale=scale, **how))
    for key, z in _paired(keys, specific, "specific_view")
  ]
  return sum(losses[1:], losses[0])


def uniformity_loss(
  embeddings: Sequence[jax.Array],
  *,
  t: float = 2.0,
  reduction: str = "pairs",
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Log of the Gaussian potential `exp(-t |z_j - z_k|^2)` of unit rows.

  "pairs": mean over towers of log mean_{j != k}, Wang & Isola's uniformity; a mean over
  pairs, which does not depend on the batch size. "paper": log (1/N) sum over j, k and
  towers, the N own pairs included; it grows by log N. Where towers are equally uniform
  and own pairs do not matter the gradients of the two agree.

  Args:
    embeddings: [n, d] unit rows of each tower.
    t: precision > 0.
    reduction: "pairs" or "paper".
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix a tower.
    ring: with an `axis_name`, rows walk round the devices instead of being gathered.

  Returns:
    A scalar, the same on all devices; "pairs": in [-4t, 0], 0 where all rows are one,
    and for a batch of one row, which has no pairs. "paper": in [log m, log m N] for m
    towers.

  Raises:
    ValueError: t is not positive, or the reduction unknown.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(f"unknown reduction '{reduction}'; known: {', '.join(REDUCTIONS)}")
  if t <= 0:
    raise ValueError(f"t is the precision of a kernel and must be positive, not {t}")
  check_towers({str(i): z for i, z in enumerate(embeddings)})
  n = embeddings[0].shape[0] * axes.size(axis_name)
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)

  def row_logs(z):
    # |z_j - z_k|^2 = 2 - 2 z_j.z_k: the other rows' sums are those of InfoNCE.
    return contrastive.cross_sums(z, z, scale=2 * t, **how).log_sum - 2 * t

  logs = [row_logs(z) for z in embeddings]
  if reduction == "paper":
    # A row's own pair has distance 0: e^0.
    logs = [numerics.log_add(x, jnp.zeros_like(x)) for x in logs]
    rows = axes.gather(jnp.stack(logs, axis=-1), axis_name)
    return numerics.log_sum_exp(rows.reshape(-1)) - jnp.log(1.0 * n)
  if n == 1:
    return jnp.zeros((), logs[0].dtype)
  totals = [numerics.log_sum_exp(axes.gather(x, axis_name)) for x in logs]
  return sum(totals[1:], totals[0]) / len(totals) - jnp.log(n * (n - 1.0))


def _paired(first: Sequence[jax.Array], second: Sequence[jax.Array], name: str):
  """The towers' arrays of both, side by side, all of one shape."""
  if len(first) != len(second) or not first:
    raise ValueError(
      f"{name} and specific must have one array a tower, not {len(first)} and "
      f"{len(second)} arrays"
    )
  named = {
    f"{i} ({part})": z
    for part, every in ((name, first), ("specific", second))
    for i, z in enumerate(every)
  }
  check_towers(named)
  return list(zip(first, second, strict=True))
