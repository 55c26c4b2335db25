"""How the methods that compare two views of an image make anchors of a batch."""

import functools

import contrastive
from contrastive import rows, sums
from experiments.engine.objective import Execution, Pairing, Views


def _pool(views: Views, scale, how: Execution):
  """SimCLR: all 2n views are candidates of each."""
  query_a, query_b = contrastive.unit(views.query_a), contrastive.unit(views.query_b)
  if how.plain:
    return rows.two_view_rows(query_a, query_b, scale=scale, axis_name=how.axis_name)
  return sums.two_view_sums(query_a, query_b, scale=scale, **how.pairs)


def _other_view(views: Views, scale, how: Execution):
  """MoCo-v3: queries of one view against the target's n keys of the other."""
  query_a, query_b = contrastive.unit(views.query_a), contrastive.unit(views.query_b)
  key_a, key_b = contrastive.unit(views.key_a), contrastive.unit(views.key_b)
  if how.plain:
    half = functools.partial(rows.cross_rows, scale=scale, axis_name=how.axis_name)
    return rows.stack_rows(half(query_a, key_b), half(query_b, key_a))
  tiled = lambda query, key: sums.cross_sums(query, key, scale=scale, **how.pairs)
  return sums.stack_sums(tiled(query_a, key_b), tiled(query_b, key_a))


TWO_VIEWS = {
  "simclr": Pairing("simclr", _pool, 2, True, lambda n: 2 * n - 2),
  "moco_v3": Pairing("moco_v3", _other_view, 2, True, lambda n: n - 1),
}
