"""The objective of towers: contrastive terms, and the latent structures added to them.

The terms (two, four, or one pair of towers after another) are anchors like those of two
views, so every objective on anchors works with them: InfoNCE, decoupled, FlatNCE,
Bayesian-augmented and SogCLR with a running normaliser for each term and example.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from contrastive import axes, rows, sums
from experiments.engine import errors
from experiments.engine.objective import ONE_DEVICE, Execution, Objective, Pairing
from experiments.engine.objectives import build_objective, inverse_temperature
from experiments.engine.pretraining.tower_method import TowerBatch
from multimodal import aligning, structures, terms


def build_tower_objective(
  config: ml_collections.ConfigDict,
  towers: Sequence[str],
  how: Execution = ONE_DEVICE,
) -> Objective:
  """The objective of `config.objective` and the structures of `config.structures`.

  Args:
    config: `objective` (as for images, with `terms` and `in_modal_weight`) and
      `structures` (`separation`, `bridge`, `geometry`, `penalty`: a weight of 0 leaves
      one out).
    towers: their names.
    how: execution on devices.

  Raises:
    UsageError: unknown name, or a knob out of range.
  """
  chosen = _terms(config.objective, towers)
  added = read_structures(config.structures)
  if config.objective.name == "pairwise_sigmoid":
    base = _sigmoid(config.objective, how)
  else:
    base = _anchored(config.objective, chosen, how)

  def loss(params, batch: TowerBatch, state, key):
    base_key, structure_key = jax.random.split(key)
    values, state, metrics = base.loss(params, batch, state, base_key)
    scale = inverse_temperature(params, config.objective)
    extra, parts = structures.structure_loss(
      batch.features, added, scale=scale, key=structure_key, **how.pairs
    )
    return values + extra, state, metrics | parts | {"scale": jnp.asarray(scale)}

  return base._replace(
    loss=loss, chance=lambda n: None if any(added) else base.chance(n)
  )


def _terms(config, towers) -> tuple[terms.Term, ...]:
  try:
    return terms.alignment_terms(towers, config.terms)
  except ValueError as error:
    raise errors.UsageError(f"objective.terms: {error}") from error


def _anchored(config, chosen: tuple[terms.Term, ...], how: Execution) -> Objective:
  """An objective on the anchors of all terms."""

  def anchors(batch: TowerBatch, scale, how: Execution):
    made = aligning.alignment_anchors(
      batch.features.shared,
      batch.features.shared_view,
      scale=scale,
      terms=chosen,
      **how.pairs,
    )
    stack: Any = rows.stack_rows if how.plain else sums.stack_sums
    return stack(*made.values())

  pairing = Pairing("towers", anchors, len(chosen), False, lambda n: n - 1)
  base = build_objective(config, pairing, how)
  weights = (1.0, config.in_modal_weight)

  def loss(params, batch, state, key):
    values, state, metrics = base.loss(params, batch, state, key)
    named = terms.split_terms(values, chosen)
    mean = lambda x: axes.mean(jnp.mean(jax.lax.stop_gradient(x)), how.axis_name)
    metrics |= {f"term/{name}": mean(part) for name, part in named.items()}
    return terms.term_mean(named, chosen, weights), state, metrics

  return base._replace(loss=loss)


def _sigmoid(config, how: Execution) -> Objective:
  """SigLIP's loss over the pairs of towers, scale and bias learned."""
  if config.terms != "two":
    raise errors.UsageError(
      "pairwise_sigmoid has no in-modal terms; set objective.terms=two"
    )
  params = {
    "log_scale": jnp.asarray(-jnp.log(config.temperature), jnp.float32),
    "bias": jnp.asarray(config.bias, jnp.float32),
  }

  def loss(params, batch: TowerBatch, state, key):
    del key
    values = aligning.sigmoid_alignment(
      batch.features.shared,
      scale=inverse_temperature(params, config),
      bias=params["bias"],
      **how.pairs,
    )
    return values, state, {}

  return Objective(
    params=params,
    init=lambda examples, width: (),
    loss=loss,
    negatives=lambda n: n - 1,
    chance=lambda n: None,
  )


_KINDS: dict[str, Any] = {
  "separation": structures.Separation,
  "bridge": structures.Bridge,
  "geometry": structures.Geometry,
  "penalty": structures.Penalty,
}


def read_structures(config: ml_collections.ConfigDict) -> structures.Structures:
  """The structures whose weight is above 0.

  Raises:
    UsageError: an unknown structure or knob, or a negative weight.
  """
  found = {}
  for name, knobs in config.items():
    if name not in _KINDS:
      raise errors.unknown("structure", name, _KINDS)
    for knob in knobs:
      if knob not in _KINDS[name]._fields:
        raise errors.unknown(f"knob of structures.{name}", knob, _KINDS[name]._fields)
    if knobs.weight < 0:
      raise errors.UsageError(
        f"structures.{name}.weight is {knobs.weight}, but must be at least 0"
      )
    if knobs.weight:
      found[name] = _KINDS[name](**{k: _plain(name, k, v) for k, v in knobs.items()})
  return structures.Structures(**found)


def needs_views(config: ml_collections.ConfigDict) -> bool:
  """Whether any term or structure reads augmented inputs; else none are embedded."""
  added = read_structures(config.structures)
  geometry = added.geometry is not None and added.geometry.augmented != 0
  return (
    config.objective.terms != "two"
    or geometry
    or added.separation is not None
    or added.bridge is not None
  )


def _plain(structure: str, knob: str, value: Any) -> Any:
  # None, a bridge sampled anew for each example, cannot be given on a command line.
  if (structure, knob, value) == ("bridge", "t", 0):
    return None
  if isinstance(value, list | tuple):
    return tuple(value)
  return value


def check_inputs(
  config: ml_collections.ConfigDict, features: structures.Features
) -> None:
  """Refuses a config whose structures or terms lack an input.

  Args:
    config: as in `build_tower_objective`.
    features: shapes of what the towers give for a batch.

  Raises:
    UsageError: with the structure and what it lacks.
  """
  shape = next(iter(features.shared.values())).shape
  objective = build_tower_objective(config, list(features.shared))
  ids: Any = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
  state = jax.eval_shape(functools.partial(objective.init, shape[0], shape[1]))
  try:
    jax.eval_shape(
      objective.loss,
      objective.params,
      TowerBatch(features, ids),
      state,
      jax.random.key(0),
    )
  except ValueError as error:
    raise errors.UsageError(f"{error} (views are set by towers.NAME.view)") from error
