"""Where the peers' conventions differ, and by what factor: the table as a test.

The peers' values were measured on 16 pairs of width 32 at temperature 0.2, drawn as
below, with their own code (lightly 1.6.0, solo-learn 1.0.2, pytorch-metric-learning
2.9.0, optax 0.2.8, open_clip 3.3.0). Relations are checked against formulas in NumPy.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from tests import oracle

TEMPERATURE = 0.2
SCALE = 1 / TEMPERATURE


def _raw():
  rng = np.random.default_rng(0)
  return rng.standard_normal((16, 32)), rng.standard_normal((16, 32))


def _units():
  return [oracle.unit(x).astype(np.float32) for x in _raw()]


def _cross_entropy(logits):
  """Mean of -log softmax of the diagonal."""
  return np.mean(np.log(np.exp(logits).sum(-1)) - np.diag(logits))


# Peer -> its value, and ours as a function of what `_ours` computes.
PEERS = {
  "lightly, solo-learn, pytorch-metric-learning, optax NT-Xent": (
    3.640605,
    lambda ours: ours["nt_xent"],
  ),
  "pytorch-metric-learning SupCon with one positive": (
    3.640605,
    lambda ours: ours["sup_con"],
  ),
  "google-research/simclr": (7.281211, lambda ours: 2 * ours["nt_xent"]),
  "open_clip ClipLoss": (3.012478, lambda ours: ours["info_nce"]),
  "open_clip SigLipLoss": (9.589516, lambda ours: ours["pairwise_sigmoid"]),
  "solo-learn MoCo v3": (1.209331, lambda ours: 2 * TEMPERATURE * ours["one_way"]),
  "lightly DCL": (3.604944, lambda ours: ours["decoupled"]),
  "lightly Barlow Twins": (31.7873, lambda ours: ours["barlow_twins"]),
  "solo-learn Barlow Twins": (0.794682, lambda ours: 0.025 * ours["barlow_twins"]),
  "lightly, pytorch-metric-learning VICReg": (51.16539, lambda ours: ours["vicreg"]),
  "solo-learn VICReg": (53.97208, lambda ours: ours["vicreg_double_variance"]),
}


@jax.jit
def _ours(raw_a, raw_b):
  a, b = contrastive.unit(raw_a), contrastive.unit(raw_b)
  pairs = jnp.tile(jnp.arange(16), 2)
  values = {
    "nt_xent": contrastive.nt_xent(a, b, scale=SCALE),
    "sup_con": contrastive.sup_con(jnp.concatenate([a, b]), pairs, scale=SCALE),
    "info_nce": contrastive.info_nce(a, b, scale=SCALE),
    "pairwise_sigmoid": contrastive.pairwise_sigmoid(a, b, scale=10.0, bias=-10.0),
    "one_way": contrastive.softmax_loss(contrastive.cross_rows(a, b, scale=SCALE)),
    "decoupled": contrastive.decoupled(a, b, scale=SCALE),
    "barlow_twins": contrastive.barlow_twins(raw_a, raw_b),
    "vicreg": contrastive.vicreg(raw_a, raw_b),
    "vicreg_double_variance": contrastive.vicreg(raw_a, raw_b, variance=50.0),
  }
  return {name: jnp.mean(value) for name, value in values.items()}


@pytest.mark.parametrize("peer", PEERS)
def test_values_measured_on_the_peers_are_reproduced(peer):
  theirs, ours = PEERS[peer]
  values = _ours(*(x.astype(np.float32) for x in _raw()))
  np.testing.assert_allclose(ours(values), theirs, rtol=2e-6)


def test_google_simclr_sums_both_directions():
  """Per direction: softmax over the other view's n and the own view's n - 1."""
  a, b = _units()
  total = 0.0
  for first, second in ((a, b), (b, a)):
    within = first @ first.T * SCALE - 1e9 * np.eye(16)
    total += _cross_entropy(np.concatenate([first @ second.T * SCALE, within], -1))
  ours = np.mean(contrastive.nt_xent(a, b, scale=SCALE))
  np.testing.assert_allclose(2 * ours, total, rtol=1e-5)


def test_clip_loss_is_the_mean_of_two_cross_entropies():
  a, b = _units()
  logits = SCALE * a @ b.T
  expected = (_cross_entropy(logits) + _cross_entropy(logits.T)) / 2
  ours = np.mean(contrastive.info_nce(a, b, scale=SCALE))
  np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_siglip_divides_the_sum_over_pairs_by_the_batch():
  a, b = _units()
  logits = 10 * a @ b.T - 10
  z = 2 * np.eye(16) - 1
  expected = np.sum(np.log1p(np.exp(-z * logits))) / 16
  ours = np.mean(contrastive.pairwise_sigmoid(a, b, scale=10.0, bias=-10.0))
  np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_moco_v3_multiplies_by_twice_the_temperature():
  a, b = _units()
  forward = contrastive.softmax_loss(contrastive.cross_rows(a, b, scale=SCALE))
  theirs = 2 * TEMPERATURE * _cross_entropy(a @ b.T / TEMPERATURE)
  np.testing.assert_allclose(2 * TEMPERATURE * np.mean(forward), theirs, rtol=1e-5)


def test_nt_xent_has_twice_less_two_the_negatives_of_clip():
  """With equal embeddings the values show how many candidates there are."""
  z = np.full((16, 4), 0.5, np.float32)
  np.testing.assert_allclose(
    np.mean(contrastive.nt_xent(z, z, scale=SCALE)), np.log(31), rtol=1e-5
  )
  np.testing.assert_allclose(
    np.mean(contrastive.info_nce(z, z, scale=SCALE)), np.log(16), rtol=1e-5
  )


def test_our_losses_have_no_factor_of_the_temperature():
  """SupContrast reports t / t_base times the value; the ranking of t depends on it."""
  a, b = _units()
  z, labels = np.concatenate([a, b]), np.tile(np.arange(16), 2)
  base = 0.07
  logits = z @ z.T / TEMPERATURE - 1e9 * np.eye(32)
  log_share = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  positive = (labels[:, None] == labels[None, :]) & ~np.eye(32, dtype=bool)
  theirs = -(TEMPERATURE / base) * np.mean(np.sum(log_share * positive, -1))
  ours = np.mean(contrastive.sup_con(z, labels, scale=SCALE))
  np.testing.assert_allclose(ours * TEMPERATURE / base, theirs, rtol=1e-5)
