"""Zero-shot classification by a run of towers.

  python -m experiments.zero_shot --run=DIR

Preset: default; smoke takes 64 images. Two CPU cores, seconds.
"""

import ml_collections


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  if preset not in ("default", "smoke"):
    raise ValueError(f"unknown preset '{preset}'; known: default, smoke")
  c = ml_collections.ConfigDict()
  c.run = ""  # --run
  c.seed = 0
  c.data_dir = ""
  # An empty name takes the run's own data; any labelled image set works too.
  c.data = ml_collections.ConfigDict(dict(name="", test="", test_limit=0))
  c.prompts = ""  # set of multimodal/prompts.py; empty: the run's
  c.class_names = ()  # words of the classes; empty: the data set's
  c.guesses = (1, 3, 5)
  if preset == "smoke":
    c.data.test_limit = 64
  return c
