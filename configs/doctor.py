"""Doctor: what is here, whether it computes right, and how fast.

  python -m experiments.doctor

Two CPU cores: about half a minute, most of it compilation. Presets: default, smoke
(fewer cases, smaller products).
"""

import ml_collections

from configs import pretrain


def get_config(preset: str = "default") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  if preset not in ("default", "smoke"):
    raise ValueError(f"unknown preset '{preset}'; known: default, smoke")
  c = ml_collections.ConfigDict()
  c.seed = 0
  c.data_dir = ""
  c.simulated_devices = 4  # on a machine with CPUs only
  c.rows = 24  # global batch of the self-test
  c.width = 16
  c.block_sizes = (0, 1, 7)  # 0: one matrix
  c.tolerance = 1e-5
  c.product = 2048  # side of the matrices whose product is timed
  c.step = pretrain.get_config("smoke")  # the timed step; batch 0: none
  c.step.batch = 64
  if preset == "smoke":
    c.block_sizes = (0, 7)
    c.product = 256
    c.step.encoder = {"name": "mlp"}
    c.step.batch = 8
  return c
