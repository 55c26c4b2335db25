"""Two modalities with known shared and specific factors: a world of vectors.

An example has discrete attributes, uniform and independent: some that image and text
share, some that the image alone shows, some that the text alone tells. Each modality is
a fixed random function of its attributes and of Gaussian nuisances,

  x = tanh([strength * one-hot attributes, nuisances] W1 + b1) W2 + noise,

so what X_V and X_T know of any attribute is known: an image attribute has log(values)
nats in X_V and none in X_T, and exact alignment must give all of them up.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Factors(NamedTuple):
  """Attributes of n examples, integers below `Sizes.values`.

  Attributes:
    shared: [n, shared] of both modalities.
    image: [n, specific] of the image alone.
    text: [n, specific] of the text alone.
  """

  shared: jax.Array
  image: jax.Array
  text: jax.Array


class Sizes(NamedTuple):
  """Numbers of a world.

  Attributes:
    shared: shared attributes.
    specific: attributes of each modality alone.
    values: of each attribute.
    nuisances: Gaussian ones of each modality.
    hidden: width between the two layers of a mixer.
    width: of an input.
    strength: of an attribute's one-hot code, where a nuisance has deviation 1.
    gain: of the first layer; larger is less linear.
    noise: deviation of the noise on the inputs.
  """

  shared: int = 4
  specific: int = 3
  values: int = 4
  nuisances: int = 8
  hidden: int = 128
  width: int = 64
  strength: float = 1.5
  gain: float = 2.0
  noise: float = 0.05


class Mixer(NamedTuple):
  """Random function of one modality: first [f, hidden], bias [hidden], second."""

  first: jax.Array
  bias: jax.Array
  second: jax.Array


class World(NamedTuple):
  """The two modalities' mixers."""

  image: Mixer
  text: Mixer


def make_world(key: jax.Array, sizes: Sizes) -> World:
  """Draws the mixers of a world.

  Args:
    key: typed PRNG key.
    sizes: of the world.

  Raises:
    ValueError: a count that is not positive, or a negative deviation.
  """
  counts = sizes[:6]
  if min(counts) < 1 or sizes.values < 2:
    raise ValueError(
      f"a world needs at least one of everything and two values, not {sizes}"
    )
  if min(sizes.strength, sizes.gain) <= 0 or sizes.noise < 0:
    raise ValueError(
      f"strength and gain must be positive and noise at least 0, not {sizes.strength}, "
      f"{sizes.gain} and {sizes.noise}"
    )
  inputs = (sizes.shared + sizes.specific) * sizes.values + sizes.nuisances

  def mixer(key):
    first, bias, second = jax.random.split(key, 3)
    scale = sizes.gain * inputs**-0.5
    return Mixer(
      scale * jax.random.normal(first, (inputs, sizes.hidden)),
      0.5 * jax.random.normal(bias, (sizes.hidden,)),
      sizes.hidden**-0.5 * jax.random.normal(second, (sizes.hidden, sizes.width)),
    )

  return World(*map(mixer, jax.random.split(key)))


def draw_factors(key: jax.Array, n: int, sizes: Sizes) -> Factors:
  """Uniform, independent attributes of n examples."""
  shared, image, text = jax.random.split(key, 3)
  draw = lambda key, count: jax.random.randint(key, (n, count), 0, sizes.values)
  return Factors(
    draw(shared, sizes.shared),
    draw(image, sizes.specific),
    draw(text, sizes.specific),
  )


def every_shared(sizes: Sizes) -> jax.Array:
  """All values^shared combinations of the shared attributes, [values^shared, shared].

  With one example of each, the text of an image is the only one with its attributes.
  """
  axes = [jnp.arange(sizes.values)] * sizes.shared
  return jnp.stack([x.ravel() for x in jnp.meshgrid(*axes, indexing="ij")], axis=1)


def render(
  key: jax.Array,
  world: World,
  factors: Factors,
  sizes: Sizes,
  keep: jax.Array | float = 1.0,
) -> dict[str, jax.Array]:
  """Inputs of both modalities; another key is another view of the same examples.

  Args:
    key: typed PRNG key of the nuisances, the noise and what is lost.
    world: the mixers.
    factors: attributes of n examples.
    sizes: of the world.
    keep: chance in [0, 1] of each *specific* attribute to survive, as detail does not
      survive a crop or a dropped word. One that is lost has the code 0.

  Returns:
    "image" and "text": [n, width].
  """
  image, text = jax.random.split(key)
  return {
    "image": _mix(image, world.image, factors.shared, factors.image, sizes, keep),
    "text": _mix(text, world.text, factors.shared, factors.text, sizes, keep),
  }


def _mix(key, mixer, shared, specific, sizes, keep):
  lost, nuisance, noise = jax.random.split(key, 3)
  n = shared.shape[0]
  survives = jax.random.uniform(lost, specific.shape) < keep
  codes = [
    jax.nn.one_hot(shared, sizes.values),
    jax.nn.one_hot(specific, sizes.values) * survives[:, :, None],
  ]
  inputs = jnp.concatenate(
    [
      *(sizes.strength * code.reshape(n, -1) for code in codes),
      jax.random.normal(nuisance, (n, sizes.nuisances)),
    ],
    axis=1,
  )
  hidden = jnp.tanh(inputs @ mixer.first + mixer.bias[None, :])
  return hidden @ mixer.second + sizes.noise * jax.random.normal(
    noise, (n, sizes.width)
  )
