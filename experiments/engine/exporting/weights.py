"""Parameters as a safetensors file whose every byte is under a digest.

Names are paths, such as `params/encoder/Conv_0/kernel`. The metadata are strings; one
of them, `sha256`, is the digest of the whole file as it is with 64 zeros in its place.
"""

import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from experiments.engine import errors, files

_ZEROS = b'"sha256":"' + b"0" * 64 + b'"'
_TYPES: dict[str, Any] = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": jnp.bfloat16,
  "I64": np.int64,
  "I32": np.int32,
  "U32": np.uint32,
  "U8": np.uint8,
  "BOOL": np.bool_,
}
_DIGEST = re.compile(rb'"sha256":"([0-9a-f]{64})"')


def save_weights(
  path: str | pathlib.Path, tree: Mapping[str, Any], metadata: Mapping[str, str]
) -> None:
  """Writes a nested dict of arrays; a stopped write leaves no file of this name.

  The same content gives the same bytes.

  Args:
    path: of the file, which is replaced if it exists.
    tree: nested dict of arrays of any layout; names without "/".
    metadata: strings by name; "sha256" is added.

  Raises:
    ValueError: the metadata hold a "sha256".
    UserError: the file cannot be written.
  """
  import safetensors.numpy

  if "sha256" in metadata:
    raise ValueError("the metadata 'sha256' is the file's own; choose another name")
  flat = traverse_util.flatten_dict(dict(tree), sep="/")
  # safetensors writes the memory of an array as it lies, whatever its strides.
  arrays = {name: np.asarray(leaf, order="C") for name, leaf in flat.items()}
  content = _with_digest(safetensors.numpy.save(arrays), metadata)
  files.write(pathlib.Path(path), content, "--out")


def load_weights(path: str | pathlib.Path) -> tuple[dict, dict[str, str]]:
  """Reads a file of `save_weights` and checks its digest.

  Returns:
    The nested dict of NumPy arrays, and the metadata without the digest.

  Raises:
    UserError: no such file, not a file of ours, or one that differs by as much as a
      bit from what was written.
  """
  content = _read(pathlib.Path(path))
  header = content[: _header_end(content)]
  found = _DIGEST.findall(header)
  if len(found) != 1:
    raise errors.UserError(
      f"{path} has no digest: it is damaged, or not a file of experiments.export"
    )
  whole = _DIGEST.sub(_ZEROS, header) + content[len(header) :]
  if hashlib.sha256(whole).hexdigest() != found[0].decode():
    raise errors.UserError(
      f"{path} is damaged: its content does not match its digest; export the run again"
    )
  flat, metadata = _parse(path, content)
  del metadata["sha256"]
  return traverse_util.unflatten_dict(flat, sep="/"), metadata


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Arrays by name of any safetensors file, whoever wrote it; checks no digest.

  Raises:
    UserError: no such file, or not a whole safetensors file.
  """
  return _parse(path, _read(pathlib.Path(path)))[0]


def _with_digest(content: bytes, metadata: Mapping[str, str]) -> bytes:
  """The file with its metadata in a fixed order (the library's is random)."""
  end = _header_end(content)
  header = json.loads(content[8:end])
  strings = dict(sorted({**metadata, "sha256": "0" * 64}.items()))
  text = json.dumps({"__metadata__": strings, **header}, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
  body = len(text).to_bytes(8, "little") + text + content[end:]
  digest = hashlib.sha256(body).hexdigest().encode()
  return body.replace(_ZEROS, _ZEROS.replace(b"0" * 64, digest), 1)


def _header_end(content: bytes) -> int:
  return min(8 + int.from_bytes(content[:8], "little"), len(content))


def _read(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise errors.UserError(
      f"cannot read {path} ({error.strerror}); give the path of a .safetensors file"
    ) from error


def _parse(path, content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  import safetensors

  try:
    # Not safetensors.numpy.load, which knows no bfloat16.
    arrays = {
      name: np.frombuffer(found["data"], _TYPES[found["dtype"]]).reshape(found["shape"])
      for name, found in safetensors.deserialize(content)
    }
  except safetensors.SafetensorError as error:
    raise errors.UserError(
      f"{path} is not a whole safetensors file ({' '.join(str(error).split())[:120]})"
    ) from error
  except KeyError as error:
    raise errors.UserError(
      f"{path} holds numbers of type {error}; known: {', '.join(_TYPES)}"
    ) from error
  header = json.loads(content[8 : _header_end(content)])
  return arrays, dict(header.get("__metadata__", {}))
