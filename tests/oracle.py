"""NumPy float64 oracles: every objective as the double loop of its formula.

Independent of the code under test: nothing is imported from it, nothing is vectorised
over pairs, and nothing guards against overflow (the arguments of the tests stay small).
Embeddings are rows as they are; `unit` scales them.
"""

import math

import numpy as np


def unit(x):
  x = np.asarray(x, np.float64)
  return np.stack([row / math.sqrt(sum(e * e for e in row)) for row in x])


def dot(x, y):
  return float(sum(a * b for a, b in zip(x, y, strict=True)))


def info_nce(query, key, scale):
  """Mean over both directions, one value per pair."""
  n = len(query)
  values = []
  for i in range(n):
    p = scale * dot(query[i], key[i])
    forward = sum(math.exp(scale * dot(query[i], key[j])) for j in range(n))
    back = sum(math.exp(scale * dot(key[i], query[j])) for j in range(n))
    values.append((math.log(forward) + math.log(back)) / 2 - p)
  return np.array(values)


def one_way(query, key, scale):
  """The first direction of InfoNCE alone."""
  n = len(query)
  return np.array(
    [
      math.log(sum(math.exp(scale * dot(query[i], key[j])) for j in range(n)))
      - scale * dot(query[i], key[i])
      for i in range(n)
    ]
  )


def _two_view(a, b, scale):
  """Logit of the positive and list of those of the 2n - 2 negatives, per anchor."""
  n = len(a)
  z = [*a, *b]
  for i in range(2 * n):
    partner = (i + n) % (2 * n)
    negative = [scale * dot(z[i], z[j]) for j in range(2 * n) if j not in (i, partner)]
    yield scale * dot(z[i], z[partner]), negative


def nt_xent(a, b, scale):
  return np.array(
    [
      -p + math.log(math.exp(p) + sum(math.exp(s) for s in negative))
      for p, negative in _two_view(a, b, scale)
    ]
  )


def decoupled(a, b, scale, sigma=None, frozen=None):
  """DCL; with sigma DCLW. `frozen` = (a, b) at which the weights are computed."""
  weights = [1.0] * (2 * len(a))
  if sigma is not None:
    factors = [
      math.exp(dot(x, y) / sigma) for x, y in zip(*(frozen or (a, b)), strict=True)
    ]
    weights = [2 - f / (sum(factors) / len(factors)) for f in factors] * 2
  return np.array(
    [
      -w * p + math.log(sum(math.exp(s) for s in negative))
      for w, (p, negative) in zip(weights, _two_view(a, b, scale), strict=True)
    ]
  )


def queue_nce(query, key, queue, scale):
  """MoCo: the own key against the queue's; rows of zeros are not there."""
  values = []
  for q, k in zip(query, key, strict=True):
    p = scale * dot(q, k)
    negative = [scale * dot(q, other) for other in queue if any(other)]
    values.append(-p + math.log(math.exp(p) + sum(math.exp(s) for s in negative)))
  return np.array(values)


def sup_con(z, labels, scale, where=None):
  n = len(z)
  there = [True] * n if where is None else list(where)
  values = []
  for i in range(n):
    others = [a for a in range(n) if a != i and there[a] and there[i]]
    positives = [a for a in others if labels[a] == labels[i]]
    total = sum(math.exp(scale * dot(z[i], z[a])) for a in others)
    terms = [scale * dot(z[i], z[p]) - math.log(total) for p in positives]
    values.append(-sum(terms) / len(terms) if terms else 0.0)
  return np.array(values)


def soft_nce(query, key, targets, scale):
  values = []
  for i in range(len(query)):
    logits = [scale * dot(query[i], k) for k in key]
    total = math.log(sum(math.exp(s) for s in logits))
    values.append(sum(t * (total - s) for t, s in zip(targets[i], logits, strict=True)))
  return np.array(values)


def pairwise_sigmoid(query, key, scale, bias):
  values = []
  for i in range(len(query)):
    value = 0.0
    for j in range(len(key)):
      z = 1 if i == j else -1
      logit = z * (scale * dot(query[i], key[j]) + bias)
      value -= math.log(1 / (1 + math.exp(-logit)))
    values.append(value)
  return np.array(values)


