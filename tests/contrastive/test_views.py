"""Views: identities, ranges, oracles, frequencies, and keys that follow the example."""

import colorsys
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive import colour, resampling, views

KEY = jax.random.key(0)

# Compiled as wholes: most of an eager call is the compilation of its many parts.
jitter = jax.jit(colour.colour_jitter, static_argnums=(2, 3, 4, 5))
crop = jax.jit(resampling.random_resized_crop, static_argnums=(2, 3, 4))
resample = jax.jit(resampling._resample, static_argnums=1)
blur = jax.jit(resampling.gaussian_blur, static_argnums=(2, 3))
augment = jax.jit(views.augment, static_argnums=2)
keyed_views = jax.jit(views.keyed_views, static_argnums=(3, 4))


def picture(size=8, channels=3, seed=0):
  shape = size if isinstance(size, tuple) else (size, size)
  return jnp.asarray(
    np.random.default_rng(seed).uniform(size=(*shape, channels)), jnp.float32
  )


def everything(**changes):
  """A recipe in which every operation may happen."""
  return dataclasses.replace(views.simclr(), solarise=0.5, **changes)


def float64(image):
  return np.asarray(image, np.float64)


def test_luma_of_primaries_and_grey():
  primaries = jnp.eye(3).reshape(1, 3, 3)
  np.testing.assert_allclose(colour.luma(primaries), [[0.299, 0.587, 0.114]], rtol=1e-6)
  image = picture()
  expected = float64(image) @ np.array([0.299, 0.587, 0.114])
  for channel in np.moveaxis(np.asarray(colour.greyscale(image)), -1, 0):
    np.testing.assert_allclose(channel, expected, atol=1e-6)
  assert jnp.array_equal(colour.greyscale(picture(channels=1)), picture(channels=1))


def test_solarise_inverts_the_bright_half():
  image = jnp.asarray([0.0, 0.49, 0.5, 1.0]).reshape(1, 4, 1)
  np.testing.assert_allclose(colour.solarise(image)[0, :, 0], [0.0, 0.49, 0.5, 0.0])


@pytest.mark.parametrize("turns", [-0.4, -0.05, 0.0, 0.17, 0.5, 1.25])
def test_hue_rotation_equals_colorsys(turns):
  image = picture(6).at[0, 0].set(jnp.array([0.3, 0.3, 0.3]))
  image = image.at[0, 1].set(jnp.array([1.0, 0.0, 0.0])).at[0, 2].set(jnp.zeros(3))
  expected = np.empty(image.shape)
  for place in np.ndindex(*image.shape[:2]):
    hue, saturation, value = colorsys.rgb_to_hsv(*float64(image[place]))
    expected[place] = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
  np.testing.assert_allclose(colour.rotate_hue(image, turns), expected, atol=2e-6)


def test_hue_jitter_leaves_greys_alone():
  grey = colour.greyscale(picture())
  turned = jitter(KEY, grey, 0.0, 0.0, 0.0, 0.5)
  np.testing.assert_allclose(turned, grey, atol=1e-6)


def test_jitter_without_strength_is_the_identity():
  image = picture()
  np.testing.assert_allclose(jitter(KEY, image, 0.0, 0.0, 0.0, 0.0), image, atol=1e-6)


@pytest.mark.parametrize("strengths", [(0.4, 0, 0, 0), (0, 0.4, 0, 0), (0, 0, 0.4, 0)])
def test_each_jitter_is_a_blend(strengths):
  """One factor in [0.6, 1.4] explains all pixels: x f + other (1 - f)."""
  image = 0.35 + 0.3 * picture()  # nothing is clipped
  out = float64(jitter(KEY, image, *strengths))
  image = float64(image)
  grey = (image @ np.array(colour.LUMA))[..., None]
  other = [0 * grey, np.full_like(grey, grey.mean()), grey][np.argmax(strengths)]
  direction = np.broadcast_to(image - other, image.shape)
  factor = np.sum((out - other) * direction) / np.sum(direction**2)
  assert 0.6 <= factor <= 1.4 and abs(factor - 1) > 1e-3
  np.testing.assert_allclose(out, other + factor * direction, atol=1e-5)


