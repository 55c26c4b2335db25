"""What is read off the frozen towers of a run of the alignment study.

Probes predict one shared attribute, one of the image's own, one of the text's own, and
the pair of the last two ("mixed"), from parts of the embeddings: linear and by a small
network, with and without noise on the features. Noise matters: noise-free features of
cosine near 1 can still hide everything in a small residual.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import diagnostics
from experiments.engine.evaluation import few_shot, tables
from experiments.engine.studies import alignment_probes
from experiments.engine.studies.alignment_training import Keys, Plan, make_towers
from multimodal import gap, paired_factors, retrieval


class Reading(NamedTuple):
  """A label and the parts of the features that predict it; `mlp` for both probes."""

  label: str
  source: str
  parts: tuple[str, ...]
  mlp: bool

  @property
  def name(self) -> str:
    """As in tables: specific_image/z."""
    return f"{self.label}/{self.source}"


# Parts of one tower by the name of their source.
_SOURCES = {"z": ("z",), "own": ("own",), "both": ("z", "own"), "h": ("h",)}


def _readings() -> tuple[Reading, ...]:
  made = []
  for label, sources, small_network in (
    ("shared_image", ("z", "own", "both", "h"), ("z",)),
    ("specific_image", ("z", "own", "both", "h"), ("z", "own", "both", "h")),
    ("shared_text", ("z",), ()),
    ("specific_text", ("z", "own", "both"), ("both",)),
  ):
    side = label.rpartition("_")[2]
    for source in sources:
      parts = tuple(f"{side}.{part}" for part in _SOURCES[source])
      made.append(Reading(label, source, parts, source in small_network))
  pair = ("image.z", "text.z")
  everything = (*pair, "image.own", "text.own")
  made += [
    Reading("specific_image", "pair", pair, True),
    Reading("mixed", "pair", pair, True),
    Reading("mixed", "all", everything, True),
  ]
  return tuple(made)


READINGS = _readings()


class Examination(NamedTuple):
  """Sizes of the evaluation.

  Attributes:
    train: examples of a probe's training split.
    test: examples that it is tested on.
    noise: sizes of the features' noise, relative to their spread; 0 is none.
    inverse_penalty: C of the linear probe, the same for all.
    mlp_hidden: units of the other probe; 0 leaves it out.
    mlp_steps: of Adam, in batches of 256.
    draws: of five shots.
    galleries: of retrieval, each with every combination of shared attributes once.
    prompts: texts a class for zero-shot classification.
  """

  train: int
  test: int
  noise: tuple[float, ...]
  inverse_penalty: float
  mlp_hidden: int
  mlp_steps: int
  draws: int
  galleries: int
  prompts: int


class Split(NamedTuple):
  """Embedded examples: features by part, such as "image.z", and labels."""

  features: dict[str, np.ndarray]
  labels: dict[str, np.ndarray]


def make_reader(
  plan: Plan, exam: Examination
) -> Callable[[Keys, Any], dict[str, float]]:
  """Builds `read(keys, params)`, which returns all metrics of a run by name."""
  embed = _make_embed(plan)

  def read(keys: Keys, params: Any) -> dict[str, float]:
    world = paired_factors.make_world(keys.world, plan.sizes)
    children = jax.random.split(keys.evaluation, 6)
    splits = []
    for key, n in zip(children[:2], (exam.train, exam.test), strict=True):
      factors, made = embed(key, world, params, None, n)
      splits.append(_split(factors, made, plan.sizes))
    found = {"scale": float(np.exp(params["log_scale"]))}
    found |= _probes(splits, exam, children[2])
    found |= _few_shot(splits, exam, plan.sizes.values)
    found |= _geometry(splits[1])
    take = functools.partial(embed, world=world, params=params)
    found |= _retrieval(children[3], take, exam, plan)
    found |= _zero_shot(children[4], take, splits[1], exam, plan)
    return found

  return read


@functools.cache  # as `make_train`
def _make_embed(plan: Plan):
  towers = make_towers(plan)

  @functools.partial(jax.jit, static_argnames="n")
  def embed(key, world, params, factors, n):
    factor_key, input_key = jax.random.split(key)
    if factors is None:
      factors = paired_factors.draw_factors(factor_key, n, plan.sizes)
    inputs = paired_factors.render(input_key, world, factors, plan.sizes)
    variables = {"params": params["towers"]}
    made = {name: towers.embed(variables, name, x) for name, x in inputs.items()}
    return factors, made

  return embed


def _split(factors, made, sizes) -> Split:
  """The first attribute of each kind is the label."""
  features = {}
  for name, embedded in made.items():
    features[f"{name}.z"] = np.asarray(embedded.shared)
    features[f"{name}.own"] = np.asarray(embedded.specific)
    features[f"{name}.h"] = np.asarray(embedded.features)
  image, text = np.asarray(factors.image)[:, 0], np.asarray(factors.text)[:, 0]
  shared = np.asarray(factors.shared)[:, 0]
  labels = {
    "shared_image": shared,
    "shared_text": shared,
    "specific_image": image,
    "specific_text": text,
    "mixed": image * sizes.values + text,
    "few_shot": shared * sizes.values + image,
  }
  return Split(features, labels)


def _probes(splits, exam: Examination, key) -> dict[str, float]:
  """Accuracy, and cross entropy in nats, of every reading at every noise."""
  found: dict[str, float] = {}
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  for size in exam.noise:
    train, test = noisy(splits[0], splits[1], size, rng)
    mark = f"@{size:g}" if size else ""
    for reading in READINGS:
      known, asked = (
        tables.Table(
          np.concatenate([split.features[part] for part in reading.parts], axis=1),
          split.labels[reading.label],
        )
        for split in (train, test)
      )
      scores = {
        "linear": alignment_probes.linear_scores(known, asked, exam.inverse_penalty)
      }
      if reading.mlp and exam.mlp_hidden:
        sizes = exam.mlp_hidden, exam.mlp_steps
        scores["mlp"] = alignment_probes.mlp_scores(known, asked, *sizes)
      for kind, logits in scores.items():
        name = f"{reading.name}/{kind}{mark}"
        found[name], found[f"{name}/nats"] = alignment_probes.quality(
          logits, asked.labels
        )
  return found


def noisy(train: Split, test: Split, size: float, rng) -> tuple[Split, Split]:
  """Both splits with Gaussian noise, relative to each part's spread in training.

  The spread is the root mean square over all centred entries: a tower's constant
  offset counts for nothing, and no coordinate is spared.
  """
  if size == 0:
    return train, test
  made: list[dict[str, np.ndarray]] = [{}, {}]
  for part, x in train.features.items():
    deviation = size * float(np.sqrt(np.mean(np.var(x, axis=0))))
    for features, split in zip(made, (train, test), strict=True):
      clean = split.features[part]
      noise = rng.standard_normal(clean.shape).astype(np.float32)
      features[part] = clean + np.float32(deviation) * noise
  return Split(made[0], train.labels), Split(made[1], test.labels)


def _few_shot(splits, exam: Examination, values: int) -> dict[str, float]:
  """Five shots of each (shared, image's own) pair, values^2 classes."""
  found = {}
  for source, parts in (("z", ("z",)), ("both", ("z", "own"))):
    train, test = (
      tables.Table(
        np.concatenate([split.features[f"image.{part}"] for part in parts], axis=1),
        split.labels["few_shot"],
      )
      for split in splits
    )
    accuracies = few_shot.draw_accuracies(
      train, test, num_classes=values**2, shots=5, draws=exam.draws
    )
    found[f"few_shot/{source}"] = float(accuracies.mean())
  return found


def _geometry(test: Split) -> dict[str, float]:
  """How the two towers' shared embeddings lie."""
  image, text = test.features["image.z"], test.features["text.z"]
  own = np.sum(image * test.features["image.own"], axis=1)
  return {
    "modality_gap": gap.modality_gap(image, text),
    "paired_cosine": float(np.mean(np.sum(image * text, axis=1))),
    "squared_overlap": float(np.mean(own**2)),
    "uniformity": float(diagnostics.uniformity(jnp.asarray(image))),
  }


def _retrieval(key, take, exam: Examination, plan: Plan) -> dict[str, float]:
  """R@1, image to text, among one pair of every combination of shared attributes."""
  shared = paired_factors.every_shared(plan.sizes)
  hits = []
  for number in range(exam.galleries):
    child = jax.random.fold_in(key, number)
    other, look = jax.random.split(child)
    drawn = paired_factors.draw_factors(other, len(shared), plan.sizes)
    made = take(look, factors=drawn._replace(shared=shared), n=len(shared))[1]
    numbers = np.arange(len(shared))
    hits.append(
      retrieval.recall_at(
        np.asarray(made["image"].shared),
        np.asarray(made["text"].shared),
        numbers,
        numbers,
        ks=(1,),
      )["recall@1"]
    )
  return {"recall@1": float(np.mean(hits))}


def _zero_shot(key, take, test: Split, exam: Examination, plan: Plan):
  """Accuracy on the first shared attribute by the mean of texts that have a value.

  All else in a prompt is drawn at random, as a sentence about a class says some of it.
  """
  values, count = plan.sizes.values, plan.sizes.values * exam.prompts
  other, look = jax.random.split(key)
  drawn = paired_factors.draw_factors(other, count, plan.sizes)
  classes = jnp.repeat(jnp.arange(values), exam.prompts)
  factors = drawn._replace(shared=drawn.shared.at[:, 0].set(classes))
  texts = np.asarray(take(look, factors=factors, n=count)[1]["text"].shared)
  weights = retrieval.zero_shot_weights(texts.reshape(values, exam.prompts, -1))
  labels = test.labels["shared_image"]
  top = retrieval.zero_shot_accuracy(test.features["image.z"], weights, labels, ks=(1,))
  return {"zero_shot": top["top1"]}
