"""Bytes that one device sends for the loss and its gradient, read from the program.

  python -m benchmarks.wire --rows=64 --width=256

Compiles the symmetric loss (or NT-Xent: --loss=nt_xent) under shard_map for 2, 4 and 8
CPU devices, with gathered and with walking rows, and counts the collectives of the
compiled program; those inside a loop count as often as it turns. What a device sends
follows from the usual ring algorithms, for a result of R bytes on D devices:
(D - 1) / D R in an all-gather, (D - 1) R in a reduce-scatter, 2 (D - 1) / D R in an
all-reduce, and R in a collective-permute. Nothing is run.
"""

import argparse
import collections
import re

_BYTES = {"f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "pred": 1, "f64": 8}
_COLLECTIVE = re.compile(
  r"= (.*?) (all-gather|all-reduce|reduce-scatter|collective-permute)(?:-start)?\("
)
_SENT = {  # bytes that a device sends over bytes of the result, for D devices
  "all-gather": lambda d: (d - 1) / d,
  "reduce-scatter": lambda d: d - 1,
  "all-reduce": lambda d: 2 * (d - 1) / d,
  "collective-permute": lambda d: 1.0,
}


def main() -> None:
  """Prints one line for each number of devices and execution."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--rows", type=int, default=64, help="rows on each device")
  parser.add_argument("--width", type=int, default=256)
  parser.add_argument("--loss", choices=("info_nce", "nt_xent"), default="info_nce")
  args = parser.parse_args()
  print(
    "| devices | negatives | collectives | KiB sent a device | in rows of a tower |"
  )
  print("| ---: | --- | --- | ---: | ---: |")
  tower = args.rows * args.width * 4
  for devices in (2, 4, 8):
    for ring in (False, True):
      counts, sent = count(_compiled(devices, ring, args), devices)
      listed = ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
      print(
        f"| {devices} | {'ring' if ring else 'gather'} | {listed} | {sent / 1024:,.1f} "
        f"| {sent / tower:.2f} n |"
      )


def _compiled(devices: int, ring: bool, args) -> str:
  import jax
  import jax.numpy as jnp
  import numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  import contrastive

  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", 8)
  mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
  split = PartitionSpec("data")

  def local(a, b, scale):
    loss = getattr(contrastive, args.loss)
    values = loss(a, b, scale=scale, axis_name="data", block_size=16, ring=ring)
    return contrastive.axes.mean(jnp.mean(values), "data")

  mapped = jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(split, split, PartitionSpec()),
    out_specs=PartitionSpec(),
  )
  shape = (devices * args.rows, args.width)
  rows = jax.ShapeDtypeStruct(shape, np.float32, sharding=NamedSharding(mesh, split))
  scale = jax.ShapeDtypeStruct((), np.float32)
  program = jax.jit(jax.value_and_grad(mapped, (0, 1, 2)))
  return program.lower(rows, rows, scale).compile().as_text()


def count(text: str, devices: int) -> tuple[dict[str, int], float]:
  """Collectives of a compiled program by name, and the bytes that a device sends.

  Args:
    text: HLO of the program.
    devices: how many take part.
  """
  computations = _computations(text)
  times = _times(computations)
  counts: dict[str, int] = collections.Counter()
  sent = 0.0
  for name, lines in computations.items():
    for line in lines:
      found = _COLLECTIVE.search(line)
      if found is None:
        continue
      kind = found[2]
      counts[kind] += times[name]
      sent += times[name] * _SENT[kind](devices) * sum(_sizes(found[1]))
  return dict(counts), sent


def _computations(text):
  """Name of each computation -> its lines."""
  found, lines = {}, []
  for line in text.splitlines():
    start = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
    if start:
      lines = found.setdefault(start[1], [])
    else:
      lines.append(line)
  return found


def _times(computations):
  """How often each computation runs: the product of the loops around it."""
  inside = {}
  for name, lines in computations.items():
    for line in lines:
      turns = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', line)
      for called in re.findall(r"(?:body|calls|to_apply)=%?([\w.\-]+)", line):
        loop = " while(" in line
        if loop and turns is None:
          raise ValueError(f"a loop of unknown length: {line.strip()[:200]}")
        inside[called] = (name, int(turns[1]) if loop and turns else 1)

  def times(name):
    if name not in inside:
      return 1
    outer, turns = inside[name]
    return turns * times(outer)

  return {name: times(name) for name in computations}


def _sizes(types):
  """Bytes of each array of a result's type."""
  for kind, shape in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", types):
    if kind in _BYTES:
      elements = 1
      for part in filter(None, shape.split(",")):
        elements *= int(part)
      yield elements * _BYTES[kind]


if __name__ == "__main__":
  main()
