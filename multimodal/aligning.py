"""Which embeddings are contrasted with which, for two or more towers.

Embeddings are unit rows [n, d] by the name of their tower; row i of every tower belongs
to example i. A term contrasts one tower's rows (the queries) with another's (the keys).
An in-modal term contrasts a tower's rows with those of the augmented inputs.

`alignment_loss` is ready for use. To train the terms by another objective of
`contrastive`, take the anchors and apply it; with a running normaliser, one a term and
example:

  terms = alignment_terms(embeddings, "four")
  anchors = alignment_anchors(embeddings, views, scale=scale, terms=terms)
  stacked = contrastive.stack_rows(*anchors.values())
  rows = contrastive.copy_index(index, len(terms))  # of len(terms) * examples
  state, log_v = normalizer.update(state, rows, contrastive.log_normalizer(stacked))
  noise = contrastive.view_noise(key, n, shape, copies=len(terms))
  values = contrastive.augmented_loss(stacked, log_v, noise)
  loss = term_mean(split_terms(values, terms), terms)

Radford et al. 2021 (CLIP, "two"); Goel et al. 2022 (CyCLIP's in-modal path) and Jiang
et al. 2023, Understanding and Constructing Latent Modality Structures ("four").
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

import contrastive
from contrastive import rows
from contrastive.rows import Rows
from contrastive.sums import Sums
from multimodal.pairing import Towers, check_towers, require, tower_pairs
from multimodal.terms import Term, alignment_terms, term_mean


def alignment_anchors(
  embeddings: Towers,
  views: Towers | None = None,
  *,
  scale: jax.Array | float,
  terms: str | Sequence[Term] = "two",
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> dict[str, Rows | Sums]:
  """What a loss needs to know of the n anchors of every term.

  The positive of query i is key i, the keys of the N - 1 other examples are negatives.

  Args:
    embeddings: [n, d] unit rows by tower.
    views: [n, d] unit rows of the augmented inputs, for towers with an in-modal term.
    scale: inverse temperature > 0.
    terms: as in `alignment_terms`.
    axis_name: device axis with the rest of the batch of N examples, or None.
    block_size: rows of a tile of the linear-memory form; None: one matrix a term.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    Anchors by the term's name, in the terms' order: rows of logits, or with
    `block_size` or `ring` their sums, of which opposite terms share the tiles.

  Raises:
    ValueError: views are missing, towers differ in shape, or see `alignment_terms`.
  """
  chosen = alignment_terms(embeddings, terms)
  check_towers(embeddings)
  inner = [term.query for term in chosen if term.in_modal]
  viewed = require(views, inner, "views", "in-modal terms", "terms='two' has none")
  check_towers({**embeddings, **{f"{name} (view)": viewed[name] for name in inner}})
  how: Any = dict(scale=scale, axis_name=axis_name)
  tiled: Any = dict(block_size=block_size, ring=ring, **how)
  made: dict[Term, Rows | Sums] = {}
  for term in chosen:
    query = embeddings[term.query]
    key = viewed[term.key] if term.in_modal else embeddings[term.key]
    back = Term(term.key, term.query)
    if block_size is None and not ring:
      made[term] = rows.cross_rows(query, key, **how)
    elif term.in_modal or back not in chosen:
      made[term] = contrastive.cross_sums(query, key, **tiled)
    elif term not in made:
      made[term], made[back] = contrastive.mutual_sums(query, key, **tiled)
  return {term.name: made[term] for term in chosen}


def alignment_loss(
  embeddings: Towers,
  views: Towers | None = None,
  *,
  scale: jax.Array | float,
  terms: str | Sequence[Term] = "two",
  anchor_loss: Callable[[Rows | Sums], jax.Array] = contrastive.softmax_loss,
  weights: tuple[float, float] | None = None,
  literal: bool = False,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Weighted mean of the terms' losses; with two towers and "two", `info_nce`.

  Args:
    embeddings: [n, d] unit rows by tower.
    views: [n, d] unit rows of the augmented inputs, for in-modal terms.
    scale: inverse temperature > 0.
    terms: as in `alignment_terms`.
    anchor_loss: from a term's anchors to [n] values, as `contrastive.decoupled_loss`.
    weights: of a cross-modal and of an in-modal term, relative to each other; None for
      equal ones (a quarter each for "four" of two towers, as published).
    literal: in-modal terms by the formula as printed, see `printed_in_modal`.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix a term.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    [n] nats; chance level log(N).

  Raises:
    ValueError: as `alignment_anchors`; `literal` with another `anchor_loss`.
  """
  chosen = alignment_terms(embeddings, terms)
  how: Any = dict(scale=scale, axis_name=axis_name, block_size=block_size, ring=ring)
  if literal and anchor_loss is not contrastive.softmax_loss:
    raise ValueError(
      "literal=True is a formula of the softmax loss; leave anchor_loss at its default"
    )
  anchors = alignment_anchors(embeddings, views, terms=chosen, **how)
  values = {name: anchor_loss(anchor) for name, anchor in anchors.items()}
  if literal and views is not None:
    for term in chosen:
      if term.in_modal:
        own = embeddings[term.query], views[term.query]
        values[term.name] = printed_in_modal(*own, **how)
  return term_mean(values, chosen, weights)


def printed_in_modal(
  embedding: jax.Array,
  view: jax.Array,
  *,
  scale: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """The in-modal term as the paper prints it: the augmented rows are no candidates.

  `-log [exp(s z_j.a_j) / sum_k exp(s z_j.z_k)]`: the denominator has the row's product
  with itself, which is constant, and not the positive. The code that the paper builds
  on has a_k there, as `alignment_anchors` does.

  Args:
    embedding: [n, d] unit rows z.
    view: [n, d] unit rows a of the augmented inputs.
    scale: inverse temperature > 0.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    [n] nats.
  """
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  itself = contrastive.cross_sums(embedding, embedding, scale=scale, **how)
  # The cross entropy of finding itself, plus what the positive lacks to that.
  lacking = itself.positive - rows.positives(embedding, view, scale)
  return contrastive.softmax_loss(itself) + lacking


def sigmoid_alignment(
  embeddings: Towers,
  *,
  scale: jax.Array | float,
  bias: jax.Array | float,
  axis_name: str | None = None,
  block_size: int | None = None,
  ring: bool = False,
) -> jax.Array:
  """Mean of `contrastive.pairwise_sigmoid` over the unordered pairs of towers.

  Args:
    embeddings: [n, d] unit rows by tower.
    scale: inverse temperature > 0.
    bias: added to every logit.
    axis_name: device axis with the rest of the batch, or None for one device.
    block_size: rows of a tile of the linear-memory form; None: one matrix.
    ring: with an `axis_name`, keys walk round the devices instead of being gathered.

  Returns:
    [n] nats, those of the rows of a pair's first tower by name. Their mean does not
    depend on the names.
  """
  check_towers(embeddings)
  how: Any = dict(axis_name=axis_name, block_size=block_size, ring=ring)
  values = [
    contrastive.pairwise_sigmoid(
      embeddings[first], embeddings[second], scale=scale, bias=bias, **how
    )
    for first, second in tower_pairs(embeddings)
  ]
  return sum(values[1:], values[0]) / len(values)
