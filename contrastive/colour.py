"""Colour operations on one image, pure `f(key, image)` or `f(image, amount)`.

Images are float [h, w, c] in [0, 1] with c = 3 (RGB) or 1 (grey), and stay in [0, 1].
What needs three channels (saturation, hue, greyscale) leaves a grey image as it is.
Nothing reduces over a batch, so every function maps with `jax.vmap`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

# ITU-R BT.601 luma, the weights of torchvision and PIL.
LUMA = (0.299, 0.587, 0.114)

# The 24 orders of the four operations of `colour_jitter`: an order of brightness,
# contrast and saturation (0, 1, 2), and how many of them come before the hue.
_ORDERS = np.array(
  [
    (*order, before)
    for order in itertools.permutations(range(3))
    for before in range(4)
  ],
  np.int32,
)


def luma(image: jax.Array) -> jax.Array:
  """Weighted sum of the channels, [h, w]; the only channel of a grey image."""
  if image.shape[-1] == 1:
    return image[..., 0]
  red, green, blue = (image[..., i] for i in range(3))
  return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def greyscale(image: jax.Array) -> jax.Array:
  """The luma in every channel."""
  return jnp.broadcast_to(luma(image)[..., None], image.shape)


def solarise(image: jax.Array, threshold: float = 0.5) -> jax.Array:
  """Inverts the values at or above the threshold."""
  return jnp.where(image >= threshold, 1 - image, image)


def rotate_hue(image: jax.Array, turns: jax.Array | float) -> jax.Array:
  """Moves the hue of HSV by `turns` of the colour circle; saturation and value stay.

  With M and m the largest and smallest channel, C = M - m and H in [0, 6) the sector,
  channel k is M - C clip(min(a, 4 - a), 0, 1) at a = (k + H) mod 6, k = 5, 3, 1 for
  red, green, blue: no branch over the six sectors.

  Args:
    image: [h, w, 3] in [0, 1]; [h, w, 1] comes back as it is.
    turns: a scalar; any real number, of which the fraction counts.

  Returns:
    [h, w, 3] in [0, 1].
  """
  if image.shape[-1] == 1:
    return image
  red, green, blue = (image[..., i] for i in range(3))
  high = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = high - jnp.minimum(jnp.minimum(red, green), blue)
  per_chroma = 1 / jnp.where(chroma > 0, chroma, 1)
  sector = jnp.where(
    high == red,
    (green - blue) * per_chroma,
    jnp.where(
      high == green, 2 + (blue - red) * per_chroma, 4 + (red - green) * per_chroma
    ),
  )
  sector = sector + 6 * turns

  def channel(k: int) -> jax.Array:
    a = (k + sector) / 6
    a = 6 * (a - jnp.floor(a))
    return high - chroma * jnp.clip(jnp.minimum(a, 4 - a), 0, 1)

  return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def colour_jitter(
  key: jax.Array,
  image: jax.Array,
  brightness: float,
  contrast: float,
  saturation: float,
  hue: float,
) -> jax.Array:
  """Scales brightness, contrast and saturation and turns the hue, in random order.

  As torchvision's ColorJitter: the factor f of brightness multiplies the image, that
  of contrast blends it with its mean luma, that of saturation with its luma
  (x f + grey (1 - f)), each uniform on [max(0, 1 - strength), 1 + strength]; the hue
  turns by a uniform share of the circle in [-hue, hue]; each result is clipped to
  [0, 1]. All 24 orders are equally likely.

  The first three are x a + luma(x) b + mean(luma(x)) c with scalars a, b, c, so an
  order is a choice of scalars, and only one hue rotation is computed: between three
  steps that are the identity where they belong after it, and three where before.

  Args:
    key: a typed key.
    image: [h, w, c] in [0, 1].
    brightness: strength, at least 0.
    contrast: strength, at least 0.
    saturation: strength, at least 0; without effect on a grey image.
    hue: strength in [0, 0.5]; without effect on a grey image.

  Returns:
    [h, w, c] in [0, 1].

  Raises:
    ValueError: for a strength outside its range.
  """
  strengths = (brightness, contrast, saturation)
  if min(strengths) < 0 or not 0 <= hue <= 0.5:
    raise ValueError(
      f"colour jitter strengths are at least 0 and the hue's at most 0.5, not "
      f"brightness, contrast, saturation, hue = {(*strengths, hue)}."
    )
  order_key, factor_key, hue_key = jax.random.split(key, 3)
  low = jnp.asarray([max(0.0, 1 - s) for s in strengths], image.dtype)
  high = jnp.asarray([1 + s for s in strengths], image.dtype)
  factors = jax.random.uniform(factor_key, (3,), image.dtype, low, high)
  turns = jax.random.uniform(hue_key, (), image.dtype, -hue, hue)
  plan = jnp.asarray(_ORDERS)[jax.random.randint(order_key, (), 0, len(_ORDERS))]

  steps, before = plan[:3], jnp.arange(3) < plan[3]

  def blend(image, step_active):
    step, active = step_active
    f = jnp.where(active, factors[step], 1)
    grey = luma(image)
    other = jnp.where(step == 1, jnp.mean(grey), jnp.where(step == 2, grey, 0))
    return jnp.clip(image * f + (other * (1 - f))[..., None], 0, 1), None

  # A scan, for it holds each result once: unrolled, XLA fuses the steps and computes
  # the earlier ones anew for each channel that a later one reads (5 times slower on
  # CPU with the rest of `augment`).
  if hue == 0 or image.shape[-1] == 1:
    return jax.lax.scan(blend, image, (steps, jnp.ones(3, bool)))[0]
  image, _ = jax.lax.scan(blend, image, (steps, before))
  image, _ = jax.lax.scan(blend, rotate_hue(image, turns), (steps, ~before))
  return image
