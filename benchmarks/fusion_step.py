"""Our training step of a fusion model, as `experiments.pretrain` makes it of a config.

Data are drawn, and pictures are not augmented; all else is the run's.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import fusion as configs
from experiments.engine import optimizer, session, state
from experiments.engine.pretraining.fusion_method import Masking, build_fusion_method
from experiments.engine.pretraining.fusion_network import FusionNetwork, build_fusion
from experiments.engine.pretraining.fusion_objective import build_fusion_objective
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.step import Batch, Step, make_step
from multimodal import tokenizer

_SHORTEST = 6  # caption, with its two ends


class Made(NamedTuple):
  """A step and what it takes.

  Attributes:
    network: the model.
    step: (state, batch, key) -> (state, metrics).
    init: key -> state.
    batch: drawn bytes and tokens.
    key: of the run.
  """

  network: FusionNetwork
  step: Step
  init: Any
  batch: Batch
  key: jax.Array


def read_config(args: Any) -> ml_collections.ConfigDict:
  """The config of `args.preset`, changed by what else is given."""
  config = configs.get_config(args.preset)
  config.view = ""
  config.objective.ramp_epochs = 0.0  # the momentum copy counts from the first step
  for place, key, value in (
    (config, "batch", args.batch),
    (config, "dtype", args.dtype),
    (config, "remat", args.remat),
    (config.data, "image_size", args.side),
    (config.model, "size", args.size),
    (config.model, "context", args.context),
    (config.objective, "queue_size", args.queue),
  ):
    if value is not None:
      place[key] = value
  return config


def channels(numbers: tuple[float, ...]) -> tuple[float, ...]:
  """One number a channel, of one for all or of three."""
  return tuple(numbers) * (3 // len(numbers))


def make(config: ml_collections.ConfigDict, batch: int) -> Made:
  """The step of a config for a batch of so many pairs."""
  network = build_fusion(config)
  data, knobs = config.data, config.objective
  objective = build_fusion_objective(config, network, 0)
  image = Reading(channels(data.mean), channels(data.std))
  hidden = Masking(knobs.mask_rate if knobs.masking else 0.0, bool(knobs.alpha))
  tx = optimizer.build_optimizer(
    config.optimizer, lambda step: config.optimizer.learning_rate
  )
  momentum = optimizer.target_momentum(config.target_momentum, 1, constant=True)
  images, tokens = draw(batch, data.image_size, network.context)
  sample = {"image": images[:2].astype(np.float32), "text": tokens[:2]}

  def init(key):
    return state.init_state(
      key, network, objective, tx, sample=sample, examples=batch, with_target=True
    )

  rows = np.arange(batch, dtype=np.int32)
  inputs = {"image": {"base": images}, "text": {"base": tokens}}
  _, key = session.keys(config.seed)
  return Made(
    network,
    make_step(
      build_fusion_method(network, image, hidden), objective, tx, momentum=momentum
    ),
    init,
    Batch(inputs, rows, rows),
    key,
  )


def draw(n: int, side: int, context: int) -> tuple[np.ndarray, np.ndarray]:
  """Bytes [n, side, side, 3], and token ids [n, context] of captions of any length."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (n, side, side, 3), np.uint8)
  words = tokenizer.MASK + 1, tokenizer.load().vocabulary_size
  tokens = rng.integers(*words, (n, context), np.int32)
  ends = rng.integers(_SHORTEST - 1, context, n)
  tokens[np.arange(context)[None, :] > ends[:, None]] = tokenizer.PAD
  tokens[:, 0] = tokenizer.START
  tokens[np.arange(n), ends] = tokenizer.END
  return images, tokens


def older_keys(size: int, width: int) -> tuple[np.ndarray, np.ndarray]:
  """Unit rows [size, width] of images and of texts, as if of earlier batches."""
  rows = np.random.default_rng(1).standard_normal((2, size, width), np.float32)
  rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
  return rows[0], rows[1]


def fill_queues(before: state.TrainState) -> state.TrainState:
  """The state with full queues, if it has any."""
  queues = before.objective.queues
  if queues is None:
    return before
  rows = map(jnp.asarray, older_keys(*queues.image.keys.shape))
  both = zip((queues.image, queues.text), rows, strict=True)
  image, text = (queue._replace(keys=keys) for queue, keys in both)
  queues = queues._replace(image=image, text=text)
  return before.replace(objective=before.objective._replace(queues=queues))


def compiled(made: Made) -> jax.stages.Compiled:
  """The step for these shapes, with its state given away; nothing is computed."""
  state, batch, key = jax.eval_shape(
    lambda: (made.init(jax.random.key(0)), made.batch, made.key)
  )
  return jax.jit(made.step, donate_argnums=0).lower(state, batch, key).compile()
