"""Penalties that force alignment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import pairing
from tests import oracle


def _rows(n=5, d=4):
  rng = np.random.default_rng(2)
  return [oracle.unit(rng.standard_normal((n, d))) for _ in range(2)]


def test_squared_distance_of_unit_rows_is_two_less_two_cosines():
  a, b = _rows()
  expected = [2 - 2 * oracle.dot(x, y) for x, y in zip(a, b, strict=True)]
  got = pairing.squared_distance(a.astype(np.float32), b.astype(np.float32))
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_close_rows_keep_their_distance_in_float32():
  a = np.array([[1.0, 0.0]], np.float32)
  b = np.array([[1.0, 1e-6]], np.float32)
  np.testing.assert_allclose(pairing.squared_distance(a, b), 1e-12, rtol=1e-6)


def test_inverse_cosine_does_not_see_the_sign():
  a, b = _rows()
  expected = [1 / (oracle.dot(x, y) ** 2 + 0.01) for x, y in zip(a, b, strict=True)]
  got = pairing.inverse_cosine(a, b)
  np.testing.assert_allclose(got, expected, rtol=1e-5)
  np.testing.assert_array_equal(pairing.inverse_cosine(a, -b), got)


def test_inverse_cosine_is_bounded_where_the_published_one_is_singular():
  a = np.eye(2, dtype=np.float32)
  b = a[::-1]
  assert np.all(np.isinf(pairing.inverse_cosine(a, b, eps=0.0)))
  np.testing.assert_allclose(pairing.inverse_cosine(a, b), 100.0)
  # The steepest place: cos^2 = eps / 3.
  cosines = jnp.sqrt(jnp.array([1e-2 / 3, 1e-4, 0.1, 0.9]))
  rows = jnp.stack([cosines, jnp.sqrt(1 - cosines**2)], axis=1)
  anchor = jnp.tile(jnp.array([[1.0, 0.0]]), (4, 1))
  loss = lambda rows: jnp.sum(pairing.inverse_cosine(anchor, rows))
  steep = np.linalg.norm(jax.grad(loss)(rows), axis=1)
  assert steep.max() == steep[0]
  np.testing.assert_allclose(steep[0], 0.65 / 1e-2**1.5, rtol=1e-2)


def test_errors_name_the_cure():
  a, b = _rows()
  with pytest.raises(ValueError, match="give all heads one width"):
    pairing.squared_distance(a, b[:, :2])
  with pytest.raises(ValueError, match="cannot be negative"):
    pairing.inverse_cosine(a, b, eps=-1.0)
  with pytest.raises(ValueError, match=r"\[n, d\] embeddings"):
    pairing.check_towers({"image": a[0]})
