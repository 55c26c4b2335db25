"""A digest of every array of a state: Orbax restores flipped bits without a word.

The digest is a function of the array's bits and their places, computed where the array
lies, in any layout: shards are added up, so a state that is divided over devices or
processes has the digest of the same state on one device.
"""

from typing import Any

import jax
import jax.numpy as jnp

_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def of_tree(tree: Any) -> dict[str, str]:
  """Path of each leaf -> "dtype[shape] digest", as text.

  Args:
    tree: arrays, of elements of at most 4 bytes.
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  values = jax.device_get([_digest(leaf) for _, leaf in leaves])
  return {
    name(path): f"{form(leaf)} {int(high):08x}{int(low):08x}"
    for (path, leaf), (high, low) in zip(leaves, values, strict=True)
  }


def forms(tree: Any) -> dict[str, str]:
  """Path of each leaf -> "dtype[shape]"; of arrays or of abstract ones."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {name(path): form(leaf) for path, leaf in leaves}


def form(leaf: Any) -> str:
  """Type and shape of a leaf."""
  return f"{leaf.dtype}{list(leaf.shape)}".replace(" ", "")


def name(path: Any) -> str:
  """Readable path of a leaf, such as params/network/encoder/kernel."""
  return jax.tree_util.keystr(path, simple=True, separator="/")


# One program a shape: parameters, their moments and copies share it. One of all leaves
# of a state of 312 takes ten times as long to compile on a CPU.
@jax.jit
def _digest(leaf):
  return _sum(leaf, 0x9E3779B9), _sum(leaf, 0x85EBCA6B)


def _sum(x, salt):
  """Sum of mixed words modulo 2^32; a change of one word always changes it."""
  if x.dtype == jnp.bool_:
    x = x.astype(jnp.uint8)
  if x.dtype.itemsize > 4:
    raise ValueError(f"a digest of {x.dtype} is not defined; save at most 4 bytes.")
  bits = jax.lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize])
  words = bits.reshape(-1).astype(jnp.uint32)
  place = jnp.arange(words.size, dtype=jnp.uint32) * jnp.uint32(salt)
  return jnp.sum(_mix(words ^ _mix(place + jnp.uint32(salt))), dtype=jnp.uint32)


def _mix(h):
  """A bijection of 32-bit words in which each bit moves all (Murmur3's finaliser)."""
  h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
  h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
  return h ^ (h >> 16)
