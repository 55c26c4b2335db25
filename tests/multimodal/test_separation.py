"""Separation: each part against its double loop, both normalisations, the edges."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import separation
from tests import oracle
from tests.multimodal import towers_losses

SCALE = 3.0


def _rows(towers=2, n=5, d=4, dtype=np.float32):
  """Shared, specific and specific view of each tower: three lists of unit rows."""
  x = towers_losses.batch(n=n, d=d, dtype=np.float64)
  fields = (x.shared, x.specific, x.specific_view)
  return [[oracle.unit(z).astype(dtype) for z in f.values()][:towers] for f in fields]


def _gauss(u, v, t):
  return math.exp(-t * sum((a - b) ** 2 for a, b in zip(u, v, strict=True)))


def _uniformity(towers, t, reduction):
  n = len(towers[0])
  if reduction == "paper":
    every = [_gauss(u, v, t) for z in towers for u in z for v in z]
    return math.log(sum(every) / n)
  logs = []
  for z in towers:
    pairs = [_gauss(z[j], z[k], t) for j in range(n) for k in range(n) if j != k]
    logs.append(math.log(sum(pairs) / len(pairs)))
  return sum(logs) / len(logs)


def _parts(shared, specific, view, *, t=2.0, reduction="pairs", literal=False):
  """Orthogonality [n], contrast [n] and uniformity by loops."""
  both = list(zip(shared, specific, strict=True))
  square = [
    sum(oracle.dot(z[i], s[i]) ** 2 for z, s in both) for i in range(len(both[0][0]))
  ]
  keys = specific if literal else view
  contrast = sum(
    oracle.one_way(z, k, SCALE) for z, k in zip(specific, keys, strict=True)
  )
  return np.array(square), contrast, _uniformity(specific, t, reduction)


@pytest.mark.parametrize("towers", [1, 2, 3])
@pytest.mark.parametrize(
  "knobs", [{}, dict(reduction="paper", literal=True), dict(t=0.7)]
)
def test_parts_equal_the_double_loops(towers, knobs):
  rows = _rows(towers)
  got = separation.separation_parts(*rows, scale=SCALE, **knobs)
  expected = _parts(*rows, **knobs)
  for part, value, name in zip(got, expected, got._fields, strict=True):
    np.testing.assert_allclose(part, value, rtol=1e-5, err_msg=name)


def test_the_mean_of_the_values_is_the_weighted_sum_of_the_parts():
  rows = _rows()
  weights = dict(orthogonality=0.5, contrast=2.0, uniformity=3.0)
  got = separation.separation_loss(*rows, scale=SCALE, **weights)
  square, contrast, uniformity = _parts(*rows)
  # Uniformity, one number of the batch, is in every anchor's value.
  expected = 0.5 * square + 2 * contrast + 3 * uniformity
  np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", separation.REDUCTIONS)
def test_gradient_equals_finite_differences(reduction):
  knobs = dict(reduction=reduction, literal=reduction == "paper")
  x = towers_losses.batch(n=4, d=3, dtype=np.float64)
  raw = [
    [f[name] for name in ("image", "text")]
    for f in (x.shared, x.specific, x.specific_view)
  ]

  def loss(raw):
    rows = [[z / jnp.linalg.norm(z, axis=1)[:, None] for z in f] for f in raw]
    return jnp.mean(separation.separation_loss(*rows, scale=SCALE, **knobs))

  with jax.enable_x64(True):
    grads = jax.device_get(jax.jit(jax.grad(loss))(raw))
  for field in range(3):

    def expected(moved, field=field):
      rows = [list(f) for f in raw]
      rows[field][1] = moved
      return sum(
        np.mean(p)
        for p in _parts(*[[oracle.unit(z) for z in f] for f in rows], **knobs)
      )

    numeric = oracle.gradient(expected, raw[field][1])
    np.testing.assert_allclose(grads[field][1], numeric, rtol=1e-6, atol=1e-8)


def test_the_potential_of_pairs_does_not_depend_on_the_batch_size():
  """The mean over all batches of three is that of all eight rows, exactly."""
  z = _rows(1, n=8)[1]
  whole = separation.uniformity_loss(z)
  batches = np.stack([z[0][list(b)] for b in itertools.combinations(range(8), 3)])
  each = jax.vmap(lambda rows: separation.uniformity_loss([rows]))(batches)
  np.testing.assert_allclose(np.mean(np.exp(each)), np.exp(whole), rtol=1e-5)


def test_ranges_of_the_uniformity():
  one = np.tile(np.array([[0.6, 0.8]], np.float32), (5, 1))
  axes = np.eye(5, dtype=np.float32)
  poles = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
  uniformity = separation.uniformity_loss
  paper = functools.partial(uniformity, reduction="paper")
  np.testing.assert_allclose(uniformity([one, one]), 0, atol=1e-6)
  np.testing.assert_allclose(uniformity([axes, axes]), -4, rtol=1e-6)
  np.testing.assert_allclose(uniformity([poles], t=1.5), -6, rtol=1e-6)
  np.testing.assert_allclose(paper([one, one]), math.log(10), rtol=1e-6)
  np.testing.assert_allclose(paper([poles], t=20.0), 0, atol=1e-6)
  np.testing.assert_allclose(paper([poles, poles], t=20.0), math.log(2), rtol=1e-6)


def test_one_row_has_no_pairs():
  rows = _rows(2, n=1)
  parts = separation.separation_parts(*rows, scale=SCALE)
  assert parts.uniformity == 0
  np.testing.assert_allclose(parts.contrast, 0, atol=1e-6)
  paper = separation.uniformity_loss(rows[1], reduction="paper")
  np.testing.assert_allclose(paper, math.log(2), rtol=1e-6)


def test_both_reductions_pull_alike_where_own_pairs_do_not_count():
  """At small t all pairs weigh the same, and the gradients differ by (n - 1) / n."""
  z = _rows(1, n=8)[1][0]
  grads = [
    jax.grad(
      lambda z, r=reduction: separation.uniformity_loss([z, z], t=1e-3, reduction=r)
    )(z)
    for reduction in separation.REDUCTIONS
  ]
  np.testing.assert_allclose(grads[1], grads[0] * 7 / 8, rtol=2e-2, atol=1e-6)


def test_orthogonality_is_about_the_angle_alone():
  rng = np.random.default_rng(0)
  z, s = (oracle.unit(rng.standard_normal((4, 3))).astype(np.float32) for _ in "ab")
  np.testing.assert_allclose(separation.orthogonality_loss([z], [z]), 1, rtol=1e-6)
  np.testing.assert_array_equal(
    separation.orthogonality_loss([z], [s]), separation.orthogonality_loss([z], [-s])
  )
  right = oracle.unit(np.cross(z, s)).astype(np.float32)
  np.testing.assert_allclose(separation.orthogonality_loss([z], [right]), 0, atol=1e-12)


def test_literal_contrast_only_repels():
  """Its positive is a constant, so a view is not looked at and the value is no lower
  than that of rows at right angles.
  """
  axes = [np.eye(6, dtype=np.float32)]
  got = separation.specific_contrast(axes, scale=SCALE, literal=True)
  expected = math.log(math.exp(SCALE) + 5) - SCALE
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_errors_name_the_cure():
  shared, specific, view = _rows()
  loss = functools.partial(separation.separation_loss, scale=SCALE)
  with pytest.raises(ValueError, match="pass specific_view=, or literal=True"):
    loss(shared, specific)
  with pytest.raises(ValueError, match="one array a tower, not 1 and 2"):
    loss(shared[:1], specific, view)
  with pytest.raises(ValueError, match="one array a tower, not 0 and 0"):
    loss([], [], [])
  with pytest.raises(ValueError, match="give all heads one width"):
    loss(shared, [z[:, :2] for z in specific], view)
  with pytest.raises(ValueError, match="'sum'; known: pairs, paper"):
    loss(shared, specific, view, reduction="sum")
  with pytest.raises(ValueError, match="must be positive, not -2"):
    loss(shared, specific, view, t=-2.0)
