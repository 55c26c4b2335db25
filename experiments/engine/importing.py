"""Weights of a file put into a network: our own exports and CLIP's image towers.

A name or a shape that does not fit is an error that lists what was expected; nothing in
the file's part of the network is left as it was drawn.
"""

import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from experiments.engine import errors
from experiments.engine.exporting import weights

_SHOWN = 8
_HEADS = ("shared", "specific")


class _Layout(NamedTuple):
  """How a library names CLIP's image tower.

  Attributes:
    mark: a name that only this layout has.
    prefixes: of all names of the tower; the first that `mark` is found under holds.
    layers: what the names of a layer have before its number.
    modules: module in the file -> (module of ours, kind); those of a layer without
      its number.
    arrays: the same for arrays that are no part of a module.
    ignored: names that have no place in ours.
  """

  mark: str
  prefixes: tuple[str, ...]
  layers: str
  modules: dict[str, tuple[str, str]]
  arrays: dict[str, str]
  ignored: tuple[str, ...]


_ATTENTION = "blocks/MultiHeadDotProductAttention_0"

_OPEN_CLIP = _Layout(
  mark="conv1.weight",
  prefixes=("visual.",),
  layers="transformer.resblocks.",
  modules={
    "conv1": ("patches", "conv"),
    "ln_pre": ("input_norm", "norm"),
    "ln_post": ("norm", "norm"),
    "ln_1": ("blocks/LayerNorm_0", "norm"),
    "ln_2": ("blocks/LayerNorm_1", "norm"),
    "attn.query": (f"{_ATTENTION}/query", "to heads"),
    "attn.key": (f"{_ATTENTION}/key", "to heads"),
    "attn.value": (f"{_ATTENTION}/value", "to heads"),
    "attn.out_proj": (f"{_ATTENTION}/out", "from heads"),
    "mlp.c_fc": ("blocks/Dense_0", "dense"),
    "mlp.c_proj": ("blocks/Dense_1", "dense"),
  },
  arrays={"class_embedding": "class", "positional_embedding": "positions"},
  ignored=("proj",),
)

# The file of a tower alone has no prefix (transformers 5).
_HUGGING_FACE = _Layout(
  mark="embeddings.patch_embedding.weight",
  prefixes=("vision_model.", ""),
  layers="encoder.layers.",
  modules={
    "embeddings.patch_embedding": ("patches", "conv"),
    "pre_layrnorm": ("input_norm", "norm"),  # as it is spelt there
    "post_layernorm": ("norm", "norm"),
    "layer_norm1": ("blocks/LayerNorm_0", "norm"),
    "layer_norm2": ("blocks/LayerNorm_1", "norm"),
    "self_attn.q_proj": (f"{_ATTENTION}/query", "to heads"),
    "self_attn.k_proj": (f"{_ATTENTION}/key", "to heads"),
    "self_attn.v_proj": (f"{_ATTENTION}/value", "to heads"),
    "self_attn.out_proj": (f"{_ATTENTION}/out", "from heads"),
    "mlp.fc1": ("blocks/Dense_0", "dense"),
    "mlp.fc2": ("blocks/Dense_1", "dense"),
  },
  arrays={
    "embeddings.class_embedding": "class",
    "embeddings.position_embedding.weight": "positions",
  },
  ignored=("embeddings.position_ids",),
)


class _Found(NamedTuple):
  """An array of a file in our layout, and what the file calls it."""

  source: str
  value: np.ndarray


def init_from(
  params: Mapping[str, Any], stats: Mapping[str, Any], path: str | pathlib.Path
) -> tuple[dict, dict]:
  """The variables of a network with the values of a safetensors file.

  Files are told apart by their names: those of `experiments.export` (part encoder,
  network or a tower; the digest is checked), and CLIP image towers under the names of
  open_clip (`visual.conv1.weight`) or Hugging Face (`vision_model.embeddings...`),
  alone or with a text tower, which is passed over. A tower's projection is left out:
  features are its input, as in the linear probes of Radford et al. (2021).

  Args:
    params: parameters of the network, {"encoder": ..., "projector": ...}.
    stats: its batch statistics, {} if it has none.
    path: of the file.

  Returns:
    `(params, stats)`, new trees with the shapes and types of the old. What belongs to
    other parts than the file's keeps its value.

  Raises:
    UserError: no such file, damaged, of an unknown kind, or of another network.
  """
  target = traverse_util.flatten_dict(
    {"params": dict(params), "batch_stats": dict(stats)}, sep="/"
  )
  tensors = weights.read_tensors(path)
  if any(name.startswith("params/") for name in tensors):
    variables, _ = weights.load_weights(path)  # checks the digest
    flat = traverse_util.flatten_dict(variables, sep="/")
    found = {name: _Found(name, value) for name, value in flat.items()}
  else:
    found = _read_tower(path, tensors, target)
  # Heads of a tower have no place in a network of images alone.
  parts = {_part(name) for name in target}
  found = {
    n: f for n, f in found.items() if _part(n) in parts or _part(n) not in _HEADS
  }
  filled = {_part(name) for name in found}
  new = _put(path, target, found, [n for n in target if _part(n) in filled])
  tree = traverse_util.unflatten_dict(new, sep="/")
  return tree["params"], tree.get("batch_stats", {})


def _part(name: str) -> str:
  return name.split("/")[1]


