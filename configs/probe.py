"""Probe of frozen features: linear, k nearest neighbours, few shots.

  python -m experiments.probe --run=DIR --config=configs/probe.py:linear

Presets: default (everything), linear (the linear probe and diagnostics), smoke.
"""

import ml_collections

from configs.pretrain import evaluation_settings


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  if preset not in ("default", "linear", "smoke"):
    raise ValueError(f"unknown preset '{preset}'; known: default, linear, smoke")
  c = ml_collections.ConfigDict()
  c.run = ""  # --run
  c.seed = 0
  c.data_dir = ""
  # An empty name probes the data that the run was trained on.
  c.data = ml_collections.ConfigDict(
    dict(name="", train="train", labelled="", test="test", train_limit=0, test_limit=0)
  )
  c.attribute = "class"  # of towers: what is asked of a captioned set's pictures
  c.evaluate = evaluation_settings()
  if preset == "linear":
    c.evaluate.update(knn=False, few_shot=False)
  if preset == "smoke":
    c.evaluate.shots = (1, 5)
  return c
