"""What the compiled step of a fusion model takes; `benchmarks.fusion --memory`."""

import itertools
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import fusion_step

_AT_MOST = 6.0  # times the parameters, without activations
# Of the batch, for a small one, where the gradient counts beside the activations.
_SMALL = 16


class Bytes(NamedTuple):
  """Of a compiled step.

  Attributes:
    arguments: state, batch and key.
    aliased: results that lie where an argument did.
    results: all of them.
    temporary: the most of what lives within the step at a time.
  """

  arguments: int
  aliased: int
  results: int
  temporary: int

  @property
  def shown(self) -> tuple[int, int, int]:
    """Arguments, aliased and temporary."""
    return self.arguments, self.aliased, self.temporary

  @property
  def peak(self) -> int:
    """All that is held at a time, at most."""
    return self.arguments + self.results - self.aliased + self.temporary


def table(args: Any) -> None:
  """Prints the step's memory at four batches; ends with 1 if it is too much."""
  config = fusion_step.read_config(args)
  small = max(config.batch // _SMALL, 2)
  batches = sorted({small, 2 * small, config.batch, 2 * config.batch})
  made = fusion_step.make(config, small)
  state = jax.eval_shape(made.init, jax.random.key(0))
  sizes = {
    "parameters": _bytes(state.params),
    "momentum copy": _bytes(state.target),
    "optimiser": _bytes(state.opt_state),
    "queues": _bytes(state.objective),
  }
  print(", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in sizes.items()))
  columns = ("arguments", "aliased", "temporary", "peak", "a pair", "rest")
  print("| batch |", " | ".join(f"{name}, MB" for name in columns), "| / parameters |")
  print("|", " | ".join(["---:"] * (len(columns) + 2)), "|")
  found = {n: measure(fusion_step.make(config, n)) for n in batches}
  most = 0.0
  for n, more in itertools.pairwise(batches):
    taken = found[n]
    pair = (found[more].peak - taken.peak) / (more - n)
    rest = taken.peak - n * pair
    numbers = (*taken.shown, taken.peak, pair, rest)
    line = " | ".join(f"{x / 1e6:,.1f}" for x in numbers)
    print(f"| {n} | {line} | {rest / sizes['parameters']:.2f} |")
    most = max(most, rest / sizes["parameters"])
  _judge(found, _bytes(state), most)
  if not args.shapes:
    strayed = run_away(made)
    if strayed:
      sys.exit(f"these moved to other memory in a step: {', '.join(strayed)}")
    print("a step was run: every array of the state is where it was before")


def _judge(found: dict[int, Bytes], state: int, most: float) -> None:
  left = {n: state - taken.aliased for n, taken in found.items()}
  if any(left.values()):
    sys.exit(f"not updated in place, in bytes by batch: {left}")
  print(f"in place: all {state / 1e6:,.1f} MB of the state")
  if most > _AT_MOST:
    sys.exit(f"{most:.2f} times the parameters besides activations: over {_AT_MOST}")
  print(f"besides activations at most {most:.2f} times the parameters")


def measure(made: fusion_step.Made) -> Bytes:
  """The memory of a step, by its compiled program."""
  found = fusion_step.compiled(made).memory_analysis()
  return Bytes(
    found.argument_size_in_bytes,
    found.alias_size_in_bytes,
    found.output_size_in_bytes,
    found.temp_size_in_bytes,
  )


def run_away(made: fusion_step.Made) -> list[str]:
  """Names of the state's arrays that lie elsewhere after a step than before."""
  program = fusion_step.compiled(made)
  state = jax.jit(made.init)(jax.random.key(0))
  before = _places(state)
  after, _ = program(state, jax.tree.map(jnp.asarray, made.batch), made.key)
  places = _places(jax.block_until_ready(after))
  return [name for name, place in before.items() if places[name] != place]


def _places(state) -> dict[str, int]:
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {
    jax.tree_util.keystr(path): leaf.unsafe_buffer_pointer() for path, leaf in leaves
  }


def _bytes(tree) -> int:
  return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