def test_all_orders_of_the_jitter_are_as_likely_and_matter():
  assert len({tuple(row) for row in colour._ORDERS.tolist()}) == 24
  first = colour._ORDERS[:, 0]
  assert [int(np.sum(first == op)) for op in range(3)] == [8, 8, 8]
  assert [int(np.sum(colour._ORDERS[:, 3] == place)) for place in range(4)] == [6] * 4


def test_jitter_in_a_fixed_order_equals_the_reference(monkeypatch):
  """Contrast, then hue, then saturation, then brightness, step by step in float64."""
  monkeypatch.setattr(colour, "_ORDERS", np.array([[1, 2, 0, 1]], np.int32))
  image, strengths = picture(5), (0.8, 0.8, 0.8, 0.2)
  _, factor_key, hue_key = jax.random.split(KEY, 3)
  brightness, contrast, saturation = float64(
    jax.random.uniform(factor_key, (3,), jnp.float32, 0.2, 1.8)
  )
  turns = float(jax.random.uniform(hue_key, (), jnp.float32, -0.2, 0.2))
  x, weights = float64(image), np.array(colour.LUMA)
  x = np.clip(x * contrast + (x @ weights).mean() * (1 - contrast), 0, 1)
  for place in np.ndindex(*x.shape[:2]):
    hue, s, v = colorsys.rgb_to_hsv(*x[place])
    x[place] = colorsys.hsv_to_rgb((hue + turns) % 1, s, v)
  x = np.clip(x * saturation + (x @ weights)[..., None] * (1 - saturation), 0, 1)
  x = np.clip(x * brightness, 0, 1)
  np.testing.assert_allclose(jitter(KEY, image, *strengths), x, atol=1e-5)


def test_whole_crop_is_the_identity():
  image = picture(12)
  out = crop(KEY, image, (12, 12), (1.0, 1.0), (1.0, 1.0))
  np.testing.assert_allclose(out, image, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 6), (9, 7), (15, 20)])
def test_resize_equals_jax_image(size):
  image = picture((9, 7))
  expected = jax.image.resize(image, (*size, 3), "linear", antialias=True)
  np.testing.assert_allclose(resampling.resize(image, size), expected, atol=1e-5)


def test_resample_equals_scale_and_translate():
  image = picture((10, 8))
  corner, extent, size = jnp.array([1.7, 0.4]), jnp.array([6.1, 7.3]), (5, 9)
  scale = jnp.array(size) / extent
  expected = jax.image.scale_and_translate(
    image, (*size, 3), (0, 1), scale, -corner * scale, "linear", antialias=True
  )
  out = resample(image, size, corner, extent)
  np.testing.assert_allclose(out, expected, atol=1e-5)


def test_crop_boxes_have_the_right_area_and_ratio():
  """A crop of the coordinates shows its own box: the slope is its extent."""
  height, width, n = 40, 60, 400
  y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
  ramp = jnp.asarray(np.stack([y / height, x / width, 0 * x], -1), jnp.float32)

  def box(key):
    out = resampling.random_resized_crop(key, ramp, (16, 16), (0.1, 0.5), (0.5, 2.0))
    # Interior pixels only: at an image's edge the interpolation flattens the ramp.
    tall, wide = out[10, 8, 0] - out[5, 8, 0], out[8, 10, 1] - out[8, 5, 1]
    return tall * 16 / 5, wide * 16 / 5, out[8, 8]

  tall, wide, centre = map(np.asarray, jax.jit(jax.vmap(box))(jax.random.split(KEY, n)))
  area, ratio = tall * wide, wide * width / (tall * height)
  assert area.min() > 0.099 and area.max() < 0.501
  assert ratio.min() > 0.495 and ratio.max() < 2.02
  # Log-uniform ratios and uniform places are symmetric; four standard errors.
  assert abs(np.log(ratio).mean()) < 4 * np.log(ratio).std() / n**0.5
  for axis in (0, 1):
    error = 4 * centre[:, axis].std() / n**0.5 + 0.5 / 16
    assert abs(centre[:, axis].mean() - 0.5) < error
  assert abs(area.mean() - 0.3) < 4 * area.std() / n**0.5


