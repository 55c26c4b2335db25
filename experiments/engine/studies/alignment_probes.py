"""The two probes of the alignment study, and what their logits are worth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.engine.evaluation import probing, tables


def linear_scores(
  train: tables.Table, test: tables.Table, inverse_penalty: float
) -> np.ndarray:
  """Test logits [m, k] of softmax regression with one fixed C, on standard features."""
  probe = probing.fit_probe(train, grid=(inverse_penalty,))
  return probe.scores(test.features)


def mlp_scores(
  train: tables.Table, test: tables.Table, hidden: int, steps: int
) -> np.ndarray:
  """Test logits [m, k] of a network with one hidden layer, on standard features."""
  standardise = tables.standardiser(train.features)
  classes = int(train.labels.max()) + 1
  queries = standardise(test.features)
  known = standardise(train.features), train.labels
  sizes = dict(classes=classes, hidden=hidden, steps=steps)
  return np.asarray(_fit_mlp(*known, queries, **sizes))


@functools.partial(jax.jit, static_argnames=("classes", "hidden", "steps"))
def _fit_mlp(features, labels, queries, *, classes, hidden, steps):
  """Logits [m, classes]; AdamW in batches of 256, one recipe for all."""
  n, d = features.shape
  key = jax.random.key(0)
  first, second = jax.random.split(jax.random.fold_in(key, 1))
  params = {
    "first": d**-0.5 * jax.random.normal(first, (d, hidden)),
    "bias": jnp.zeros(hidden),
    "second": hidden**-0.5 * jax.random.normal(second, (hidden, classes)),
    "level": jnp.zeros(classes),
  }
  optimizer = optax.adamw(optax.cosine_decay_schedule(5e-3, steps), weight_decay=1e-2)

  def logits(params, x):
    inner = jax.nn.gelu(x @ params["first"] + params["bias"][None, :])
    return inner @ params["second"] + params["level"][None, :]

  def loss(params, x, y):
    scores = logits(params, x)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, y))

  def step(state, number):
    params, moments = state
    rows = jax.random.randint(jax.random.fold_in(key, number + 2), (256,), 0, n)
    gradient = jax.grad(loss)(params, features[rows], labels[rows])
    update, moments = optimizer.update(gradient, moments, params)
    return (optax.apply_updates(params, update), moments), None

  state = (params, optimizer.init(params))
  (params, _), _ = jax.lax.scan(step, state, jnp.arange(steps))
  return logits(params, queries)


def quality(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
  """Accuracy and mean cross entropy in nats of logits [n, k]."""
  logits = np.asarray(logits, np.float64)
  top = logits.max(axis=1, keepdims=True)
  log_sum = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
  nats = log_sum - logits[np.arange(len(labels)), labels]
  return float(np.mean(logits.argmax(axis=1) == labels)), float(nats.mean())
