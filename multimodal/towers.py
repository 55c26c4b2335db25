"""Towers: an encoder for each modality, and heads into one shared space.

Any number of towers, of any modality: a tower is an encoder with a linear head to the
shared space and, for deep feature separation, a second one to a space of its own. The
towers of a model are applied each by itself, so their variables lie side by side:
{"params": {tower: ...}, "batch_stats": {tower: ...}}.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

import contrastive

FROZEN = ("", "encoder", "tower")


class Embeddings(NamedTuple):
  """What a tower makes of n inputs.

  Attributes:
    features: [n, f] the encoder's.
    shared: [n, d] unit rows in the space that all towers share.
    specific: [n, d] unit rows in the tower's own space, or None without such a head.
  """

  features: jax.Array
  shared: jax.Array
  specific: jax.Array | None


class Tower(nn.Module):
  """An encoder with a head to the shared space, and perhaps one to its own.

  Heads are linear, without bias, drawn with deviation f^-1/2 (Radford et al. 2021).

  Attributes:
    encoder: a module `(inputs, train) -> [n, f]`.
    width: of the shared space, and of the specific one.
    specific: whether there is a specific head.
    frozen: "" (all of it learns), "encoder" (the heads learn), or "tower" (nothing
      does). What is frozen runs in evaluation mode and passes no gradient on.
  """

  encoder: nn.Module
  width: int = 256
  specific: bool = False
  frozen: str = ""

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> Embeddings:
    """Embeds inputs [n, ...]: images, token ids or vectors, as the encoder takes them.

    Raises:
      ValueError: an unknown value of `frozen`.
    """
    if self.frozen not in FROZEN:
      raise ValueError(
        f"a tower is frozen '' (not), 'encoder' or 'tower', not '{self.frozen}'"
      )
    features = self.encoder(inputs, train=train and not self.frozen)
    features = features.astype(jnp.float32)
    if self.frozen:
      features = jax.lax.stop_gradient(features)
    shared = self._head("shared", features)
    specific = self._head("specific", features) if self.specific else None
    return Embeddings(features, shared, specific)

  def _head(self, name: str, features: jax.Array) -> jax.Array:
    draw = nn.initializers.normal(features.shape[-1] ** -0.5)
    head = nn.Dense(self.width, use_bias=False, kernel_init=draw, name=name)
    rows = contrastive.unit(head(features))
    return jax.lax.stop_gradient(rows) if self.frozen == "tower" else rows


@dataclasses.dataclass(frozen=True)
class Towers:
  """Towers by name, whose shared spaces are one.

  Attributes:
    towers: two or more, of equal width.

  Raises:
    ValueError: fewer than two, or of different widths.
  """

  towers: Mapping[str, Tower]

  def __post_init__(self):
    widths = {name: tower.width for name, tower in self.towers.items()}
    if len(widths) < 2:
      raise ValueError(f"a model needs two or more towers, not {list(widths)}")
    if len(set(widths.values())) > 1:
      listed = ", ".join(f"{name} {width}" for name, width in widths.items())
      raise ValueError(f"towers share one space, but their widths are {listed}")

  @property
  def projection_width(self) -> int:
    """Width of the shared space."""
    return next(iter(self.towers.values())).width

  def init(
    self, key: jax.Array, sample: Mapping[str, Any], /, *, train: bool = False
  ) -> dict[str, Any]:
    """Variables {"params": {tower: ...}, "batch_stats": {tower: ...}}.

    A tower's values depend on the key and on its name, not on the other towers.

    Args:
      key: typed PRNG key.
      sample: inputs of a few examples, by tower.
      train: as for flax modules; the values are the same.
    """
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, tower in self.towers.items():
      own = jax.random.fold_in(key, zlib.crc32(name.encode()))
      for kind, tree in tower.init(own, sample[name], train=train).items():
        variables[kind][name] = tree
    return variables

  def forward(
    self, variables: Mapping[str, Any], inputs: Mapping[str, Any]
  ) -> tuple[dict[str, Embeddings], dict[str, Any]]:
    """Embeddings in training mode by tower, and the updated batch statistics."""
    made, stats = {}, {}
    for name, tower in self.towers.items():
      applied: Any = tower.apply(
        _of(variables, name), inputs[name], train=True, mutable="batch_stats"
      )
      made[name], changed = applied
      if changed:
        stats[name] = changed["batch_stats"]
    return made, stats

  def embed(
    self, variables: Mapping[str, Any], name: str, inputs: jax.Array
  ) -> Embeddings:
    """Embeddings of one tower in evaluation mode."""
    made: Any = self.towers[name].apply(_of(variables, name), inputs, train=False)
    return made

  def frozen(self, params: Mapping[str, Any]) -> dict[str, Any]:
    """Tree of booleans like `params` by tower: True for what training leaves alone."""

    def mark(name, tree):
      frozen = self.towers[name].frozen
      parts = {"": (), "encoder": ("encoder",), "tower": tuple(tree)}[frozen]
      return {
        part: jax.tree.map(lambda leaf, part=part: part in parts, leaves)
        for part, leaves in tree.items()
      }

    return {name: mark(name, tree) for name, tree in params.items()}


def _of(variables: Mapping[str, Any], name: str) -> dict[str, Any]:
  return {kind: trees[name] for kind, trees in variables.items() if name in trees}
