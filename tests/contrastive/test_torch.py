"""Values and gradients against torch: autograd of formulas, and a library's losses.

The formulas are written out here from the papers; pytorch-metric-learning is called.
Ours run in float32, torch in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from contrastive import normalizer
from tests import losses

torch = pytest.importorskip("torch")
metric_learning = pytest.importorskip("pytorch_metric_learning.losses")
pytestmark = pytest.mark.torch

N, D, SCALE = 12, 8, 5.0
PAIRS = np.tile(np.arange(N), 2)
LABELS = np.arange(2 * N) % 5
SOME_ALONE = np.where(np.arange(2 * N) < 16, LABELS, 100 + np.arange(2 * N))
functional = torch.nn.functional


def _compare(ours, theirs):
  """Scalar functions of two raw views, and their gradients."""
  x = losses.batch(n=N, d=D)
  value, grads = jax.jit(jax.value_and_grad(ours, (0, 1)))(x.a, x.b)
  views = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x.a, x.b)]
  expected = theirs(*views)
  expected.backward()
  np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
  for grad, view in zip(grads, views, strict=True):
    np.testing.assert_allclose(grad, view.grad.numpy(), rtol=1e-5, atol=1e-6)


def _mean_of(loss, **knobs):
  """Mean of one of our two-view losses at SCALE on the unit rows of raw views."""

  def call(a, b):
    a, b = contrastive.unit(a), contrastive.unit(b)
    return jnp.mean(loss(a, b, **{"scale": SCALE, **knobs}))

  return call


def _unit(x):
  return functional.normalize(x, dim=-1)


def _two_view_logits(a, b):
  """Logits of 2n anchors against 2n candidates, and each one's partner."""
  z = _unit(torch.cat([a, b]))
  return SCALE * z @ z.T, torch.arange(2 * N).roll(N)


def _others(logits, partner, with_partner):
  """Log sum of exponentials without the anchor itself (and without its partner)."""
  drop = torch.eye(2 * N, dtype=torch.bool)
  if not with_partner:
    drop = drop | functional.one_hot(partner, 2 * N).bool()
  return torch.logsumexp(logits.masked_fill(drop, -torch.inf), dim=-1)


def test_nt_xent():
  def theirs(a, b):
    logits, partner = _two_view_logits(a, b)
    logits = logits.masked_fill(torch.eye(2 * N, dtype=torch.bool), -1e30)
    return functional.cross_entropy(logits, partner)

  _compare(_mean_of(contrastive.nt_xent), theirs)


def test_nt_xent_of_pytorch_metric_learning():
  loss = metric_learning.NTXentLoss(temperature=1 / SCALE)
  theirs = lambda a, b: loss(torch.cat([a, b]), torch.tensor(PAIRS))
  _compare(_mean_of(contrastive.nt_xent), theirs)


@pytest.mark.parametrize("labels", [PAIRS, LABELS, SOME_ALONE])
def test_sup_con_of_pytorch_metric_learning(labels):
  """Its mean is over the rows that have a positive."""
  loss = metric_learning.SupConLoss(temperature=1 / SCALE)

  def ours(a, b):
    z = contrastive.unit(jnp.concatenate([a, b]))
    values = contrastive.sup_con(z, labels, scale=SCALE)
    return contrastive.masked_mean(values, contrastive.has_positive(labels))

  _compare(ours, lambda a, b: loss(torch.cat([a, b]), torch.tensor(labels)))


def test_clip_loss():
  def theirs(a, b):
    logits = SCALE * _unit(a) @ _unit(b).T
    own = torch.arange(N)
    both = functional.cross_entropy(logits, own) + functional.cross_entropy(
      logits.T, own
    )
    return both / 2

  _compare(_mean_of(contrastive.info_nce), theirs)


def test_siglip_loss():
  def theirs(a, b):
    logits = 10.0 * _unit(a) @ _unit(b).T - 10.0
    sign = 2 * torch.eye(N) - 1
    return -functional.logsigmoid(sign * logits).sum() / N

  _compare(_mean_of(contrastive.pairwise_sigmoid, scale=10.0, bias=-10.0), theirs)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_decoupled_with_and_without_weights(sigma):
  def theirs(a, b):
    logits, partner = _two_view_logits(a, b)
    weight = torch.ones(2 * N)
    if sigma is not None:
      cosine = (_unit(a) * _unit(b)).sum(-1).detach()
      weight = (2 - N * torch.softmax(cosine / sigma, 0)).repeat(2)
    positive = logits.gather(1, partner[:, None])[:, 0]
    return (_others(logits, partner, False) - weight * positive).mean()

  _compare(_mean_of(contrastive.decoupled, sigma=sigma), theirs)


