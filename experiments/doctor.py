"""What devices and versions are here, whether they compute right, and how fast.

  python -m experiments.doctor

The self-test takes value and gradient of two losses on 1 .. n devices, with gathered
and walking rows and several block sizes, and compares them with one matrix on one
device. A machine with CPUs only simulates several devices for it.
"""

import functools
import importlib.util
import os
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh, PartitionSpec

import contrastive
from contrastive import axes
from experiments.engine import build, cli, errors, record
from experiments.engine import mesh as meshes
from experiments.engine import optimizer as optim
from experiments.engine import state as states
from experiments.engine import step as steps
from experiments.engine.datasets.builders import folders
from experiments.engine.objectives import build_objective
from experiments.engine.pretraining.view_pairs import Recipes, two_view_method
from experiments.engine.reporting import report

_OPTIONAL = {
  "matplotlib": "figures and reports",
  "sklearn": "the digits data set",
  "tensorboardX": "TensorBoard files",
  "PIL": "preparing pictures",
}


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Prints what was found and writes summary.json.

  Args:
    config: of configs/doctor.py.
    workdir: folder of the records.

  Returns:
    The contents of summary.json.

  Raises:
    UserError: value or gradient depend on devices, execution or blocks.
  """
  if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    _simulate(config.simulated_devices)
    cli.use_compilation_cache()
  with record.Recorder(workdir, config) as recorder:
    about = _machine(config.data_dir)
    print(report.markdown_table(["what", "found"], list(about.items())), flush=True)
    cases = list(self_test(config))
    rows = [
      [*case, f"{error:.1e}", "ok" if ok else "WRONG"] for case, error, ok in cases
    ]
    headers = ["loss", "devices", "negatives", "block_size", "largest error", ""]
    print(report.markdown_table(headers, rows), flush=True)
    speeds = throughput(config)
    rows = [[name, f"{value:,.1f}"] for name, value in speeds.items()]
    print(report.markdown_table(["speed", ""], rows), flush=True)
    wrong = sum(not ok for *_, ok in cases)
    final = {"cases": len(cases), "wrong": wrong, "worst": max(c[1] for c in cases)}
    recorder.summary(final | speeds)
  if wrong:
    raise errors.UserError(
      f"{wrong} of {len(cases)} cases differ from one device by more than "
      f"{config.tolerance:g}; do not train here: update jax, or report the table above"
    )
  print(f"all {len(cases)} cases agree to {final['worst']:.1e}")
  return final | speeds


def _simulate(devices: int) -> None:
  try:
    jax.config.update("jax_num_cpu_devices", devices)  # of CPUs only
  except RuntimeError:  # devices were asked for before, as in tests
    pass


def _machine(data_dir: str) -> dict[str, str]:
  found = {name: version for name, version in record.versions().items()}
  kinds = [d.device_kind for d in jax.devices()]
  found["devices"] = ", ".join(f"{kinds.count(k)} x {k}" for k in sorted(set(kinds)))
  if jax.default_backend() == "cpu":
    found["devices"] += f" (simulated on {os.cpu_count()} cores)"
  memory = jax.devices()[0].memory_stats() or {}
  if "bytes_limit" in memory:
    found["memory a device"] = f"{memory['bytes_limit'] / 2**30:.1f} GiB"
  kept = getattr(jax.config, "jax_enable_compilation_cache", True)
  cache = getattr(jax.config, "jax_compilation_cache_dir", None) if kept else None
  found["compiled programs"] = cache or "not kept"
  folder = folders.data_folder(data_dir)
  sets = sorted(p.name for p in pathlib.Path(folder).glob("*") if p.is_dir())
  found["data sets"] = f"{', '.join(sets) or 'none prepared'} in {folder}"
  for package, use in _OPTIONAL.items():
    if importlib.util.find_spec(package) is None:
      found[package] = f"missing: needed for {use}"
  return found


def self_test(config: ml_collections.ConfigDict):
  """Yields (loss, devices, negatives, block), its largest error, and if it is ok."""
  count = len(jax.devices())
  line = [d for d in (1, 2, 4, 8) if d <= count and config.rows % d == 0]
  for name in ("info_nce", "nt_xent"):
    expected = _one_matrix(config, name)
    for devices in line:
      for ring in (False, True) if devices > 1 else (False,):
        for block in config.block_sizes:
          got = _value_and_grads(config, name, devices, ring, block or None)
          sizes = [max(1.0, np.abs(e).max()) for e in expected]
          error = max(
            np.abs(g - e).max() / s
            for g, e, s in zip(got, expected, sizes, strict=True)
          )
          case = (name, devices, "ring" if ring else "gather", block or "one matrix")
          yield case, float(error), bool(error <= config.tolerance)


def _one_matrix(config, name):
  """What all cases are compared with: no device axis, no tiles."""
  return _differentiated(config, functools.partial(_mean_loss, name, {}))


def _value_and_grads(config, name, devices, ring, block):
  """Value and gradients (rows of both sides, scale) as one list of arrays."""
  axis = meshes.BATCH_AXIS
  mesh = Mesh(np.array(jax.devices()[:devices]), (axis,))
  split, whole = PartitionSpec(axis), PartitionSpec()
  how = dict(axis_name=axis, block_size=block, ring=ring)
  local = lambda *args: axes.mean(_mean_loss(name, how, *args), axis)
  return _differentiated(
    config,
    jax.shard_map(local, mesh=mesh, in_specs=(split, split, whole), out_specs=whole),
  )


def _mean_loss(name, how, a, b, scale):
  loss = getattr(contrastive, name)
  return jnp.mean(loss(contrastive.unit(a), contrastive.unit(b), scale=scale, **how))


def _differentiated(config, loss):
  rng = np.random.default_rng(config.seed)
  a, b = rng.standard_normal((2, config.rows, config.width)).astype(np.float32)
  program = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
  value, grads = jax.device_get(program(a, b, jnp.float32(10.0)))
  return [np.asarray(x) for x in (value, *grads)]


def throughput(config: ml_collections.ConfigDict) -> dict[str, float]:
  """Speed of a matrix product and of a training step on one device."""
  found = {}
  n = config.product
  for dtype in ("float32", "bfloat16"):
    x = jnp.ones((n, n), dtype)
    seconds = _best(jax.jit(lambda x: x @ x), x)
    found[f"{dtype} product, GFLOP/s"] = 2 * n**3 / seconds / 1e9
  if config.step.batch:
    seconds = _step_seconds(config)
    found[f"SimCLR step of {config.step.encoder.name}, images/s"] = (
      config.step.batch / seconds
    )
  return found


def _step_seconds(config) -> float:
  settings = config.step
  network = build.build_network(settings)
  objective = build_objective(settings.objective, settings.method)
  tx = optim.build_optimizer(settings.optimizer, lambda step: 1e-3)
  images = np.zeros((settings.batch, 32, 32, 3), np.uint8)
  state = states.init_state(
    jax.random.key(config.seed),
    network,
    objective,
    tx,
    sample=np.zeros((2, 32, 32, 3), np.float32),
    examples=settings.batch,
    with_target=False,
  )
  recipes = Recipes(*build.build_recipes(settings.views), (0.5,) * 3, (0.25,) * 3)
  ids = np.arange(settings.batch, dtype=np.int32)
  method = two_view_method(network, recipes)
  program = jax.jit(steps.make_step(method, objective, tx))
  return _best(
    program,
    state,
    steps.Batch(*map(jnp.asarray, (images, ids, ids))),
    jax.random.key(0),
  )


def _best(program, *args, repeats: int = 3) -> float:
  jax.block_until_ready(program(*args))
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(program(*args))
    times.append(time.perf_counter() - start)
  return min(times)


if __name__ == "__main__":
  cli.launch(run, default_config="configs/doctor.py")
