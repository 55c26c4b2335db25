"""The gradient of a loss over the whole batch, with the encoder seeing it in parts.

The average of the losses of small batches is another objective: each anchor would see
the negatives of its part only. Here all parts are embedded first, the loss and its
gradient are taken once over all embeddings (what layers above them the loss has, it
computes then, for the whole batch), and each part is embedded again to carry its share
of that gradient to the parameters (Gao et al. 2021, Scaling Deep Contrastive
Learning Batch Size under Memory Limited Setup). It costs one forward pass more; the
memory is that of one part and of the embeddings. Augmentations are functions of (key,
example), so the second pass sees the very same views.

BatchNorm normalises over a part, as it would on a smaller batch: with it the result is
the exact gradient of the network so normalised, not that of one pass over the batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Parts(NamedTuple):
  """A batch in `steps` parts of equal size, each taken evenly from the devices."""

  steps: int = 1
  devices: int = 1

  def cut(self, tree: Any) -> Any:
    """Leaves [n, ...] -> [steps, n / steps, ...]; no row leaves its device."""
    return jax.tree.map(self._cut, tree)

  def join(self, tree: Any) -> Any:
    """The inverse of `cut`."""
    return jax.tree.map(self._join, tree)

  def _cut(self, x):
    x = x.reshape(self.devices, self.steps, -1, *x.shape[1:])
    return x.swapaxes(0, 1).reshape(self.steps, -1, *x.shape[3:])

  def _join(self, x):
    x = x.reshape(self.steps, self.devices, -1, *x.shape[2:])
    return x.swapaxes(0, 1).reshape(-1, *x.shape[3:])


WHOLE = Parts()


def value_and_grad(
  embed: Callable[[Any, Any, Any], tuple[Any, Any]],
  judge: Callable[[Any, Any], tuple[jax.Array, Any]],
  params: dict[str, Any],
  stats: Any,
  batch: Any,
  parts: Parts,
) -> tuple[jax.Array, Any, Any, dict[str, Any]]:
  """Loss over the whole batch and its gradient.

  Args:
    embed: (network params, statistics, batch or part) -> (embeddings, statistics).
    judge: (params, embeddings of the whole batch) -> (loss, auxiliary).
    params: {"network", "objective"}.
    stats: running statistics before the batch.
    batch: leaves [n, ...].
    parts: how the batch is cut.

  Returns:
    The loss, its auxiliary output, the statistics after the batch, and the gradients
    of `params`.
  """
  if parts.steps == 1:

    def loss_fn(params):
      embedded, after = embed(params["network"], stats, batch)
      loss, aux = judge(params, embedded)
      return loss, (aux, after)

    (loss, (aux, after)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    return loss, aux, after, grads

  pieces = parts.cut(batch)

  def look(stats, piece):
    embedded, stats = embed(params["network"], stats, piece)
    return stats, embedded

  after, embedded = jax.lax.scan(look, stats, pieces)
  floats, merge = _part(parts.join(embedded))
  judged = jax.value_and_grad(
    lambda params, floats: judge(params, merge(floats)), argnums=(0, 1), has_aux=True
  )
  (loss, aux), (direct, d_embedded) = judged(params, floats)

  def pull(total, piece):
    piece, cotangent = piece
    # In training mode the embeddings do not depend on the running statistics.
    again = lambda network: _part(embed(network, stats, piece)[0])[0]
    _, vjp = jax.vjp(again, params["network"])
    return jax.tree.map(jnp.add, total, vjp(cotangent)[0]), None

  shares = parts.cut(d_embedded)
  d_network, _ = jax.lax.scan(pull, direct["network"], (pieces, shares))
  return loss, aux, after, {**direct, "network": d_network}


def _part(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
  """The leaves that have a gradient, and how they go back between the others."""
  leaves, form = jax.tree.flatten(tree)
  smooth = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]

  def merge(floats):
    given = iter(floats)
    pairs = zip(leaves, smooth, strict=True)
    return jax.tree.unflatten(form, [next(given) if s else x for x, s in pairs])

  return [leaf for leaf, s in zip(leaves, smooth, strict=True) if s], merge
