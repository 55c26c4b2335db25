"""Evaluation of frozen towers: retrieval, zero-shot, probes, few shots, geometry.

A split is embedded once by each tower; everything else reads the tables. What is
fitted or chosen sees the training tables only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from contrastive import diagnostics
from experiments.engine import errors
from experiments.engine.evaluation import evaluate, tables
from experiments.engine.evaluation.paired_settings import PARTS, Settings
from multimodal import pairing, prompts, retrieval


class TowerTable(NamedTuple):
  """What a tower makes of a split.

  Attributes:
    parts: "shared" [m, d], "features" [m, f] and, with such a head, "specific" [m, d].
    example: [m] the example of each row, rising; a text tower has a row for each
      caption.
  """

  parts: Mapping[str, np.ndarray]
  example: np.ndarray

  def first_rows(self) -> np.ndarray:
    """[n] the first row of each example."""
    return np.unique(self.example, return_index=True)[1]

  def part(self, name: str) -> np.ndarray:
    """A part by its name; "both" is the shared and the specific one side by side."""
    if name == "both":
      return np.concatenate([self.parts["shared"], self.parts["specific"]], axis=1)
    return self.parts[name]


class Split(NamedTuple):
  """An embedded split.

  Attributes:
    towers: tables by tower.
    attributes: int [n] labels by name, or [n, captions] with one for each caption;
      below 0 where there is none.
  """

  towers: Mapping[str, TowerTable]
  attributes: Mapping[str, np.ndarray]


def check_attributes(
  settings: Settings, train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]
) -> None:
  """Refuses before training what `evaluate_split` would refuse after it.

  Args:
    settings: what will be measured.
    train: labels of the training split, as in `Split.attributes`.
    test: those of the test split.

  Raises:
    UsageError: for an attribute to probe that the data set has no labels of.
    UserError: as `evaluate_split`, for labels that are too few.
  """
  for name in settings.attributes if settings.fits else ():
    if name not in test:
      raise errors.unknown("attribute", name, test)
  if settings.zero_shot and "class" in test:
    _known(test, "class", "test")
  if not (test and settings.fits):
    return
  rows = training_rows(settings, train)
  for name in settings.attributes or tuple(test):
    fitted_on = _known({name: train[name][rows]}, name, "training").labels
    asked = _known(test, name, "test").labels
    if knobs := _knobs(name, settings):
      evaluate.check_labels(fitted_on, asked, evaluate.Settings(**knobs))


def training_rows(
  settings: Settings, attributes: Mapping[str, np.ndarray]
) -> np.ndarray:
  """The first `settings.rows` examples that have a label of some attribute."""
  known = [_first_labels(labels) >= 0 for labels in attributes.values()]
  return np.flatnonzero(np.any(known, axis=0))[: settings.rows]


def evaluate_split(
  train: Split | None,
  test: Split,
  settings: Settings,
  *,
  class_weights: np.ndarray | None = None,
  classified: str = "",
) -> dict[str, float]:
  """Measures embedded towers.

  Retrieval and geometry take all examples; what asks for an attribute, and its chance,
  those that have a label of it.

  Args:
    train: what probes are fitted on; None leaves them out.
    test: measured.
    settings: what to measure.
    class_weights: [c, d] zero-shot classifiers, or None for none.
    classified: tower whose rows they classify.

  Returns:
    Numbers by name: A_to_B/recall@k and A_to_B/median_rank for towers A and B;
    zero_shot/topk; probe/TOWER/ATTRIBUTE/PART and chance/ATTRIBUTE (naming the
    commonest label); fewshot_S/TOWER/PART; geometry/*.

  Raises:
    UserError: no example of a split has a label that is asked for, or what
      `evaluate.evaluate_features` raises.
  """
  report: dict[str, float] = {}
  if settings.retrieval:
    report |= _retrieval(test, settings)
  if class_weights is not None:
    asked = _known(test.attributes, "class", "test")
    images = test.towers[classified]
    found = retrieval.zero_shot_accuracy(
      images.parts["shared"][images.first_rows()[asked.examples]],
      class_weights,
      asked.labels,
      ks=settings.guesses,
    )
    report |= {f"zero_shot/{name}": value for name, value in found.items()}
  if train is not None and settings.fits:
    report |= _probes(train, test, settings)
  if settings.geometry:
    report |= _geometry(test)
  return report


def embed_prompts(
  embed: Callable[[Sequence[str]], np.ndarray],
  class_names: Sequence[str],
  template_set: str,
) -> np.ndarray:
  """Zero-shot classifiers [c, d]: prompt ensembles of a set for each class.

  Args:
    embed: texts -> [m, d] shared embeddings.
    class_names: words of each class.
    template_set: name in `prompts.TEMPLATE_SETS`.

  Raises:
    UsageError: an unknown set, or no names.
  """
  try:
    sentences = prompts.class_prompts(template_set, class_names)
  except ValueError as error:
    raise errors.UsageError(str(error)) from error
  rows = embed([text for texts in sentences for text in texts])
  shape = (len(sentences), len(sentences[0]), rows.shape[1])
  return retrieval.zero_shot_weights(rows.reshape(shape))


def _retrieval(test: Split, settings: Settings) -> dict[str, float]:
  report: dict[str, float] = {}
  for pair in pairing.tower_pairs(test.towers):
    for query, key in (pair, pair[::-1]):
      a, b = test.towers[query], test.towers[key]
      found = retrieval.recall_at(
        a.parts["shared"], b.parts["shared"], a.example, b.example, ks=settings.ks
      )
      report |= {f"{query}_to_{key}/{name}": value for name, value in found.items()}
  return report


def _probes(train: Split, test: Split, settings: Settings) -> dict[str, float]:
  """Probes of every attribute in every part of every tower."""
  report: dict[str, float] = {}
  for attribute in settings.attributes or tuple(test.attributes):
    fitted_on, asked = (
      _known(train.attributes, attribute, "training"),
      _known(test.attributes, attribute, "test"),
    )
    commonest = np.bincount(fitted_on.labels).argmax()
    report[f"chance/{attribute}"] = float(np.mean(asked.labels == commonest))
    fitted_on = _Known(*(x[: settings.rows] for x in fitted_on))
    for tower, table in test.towers.items():
      for part in present_parts(table, settings.parts):
        pair = [
          tables.Table(
            found.part(part)[found.first_rows()[known.examples]], known.labels
          )
          for found, known in ((train.towers[tower], fitted_on), (table, asked))
        ]
        report |= _measured(attribute, f"{tower}/{{}}/{part}", pair, settings)
  return report


def _measured(attribute, place, pair, settings) -> dict[str, float]:
  """Probe, neighbours and, of classes, few shots of one attribute in one part."""
  knobs = _knobs(attribute, settings)
  if not knobs:
    return {}
  found = evaluate.evaluate_features(*pair, config=knobs)
  kept = {
    name: value
    for name, value in found.items()
    if name.split("/")[1] in ("top1", "top1_low", "top1_high") and "chance" not in name
  }
  ends = {"top1": "", "top1_low": "_low", "top1_high": "_high"}
  return {
    f"{name.split('/')[0]}/{place.format(attribute)}{ends[name.split('/')[1]]}": value
    for name, value in kept.items()
  }


def _knobs(attribute: str, settings: Settings) -> dict[str, Any]:
  """Settings of `evaluate` for one attribute; empty if it has nothing to fit."""
  shots = settings.few_shot and attribute == "class"
  if not (settings.probe or settings.knn or shots):
    return {}
  return dict(
    seed=settings.seed,
    probe=settings.probe,
    knn=settings.knn,
    few_shot=shots,
    shots=settings.shots,
    draws=settings.draws,
    few_shot_classifiers=settings.few_shot_classifiers,
    diagnostics=False,
  )


def present_parts(table: TowerTable, parts: Sequence[str] = PARTS) -> list[str]:
  """Those of `parts` that a tower has."""
  lacking = () if "specific" in table.parts else ("specific", "both")
  return [part for part in parts if part not in lacking]


class _Known(NamedTuple):
  """The examples [k] of a split that have a label of an attribute, and these [k]."""

  examples: np.ndarray
  labels: np.ndarray


def _known(attributes: Mapping[str, np.ndarray], attribute: str, name: str) -> _Known:
  labels = _first_labels(attributes[attribute])
  examples = np.flatnonzero(labels >= 0)
  if not len(examples):
    raise errors.UserError(
      f"no example of the {name} split has a label of '{attribute}'; take a split that "
      "has some, or leave out what needs them: set zero_shot, probe, knn and few_shot "
      "of evaluate to False"
    )
  return _Known(examples, labels[examples])


def _first_labels(labels: np.ndarray) -> np.ndarray:
  """[n]: of labels for each caption those of the first."""
  return labels if labels.ndim == 1 else labels[:, 0]


def _geometry(test: Split) -> dict[str, float]:
  shared = {
    name: jnp.asarray(table.parts["shared"][table.first_rows()])
    for name, table in test.towers.items()
  }
  report: dict[str, Any] = {}
  for first, second in pairing.tower_pairs(shared):
    a, b = shared[first], shared[second]
    gap = jnp.linalg.norm(jnp.mean(a, axis=0) - jnp.mean(b, axis=0))
    report[f"geometry/{first}_{second}/modality_gap"] = gap
    report[f"geometry/{first}_{second}/cosine"] = jnp.mean(jnp.sum(a * b, axis=-1))
    report[f"geometry/{first}_{second}/alignment"] = diagnostics.alignment(a, b)
  for name, rows in shared.items():
    report[f"geometry/{name}/uniformity"] = diagnostics.uniformity(rows, block_size=512)
    report[f"geometry/{name}/effective_rank"] = diagnostics.effective_rank(rows)
  return {name: float(value) for name, value in report.items()}
