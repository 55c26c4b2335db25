"""The bytes that benchmarks.wire counts, on programs whose traffic is known."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import Mesh, PartitionSpec

from benchmarks import wire

D = 4
ROWS = 6  # of each device, of 4 bytes


def _text(local, out):
  mesh = Mesh(jax.devices()[:D], ("data",))
  mapped = jax.shard_map(
    local, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=out, check_vma=False
  )
  x = jax.ShapeDtypeStruct((D * ROWS,), jnp.float32)
  return jax.jit(mapped).lower(x).compile().as_text()


def _walk(x):
  onward = [(i, (i + 1) % D) for i in range(D)]
  step = lambda x, _: (jnp.sin(jax.lax.ppermute(x, "data", onward)), None)
  return jax.lax.scan(step, x, None, length=5)[0]


@pytest.mark.parametrize(
  "local, out, name, count, sent",
  [
    (
      functools.partial(jax.lax.all_gather, axis_name="data", tiled=True),
      PartitionSpec(),
      *("all-gather", 1, (D - 1) * ROWS * 4),
    ),
    (
      functools.partial(jax.lax.psum, axis_name="data"),
      PartitionSpec(),
      *("all-reduce", 1, 2 * (D - 1) / D * ROWS * 4),
    ),
    (_walk, PartitionSpec("data"), "collective-permute", 5, 5 * ROWS * 4),
  ],
)
def test_collectives_and_their_loops_are_counted(local, out, name, count, sent):
  assert wire.count(_text(local, out), D) == ({name: count}, pytest.approx(sent))
