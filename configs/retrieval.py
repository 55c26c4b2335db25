"""Retrieval between the towers of a run, or the encoders of a fusion model.

  python -m experiments.retrieval --run=DIR

Preset: default; smoke takes 64 examples. Two CPU cores, seconds.
"""

import ml_collections
from ml_collections import config_dict


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  if preset not in ("default", "smoke"):
    raise ValueError(f"unknown preset '{preset}'; known: default, smoke")
  c = ml_collections.ConfigDict()
  c.run = ""  # --run
  c.seed = 0
  c.data_dir = ""
  # What is empty is as in the run.
  c.data = ml_collections.ConfigDict(dict(name="", test="", test_limit=0))
  c.ks = (1, 5, 10)
  # Nearest keys that a fusion model's matching head puts in order; None: as in the run.
  c.rerank = config_dict.placeholder(int)
  c.geometry = True  # modality gap, cosine, alignment, uniformity, effective rank
  if preset == "smoke":
    c.data.test_limit = 64
  return c
