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

from contrastive import colour
from contrastive.resampling import gaussian_blur, random_resized_crop, resize

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


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
    low, high = self.crop_scale or (1.0, 1.0)
    if not 0 < low <= high <= 1:
      raise ValueError(
        "crop_scale is a pair (least, greatest) of shares in (0, 1], or None for no "
        f"crop; not {self.crop_scale}."
      )
    low, high = self.crop_ratio
    if not 0 < low <= high:
      raise ValueError(
        "crop_ratio is a pair (least, greatest) of width / height above 0, not "
        f"{self.crop_ratio}."
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

  Another batch, order or number of devices gives the same draws, and pixels that agree
  to float rounding (1e-5).

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
  coin, child = jax.random.split(key)
  return jnp.where(
    jax.random.bernoulli(coin, probability), function(child, image), image
  )


def horizontal_flip(
  key: jax.Array, image: jax.Array, probability: float = 0.5
) -> jax.Array:
  """Mirrors left and right with a probability."""
  return random_apply(key, image, probability, lambda _, x: x[:, ::-1])


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
  offset, scale = (jnp.asarray(v, image.dtype).reshape(shape) for v in (mean, std))
  return (image - offset) / scale


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
