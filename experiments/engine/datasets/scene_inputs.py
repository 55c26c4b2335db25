"""What towers may read of a scene: several pictures, captions in several languages."""

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from experiments.engine import hosts, progress
from multimodal import scenes

# With few objects in a picture, minutes on a CPU suffice to learn something; with one
# that fills it, one minute.
EMBEDDED = {
  "scenes_text_easy": scenes.Crowd(counts=(1, 1), zoom=1.7),
  "scenes_text": scenes.Crowd(counts=(1, 2)),
  "scenes_text_hard": scenes.CROWD,
}

# Names of inputs: number of the picture, and language of the captions.
TAKES = {"image": 0, "image_2": 1}
LANGUAGES = {"text": "en", "text_de": "de"}

_CHUNK = 2048  # scenes painted at a time; masks, not needed here, live as long
_PATIENCE = 5.0  # seconds without a word


def make_inputs(
  name: str, ids: np.ndarray, size: int, inputs: Iterable[str]
) -> dict[str, Any]:
  """Makes inputs of scenes, no others than those that are asked for.

  Args:
    name: of the set, in EMBEDDED.
    ids: [n] of the scenes.
    size: side of the pictures.
    inputs: of TAKES and LANGUAGES.

  Returns:
    By input: pictures uint8 [n, size, size, 3], or five captions for each scene.
  """
  made: dict[str, Any] = {}
  for wanted in inputs:
    if wanted in TAKES:
      made[wanted] = _paint(ids, size, name, TAKES[wanted])
    else:
      language = LANGUAGES[wanted]
      found = scenes.captions(ids, level=EMBEDDED[name], language=language)
      made[wanted] = tuple(map(tuple, found))
  return made


def own_labels(name: str, ids: np.ndarray, wanted: str) -> dict[str, np.ndarray]:
  """Labels of what only this input has, and no other: its pose, or its style."""
  level = EMBEDDED[name]
  if wanted in TAKES:
    labels, kind = scenes.attributes(ids, level=level, take=TAKES[wanted]), "image"
  else:
    language = LANGUAGES[wanted]
    labels, kind = scenes.attributes(ids, level=level, language=language), "text"
  return {key: labels[key] for key in scenes.ATTRIBUTES[kind]}


def _paint(ids: np.ndarray, size: int, name: str, take: int) -> np.ndarray:
  """Paints in chunks; if that takes seconds, says once how many are left."""
  level = EMBEDDED[name]
  images = np.empty((len(ids), size, size, 3), np.uint8)
  threads = os.cpu_count() or 1
  began, told = time.perf_counter(), False
  for start in range(0, len(ids), _CHUNK):
    passed = time.perf_counter() - began
    if start and passed > _PATIENCE and not told:
      left = progress.clock(passed / start * (len(ids) - start))
      told = True
      if hosts.first():
        said = f"paints {len(ids):,} pictures of '{name}': {left} left"
        print(said, file=sys.stderr, flush=True)
    part = slice(start, start + _CHUNK)
    painted = scenes.paint(
      ids[part], size=size, level=level, threads=threads, take=take
    )
    images[part] = painted.images
  return images