def _put(path, target: dict, found: dict[str, _Found], wanted: Iterable[str]) -> dict:
  """The target with the values found; refuses unless exactly `wanted` are found."""
  misfits = [
    f"{source} has no place in the network"
    for name, (source, _) in found.items()
    if name not in target
  ]
  new = dict(target)
  for name in wanted:
    shape = tuple(target[name].shape)
    if name not in found:
      misfits.append(f"{name} {shape} is not in the file")
    elif found[name].value.shape != shape:
      source, value = found[name]
      misfits.append(f"{name} is {shape}, but {source} gives {value.shape}")
    else:
      new[name] = jnp.asarray(found[name].value, target[name].dtype)
  if misfits:
    raise _misfit(path, misfits)
  return new


def _misfit(path, misfits: list[str]) -> errors.UserError:
  more = len(misfits) - _SHOWN
  listed = misfits[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
  return errors.UserError(
    f"{path} does not fit the network; choose the encoder, its options and "
    "data.image_size that the file was made with:\n" + "\n".join(listed)
  )


def _read_tower(path, tensors: dict, target: dict) -> dict[str, _Found]:
  """A CLIP image tower under our names, in our layout."""
  layout, prefix = _layout_of(path, tensors)
  bias = f"params/encoder/{_ATTENTION}/query/bias"
  if bias not in target:
    raise errors.UserError(
      f"{path} holds a CLIP image tower, which needs a vision transformer; choose "
      "encoder.name=clip_vit_b32, clip_vit_b16 or clip_vit_l14"
    )
  own = {
    name.removeprefix(prefix): value
    for name, value in tensors.items()
    if name.startswith(prefix) and name.removeprefix(prefix) not in layout.ignored
  }
  found = {}
  for name, (source, value) in _stack_layers(path, own, layout).items():
    ours, value = _convert(layout, name, value, heads=target[bias].shape[1])
    found[f"params/encoder/{ours}"] = _Found(prefix + source, value)
  # CLIP's patches have no bias, ours have.
  kernel = found["params/encoder/patches/kernel"]
  zeros = np.zeros(kernel.value.shape[-1:], np.float32)
  found.setdefault("params/encoder/patches/bias", _Found(kernel.source, zeros))
  return found


def _layout_of(path, tensors: dict) -> tuple[_Layout, str]:
  for layout in (_OPEN_CLIP, _HUGGING_FACE):
    for prefix in layout.prefixes:
      if prefix + layout.mark in tensors:
        return layout, prefix
  raise errors.UserError(
    f"{path} is neither of experiments.export nor a CLIP image tower in the naming of "
    f"open_clip or Hugging Face; its names are {', '.join(sorted(tensors)[:3])}, ..."
  )


def _stack_layers(path, own: dict, layout: _Layout) -> dict[str, _Found]:
  """Arrays of layers, under their name in a layer, stacked; the others as they are."""
  stacked: dict[str, _Found] = {}
  layers: dict[str, dict[int, np.ndarray]] = {}
  for name, value in own.items():
    if match := re.fullmatch(rf"{re.escape(layout.layers)}(\d+)\.(.+)", name):
      for part, array in _split_attention(match[2], value):
        layers.setdefault(part, {})[int(match[1])] = array
    else:
      stacked[name] = _Found(name, value)
  for name, arrays in layers.items():
    if sorted(arrays) != list(range(len(arrays))):
      raise errors.UserError(f"{path} lacks '{name}' in some of its layers")
    if len({array.shape for array in arrays.values()}) > 1:
      raise errors.UserError(f"{path} has '{name}' of different shapes in its layers")
    whole = np.stack([arrays[i] for i in range(len(arrays))])
    stacked[name] = _Found(f"{layout.layers}*.{name}", whole)
  return stacked


def _split_attention(name: str, value: np.ndarray) -> list[tuple[str, np.ndarray]]:
  """Torch keeps the projections of queries, keys and values in one array."""
  for leaf in ("weight", "bias"):
    if name == f"attn.in_proj_{leaf}" and len(value) % 3 == 0:
      names = [f"attn.{part}.{leaf}" for part in ("query", "key", "value")]
      return list(zip(names, np.split(value, 3), strict=True))
  return [(name, value)]


def _convert(
  layout: _Layout, name: str, value: np.ndarray, *, heads: int
) -> tuple[str, np.ndarray]:
  """Our name below the encoder, and the array in our layout.

  An array of another rank, or that heads do not divide, stays as it is, so that its
  shape is reported.
  """
  if name in layout.arrays:
    ours = layout.arrays[name]
    return ours, value.reshape(1, 1, -1) if ours == "class" else value
  module, _, leaf = name.rpartition(".")
  if module not in layout.modules or leaf not in ("weight", "bias"):
    return f"unknown/{name}", value
  ours, kind = layout.modules[module]
  if leaf == "bias":
    return f"{ours}/bias", _split(value, 1, heads) if kind == "to heads" else value
  if kind == "norm":
    return f"{ours}/scale", value
  if kind == "conv" and value.ndim == 4:
    value = value.transpose(2, 3, 1, 0)
  elif kind != "conv" and value.ndim == 3:
    value = value.transpose(0, 2, 1)  # torch's is [layer, out, in]
    axis = {"to heads": 2, "from heads": 1}.get(kind)
    value = value if axis is None else _split(value, axis, heads)
  return f"{ours}/kernel", value


def _split(value: np.ndarray, axis: int, heads: int) -> np.ndarray:
  """Divides an axis into heads and their width."""
  if value.ndim <= axis or value.shape[axis] % heads:
    return value
  return value.reshape(*value.shape[:axis], heads, -1, *value.shape[axis + 1 :])
