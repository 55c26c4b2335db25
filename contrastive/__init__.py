"""Objectives for contrastive representation learning, as pure functions of arrays.

Axis names, in shapes, einsum letters and docstrings:

  n   rows (anchors, images) on this device      N   rows of the global batch
  d   width of an embedding                      m   candidates of an anchor; modalities
  v   views of an image                          k   keys in a queue
  c   classes                                    h, w   height and width of an image

A loss takes embeddings first (unit rows, `unit`), then knobs by keyword: `scale` is the
inverse temperature. It returns one value per anchor, in nats, not reduced, computed in
float32 or wider. `axis_name` names the device axis with the rest of the batch (see
`contrastive.axes` for how to differentiate then).

Modules with state or many functions are used as modules: `normalizer`, `queue`,
`target`, `diagnostics`, and, imported by who needs them, `bias`, `clusters`,
`fixed_points`, `synthetic`, `views`, `encoders`, `heads`.
"""

from contrastive import axes, diagnostics, normalizer, numerics, queue, target
from contrastive.augmented import (
  augmented_loss,
  augmented_metrics,
  augmented_nce,
  copy_index,
  fold_views,
  log_gamma_noise,
  log_normalizer,
  two_view_log_normalizer,
  view_noise,
)
from contrastive.decorrelation import (
  VicregTerms,
  barlow_twins,
  cross_correlation,
  vicreg,
  vicreg_terms,
)
from contrastive.infonce import (
  decoupled,
  decoupled_loss,
  flat_loss,
  flat_nce,
  info_nce,
  nt_xent,
  softmax_loss,
  von_mises_weight,
)
from contrastive.numerics import masked_mean, similarity, unit
from contrastive.rows import Rows, cross_rows, queue_rows, stack_rows, two_view_rows
from contrastive.sigmoid import pairwise_sigmoid
from contrastive.sums import (
  Sums,
  cross_sums,
  mutual_sums,
  queue_sums,
  stack_sums,
  summed,
  two_view_sums,
)
from contrastive.supervised import has_positive, soft_nce, sup_con

__all__ = [  # noqa: RUF022 (by family)
  # Modules.
  "axes",
  "diagnostics",
  "normalizer",
  "numerics",
  "queue",
  "target",
  # Embeddings.
  "masked_mean",
  "similarity",
  "unit",
  # Softmax family: InfoNCE, NT-Xent, DCL and DCLW, FlatNCE.
  "info_nce",
  "nt_xent",
  "decoupled",
  "flat_nce",
  "von_mises_weight",
  # Several or graded positives.
  "sup_con",
  "has_positive",
  "soft_nce",
  # Sigmoid.
  "pairwise_sigmoid",
  # Augmented: Gamma auxiliary variables and running normalisers.
  "augmented_nce",
  "two_view_log_normalizer",
  "fold_views",
  "copy_index",
  "log_gamma_noise",
  "view_noise",
  # No negatives: one scalar a batch.
  "barlow_twins",
  "cross_correlation",
  "vicreg",
  "vicreg_terms",
  "VicregTerms",
  # Rows of logits.
  "Rows",
  "cross_rows",
  "two_view_rows",
  "queue_rows",
  "stack_rows",
  # What a loss needs of them, in linear memory with block_size.
  "Sums",
  "summed",
  "cross_sums",
  "mutual_sums",
  "two_view_sums",
  "queue_sums",
  "stack_sums",
  # Losses on rows or sums.
  "softmax_loss",
  "decoupled_loss",
  "flat_loss",
  "augmented_loss",
  "augmented_metrics",
  "log_normalizer",
]
