"""Training of the alignment study: one compiled program for all arms.

Everything in which arms differ is a traced number (`Knobs`), and a structure of weight
0 is skipped by `lax.cond`, so that fifty arms compile once. Runs follow one another:
nothing is vmapped over seeds, since jaxlib 0.10.2 miscompiles that on CPU (README,
"Limits"). World, initial parameters and data depend on the run's seed alone, so arms
compare in pairs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from multimodal import paired_factors
from multimodal.aligning import alignment_loss
from multimodal.structures import (
  Bridge,
  Features,
  Geometry,
  Penalty,
  Separation,
  Structures,
  structure_loss,
)
from multimodal.towers import Tower, Towers

# A float, or one that is traced.
Scalar = Any


class Knobs(NamedTuple):
  """What tells arms apart; weights of 0 leave a part out.

  Attributes:
    rate: highest learning rate; 0 leaves the towers untrained.
    four: 1 for the four terms, 0 for CLIP's two.
    penalty: of |z_V - z_T|^2.
    bridge: of the Brownian bridge with augmented images.
    time: of the bridge; negative: sampled, weighted by t (1 - t).
    cyclic: of intra and inter consistency without augmented inputs (CyCLIP's pair).
    geometry: of intra, inter and augmented consistency. Both in the published form,
      the sum over the other rows: weight w is w (N - 1) in the library's default form.
    orthogonality: of that part of the separation.
    contrast: of that part.
    uniformity: of that part.
    literal: of the contrast as printed, whose positive is the row itself.
    keep: chance of a specific attribute to survive augmentation.
  """

  rate: Scalar = 2e-3
  four: Scalar = 0.0
  penalty: Scalar = 0.0
  bridge: Scalar = 0.0
  time: Scalar = 0.25
  cyclic: Scalar = 0.0
  geometry: Scalar = 0.0
  orthogonality: Scalar = 0.0
  contrast: Scalar = 0.0
  uniformity: Scalar = 0.0
  literal: Scalar = 0.0
  keep: Scalar = 1.0


class Plan(NamedTuple):
  """What all arms have in common.

  Attributes:
    sizes: of the world.
    widths: of the encoders' layers; the last is that of the backbone features.
    width: of either head.
    batch: pairs a step, fresh ones each time.
    steps: of AdamW.
    warmup: steps of the linear warm-up before the cosine.
    weight_decay: of matrices.
    clip: norm of the gradient at most.
    temperature: at the start.
  """

  sizes: paired_factors.Sizes
  widths: tuple[int, ...]
  width: int
  batch: int
  steps: int
  warmup: int
  weight_decay: float
  clip: float
  temperature: float


class Encoder(nn.Module):
  """Dense layers with GELU between them and none at the end."""

  widths: tuple[int, ...]

  @nn.compact
  def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
    """Maps [n, d] to [n, widths[-1]]; `train` changes nothing."""
    del train
    x = inputs
    for i, width in enumerate(self.widths):
      x = nn.Dense(width)(nn.gelu(x) if i else x)
    return x


class Keys(NamedTuple):
  """Typed PRNG keys of a run: all that its seed decides."""

  world: jax.Array
  start: jax.Array
  stream: jax.Array
  evaluation: jax.Array


class Batch(NamedTuple):
  """Inputs of both modalities: the examples and another view of each, [n, width]."""

  inputs: dict[str, jax.Array]
  views: dict[str, jax.Array]


_MAX_SCALE = 100.0


def run_keys(seed: int, run_seed: int) -> Keys:
  """Keys of the run with this seed in the study with that one; the same in all arms."""
  key = jax.random.fold_in(jax.random.key(seed), run_seed)
  return Keys(*jax.random.split(key, 4))


def make_towers(plan: Plan) -> Towers:
  """Two towers, each with a shared and a specific head."""
  tower = lambda: Tower(Encoder(plan.widths), width=plan.width, specific=True)
  return Towers({"image": tower(), "text": tower()})


def draw_batch(
  key: jax.Array,
  world: paired_factors.World,
  plan: Plan,
  keep: jax.Array | float,
) -> Batch:
  """A fresh batch; the examples do not depend on `keep`, only the views do."""
  factor_key, input_key, view_key = jax.random.split(key, 3)
  factors = paired_factors.draw_factors(factor_key, plan.batch, plan.sizes)
  look = (world, factors, plan.sizes)
  return Batch(
    paired_factors.render(input_key, *look),
    paired_factors.render(view_key, *look, keep),
  )


@functools.cache  # one compilation for all studies of a process
def make_train(plan: Plan) -> Callable[[Keys, Knobs], dict[str, Any]]:
  """Builds the jitted `train(keys, knobs)`, which returns the parameters.

  They are {"towers": variables of the towers, "log_scale": []}.
  """
  towers = make_towers(plan)
  adam = optax.chain(optax.clip_by_global_norm(plan.clip), optax.scale_by_adam())
  shape = optax.warmup_cosine_decay_schedule(
    0.0, 1.0, plan.warmup, max(plan.steps, plan.warmup + 1)
  )

  def train(keys: Keys, knobs: Knobs) -> dict[str, Any]:
    world = paired_factors.make_world(keys.world, plan.sizes)
    start = initial(towers, plan, keys.start)

    def step(state, number):
      params, moments = state
      key = jax.random.fold_in(keys.stream, number)
      batch = draw_batch(key, world, plan, knobs.keep)
      # Sampled times are no part of the stream that all arms share.
      time_key = jax.random.fold_in(key, 3)
      gradient = jax.grad(total_loss)(params, towers, batch, knobs, time_key)
      update, moments = adam.update(gradient, moments)
      rate = knobs.rate * shape(number)

      def move(value, change):
        decay = plan.weight_decay if value.ndim > 1 else 0.0
        return value - rate * (change + decay * value)

      params = jax.tree.map(move, params, update)
      limit = jnp.log(_MAX_SCALE)
      params["log_scale"] = jnp.clip(params["log_scale"], 0.0, limit)
      return (params, moments), None

    state, _ = jax.lax.scan(step, (start, adam.init(start)), jnp.arange(plan.steps))
    return state[0]

  return jax.jit(train)


def initial(towers: Towers, plan: Plan, key: jax.Array) -> dict[str, Any]:
  """Parameters at the start of a run."""
  sample = jnp.zeros((1, plan.sizes.width))
  params = towers.init(key, {"image": sample, "text": sample})["params"]
  return {"towers": params, "log_scale": -jnp.log(jnp.float32(plan.temperature))}


def total_loss(params, towers: Towers, batch: Batch, knobs: Knobs, key) -> jax.Array:
  """Alignment and the structures of an arm, a scalar in nats."""
  n = batch.inputs["image"].shape[0]
  both = {
    name: jnp.concatenate([x, batch.views[name]]) for name, x in batch.inputs.items()
  }
  found: Any = towers.forward({"params": params["towers"]}, both)
  made = found[0]
  features = Features(
    shared={name: tower.shared[:n] for name, tower in made.items()},
    shared_view={name: tower.shared[n:] for name, tower in made.items()},
    specific={name: tower.specific[:n] for name, tower in made.items()},
    specific_view={name: tower.specific[n:] for name, tower in made.items()},
  )
  scale = jnp.exp(params["log_scale"])

  def align(terms):
    rows = alignment_loss(
      features.shared, features.shared_view, scale=scale, terms=terms
    )
    return jnp.mean(rows)

  value = jax.lax.cond(knobs.four > 0, lambda: align("four"), lambda: align("two"))
  for used, structures in _structures(knobs):

    def add(structures=structures):
      return jnp.mean(structure_loss(features, structures, scale=scale, key=key)[0])

    value += jax.lax.cond(used, add, lambda: jnp.zeros(()))
  return value


def _structures(knobs: Knobs) -> list[tuple[Scalar, Structures]]:
  """Whether each structure is used, and what it is."""
  parts: Any = dict(orthogonality=knobs.orthogonality, uniformity=knobs.uniformity)
  bridge: Any = dict(weight=knobs.bridge, augmented=("image",))
  paper: Any = dict(reduction="paper")
  fixed = knobs.time >= 0
  time: Any = jnp.maximum(knobs.time, 0.0)
  separated = knobs.orthogonality + knobs.contrast + knobs.uniformity > 0
  return [
    (
      separated,
      Structures(separation=Separation(contrast=knobs.contrast, **parts)),
    ),
    (
      knobs.literal > 0,
      Structures(
        separation=Separation(
          orthogonality=0.0, contrast=knobs.literal, uniformity=0.0, literal=True
        )
      ),
    ),
    (
      (knobs.bridge > 0) & fixed,
      Structures(bridge=Bridge(t=time, **bridge)),
    ),
    ((knobs.bridge > 0) & ~fixed, Structures(bridge=Bridge(t=None, **bridge))),
    (
      knobs.cyclic > 0,
      Structures(geometry=Geometry(weight=knobs.cyclic, augmented=0.0, **paper)),
    ),
    (
      knobs.geometry > 0,
      Structures(geometry=Geometry(weight=knobs.geometry, **paper)),
    ),
    (knobs.penalty > 0, Structures(penalty=Penalty(weight=knobs.penalty))),
  ]
