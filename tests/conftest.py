"""Strictness for every test: 8 CPU devices, no silent broadcasting over ranks.

Compiling takes most of the time of the tests, so XLA optimises little here, and a
program that was compiled once in a process is not compiled again. On disk no program is
kept: those of several CPU devices must not be (engine/cli.py).
"""

import gc
import os
from pathlib import Path

import jax
import pytest
from jax._src import cache_key, compiler

if "XLA_FLAGS" not in os.environ:
  quick = "--xla_backend_optimization_level=0"
  if jax.__version_info__ < (0, 11):  # later ones have no such option
    quick += " --xla_cpu_use_fusion_emitters=false"
  os.environ["XLA_FLAGS"] = quick

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
  """Programs that are equal, with options and devices, share one executable.

  A second run of a config traces the same step anew, and `jit` keeps programs by the
  function. The key is JAX's own for programs on disk, here without going through one.
  """
  compile_program, kept = compiler.compile_or_get_cached, {}

  def compiled(backend, computation, devices, options, callbacks, *rest, **named):
    given = (backend, computation, devices, options, callbacks, *rest)
    if callbacks:  # functions of this process, which no key tells apart
      return compile_program(*given, **named)
    key = cache_key.get(computation, devices, options, backend)
    if key not in kept:
      kept[key] = compile_program(*given, **named)
    return kept[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(compiler, "compile_or_get_cached", compiled)
    yield kept


@pytest.fixture(scope="module", autouse=True)
def few_mappings(compiled_once):
  """After a module, programs are dropped if the process has mapped much memory.

  Each program keeps about 14 mappings, Linux gives a process 65,530
  (vm.max_map_count), and XLA crashes without one.
  """
  yield
  maps = Path("/proc/self/maps")
  if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
    compiled_once.clear()
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def pageless(monkeypatch):
  """Runs leave no report.html: drawing it takes some seconds each time."""
  from experiments.engine.reporting import run_page

  monkeypatch.setattr(run_page, "write_run_page", lambda workdir: None)


@pytest.fixture
def one_device(monkeypatch):
  """Runs see the first device alone: compiling for eight takes longer."""
  one = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *args: one)
