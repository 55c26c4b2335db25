"""Pre-norm transformer blocks as one scanned module, for images, text, and both.

The time to compile does not grow with the depth, and parameters carry a leading axis of
layers. Blocks that are called with a memory, tokens of something else, look at it too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from contrastive.encoders.activations import gelu, quick_gelu

# From tokens [n, t, width] to k of them for each row, [n, k, width].
Pick = Callable[[jax.Array], jax.Array]

ACTIVATIONS: dict[str, Any] = {"gelu": gelu, "quick_gelu": quick_gelu}


class Draws(NamedTuple):
  """Initialisers of a block's kernels; its biases start at zero.

  Attributes:
    attention: of the projections to queries, keys and values.
    attention_out: of the projection from the heads.
    hidden: of the perceptron's first layer.
    out: of its second.
  """

  attention: nn.initializers.Initializer
  attention_out: nn.initializers.Initializer
  hidden: nn.initializers.Initializer
  out: nn.initializers.Initializer


_XAVIER = Draws(*[nn.initializers.xavier_uniform()] * 4)


class Block(nn.Module):
  """x + attention(norm(x)), then x + mlp(norm(x)); returns (x, None) for the scan.

  With a memory, x + attention(norm(x), memory) comes between. A block then has the
  parameters "cross_norm" and "cross_attention" beside those that it has without.

  Attributes:
    heads: attention heads.
    mlp_ratio: hidden width of the perceptron over width.
    activation: one of `ACTIVATIONS`.
    epsilon: of every LayerNorm.
    dtype: type of the computation.
    draws: initialisers.
    keep_attention: returns (x, weights of the memory's tokens) in place of (x, None).
  """

  heads: int
  mlp_ratio: float
  activation: str
  epsilon: float
  dtype: Any
  draws: Draws = _XAVIER
  keep_attention: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None,
    pick: Pick | None = None,
    memory: jax.Array | None = None,
    memory_mask: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """Maps tokens [n, t, width] to the same shape, or to those that are picked.

    Args:
      x: tokens.
      mask: booleans [n or 1, 1, t or 1, t], whether a token (third axis) may look at
        another (fourth); None if all may.
      pick: of the tokens, those in each row that alone are wanted, [n, k, width].
      memory: tokens [n, s, any width] to look at as well.
      memory_mask: booleans [n, 1, 1, s], whether a token of the memory may be looked
        at; None if all may. A row without any takes the output's bias only.

    Returns:
      tokens, and None or weights [n, heads, t (or k), s], which sum to 1 over s.
    """
    width, act = x.shape[-1], ACTIVATIONS[self.activation]
    draws = self.draws
    y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)(x)
    query = y
    if pick is not None:
      if mask is not None:
        n, t, _ = x.shape
        mask = pick(jnp.broadcast_to(mask[:, 0], (n, t, t)))[:, None]
      x, query = pick(x), pick(y)
    x = x + nn.MultiHeadDotProductAttention(
      self.heads,
      dtype=self.dtype,
      kernel_init=draws.attention,
      out_kernel_init=draws.attention_out,
      force_fp32_for_softmax=True,
    )(query, y, mask=mask)
    weights = None
    if memory is not None:
      seen, weights = self._look_at(memory, memory_mask, x)
      x = x + seen
    y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype)(x)
    hidden = int(width * self.mlp_ratio)
    y = nn.Dense(hidden, dtype=self.dtype, kernel_init=draws.hidden)(y)
    y = nn.Dense(width, dtype=self.dtype, kernel_init=draws.out)(act(y))
    return x + y, weights if self.keep_attention else None

  def _look_at(
    self, memory: jax.Array, mask: jax.Array | None, x: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """What tokens [n, t, width] take from a memory, and with which weights."""
    kept = []

    def attend(query, key, value, mask):
      weights = nn.dot_product_attention_weights(
        query, key, mask=mask, dtype=self.dtype, force_fp32_for_softmax=True
      )
      if mask is not None:
        # Of nothing but masked tokens a softmax makes equal weights: they are to be 0.
        weights = jnp.where(mask, weights, 0)
      kept.append(weights)
      return jnp.einsum("nhts,nshd->nthd", weights, value)

    y = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="cross_norm")(x)
    seen = nn.MultiHeadDotProductAttention(
      self.heads,
      dtype=self.dtype,
      kernel_init=self.draws.attention,
      out_kernel_init=self.draws.attention_out,
      attention_fn=attend,
      name="cross_attention",
    )(y, memory, mask=mask)
    return seen, kept[0]


class _Stack(Protocol):
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None,
    /,
    pick: Pick | None = None,
    memory: jax.Array | None = None,
    memory_mask: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array | None]: ...


def block_stack(
  *, depth: int, remat: bool, unroll: int, name: str, **options
) -> _Stack:
  """Blocks as one scanned module, to be called on (tokens, mask) inside a module.

  A third argument, `pick`, makes k tokens of each row, [n, k, width]. Without a loop
  (`unroll` of `depth`) the last block then computes keys and values of all tokens, but
  query, output and perceptron of the picked ones: for one of them, a fourteenth of a
  ViT-Ti's arithmetic less, a fifth of a text transformer's of 4 blocks. A loop would
  have to copy the parameters of the other blocks for it.

  A fourth and a fifth, `memory` and `memory_mask`, are what every block looks at
  besides. With `keep_attention` the result is (tokens, weights [depth, n, heads, t, s])
  in place of (tokens, None); the last block then computes all tokens.

  Args:
    depth: number of blocks, the leading axis of their parameters.
    remat: recomputes each block in the backward pass.
    unroll: blocks in a turn of the loop.
    name: of the module.
    **options: the fields of `Block`.
  """
  scanned = nn.scan(
    nn.remat(Block, prevent_cse=False) if remat else Block,
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=nn.broadcast,
    length=depth,
    unroll=unroll,
  )
  blocks = scanned(**options, name=name)

  def apply(x, mask, /, pick=None, memory=None, memory_mask=None):
    if pick is None:
      return blocks(x, mask, None, memory, memory_mask)
    if unroll < depth or blocks.is_initializing() or blocks.keep_attention:
      x, weights = blocks(x, mask, None, memory, memory_mask)
      return pick(x), weights
    alone, layers = Block(**options, parent=None), blocks.variables["params"]

    def step(pick):
      run = lambda x, layer: alone.apply(
        {"params": layer}, x, mask, pick, memory, memory_mask
      )
      return jax.checkpoint(run) if remat else run

    earlier, last = (
      jax.tree.map(lambda leaf, part=part: leaf[part], layers)
      for part in (slice(depth - 1), depth - 1)
    )
    x, _ = jax.lax.scan(step(None), x, earlier, length=depth - 1, unroll=unroll)
    return step(pick)(x, last)

  return apply
