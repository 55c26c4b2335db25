"""Random views of an image: augmentations `f(key, image)` that jit and vmap.

An image is float [h, w, c] in [0, 1] with c = 3 (RGB) or 1 (grey), and stays in [0, 1];
`normalise` comes last and on its own. Nothing reduces over a batch: a view is a
function of (key, image) alone, so with `keyed_views` an example gets the same views in
any batch, at any place and on any number of devices.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import colour

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

# Boxes drawn before the fallback is taken, as in torchvision's RandomResizedCrop.
_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What `augment` does, in its order; hashable, so it can be a static argument.

  What has probability 0 costs nothing. Grey images skip saturation, hue and grey.

  Attributes:
    size: side of the square output in pixels; None keeps the input's height and width.
    crop_scale: least and greatest share of the area in (0, 1]; None for no crop.
    crop_ratio: least and greatest width / height of the crop.
    flip: probability of the horizontal flip.
    jitter: probability of the colour jitter with the four strengths that follow.
    brightness: strength, at least 0; see `colour.colour_jitter`.
    contrast: strength, at least 0.
    saturation: strength, at least 0.
    hue: strength in [0, 0.5], in turns of the colour circle.
    grey: probability of dropping the colour.
    blur: probability of the Gaussian blur.
    blur_sigma: least and greatest standard deviation of the blur in pixels.
    blur_kernel: width of the blur's window as a share of the shorter side.
    solarise: probability of inverting the values above one half.
  """

  size: int | None = None
  crop_scale: tuple[float, float] | None = (0.08, 1.0)
  crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
  flip: float = 0.5
  jitter: float = 0.0
  brightness: float = 0.0
  contrast: float = 0.0
  saturation: float = 0.0
  hue: float = 0.0
  grey: float = 0.0
  blur: float = 0.0
  blur_sigma: tuple[float, float] = (0.1, 2.0)
  blur_kernel: float = 0.1
  solarise: float = 0.0

  def __post_init__(self):
    for name in ("flip", "jitter", "grey", "blur", "solarise"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
          f"a recipe's {name} is a probability in [0, 1], not {getattr(self, name)}."
        )
    if self.crop_scale is not None:
      low, high = self.crop_scale
      if not 0 < low <= high <= 1:
        raise ValueError(
          "crop_scale is a pair (least, greatest) of shares in (0, 1], or None for no "
          f"crop; not {self.crop_scale}."
        )


def simclr(strength: float = 1.0, blur: float = 0.5) -> Recipe:
  """SimCLR's recipe (Chen et al. 2020, appendix A); CIFAR uses strength 0.5, blur 0."""
  return Recipe(
    jitter=0.8,
    brightness=0.8 * strength,
    contrast=0.8 * strength,
    saturation=0.8 * strength,
    hue=0.2 * strength,
    grey=0.2,
    blur=blur,
  )


def moco_v3(smallest_crop: float = 0.08) -> tuple[Recipe, Recipe]:
  """MoCo-v3's two recipes (Chen, Xie & He 2021); 0.08 for ViT, 0.2 for ResNet-50."""
  common = Recipe(
    crop_scale=(smallest_crop, 1.0),
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grey=0.2,
  )
  first = dataclasses.replace(common, blur=1.0)
  second = dataclasses.replace(common, blur=0.1, solarise=0.2)
  return first, second


def light() -> Recipe:
  """A mild recipe for small or grey images: no flip, since digits have a handedness."""
  return Recipe(
    crop_scale=(0.4, 1.0), flip=0.0, jitter=0.8, brightness=0.4, contrast=0.4
  )


