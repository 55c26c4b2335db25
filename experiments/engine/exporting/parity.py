"""Whether exported files compute what the live model computes, in a fresh process.

  python -m experiments.engine.exporting.parity FOLDER

reads the files in FOLDER and `inputs.npy` there, runs each file on 1, 3 and all inputs
and writes the outputs beside them; the parent compares them with the live model's.
"""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from experiments.engine import cli, errors
from experiments.engine.exporting import programs, weights

# Largest difference as a share of the largest output: rounding of another program.
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def measure_differences(
  folder: pathlib.Path, names: list[str], inputs: np.ndarray, expected: Any
) -> dict[str, float]:
  """Runs exported files in a process of its own and compares their outputs.

  Args:
    folder: of the files; gets what the process reads and writes.
    names: of the files, *.safetensors or *.stablehlo.
    inputs: uint8 [n, h, w, c], or int32 [n, t] token ids.
    expected: array [n, ...] or dict of arrays that the live model gives.

  Returns:
    Per file the largest absolute difference over the largest absolute output; NaN
    where an output is.

  Raises:
    UserError: a file cannot be read or run.
  """
  np.save(folder / "inputs.npy", inputs)
  child = subprocess.run(
    [sys.executable, "-m", __name__, str(folder.resolve()), *names],
    cwd=cli.ROOT,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
  )
  if child.returncode:
    said = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
    raise errors.UserError(
      f"an exported file does not run in a fresh process ({said[-1][:300]})"
    )
  wanted = _named(expected)
  differences = {}
  for name in names:
    with np.load(folder / f"{name}.npz") as outputs:
      if set(outputs) != set(wanted):
        raise errors.UserError(
          f"{name} gives {', '.join(outputs)} where the live model gives "
          f"{', '.join(wanted)}"
        )
      parts = [_relative(outputs[key], wanted[key]) for key in wanted]
    differences[name] = float(np.max(parts))
  return differences


def _relative(found: np.ndarray, wanted: np.ndarray) -> float:
  """Largest difference as a share of the largest output; infinite for other shapes."""
  if found.shape != wanted.shape:
    return float("inf")
  return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)


def _named(outputs: Any) -> dict[str, np.ndarray]:
  named = outputs if isinstance(outputs, dict) else {"features": outputs}
  return {name: np.asarray(value, np.float64) for name, value in named.items()}


def load_encoder(path: pathlib.Path) -> Callable[[np.ndarray], Any]:
  """The function inputs [n, ...] -> outputs that an exported file holds.

  Raises:
    UserError: the file is missing or damaged.
  """
  if path.suffix == ".stablehlo":
    return programs.load_program(path).call
  variables, metadata = weights.load_weights(path)
  config = ml_collections.ConfigDict(json.loads(metadata["config"]))
  encode = programs.part_encoder(config, metadata["part"])
  return jax.jit(lambda inputs: encode(variables, inputs))


def run_file(path: pathlib.Path, inputs: np.ndarray) -> dict[str, np.ndarray]:
  """Outputs of a file for all inputs: the first alone, then three, then the rest."""
  encode = load_encoder(path)
  parts = [inputs[:1], inputs[1:4], inputs[4:]]
  outputs = [_named(encode(part)) for part in parts if len(part)]
  return {key: np.concatenate([part[key] for part in outputs]) for key in outputs[0]}


def main(argv: list[str]) -> None:
  """Runs the files that the command line names; see `measure_differences`."""
  folder = pathlib.Path(argv[1])
  inputs = np.load(folder / "inputs.npy")
  try:
    for name in argv[2:]:
      np.savez(folder / f"{name}.npz", **run_file(folder / name, inputs))  # type: ignore[arg-type]
  except errors.UserError as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  main(sys.argv)
