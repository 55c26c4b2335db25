"""Terms of an alignment loss: their names, their weights, their anchors' numbers."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

TERMS = ("two", "four")


class Term(NamedTuple):
  """Queries of one tower against keys of another, or of its own augmented inputs.

  Attributes:
    query: name of the queries' tower.
    key: name of the keys' tower; the query's own name is an in-modal term.
  """

  query: str
  key: str

  @property
  def in_modal(self) -> bool:
    """Whether the keys are the tower's augmented inputs."""
    return self.query == self.key

  @property
  def name(self) -> str:
    """For metrics: image_to_text."""
    return f"{self.query}_to_{self.key}"


def alignment_terms(
  towers: Iterable[str], kind: str | Sequence[Term] = "two"
) -> tuple[Term, ...]:
  """The terms of a loss over these towers.

  Args:
    towers: two or more names, in any order (`jit` sorts the keys of a dict, so the
      terms are sorted too).
    kind: "two" for all ordered pairs of different towers (two for two towers); "four"
      for those and one in-modal term a tower; or the terms themselves.

  Returns:
    Cross-modal terms, then in-modal ones, each by names.

  Raises:
    ValueError: fewer than two towers, an unknown kind, or a term of an unknown tower.
  """
  names = sorted(towers)
  if len(names) < 2:
    raise ValueError(f"alignment needs two or more towers, not {names}")
  if not isinstance(kind, str):
    unknown = sorted({name for term in kind for name in term} - set(names))
    if unknown or not kind:
      raise ValueError(
        f"terms must name towers among {', '.join(names)}; not "
        f"{', '.join(unknown) or 'an empty list'}"
      )
    return tuple(kind)
  if kind not in TERMS:
    raise ValueError(f"unknown terms '{kind}'; known: {', '.join(TERMS)}")
  cross = tuple(Term(*pair) for pair in itertools.permutations(names, 2))
  inner = tuple(Term(name, name) for name in names)
  return cross + inner if kind == "four" else cross


def term_mean(
  values: Mapping[str, jax.Array],
  terms: Sequence[Term],
  weights: tuple[float, float] | None = None,
) -> jax.Array:
  """Weighted mean [n] of the terms' values [n].

  Args:
    values: by the terms' names.
    terms: which.
    weights: of a cross-modal and of an in-modal term, >= 0, relative to each other;
      None for equal ones.

  Raises:
    ValueError: a negative weight, or none that counts.
  """
  cross, inner = (1.0, 1.0) if weights is None else weights
  shares = [inner if term.in_modal else cross for term in terms]
  total = sum(shares)
  if min(shares) < 0 or total <= 0:
    raise ValueError(
      f"weights {weights} leave the terms {', '.join(t.name for t in terms)} without "
      "a positive share; pass (cross, in_modal) >= 0"
    )
  # A term of weight 0 must not come in, not even as 0 * inf.
  parts = [
    share / total * values[term.name]
    for share, term in zip(shares, terms, strict=True)
    if share > 0
  ]
  return sum(parts[1:], parts[0])


def split_terms(values: jax.Array, terms: Sequence[Term]) -> dict[str, jax.Array]:
  """Values [terms * n] of stacked anchors as [n] by the terms' names."""
  parts = jnp.split(values, len(terms))
  return {term.name: part for term, part in zip(terms, parts, strict=True)}
