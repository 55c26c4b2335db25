"""Strictness for every test: 8 CPU devices, no silent broadcasting over ranks."""

import os

import jax

# Compiling takes most of the time of the tests: let XLA optimise little. Programs are
# not kept between runs: those of several CPU devices must not be (engine/cli.py).
if "XLA_FLAGS" not in os.environ:
  quick = "--xla_backend_optimization_level=0"
  if jax.__version_info__ < (0, 11):  # later ones have no such option
    quick += " --xla_cpu_use_fusion_emitters=false"
  os.environ["XLA_FLAGS"] = quick

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
