"""Quickstart: the quick noise study and a small pretraining run.

  python -m experiments.quickstart

Two CPU cores: about 3 minutes (reckoned). Presets: default, smoke (seconds). The
probe's result is that of preset quick in configs/pretrain.py.
"""

import ml_collections

from configs import noise_study, pretrain


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  if preset not in ("default", "smoke"):
    raise ValueError(f"unknown preset '{preset}'; known: default, smoke")
  c = ml_collections.ConfigDict()
  c.seed = 0
  smoke = preset == "smoke"
  c.noise = noise_study.get_config("smoke" if smoke else "quick")
  c.pretrain = pretrain.get_config("smoke" if smoke else "quick")
  return c
