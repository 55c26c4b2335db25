"""Procedural scenes with exact factors: pictures and captions that need no files.

A scene is a pure function of (seed, id). Every random number is a counter-based hash
(`draws`), so any subset can be made in any order, and what is in it is known exactly.

- One object in a picture, for image pretraining (`single`): `factors`, `render`.
- One to four objects: `compose` gives the factors (`layout`), `relations` how they
  stand, `paint` pictures with masks and boxes (`painting`), `captions` several
  descriptions of each, in English or German (`wording`, `vocabulary`, `german`),
  `attributes` labels for probes, sorted into what picture and caption share and what
  only one of them has (`labels`). Every scene has further pictures, its takes.
- Tasks of vision and language on the scenes of one to four objects, balanced so that
  the words alone tell nothing: `ask` questions (`questions`), `pair_statements` about
  two pictures (`statements`), `entailments` of partly covered pictures (`premises`).
  The first two can be had of scenes of one object each too.

The two have nothing in common but the materials: id 7 is another scene in each.
"""

from multimodal.scenes.asking import ANSWERS
from multimodal.scenes.draws import SPLITS, split_ids
from multimodal.scenes.labels import ATTRIBUTES, CLASS_NAMES, PROMPTS, attributes
from multimodal.scenes.layout import (
  BACKGROUNDS,
  CROWD,
  MARGIN,
  MAX_OBJECTS,
  MAX_ZOOM,
  POSES,
  RADII,
  RELATIONS,
  SIZES,
  Crowd,
  Layout,
  compose,
  relations,
)
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES
from multimodal.scenes.painting import MIN_SIZE, Painting, paint
from multimodal.scenes.premises import GREY, Premises, cover, entailments
from multimodal.scenes.question_forms import QUESTION_KINDS
from multimodal.scenes.questions import Questions, ask
from multimodal.scenes.single import EASY, HARD, Level, factors, render
from multimodal.scenes.statement_rules import STATEMENT_KINDS
from multimodal.scenes.statements import Statements, pair_statements
from multimodal.scenes.vocabulary import FRAMES, STYLES, SYNONYMS, UNSAID
from multimodal.scenes.wording import LANGUAGES, caption_styles, captions

__all__ = [
  "ANSWERS",
  "ATTRIBUTES",
  "BACKGROUNDS",
  "CLASS_NAMES",
  "COLOURS",
  "CROWD",
  "EASY",
  "FRAMES",
  "GREY",
  "HARD",
  "LANGUAGES",
  "MARGIN",
  "MAX_OBJECTS",
  "MAX_ZOOM",
  "MIN_SIZE",
  "POSES",
  "PROMPTS",
  "QUESTION_KINDS",
  "RADII",
  "RELATIONS",
  "SHAPES",
  "SIZES",
  "SPLITS",
  "STATEMENT_KINDS",
  "STYLES",
  "SYNONYMS",
  "TEXTURES",
  "UNSAID",
  "Crowd",
  "Layout",
  "Level",
  "Painting",
  "Premises",
  "Questions",
  "Statements",
  "ask",
  "attributes",
  "caption_styles",
  "captions",
  "compose",
  "cover",
  "entailments",
  "factors",
  "paint",
  "pair_statements",
  "relations",
  "render",
  "split_ids",
]
