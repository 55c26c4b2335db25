"""Crops, resizing and blur of one image: a matrix of weights on each axis.

Images are float [h, w, c] in [0, 1] and stay in [0, 1]. Nothing reduces over a batch,
so every function maps with `jax.vmap`. Two products with small computed matrices are
as fast on CPU as a gather of the neighbours, and need no special case for shrinking.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Boxes drawn before the fallback is taken, as in torchvision's RandomResizedCrop.
_ATTEMPTS = 10


def random_resized_crop(
  key: jax.Array,
  image: jax.Array,
  size: tuple[int, int],
  scale: tuple[float, float] = (0.08, 1.0),
  ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> jax.Array:
  """Cuts out a random box and resizes it, linear with antialiasing.

  As torchvision's RandomResizedCrop, the area is uniform, the width / height is
  log-uniform, the first of 10 boxes that fits is taken, and else the largest central
  box of an admitted ratio. Unlike there, boxes have fractional corners, and the
  interpolation at a box's edge sees the image's pixels beyond it.

  Args:
    key: a typed key.
    image: [h, w, c] in [0, 1].
    size: output height and width in pixels.
    scale: least and greatest share of the image's area, in (0, 1].
    ratio: least and greatest width / height, above 0.

  Returns:
    [*size, c] in [0, 1].
  """
  box_key, corner_key = jax.random.split(key)
  height, width, _ = image.shape
  u = jax.random.uniform(box_key, (2, _ATTEMPTS))
  area = height * width * (scale[0] + (scale[1] - scale[0]) * u[0])
  low, high = jnp.log(ratio[0]), jnp.log(ratio[1])
  aspect = jnp.exp(low + (high - low) * u[1])
  widths, heights = jnp.sqrt(area * aspect), jnp.sqrt(area / aspect)
  fits = (widths <= width) & (heights <= height)
  found, first = jnp.any(fits), jnp.argmax(fits)
  central = min(max(width / height, ratio[0]), ratio[1])
  box_width = jnp.where(found, widths[first], min(width, height * central))
  box_height = jnp.where(found, heights[first], min(height, width / central))
  corner = jnp.where(found, jax.random.uniform(corner_key, (2,)), 0.5)
  top, left = corner[0] * (height - box_height), corner[1] * (width - box_width)
  return _resample(image, size, (top, left), (box_height, box_width))


def resize(image: jax.Array, size: tuple[int, int]) -> jax.Array:
  """The whole image at another size, linear with antialiasing."""
  return _resample(image, size, (0.0, 0.0), image.shape[:2])


def gaussian_blur(
  key: jax.Array,
  image: jax.Array,
  sigma: tuple[float, float] = (0.1, 2.0),
  kernel: float = 0.1,
) -> jax.Array:
  """Blurs with a standard deviation that is uniform on `sigma`, in pixels.

  The window is odd, about `kernel` times the shorter side and at least 3 pixels wide.
  Beyond its edge the image is mirrored, so its sum does not change.
  """
  height, width, _ = image.shape
  radius = max(1, int(kernel * min(height, width)) // 2)
  deviation = jax.random.uniform(key, (), jnp.float32, *sigma)
  # As matrices: 1.5 times faster on CPU than a sum of shifted images at 224 pixels,
  # and as fast at 32.
  rows, columns = (_blur_weights(n, radius, deviation) for n in (height, width))
  return _apply_weights(rows, columns, image)


def _resample(image, size, corner, extent) -> jax.Array:
  """The box at `corner` of height and width `extent` (pixels), at another size."""
  rows, columns = (
    _interpolation(n, m, start, length)
    for n, m, start, length in zip(image.shape[:2], size, corner, extent, strict=True)
  )
  return _apply_weights(rows, columns, image)


def _interpolation(n: int, m: int, start, length) -> jax.Array:
  """Weights [m, n] that resample [start, start + length] of n pixels to m pixels."""
  centre = start + (jnp.arange(m) + 0.5) * (length / m) - 0.5
  # A triangle one input pixel wide either way, wider when shrinking (antialiasing).
  reach = jnp.maximum(length / m, 1.0)
  distance = jnp.abs(jnp.arange(n)[None, :] - centre[:, None])
  weights = jnp.maximum(0.0, 1 - distance / reach)
  return weights / jnp.sum(weights, axis=1, keepdims=True)


def _blur_weights(n: int, radius: int, deviation) -> jax.Array:
  """Weights [n, n] of a Gaussian window, mirrored at both ends; radius <= n."""

  def window(offset):
    density = jnp.exp(-0.5 * jnp.square(offset / deviation))
    return jnp.where(jnp.abs(offset) <= radius, density, 0.0)

  i, j = np.arange(n)[:, None], np.arange(n)[None, :]
  folded = window(i - j) + window(i + j + 1) + window(2 * n - 1 - i - j)
  return folded / jnp.sum(window(np.arange(-radius, radius + 1)))


def _apply_weights(rows: jax.Array, columns: jax.Array, image: jax.Array) -> jax.Array:
  """Rows [o, h] and columns [p, w] of weights applied to [h, w, c]: [o, p, c]."""
  # Full float32, or an identity would not be one on TPU; the clip undoes rounding.
  rows, columns = rows.astype(image.dtype), columns.astype(image.dtype)
  tall = jnp.einsum("oh,hwc->owc", rows, image, precision=jax.lax.Precision.HIGHEST)
  out = jnp.einsum("pw,owc->opc", columns, tall, precision=jax.lax.Precision.HIGHEST)
  return jnp.clip(out, 0, 1)
