"""The gradient of a loss over the whole batch, with the encoder seeing it in parts.

The average of the losses of small batches is another objective: each anchor would see
the negatives of its part only. Here all parts are embedded first, the loss and its
gradient are taken once over all embeddings, and each part is embedded again to carry
its share of that gradient to the parameters (Gao et al. 2021, Scaling Deep Contrastive
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
    judge: (objective params, embeddings of the whole batch) -> (loss, auxiliary).
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
      loss, aux = judge(params["objective"], embedded)
      return loss, (aux, after)

    (loss, (aux, after)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    return loss, aux, after, grads

  pieces = parts.cut(batch)

  def look(stats, piece):
    embedded, stats = embed(params["network"], stats, piece)
    return stats, embedded

  after, embedded = jax.lax.scan(look, stats, pieces)
  judged = jax.value_and_grad(judge, argnums=(0, 1), has_aux=True)
  (loss, aux), (d_objective, d_embedded) = judged(
    params["objective"], parts.join(embedded)
  )

  def pull(total, piece):
    piece, cotangent = piece
    # In training mode the embeddings do not depend on the running statistics.
    again = lambda network: embed(network, stats, piece)[0]
    _, vjp = jax.vjp(again, params["network"])
    return jax.tree.map(jnp.add, total, vjp(cotangent)[0]), None

  zeros = jax.tree.map(jnp.zeros_like, params["network"])
  shares = parts.cut(d_embedded)
  d_network, _ = jax.lax.scan(pull, zeros, (pieces, shares))
  return loss, aux, after, {"network": d_network, "objective": d_objective}