def test_flat_nce():
  def theirs(a, b):
    logits, partner = _two_view_logits(a, b)
    positive = logits.gather(1, partner[:, None])
    v = _others(logits - positive, partner, False)
    return torch.exp(v - v.detach()).mean()

  _compare(_mean_of(contrastive.flat_nce), theirs)


def test_moco_with_a_queue():
  held = losses.batch(n=7, d=D, seed=5).a
  held /= np.linalg.norm(held, axis=-1, keepdims=True)

  def ours(a, b):
    rows = contrastive.queue_rows(
      contrastive.unit(a), contrastive.unit(b), held, scale=SCALE
    )
    return jnp.mean(contrastive.softmax_loss(rows))

  def theirs(a, b):
    q, k = _unit(a), _unit(b)
    positive = (q * k).sum(-1, keepdim=True)
    negative = q @ torch.tensor(held, dtype=q.dtype).T
    logits = SCALE * torch.cat([positive, negative], dim=1)
    return functional.cross_entropy(logits, torch.zeros(N, dtype=torch.long))

  _compare(ours, theirs)


def test_soft_targets():
  targets = losses.batch(n=N).targets

  def ours(a, b):
    a, b = contrastive.unit(a), contrastive.unit(b)
    return jnp.mean(contrastive.soft_nce(a, b, targets, scale=SCALE))

  def theirs(a, b):
    logits = SCALE * _unit(a) @ _unit(b).T
    return functional.cross_entropy(logits, torch.tensor(targets, dtype=logits.dtype))

  _compare(ours, theirs)


def test_barlow_twins():
  def theirs(a, b):
    standard = lambda z: functional.batch_norm(z, None, None, training=True, eps=1e-5)
    c = standard(a).T @ standard(b) / N
    off = c - torch.diag(torch.diag(c))
    return ((torch.diag(c) - 1) ** 2).sum() + 5e-3 * (off**2).sum()

  _compare(contrastive.barlow_twins, theirs)


def test_vicreg():
  def one_view(z):
    hinge = functional.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()
    covariance = torch.cov(z.T)
    off = covariance - torch.diag(torch.diag(covariance))
    return hinge, (off**2).sum() / D

  def theirs(a, b):
    (hinge_a, off_a), (hinge_b, off_b) = one_view(a), one_view(b)
    distance = functional.mse_loss(a, b)
    return 25 * distance + 25 * (hinge_a + hinge_b) / 2 + off_a + off_b

  # Views of small variance, so that the hinge is at work.
  _compare(
    lambda a, b: contrastive.vicreg(a / 2, b / 2), lambda a, b: theirs(a / 2, b / 2)
  )


def test_vicreg_of_pytorch_metric_learning():
  loss = metric_learning.VICRegLoss(eps=1e-4)
  _compare(contrastive.vicreg, lambda a, b: loss(a, ref_emb=b))


def test_sogclr_moving_average_and_gradient():
  """u <- (1 - g) u + g s_hat on visits; gradient of sum (e^n / u).detach() n - p.

  The estimate of an image is the mean over its two views. Two batches share half of
  their images, so that first and second visits occur.
  """
  g, images = 0.9, 18
  state = normalizer.init(images)
  u = torch.zeros(images, dtype=torch.float64)
  for step in range(2):
    index = np.arange(N) + 6 * step
    x = losses.batch(n=N, d=D, seed=step)

    def ours(a, b, state=state, index=index):
      a, b = contrastive.unit(a), contrastive.unit(b)
      log_s = contrastive.two_view_log_normalizer(a, b, scale=SCALE)
      new, log_v = normalizer.update(state, index, log_s, smoothing=g, boost=False)
      values = contrastive.augmented_nce(
        a, b, scale=SCALE, log_norm=jnp.tile(log_v, 2), shape=None
      )
      return jnp.mean(values), new

    grads, state = jax.jit(jax.grad(ours, (0, 1), has_aux=True))(x.a, x.b)
    views = [
      torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (x.a, x.b)
    ]
    logits, partner = _two_view_logits(*views)
    positive = logits.gather(1, partner[:, None])[:, 0]
    own = torch.eye(2 * N) + functional.one_hot(partner, 2 * N)
    exponential = torch.exp(logits) * (1 - own)
    estimate = (exponential.sum(-1) / (2 * N - 2)).detach()
    estimate = (estimate[:N] + estimate[N:]) / 2
    seen = u[index] > 0
    u[index] = torch.where(seen, (1 - g) * u[index] + g * estimate, estimate)
    weight = (exponential / u[index].repeat(2)[:, None]).detach() / (2 * N - 2)
    ((weight * logits).sum(-1) - positive).mean().backward()
    for grad, view in zip(grads, views, strict=True):
      np.testing.assert_allclose(grad, view.grad.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
      state.log_v[index], torch.log(u[index]).numpy(), rtol=1e-5, atol=1e-6
    )