def test_crop_falls_back_to_the_centre():
  """No box of the whole area and of ratio 1 fits a 4 x 8 image: its centre is taken."""
  image = picture((4, 8))
  out = crop(KEY, image, (4, 4), (1.0, 1.0), (1.0, 1.0))
  np.testing.assert_allclose(out, image[:, 2:6], atol=1e-6)


@pytest.mark.parametrize("size", [8, (7, 30)])
def test_blur_keeps_constants_and_mass(size):
  flat = jnp.full(picture(size).shape, 0.7)
  np.testing.assert_allclose(blur(KEY, flat, (1.0, 2.0), 0.5), flat, atol=1e-6)
  image = picture(size)
  out = blur(KEY, image, (1.0, 2.0), 0.5)
  np.testing.assert_allclose(out.sum((0, 1)), image.sum((0, 1)), rtol=1e-5)
  assert out.std() < 0.7 * image.std()


def test_blur_of_a_point_is_the_window():
  image = jnp.zeros((21, 21, 1)).at[10, 10].set(1.0)
  out = blur(KEY, image, (1.5, 1.5), 0.3)  # 6 pixels: 3 either way
  density = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
  density /= density.sum()
  expected = np.zeros((21, 21))
  expected[7:14, 7:14] = np.outer(density, density)
  np.testing.assert_allclose(out[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
def test_random_apply_has_its_frequency(probability):
  n = 2000
  apply = lambda key: views.random_apply(
    key, jnp.zeros((1, 1, 1)), probability, lambda _, x: x + 1
  )
  share = float(jnp.mean(jax.jit(jax.vmap(apply))(jax.random.split(KEY, n))))
  error = (probability * (1 - probability) / n) ** 0.5
  assert abs(share - probability) < 4 * error


def test_random_apply_decides_the_certain_cases_statically():
  def fail(key, image):
    raise AssertionError("applied with probability 0")

  image = picture()
  assert views.random_apply(KEY, image, 0.0, fail) is image
  assert views.random_apply(KEY, image, 1.0, lambda _, x: x * 0).sum() == 0


def test_flip_mirrors_left_and_right():
  image = picture()
  flipped = views.horizontal_flip(KEY, image, 1.0)
  assert jnp.array_equal(flipped, image[:, ::-1])
  assert views.horizontal_flip(KEY, image, 0.0) is image


@pytest.mark.parametrize("channels", [1, 3])
def test_views_stay_in_range_and_differ(channels):
  image = jnp.round(picture((16, 12), channels))  # extremes, where overshoot would show
  recipe = everything(size=10)
  keys = jax.random.split(KEY, 64)
  out = jax.jit(jax.vmap(lambda key: views.augment(key, image, recipe)))(keys)
  assert out.shape == (64, 10, 10, channels) and out.dtype == jnp.float32
  assert float(out.min()) >= 0 and float(out.max()) <= 1
  assert len(np.unique(np.asarray(out).mean((1, 2, 3)))) > 60


def test_grey_views_of_one_channel_equal_the_colour_pipeline():
  """Brightness and contrast of a grey image agree with those of its RGB copy."""
  recipe = dataclasses.replace(views.light(), crop_scale=None, jitter=1.0)
  grey = picture(channels=1)
  rgb = jnp.broadcast_to(grey, (8, 8, 3))
  out = augment(KEY, grey, recipe)
  np.testing.assert_allclose(
    augment(KEY, rgb, recipe), jnp.broadcast_to(out, (8, 8, 3)), atol=1e-5
  )


def test_empty_recipe_is_the_identity():
  recipe = views.Recipe(crop_scale=None, flip=0.0)
  image = picture((5, 7))
  assert views.augment(KEY, image, recipe) is image
  assert views.augment(KEY, image, dataclasses.replace(recipe, size=4)).shape == (
    4,
    4,
    3,
  )


def test_grey_is_applied_at_its_frequency():
  recipe = views.Recipe(crop_scale=None, flip=0.0, grey=0.2)
  n, image = 1000, picture(2)
  grey = jax.jit(jax.vmap(lambda key: views.augment(key, image, recipe)))
  out = grey(jax.random.split(KEY, n))
  share = float(jnp.mean(jnp.all(out[..., 0] == out[..., 1], axis=(1, 2))))
  assert abs(share - 0.2) < 4 * (0.2 * 0.8 / n) ** 0.5


def test_jit_equals_eager():
  image, recipe = picture(), everything()
  np.testing.assert_allclose(
    augment(KEY, image, recipe),
    views.augment(KEY, image, recipe),
    atol=1e-5,
  )


def test_moco_v3_recipes_differ_as_published():
  first, second = views.moco_v3(0.2)
  assert (first.blur, first.solarise) == (1.0, 0.0)
  assert (second.blur, second.solarise) == (0.1, 0.2)
  assert first.crop_scale == second.crop_scale == (0.2, 1.0)


def test_views_follow_the_example():
  """Any order, any batch, eight devices: an example's views stay the same."""
  recipe = everything()
  images = jnp.stack([picture(seed=seed) for seed in range(16)])
  indices = jnp.arange(100, 116)
  recipe_b = views.Recipe(flip=0.0)
  views_a, views_b = keyed_views(KEY, indices, images, recipe, recipe_b)
  assert float(jnp.abs(views_a - views_b).max()) > 0.1

  order = np.random.default_rng(0).permutation(16)
  shuffled_a, shuffled_b = keyed_views(
    KEY, indices[order], images[order], recipe, recipe_b
  )
  np.testing.assert_allclose(shuffled_a, views_a[order], atol=1e-5)
  np.testing.assert_allclose(shuffled_b, views_b[order], atol=1e-5)

  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  half = slice(3, 11)
  spread, _ = keyed_views(
    KEY,
    jax.device_put(indices[half], rows),
    jax.device_put(images[half], rows),
    recipe,
    recipe_b,
  )
  assert len(spread.sharding.device_set) == 8
  np.testing.assert_allclose(spread, views_a[half], atol=1e-5)


def test_views_depend_on_key_and_id():
  image = jnp.stack([picture()] * 2)
  recipe = views.Recipe()
  same, _ = keyed_views(KEY, jnp.array([3, 3]), image, recipe, recipe)
  other, _ = keyed_views(KEY, jnp.array([3, 4]), image, recipe, recipe)
  later, _ = keyed_views(
    jax.random.fold_in(KEY, 1), jnp.array([3, 4]), image, recipe, recipe
  )
  assert jnp.array_equal(same[0], same[1]) and jnp.array_equal(same[0], other[0])
  assert not jnp.allclose(other[0], other[1])
  assert not jnp.allclose(other[0], later[0])


def test_normalise_gives_zero_mean_and_unit_scale():
  image = jnp.broadcast_to(jnp.array(views.IMAGENET_MEAN), (2, 4, 4, 3))
  out = views.normalise(image, views.IMAGENET_MEAN, views.IMAGENET_STD)
  np.testing.assert_allclose(out, 0, atol=1e-7)
  out = views.normalise(image + 0.1, views.IMAGENET_MEAN, views.IMAGENET_STD)
  np.testing.assert_allclose(
    out[0, 0, 0], 0.1 / np.array(views.IMAGENET_STD), rtol=1e-5
  )


def test_errors_name_the_cure():
  recipe = views.Recipe()
  with pytest.raises(ValueError, match=r"jax\.vmap"):
    views.augment(KEY, jnp.zeros((2, 4, 4, 3)), recipe)
  with pytest.raises(ValueError, match="divide bytes by 255"):
    views.augment(KEY, jnp.zeros((4, 4, 3), jnp.uint8), recipe)
  with pytest.raises(ValueError, match="one integer id per image"):
    views.keyed_views(KEY, jnp.zeros(2), jnp.zeros((2, 4, 4, 3)), recipe, recipe)
  with pytest.raises(ValueError, match="probability"):
    views.Recipe(blur=1.5)
  with pytest.raises(ValueError, match="crop_scale"):
    views.Recipe(crop_scale=(0.0, 1.0))
  with pytest.raises(ValueError, match="crop_ratio"):
    views.Recipe(crop_ratio=(2.0, 1.0))
  with pytest.raises(ValueError, match="strengths"):
    jitter(KEY, picture(), 0.1, 0.1, 0.1, 0.7)
  with pytest.raises(ValueError, match="each of 1 channels"):
    views.normalise(picture(channels=1), views.IMAGENET_MEAN, views.IMAGENET_STD)
