"""Layers with a memory and the head of tokens, in NumPy and float64, head by head."""

import jax
import numpy as np
import scipy.special


def norm(x, weights):
  centred = x - x.mean(-1, keepdims=True)
  scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
  return scaled * weights["scale"] + weights["bias"]


def dense(x, weights):
  return x @ weights["kernel"] + weights["bias"]


def gelu(x):
  return x * scipy.special.ndtr(x)


def attend(y, memory, weights, heads, causal=False):
  """Head by head; the output, and weights [heads, t, s]."""
  added, kept = 0, []
  for head in range(heads):
    query, key, value = (
      x @ weights[name]["kernel"][:, head] + weights[name]["bias"][head]
      for x, name in ((y, "query"), (memory, "key"), (memory, "value"))
    )
    logits = query @ key.T / np.sqrt(query.shape[-1])
    if causal:
      logits[np.triu_indices(len(y), 1)] = -np.inf
    kept.append(scipy.special.softmax(logits, axis=-1))
    added = added + kept[-1] @ value @ weights["out"]["kernel"][head]
  return added + weights["out"]["bias"], np.stack(kept)


def layers(params, x, memory, heads, causal=False):
  """Cross layers on one text [t, d] in float64; states and weights [depth, h, t, s]."""
  p, kept = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params), []
  for layer in range(len(p["blocks"]["Dense_0"]["bias"])):
    block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], p["blocks"])
    y = norm(x, block["LayerNorm_0"])
    own = block["MultiHeadDotProductAttention_0"]
    x = x + attend(y, y, own, heads, causal)[0]
    y = norm(x, block["cross_norm"])
    seen, weights = attend(y, memory, block["cross_attention"], heads)
    x, kept = x + seen, [*kept, weights]
    y = norm(x, block["LayerNorm_1"])
    x = x + dense(gelu(dense(y, block["Dense_0"])), block["Dense_1"])
  return norm(x, p["norm"]), np.stack(kept)


def words(head, embedding, states):
  """Logits [t, v] of BERT's head of tokens, on states [t, d]."""
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), head)
  y = norm(gelu(dense(states, p["dense"])), p["norm"])
  return y @ np.asarray(embedding, np.float64).T + p["bias"]
