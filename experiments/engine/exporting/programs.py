"""An encoder as a StableHLO program: images or tokens in, features out, nothing else.

Normalisation and parameters are inside, so that the file needs jax and no checkout.
Next to it lies its digest, `<name>.sha256`, in the form of `sha256sum`.
"""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from contrastive import views
from experiments.engine import build, errors, files
from experiments.engine.pretraining import pair_network, tower_network

PLATFORMS = ("cpu", "cuda", "tpu")
# A serialised program is one flatbuffer, whose offsets are signed 32-bit numbers.
_MOST_BYTES = 2**31 - 2**20

Encode = Callable[[Any, jax.Array], Any]


def parts_of(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """What can be exported of a run, the default first."""
  if config.method in pair_network.METHODS:
    towers = pair_network.reading_config(config).towers
    return tuple(sorted(towers, key=lambda k: towers[k].kind != "image"))
  return ("encoder", "network")


def check_part(config: ml_collections.ConfigDict, part: str) -> None:
  """Raises UsageError for a part that the run's network does not have."""
  if part not in parts_of(config):
    raise errors.unknown("part", part, parts_of(config))


def select_part(config: ml_collections.ConfigDict, variables: dict, part: str) -> dict:
  """The variables of a part of the network, under the names that they have in it.

  Raises:
    UsageError: an unknown part.
  """
  check_part(config, part)
  if config.method == "towers":
    return {name: tree[part] for name, tree in variables.items() if part in tree}
  if config.method == "fusion":
    params = variables["params"]
    return {"params": {name: params[name] for name in (part, f"{part}_head")}}
  if part == "network":
    return {name: tree for name, tree in variables.items() if tree}
  return {
    name: {"encoder": tree["encoder"]}
    for name, tree in variables.items()
    if "encoder" in tree
  }


def part_encoder(config: ml_collections.ConfigDict, part: str) -> Encode:
  """The function `(variables, inputs) -> outputs` of a part in evaluation mode.

  Args:
    config: of the run.
    part: "encoder": features float32 [n, f]; "network": a dict of `features`,
      `projection` [n, d] and `query` [n, d] (the predictor's, or the projection). Of a
      run of towers the name of one, of a fusion model "image" or "text": a dict of
      `features`, `shared` [n, d] and, with such a head, `specific` [n, d].

  Returns:
    A pure function of `select_part`'s variables and images uint8 [n, h, w, c], which
    it normalises as the run did, or token ids int32 [n, t].

  Raises:
    UsageError: an unknown part, or statistics for another number of channels.
  """
  check_part(config, part)
  if config.method in pair_network.METHODS:
    return _tower_encoder(config, part)
  network = build.build_network(config)

  def encode(variables, images):
    statistics = build.channel_statistics(config.data, images.shape)
    x = views.normalise(images.astype(jnp.float32) / 255, *statistics)
    if part == "network":
      outputs: Any = network.apply(variables, x, train=False)
      return outputs._asdict()
    own = {name: tree["encoder"] for name, tree in variables.items()}
    return network.encoder.apply(own, x, train=False)

  return encode


def _tower_encoder(config, part) -> Encode:
  network = pair_network.build_pair_network(config)
  tower = pair_network.reading_config(config).towers[part]

  def encode(variables, inputs):
    reading = tower_network.build_reading(tower, config.data, inputs.shape[1:])
    if config.method == "towers":
      variables = {name: {part: tree} for name, tree in variables.items()}
    made = network.embed(variables, part, reading.prepare(inputs))
    return {name: rows for name, rows in made._asdict().items() if rows is not None}

  return encode


def export_program(encode: Encode, variables: Any, inputs: np.ndarray) -> bytes:
  """Lowers an encoder for every platform, with a batch of any size.

  Args:
    encode: of `part_encoder`.
    variables: its variables, built into the program as constants.
    inputs: [n, ...] of the type and shape that it takes.

  Raises:
    UserError: the variables are too large to be built in.
  """
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(variables))
  if size > _MOST_BYTES:
    raise errors.UserError(
      f"the parameters take {size / 1e9:.1f} GB, and a StableHLO file holds at most "
      f"{_MOST_BYTES / 1e9:.1f} GB; export --format=safetensors"
    )
  (n,) = jax.export.symbolic_shape("n")
  taken = jax.ShapeDtypeStruct((n, *inputs.shape[1:]), inputs.dtype)
  # As a closure, the variables become constants of the program.
  program = jax.jit(lambda inputs: encode(variables, inputs))
  exported = jax.export.export(program, platforms=PLATFORMS)(taken)
  return bytes(exported.serialize())


def save_program(path: pathlib.Path, content: bytes) -> None:
  """Writes a serialised program, then its digest beside it."""
  files.write(path, content, "--out")
  line = f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"
  files.write(digest_path(path), line.encode(), "--out")


def load_program(path: str | pathlib.Path) -> Any:
  """Reads a program of `save_program` and checks its digest.

  Returns:
    A `jax.export.Exported`; call it by `.call(inputs)`.

  Raises:
    UserError: a file is missing or damaged, or of a version that this jax cannot read.
  """
  path = pathlib.Path(path)
  try:
    content = path.read_bytes()
    digest = digest_path(path).read_bytes().split()[:1]
  except OSError as error:
    raise errors.UserError(
      f"cannot read {error.filename} ({error.strerror}); a program and its .sha256 "
      "belong together"
    ) from error
  if digest != [hashlib.sha256(content).hexdigest().encode()]:
    raise errors.UserError(
      f"{path} is damaged: its content does not match {digest_path(path).name}; "
      "export the run again"
    )
  try:
    return jax.export.deserialize(bytearray(content))
  # The file is what was written; another version of its form raises anything.
  except Exception as error:
    raise errors.UserError(
      f"{path} is of a version that jax {jax.__version__} cannot read; export the run "
      "again, from its folder or its safetensors"
    ) from error


def digest_path(path: pathlib.Path) -> pathlib.Path:
  """Where the digest of a program lies."""
  return path.with_name(path.name + ".sha256")
