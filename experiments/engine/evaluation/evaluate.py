"""Evaluation of frozen features: embed each split once, then measure the tables.

`embed` turns images into a table; `evaluate_features` runs the linear probe, k nearest
neighbours, few-shot classification and diagnostics on a training and a test table. The
pixel baseline is the same call on flattened pixels. All that is chosen (penalty, k,
temperature) is chosen on the training split.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from contrastive import diagnostics
from experiments.engine import errors
from experiments.engine.evaluation import few_shot, metrics, neighbours, probing, tables
from experiments.engine.reporting import curves

_Kind = TypeVar("_Kind")


@dataclasses.dataclass(frozen=True)
class Settings:
  """What to measure; a config gives any of these by name.

  Attributes:
    seed: of every draw: validation examples, shots, rows for the diagnostics.
    probe: whether to fit the linear probe.
    probe_grid: values of scikit-learn's C to choose from.
    probe_validation: share of the training split that chooses among them.
    knn: whether to classify by nearest neighbours.
    knn_ks: numbers of neighbours to choose from, cut to the training split.
    knn_temperatures: temperatures to choose from; infinity gives equal votes.
    few_shot: whether to classify from a few examples of each class.
    shots: numbers of examples of each class.
    draws: number of draws of each of `shots`.
    few_shot_classifiers: that are fitted on them: "ridge" (closed form), "softmax".
    diagnostics: whether to measure the geometry of the test features.
    diagnostics_rows: most rows that it takes, since it looks at all pairs.
    untrained: whether pretraining also fits the probe to the features of its network
      as it was before the first step, the baseline of what training added.
  """

  seed: int = 0
  probe: bool = True
  probe_grid: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
  probe_validation: float = 0.2
  knn: bool = True
  knn_ks: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 200)
  knn_temperatures: tuple[float, ...] = (0.02, 0.07, 0.2, float("inf"))
  few_shot: bool = True
  shots: tuple[int, ...] = (1, 5, 20)
  draws: int = 5
  few_shot_classifiers: tuple[str, ...] = ("ridge",)
  diagnostics: bool = True
  diagnostics_rows: int = 5000
  untrained: bool = False


def named_settings(kind: type[_Kind], config: Mapping[str, Any]) -> _Kind:
  """A dataclass of settings from a flat config; names only are checked.

  Raises:
    UsageError: for an unknown name.
  """
  known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
  for name in config:
    if name not in known:
      raise errors.unknown("evaluation setting", name, known)
  return kind(**config)


def read_settings(config: Mapping[str, Any]) -> Settings:
  """Settings from a flat config; what it does not name keeps its default.

  Raises:
    UsageError: for an unknown name, or a value out of range.
  """
  settings = named_settings(Settings, config)
  for name in ("probe_grid", "knn_ks", "knn_temperatures", "shots"):
    values = getattr(settings, name)
    if not len(values) or min(values) <= 0:
      raise errors.UsageError(f"{name} must list numbers above 0, not {values}")
  for name in settings.few_shot_classifiers:
    if name not in few_shot.CLASSIFIERS:
      raise errors.unknown("few-shot classifier", name, few_shot.CLASSIFIERS)
  if not 0 < settings.probe_validation < 1:
    raise errors.UsageError(
      f"probe_validation must lie between 0 and 1, not {settings.probe_validation}"
    )
  for name, least in (("draws", 1), ("diagnostics_rows", 2)):
    if getattr(settings, name) < least:
      raise errors.UsageError(
        f"{name} must be at least {least}, not {getattr(settings, name)}"
      )
  if settings.untrained and not settings.probe:
    raise errors.UsageError(
      "untrained fits the linear probe to the untrained network; set probe=True too"
    )
  return settings


def check_labels(
  train_labels: np.ndarray, test_labels: np.ndarray, settings: Settings
) -> int:
  """The number of classes, if the settings can be carried out on these labels.

  An entry point calls it before training, so that nothing fails after hours.

  Raises:
    UserError: for labels that are not integers from 0, a class without training
      example, or fewer examples of a class than shots.
  """
  tables.require_labels(train_labels, "train")
  tables.require_labels(test_labels, "test")
  num_classes = int(max(train_labels.max(), test_labels.max())) + 1
  tables.require_classes(train_labels, num_classes)
  if settings.few_shot:
    few_shot.require_shots(train_labels, max(settings.shots), num_classes)
  return num_classes


@jax.jit
def _embed_batch(apply, rows):
  return apply(rows).astype(jnp.float32)


def embed(
  apply: Callable[[Any], jax.Array],
  inputs: Any,
  *,
  batch: int = 256,
  split: str = "input",
) -> np.ndarray:
  """Embeds a split, batch by batch, on all devices of this process.

  Args:
    apply: rows -> features [b, d], row by row (no batch statistics). Give parameters
      as `jax.tree_util.Partial(function, parameters)`: they are then arguments of the
      compiled program, where a closure would build them into it.
    inputs: rows as the model takes them, such as uint8 images [n, h, w, c] or tokens
      [n, t], n >= 1; a tree of such arrays works too.
    batch: rows at once, rounded up to a multiple of the number of devices. Every batch
      has this size: the last is filled with copies of its last row, dropped afterwards.
    split: the name that an error calls the rows by.

  Returns:
    [n, d] float32 features.

  Raises:
    UserError: if features are not finite, or not one vector a row.
  """
  devices = np.array(jax.local_devices())
  mesh = jax.sharding.Mesh(devices, ("rows",))
  over_rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  apply = jax.device_put(jax.tree_util.Partial(apply), everywhere)
  n = len(jax.tree.leaves(inputs)[0])
  batch = -(-min(batch, n) // len(devices)) * len(devices)
  parts: list[Any] = []
  for start in range(0, n, batch):
    places = np.minimum(np.arange(start, start + batch), n - 1)
    rows = jax.tree.map(lambda x, places=places: np.asarray(x[places]), inputs)
    part = _embed_batch(apply, jax.device_put(rows, over_rows))
    if part.ndim != 2 or len(part) != batch:
      raise errors.UserError(
        f"the model gave features of shape {part.shape} for {batch} {split} rows, but "
        "evaluation needs one vector a row; pool over space or tokens first"
      )
    parts.append(part)
    # The batch before is fetched while this one is computed.
    if start:
      parts[-2] = np.asarray(parts[-2])
  features = np.concatenate([np.asarray(part) for part in parts])[:n]
  tables.require_finite(features, split)
  return features


def evaluate_features(
  train: tables.Table, test: tables.Table, *, config: Mapping[str, Any]
) -> dict[str, float]:
  """Measures frozen features: probe, neighbours, few shots, geometry.

  Args:
    train: features [n, d] and labels [n] (a plain pair will do); all that is fitted or
      chosen sees only these.
    test: features [m, d] and labels [m], measured once with what was chosen.
    config: any fields of `Settings`, flat.

  Returns:
    Numbers by name. chance/top1 is the test accuracy of always naming the most
    frequent training class. probe/*, knn/* have the names of
    `metrics.accuracy_report` and what was chosen (probe/c, probe/validation_top1,
    knn/k, knn/inverse_temperature, knn/leave_one_out_top1). fewshot_S/top1 (ridge) and
    fewshot_S_softmax/top1 are means over draws, with Student's 95 % interval (_low,
    _high) from two draws on. diagnostics/* describe the test features.

  Raises:
    UserError: for features that are not finite, or labels that cannot be learnt.
    UsageError: for settings that make no sense.
  """
  settings = read_settings(config)
  train, test = (
    tables.Table(np.asarray(features), np.asarray(labels))
    for features, labels in (train, test)
  )
  num_classes = check_labels(train.labels, test.labels, settings)
  tables.require_features(train, "train")
  tables.require_features(test, "test")
  if train.features.shape[1] != test.features.shape[1]:
    raise errors.UserError(
      f"train features have width {train.features.shape[1]} and test features "
      f"{test.features.shape[1]}; embed both with the same model"
    )
  commonest = np.bincount(train.labels).argmax()
  report = {"chance/top1": float(np.mean(test.labels == commonest))}
  if settings.probe:
    report |= _named("probe", _probe(train, test, num_classes, settings))
  if settings.knn:
    report |= _named("knn", _knn(train, test, num_classes, settings))
  if settings.few_shot:
    for shots in settings.shots:
      for name in settings.few_shot_classifiers:
        measured = _few_shot(train, test, num_classes, shots, settings, name)
        kind = "" if name == "ridge" else f"_{name}"
        report |= _named(f"fewshot_{shots}{kind}", measured)
  if settings.diagnostics:
    report |= _named("diagnostics", _diagnose(test.features, settings))
  return report


def probe_top1(
  train: tables.Table, test: tables.Table, *, config: Mapping[str, Any]
) -> float:
  """Test accuracy of the linear probe alone: probe/top1 of `evaluate_features`."""
  alone = {"probe": True, "knn": False, "few_shot": False, "diagnostics": False}
  report = evaluate_features(train, test, config={**config, **alone})
  return report["probe/top1"]


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
  return {f"{prefix}/{name}": float(value) for name, value in values.items()}


def _probe(train, test, num_classes, settings):
  probe = probing.fit_probe(
    train,
    num_classes=num_classes,
    grid=settings.probe_grid,
    validation=settings.probe_validation,
    seed=settings.seed,
  )
  report = metrics.accuracy_report(probe.scores(test.features), test.labels)
  if len(probe.validation_accuracies):
    report["validation_top1"] = probe.validation_accuracies.max()
  return report | {"c": probe.c}


def _knn(train, test, num_classes, settings):
  choice = neighbours.choose_settings(
    train.features,
    train.labels,
    num_classes=num_classes,
    ks=settings.knn_ks,
    temperatures=settings.knn_temperatures,
    seed=settings.seed,
  )
  found = neighbours.find_neighbours(
    train.features, train.labels, test.features, k=choice.k
  )
  scores = neighbours.vote(
    found, k=choice.k, temperature=choice.temperature, num_classes=num_classes
  )
  return metrics.accuracy_report(scores, test.labels) | {
    "k": choice.k,
    "inverse_temperature": 1 / choice.temperature,
    "leave_one_out_top1": choice.accuracy,
  }


def _few_shot(train, test, num_classes, shots, settings, classifier):
  accuracies = few_shot.draw_accuracies(
    train,
    test,
    num_classes=num_classes,
    shots=shots,
    draws=settings.draws,
    seed=settings.seed,
    classifier=classifier,
  )
  report = {"top1": accuracies.mean()}
  if len(accuracies) > 1:
    interval = curves.interval(accuracies)
    report |= {"top1_low": interval.low, "top1_high": interval.high}
  return report


def _diagnose(features, settings):
  if len(features) < 2:
    return {}
  order = np.random.default_rng(settings.seed).permutation(len(features))
  z = jnp.asarray(features[order[: settings.diagnostics_rows]])
  state = diagnostics.collapse(z)
  return {
    "uniformity": diagnostics.uniformity(z, block_size=512),
    "effective_rank": diagnostics.effective_rank(z),
    "energy_rank": diagnostics.energy_rank(z),
    "std_ratio": state["std_ratio"],
    "mean_cosine": state["mean_cosine"],
    "collapsed": state["collapsed"],
  }
