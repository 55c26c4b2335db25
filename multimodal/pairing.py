"""Towers whose rows belong together: checks, pairs, and penalties on their distance.

Embeddings are unit rows [n, d] by the name of their tower; row i of every tower belongs
to example i.
"""

import itertools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp

Towers = Mapping[str, jax.Array]


def tower_pairs(towers: Iterable[str]) -> list[tuple[str, str]]:
  """Unordered pairs of different towers, by name, whatever the order they come in."""
  return list(itertools.combinations(sorted(towers), 2))


def check_towers(embeddings: Towers) -> None:
  """Raises ValueError unless all towers hold [n, d] rows of one shape."""
  (name, first), *others = embeddings.items()
  for other, x in ((name, first), *others):
    if x.ndim != 2:
      raise ValueError(
        f"tower '{other}' must give [n, d] embeddings, not an array of shape {x.shape}"
      )
    if x.shape[1] != first.shape[1]:
      raise ValueError(
        f"tower '{other}' has embeddings of width {x.shape[1]} and tower '{name}' of "
        f"width {first.shape[1]}; give all heads one width"
      )
    if x.shape[0] != first.shape[0]:
      raise ValueError(
        f"tower '{other}' has {x.shape[0]} rows and tower '{name}' {first.shape[0]}; "
        "give every example one row in each tower"
      )


def require(
  embeddings: Towers | None, towers: Iterable[str], what: str, user: str, cure: str
) -> Towers:
  """The embeddings, once it is known that they hold all these towers.

  Args:
    embeddings: rows by tower, or None.
    towers: names that must be there.
    what: the argument's name.
    user: who needs them.
    cure: what to do otherwise.

  Raises:
    ValueError: some are missing.
  """
  embeddings = {} if embeddings is None else embeddings
  missing = sorted(set(towers) - set(embeddings))
  if missing:
    raise ValueError(
      f"{user} need {what} of tower {', '.join(missing)}; pass {what}=, or {cure}"
    )
  return embeddings


def wide(x: jax.Array) -> jax.Array:
  """The same numbers in float32 or wider."""
  x = jnp.asarray(x)  # without x64, NumPy's float64 becomes float32 here
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def squared_distance(first: jax.Array, second: jax.Array) -> jax.Array:
  """`|a - b|^2` [n] of rows [n, d]: a penalty that forces alignment; 2 - 2 cos."""
  check_towers({"first": first, "second": second})
  return jnp.sum(jnp.square(wide(first) - wide(second)), axis=-1)


def inverse_cosine(
  first: jax.Array, second: jax.Array, *, eps: float = 1e-2
) -> jax.Array:
  """`1 / (cos^2 + eps)`: the published penalty that forces alignment (Jiang et al.).

  It does not see the sign: opposite rows are as good as equal ones, and training does
  end there at times. With eps = 0, as published, it is singular for rows at right
  angles, near which random embeddings start.

  Args:
    first: [n, d] unit rows.
    second: [n, d] unit rows.
    eps: >= 0; bounds the value by 1 / eps and the gradient by 0.65 / eps^1.5.

  Returns:
    [n] in [1 / (1 + eps), 1 / eps].

  Raises:
    ValueError: shapes differ or eps is negative.
  """
  check_towers({"first": first, "second": second})
  if eps < 0:
    raise ValueError(f"eps bounds the penalty and cannot be negative, not {eps}")
  cosine = jnp.sum(wide(first) * wide(second), axis=-1)
  return 1 / (jnp.square(cosine) + eps)
