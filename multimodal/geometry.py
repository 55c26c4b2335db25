"""Geometric consistency: pairs of examples are alike in one tower as in the other.

For two sets of rows v and t and a pair of examples j, k,

  intra   (v_j.v_k - t_j.t_k)^2     both towers see the same similarity;
  inter   (v_j.t_k - t_j.v_k)^2     the cross similarity is symmetric.

CyCLIP (Goel et al. 2022) has these two; Jiang et al. 2023, sec. 4.3, add the same
between embeddings and those of the augmented inputs.

Written so, both subtract numbers near 1. With sum s = v + t and difference e = v - t,
x = e_j.s_k and y = s_j.e_k,

  v_j.v_k - t_j.t_k = (x + y) / 2,      v_j.t_k - t_j.v_k = (x - y) / 2,

which are small from the start where the towers agree. Summed over k their squares are
quadratic forms of row j in d x d Gram matrices of s and e, so nothing of size N x N is
needed; at equal weights x y drops out, and what is left is a sum of squares:

  sum_k (intra + inter) = (e_j' S e_j + s_j' E s_j) / 2,   S = sum s s',  E = sum e e'.

Relative error in float32 for rows 1e-4 apart (N = 256, d = 64): 1.8 (no digit) with the
Gram matrices of v and t, 2e-5 with the N x N matrices, 1e-7 or less with s and e.
"""

from typing import Any

import jax
import jax.numpy as jnp

from contrastive import axes, numerics
from multimodal.pairing import check_towers, wide

REDUCTIONS = ("pairs", "paper")
FORMS = ("auto", "gram", "pairs")


def geometry_loss(
  first: jax.Array,
  second: jax.Array,
  first_view: jax.Array | None = None,
  second_view: jax.Array | None = None,
  *,
  intra: float = 1.0,
  inter: float = 1.0,
  augmented: float = 1.0,
  reduction: str = "pairs",
  form: str = "auto",
  axis_name: str | None = None,
) -> jax.Array:
  """Consistency of two towers, and of each with its augmented inputs.

  Args:
    first: [n, d] unit rows of one tower.
    second: [n, d] unit rows of another.
    first_view: [n, d] unit rows of the first tower's augmented inputs; without views
      there is no augmented part.
    second_view: [n, d] unit rows of the second tower's.
    intra: weight >= 0 of the similarities within a tower.
    inter: weight >= 0 of those across.
    augmented: weight >= 0 of the augmented part: intra consistency of each tower with
      its views, and `matched_consistency`.
    reduction: "pairs", mean over the other rows: the weights mean the same at any
      batch size. "paper", the sum over them, which grows with N: weight w there is
      weight w (N - 1) here. `matched_consistency` is the same in both.
    form: as in `consistency`.
    axis_name: device axis with the rest of the batch of N rows, or None.

  Returns:
    [n] values >= 0; their mean is the loss.

  Raises:
    ValueError: shapes differ, one view without the other, or a knob out of its range.
  """
  how: Any = dict(reduction=reduction, form=form, axis_name=axis_name)
  value = consistency(first, second, intra=intra, inter=inter, **how)
  if (first_view is None) != (second_view is None):
    raise ValueError(
      "geometry_loss takes the views of both towers or of neither; pass first_view= "
      "and second_view="
    )
  if first_view is None or second_view is None or augmented == 0:
    return value
  _check_weights(augmented=augmented)
  own = [
    consistency(x, view, intra=1.0, inter=0.0, **how)
    for x, view in ((first, first_view), (second, second_view))
  ]
  matched = matched_consistency(first, second, first_view, second_view)
  return value + augmented * (own[0] + own[1] + matched)


def consistency(
  first: jax.Array,
  second: jax.Array,
  *,
  intra: float = 1.0,
  inter: float = 1.0,
  reduction: str = "pairs",
  form: str = "auto",
  axis_name: str | None = None,
) -> jax.Array:
  """Weighted intra and inter consistency of each row with all others.

  Args:
    first: [n, d] unit rows.
    second: [n, d] unit rows.
    intra: weight >= 0 of (v_j.v_k - t_j.t_k)^2.
    inter: weight >= 0 of (v_j.t_k - t_j.v_k)^2.
    reduction: "pairs" divides the sum over k by N - 1, "paper" does not. A row with
      itself counts, which for unit rows is 0.
    form: "gram" takes 12 n d^2 operations and d^2 memory, "pairs" 4 n N d and n N; to
      rounding they are equal. "auto" takes pairs up to N = 2 d.
    axis_name: device axis with the rest of the batch of N rows, or None.

  Returns:
    [n] values >= 0.

  Raises:
    ValueError: shapes differ, or a knob out of its range.
  """
  check_towers({"first": first, "second": second})
  _check_weights(intra=intra, inter=inter)
  for kind, name, known in (
    ("reduction", reduction, REDUCTIONS),
    ("form", form, FORMS),
  ):
    if name not in known:
      raise ValueError(f"unknown {kind} '{name}'; known: {', '.join(known)}")
  n, d = first.shape
  total = n * axes.size(axis_name)
  first, second = wide(first), wide(second)
  first, second = first + second, first - second
  if form == "pairs" or (form == "auto" and total <= 2 * d):
    mean = _over_pairs(first, second, intra, inter, axis_name)
  else:
    mean = _over_gram(first, second, intra, inter, axis_name)
  return mean * (total if reduction == "paper" else total / max(total - 1, 1))


def matched_consistency(
  first: jax.Array,
  second: jax.Array,
  first_view: jax.Array,
  second_view: jax.Array,
) -> jax.Array:
  """`(v_j.t_j - a_j.b_j)^2`: a pair is as close as its augmented pair.

  Args:
    first: [n, d] unit rows v.
    second: [n, d] unit rows t.
    first_view: [n, d] unit rows a of the first tower's augmented inputs.
    second_view: [n, d] unit rows b of the second tower's.

  Returns:
    [n] in [0, 4].
  """
  views = {"first_view": first_view, "second_view": second_view}
  check_towers({"first": first, "second": second, **views})
  v, t, a, b = (wide(x) for x in (first, second, first_view, second_view))
  # As above, no difference of two numbers near 1.
  twice = (v - a) * (t + b) + (v + a) * (t - b)
  return jnp.square(jnp.sum(twice, axis=-1) / 2)


def _over_pairs(s, e, intra, inter, axis_name):
  """Mean over k from the n x N matrices of x and y."""
  x = numerics.similarity(e, axes.gather(s, axis_name))
  y = numerics.similarity(s, axes.gather(e, axis_name))
  squares = intra * jnp.square(x + y) + inter * jnp.square(x - y)
  return jnp.mean(squares, axis=-1) / 4


def _over_gram(s, e, intra, inter, axis_name):
  """The same from the quadratic forms."""

  def gram(x, y):
    return axes.mean(numerics.product("nd,ne->de", x, y) / x.shape[0], axis_name)

  def form(x, matrix, y):
    return jnp.sum(numerics.product("nd,de->ne", x, matrix) * y, axis=-1)

  mean = (intra + inter) / 4 * (form(e, gram(s, s), e) + form(s, gram(e, e), s))
  if intra != inter:
    mean += (intra - inter) / 2 * form(e, gram(s, e), s)
  # Rounding can leave -1e-8; the gradient is that of the form all the same.
  return mean + jax.lax.stop_gradient(jnp.maximum(mean, 0) - mean)


def _check_weights(**weights: float) -> None:
  """Raises ValueError for a negative weight."""
  for name, weight in weights.items():
    if weight < 0:
      raise ValueError(f"{name} is the weight of a penalty, >= 0, not {weight}")
