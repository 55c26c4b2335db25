"""Images with words, or any modalities: towers, what aligns them and divides them.

Embeddings of several towers are dicts of unit rows [n, d] by the tower's name; row i of
every tower belongs to example i. The losses follow the conventions of `contrastive`.

`towers`, `text_transformer`, `tokenizer`, `prompts`, `wording`, `retrieval`, `gap` and
`scenes` are used as modules; so are those of the fusion model: `fusion`, `decoder`,
`momentum_contrast`, `matching`, `masking`, `distillation`, `reranking`, `tasks` and
`answers`.
"""

from multimodal import gap, prompts, retrieval, scenes, tokenizer, wording
from multimodal.aligning import (
  alignment_anchors,
  alignment_loss,
  printed_in_modal,
  sigmoid_alignment,
)
from multimodal.bridge import bridge_loss, bridge_mean, sample_times
from multimodal.geometry import consistency, geometry_loss, matched_consistency
from multimodal.pairing import inverse_cosine, squared_distance
from multimodal.scenes import COLOURS, SHAPES, TEXTURES
from multimodal.separation import (
  SeparationParts,
  orthogonality_loss,
  separation_loss,
  separation_parts,
  specific_contrast,
  uniformity_loss,
)
from multimodal.structures import (
  Bridge,
  Features,
  Geometry,
  Penalty,
  Separation,
  Structures,
  structure_loss,
)
from multimodal.terms import Term, alignment_terms, split_terms, term_mean

__all__ = [  # noqa: RUF022 (by family)
  # Modules.
  "gap",
  "prompts",
  "retrieval",
  "scenes",
  "tokenizer",
  "wording",
  # Alignment: who is contrasted with whom.
  "Term",
  "alignment_terms",
  "alignment_anchors",
  "alignment_loss",
  "printed_in_modal",
  "sigmoid_alignment",
  "split_terms",
  "term_mean",
  # Forced alignment, a control.
  "squared_distance",
  "inverse_cosine",
  # Deep feature separation.
  "separation_loss",
  "separation_parts",
  "SeparationParts",
  "orthogonality_loss",
  "specific_contrast",
  "uniformity_loss",
  # Brownian bridge.
  "bridge_loss",
  "bridge_mean",
  "sample_times",
  # Geometric consistency.
  "geometry_loss",
  "consistency",
  "matched_consistency",
  # All of them over all towers.
  "Features",
  "Separation",
  "Bridge",
  "Geometry",
  "Penalty",
  "Structures",
  "structure_loss",
  # What scenes are made of.
  "COLOURS",
  "SHAPES",
  "TEXTURES",
]