def augment(key: jax.Array, image: jax.Array, recipe: Recipe) -> jax.Array:
  """One random view: crop, flip, jitter, grey, blur, solarise.

  Args:
    key: a typed key.
    image: float [h, w, c] in [0, 1], c = 1 or 3.
    recipe: probabilities and strengths; static.

  Returns:
    [size, size, c] (or [h, w, c] if the recipe has no size) in [0, 1], of image's type.

  Raises:
    ValueError: for another rank, channel count or type of image.
  """
  _check(image)
  height, width, channels = image.shape
  size = (recipe.size, recipe.size) if recipe.size else (height, width)
  crop_key, flip_key, jitter_key, grey_key, blur_key, solarise_key = jax.random.split(
    key, 6
  )
  if recipe.crop_scale is not None:
    image = random_resized_crop(
      crop_key, image, size, recipe.crop_scale, recipe.crop_ratio
    )
  elif size != (height, width):
    image = resize(image, size)
  image = horizontal_flip(flip_key, image, recipe.flip)
  strengths = (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
  if any(strengths[:2] if channels == 1 else strengths):
    image = random_apply(
      jitter_key,
      image,
      recipe.jitter,
      lambda k, x: colour.colour_jitter(k, x, *strengths),
    )
  if channels == 3:
    image = random_apply(grey_key, image, recipe.grey, lambda _, x: colour.greyscale(x))
  image = random_apply(
    blur_key,
    image,
    recipe.blur,
    lambda k, x: gaussian_blur(k, x, recipe.blur_sigma, recipe.blur_kernel),
  )
  return random_apply(
    solarise_key, image, recipe.solarise, lambda _, x: colour.solarise(x)
  )


def two_views(
  key: jax.Array, image: jax.Array, recipe_a: Recipe, recipe_b: Recipe
) -> tuple[jax.Array, jax.Array]:
  """Two independent views of one image, one for each recipe."""
  key_a, key_b = jax.random.split(key)
  return augment(key_a, image, recipe_a), augment(key_b, image, recipe_b)


def keyed_views(
  key: jax.Array,
  indices: jax.Array,
  images: jax.Array,
  recipe_a: Recipe,
  recipe_b: Recipe,
) -> tuple[jax.Array, jax.Array]:
  """Two views of each example, which depend on (key, example id, image) only.

  Fold the epoch (or the step) into `key`, or an example sees the same views for ever.

  Args:
    key: a typed key.
    indices: integer [n], the examples' ids in the data set, below 2^32.
    images: float [n, h, w, c] in [0, 1].
    recipe_a: the first view's recipe; static.
    recipe_b: the second view's recipe; static.

  Returns:
    Two arrays [n, size, size, c] in [0, 1].

  Raises:
    ValueError: unless indices are n integers.
  """
  if indices.shape != images.shape[:1] or not jnp.issubdtype(
    indices.dtype, jnp.integer
  ):
    raise ValueError(
      f"keyed_views takes one integer id per image: indices of shape "
      f"{images.shape[:1]}, not {indices.dtype}{indices.shape}."
    )

  def views_of(index, image):
    return two_views(jax.random.fold_in(key, index), image, recipe_a, recipe_b)

  return jax.vmap(views_of)(indices, images)


def random_apply(
  key: jax.Array,
  image: jax.Array,
  probability: float,
  function: Callable[[jax.Array, jax.Array], jax.Array],
) -> jax.Array:
  """Applies `function(key, image)` with a probability; 0 and 1 are decided statically.

  Both branches are computed otherwise, as they would be under vmap in any case.
  """
  if probability == 0:
    return image
  if probability == 1:
    return function(key, image)
  coin_key, child = jax.random.split(key)
  coin, changed = jax.random.bernoulli(coin_key, probability), function(child, image)
  # Selected channel by channel: on the whole array, XLA computes what precedes anew
  # for each channel that the next operation reads (3 times slower on CPU).
  return jnp.stack(
    [jnp.where(coin, changed[..., i], image[..., i]) for i in range(image.shape[-1])],
    axis=-1,
  )


def horizontal_flip(
  key: jax.Array, image: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors left and right with a probability."""
  return random_apply(key, image, probability, lambda _, x: x[:, ::-1])


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
  aspect = min(max(width / height, ratio[0]), ratio[1])
  box_width = jnp.where(found, widths[first], min(width, height * aspect))
  box_height = jnp.where(found, heights[first], min(height, width / aspect))
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
  # As matrices: a dot product holds its input once, where a sum of shifted images
  # lets XLA compute all that precedes once per shift (6 times slower on CPU).
  rows, columns = (_blur_weights(n, radius, deviation) for n in (height, width))
  return _apply_weights(rows, columns, image)


def normalise(
  image: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
  """(image - mean) / std per channel, for [..., c]."""
  if not len(mean) == len(std) == image.shape[-1]:
    raise ValueError(
      f"normalise needs a mean and a std for each of {image.shape[-1]} channels, not "
      f"{len(mean)} and {len(std)}."
    )
  shape = (1,) * (image.ndim - 1) + (-1,)
  mean = jnp.asarray(mean, image.dtype).reshape(shape)
  return (image - mean) / jnp.asarray(std, image.dtype).reshape(shape)


def _check(image: jax.Array) -> None:
  """Raises unless the image is float [h, w, 1 or 3]."""
  if image.ndim != 3 or image.shape[-1] not in (1, 3):
    raise ValueError(
      f"an image is [h, w, 1] or [h, w, 3], not {image.shape}; map a batch with "
      "jax.vmap or keyed_views."
    )
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise ValueError(
      f"an image is float in [0, 1], not {image.dtype}; divide bytes by 255."
    )


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