def log_normalizer(a, b, scale, coupled=None):
  """Log of each anchor's minibatch normaliser over SimCLR's pairing, [2n]."""
  values = []
  for p, negative in _two_view(a, b, scale):
    mean = sum(math.exp(s) for s in negative) / len(negative)
    values.append(math.log(mean if coupled is None else math.exp(p) + coupled * mean))
  return np.array(values)


def augmented(a, b, scale, log_norm, log_noise, coupled=None):
  """-p + log v + e s_hat / v - 1 with v and e as given."""
  estimates = log_normalizer(a, b, scale, coupled)
  values = []
  for i, (p, _) in enumerate(_two_view(a, b, scale)):
    weight = math.exp(log_noise[i] - log_norm[i])
    values.append(-p + log_norm[i] + weight * math.exp(estimates[i]) - 1)
  return np.array(values)


def _moments(column, ddof):
  mean = sum(column) / len(column)
  square = sum((x - mean) ** 2 for x in column)
  return mean, square / (len(column) - ddof)


def barlow_twins(a, b, off_diagonal, epsilon=1e-5):
  n, d = a.shape
  value = 0.0
  for i in range(d):
    mean_a, var_a = _moments(a[:, i], 0)
    for j in range(d):
      mean_b, var_b = _moments(b[:, j], 0)
      c = sum((a[r, i] - mean_a) * (b[r, j] - mean_b) for r in range(n)) / n
      c /= math.sqrt((var_a + epsilon) * (var_b + epsilon))
      value += (1 - c) ** 2 if i == j else off_diagonal * c * c
  return value


def vicreg_terms(a, b, epsilon=1e-4):
  """Invariance, variance, covariance before they are weighted."""
  n, d = a.shape
  invariance = sum((a[r, i] - b[r, i]) ** 2 for r in range(n) for i in range(d)) / n / d
  variance = covariance = 0.0
  for z in (a, b):
    for i in range(d):
      mean_i, var_i = _moments(z[:, i], 1)
      variance += max(0.0, 1 - math.sqrt(var_i + epsilon)) / d / 2
      for j in range(d):
        if i != j:
          mean_j = _moments(z[:, j], 1)[0]
          c = sum((z[r, i] - mean_i) * (z[r, j] - mean_j) for r in range(n)) / (n - 1)
          covariance += c * c / d
  return invariance, variance, covariance


def normalizer_run(rows, visits, smoothing, boost=False):
  """Running normalisers in linear space after visits of (indices, estimates).

  Args:
    rows: number of anchors.
    visits: per batch, a list of anchors and a list of their estimates s_hat (0: none).
    smoothing: visit number -> weight of the new estimate.
    boost: forget high leftovers at once.

  Returns:
    v [rows] (1 where never visited), counts [rows], and the level.
  """
  v, counts, level, updates = [1.0] * rows, [0] * rows, 0.0, 0
  for index, estimates in visits:
    logs = [math.log(s) for s in estimates if s > 0]
    if not logs:
      continue
    mean = sum(logs) / len(logs)
    level = mean if updates == 0 else 0.9 * level + 0.1 * mean
    updates += 1
    for i, s in zip(index, estimates, strict=True):
      if s == 0:
        continue
      counts[i] += 1
      g = 1.0 if counts[i] == 1 else smoothing(counts[i])
      if boost and counts[i] > 1 and g < 1:
        odds = g / (1 - g) * max(v[i] / math.exp(level), 1.0)
        g = odds / (1 + odds)
      v[i] = (1 - g) * v[i] + g * s
  return np.array(v), np.array(counts), level


def gradient(function, x, step=1e-5):
  """Central differences of a scalar function of a float64 array."""
  x = np.array(x, np.float64)
  result = np.zeros_like(x)
  for place in np.ndindex(x.shape):
    kept = x[place]
    x[place] = kept + step
    above = function(x)
    x[place] = kept - step
    below = function(x)
    x[place] = kept
    result[place] = (above - below) / (2 * step)
  return result
