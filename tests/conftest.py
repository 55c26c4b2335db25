"""Strictness for every test: 8 CPU devices, no silent broadcasting over ranks."""

import os
import pathlib
import tempfile

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiled programs are kept between runs of the tests: most of their time is XLA.
_CACHE = os.environ.get("TEST_COMPILATION_CACHE") or str(
  pathlib.Path(tempfile.gettempdir()) / "contrastive_tests_cache"
)
jax.config.update("jax_compilation_cache_dir", _CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
