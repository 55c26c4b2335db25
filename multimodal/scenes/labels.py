"""What a probe may be asked about scenes and captions, by who knows it.

| kind     | what                                         | known from      |
| -------- | -------------------------------------------- | --------------- |
| "shared" | shape, colour, texture of the main object;   | both: captions  |
|          | number of objects                            | say it at times |
| "image"  | pose of the main object, kind of background  | picture only    |
| "text"   | style of the wording                         | caption only    |

The kinds are exact: captions depend on pose and background in nothing (unless told to
reveal them), pictures depend on the style in nothing, and the three are independent.
The shared ones are those of every picture of a scene and of captions in any language;
each take has a pose and a background of its own, each language its styles.

Shape is in every caption, colour in 80 % of them, texture in 70 %, the number of
objects in 30 % (the number of objects that are named is a lower bound of it).
"""

from collections.abc import Sequence

import numpy as np

from multimodal.scenes.layout import (
  BACKGROUNDS,
  CROWD,
  MAX_OBJECTS,
  POSES,
  Crowd,
  compose,
)
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES
from multimodal.scenes.vocabulary import FRAMES, STYLES
from multimodal.scenes.wording import caption_styles

# Attribute -> names of its labels, by kind.
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
  "shared": {
    "shape": SHAPES,
    "colour": COLOURS,
    "texture": TEXTURES,
    "count": tuple(str(number) for number in range(1, MAX_OBJECTS + 1)),
  },
  "image": {"pose": POSES, "background": BACKGROUNDS},
  "text": {"style": STYLES},
}

# The classes of zero-shot classification: texture and shape of the main object.
CLASS_NAMES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
# Captions with a gap for a class name.
PROMPTS = tuple(
  f"{before} a {{}}{after}" for frames in FRAMES for before, after in frames
)


def attributes(
  ids: np.ndarray,
  *,
  seed: int = 0,
  level: Crowd = CROWD,
  which: Sequence[int] = range(5),
  take: int = 0,
  language: str = "en",
) -> dict[str, np.ndarray]:
  """Returns the labels of ATTRIBUTES, and "class".

  Args:
    ids: [n] integers, not negative.
    seed: as in `compose`.
    level: as in `compose`.
    which: numbers of the captions, as in `captions`.
    take: of the picture, as in `paint`: whose pose and background.
    language: of the captions: whose style.

  Returns:
    int32 by name: "style" [n, len(which)], an index into STYLES for each caption;
    everything else [n]: indices into the names in ATTRIBUTES, and "class" into
    CLASS_NAMES.
  """
  layout = compose(ids, seed=seed, level=level, take=take)
  main = {
    name: getattr(layout, name)[:, 0] for name in ("shape", "colour", "texture", "pose")
  }
  return {
    **main,
    "count": layout.number - 1,
    "background": layout.background,
    "style": caption_styles(ids, seed=seed, which=which, language=language),
    "class": main["shape"] * len(TEXTURES) + main["texture"],
  }
