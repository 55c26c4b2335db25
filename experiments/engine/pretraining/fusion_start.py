"""The fusion model of a run, as pretraining or a task starts from it."""

import pathlib
from typing import Any

import ml_collections

from experiments.engine import errors, importing, record
from experiments.engine.pretraining import trained
from multimodal import decoder, tasks

# Methods whose networks hold a fusion model under "model".
METHODS = ("answering", "judging", "assigning")


def found_start(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """The config with the run that it starts from, and with that run's model.

  Args:
    config: `init_from`: a file, a run, or the folder of a sweep, of which the run with
      the config's `arm` and `seed` is taken; and `model`, whose empty `size` is that
      of the run. Other configs are returned as they are.

  Raises:
    UsageError: neither a size nor a run is named.
    UserError: the folder holds no run of a fusion model.
  """
  if config.method not in ("fusion", *METHODS):
    return config
  made = ml_collections.ConfigDict(config.to_dict())
  if config.init_from:
    made.init_from = _found_run(config)
  if config.model.size:
    return made
  if not made.init_from:
    raise errors.UsageError(
      "which model? name a pretraining run by --init_from=DIR, or a size that learns "
      "from scratch by --config.model.size=micro"
    )
  if not pathlib.Path(made.init_from).is_dir():
    raise errors.UsageError(
      f"init_from is {made.init_from}, which is no folder of a run; for a file of "
      "weights name the size of its model, too: --config.model.size=micro"
    )
  found = _config(made.init_from).model.to_dict()
  own = {key: value for key, value in config.model.items() if value}
  made.model = ml_collections.ConfigDict(found | own)
  return made


def _found_run(config: ml_collections.ConfigDict) -> str:
  """The run that `init_from` names: itself, or one of a sweep."""
  folder = pathlib.Path(config.init_from)
  runs = sorted(folder.glob("*/run.json"))
  if (folder / "run.json").exists() or not runs:
    return config.init_from
  wanted = {"arm": config.get("arm", ""), "seed": config.seed}
  for path in runs:
    about = record.read_json(path).get("config", {})
    if all(about.get(key) == value for key, value in wanted.items()):
      return str(path.parent)
  raise errors.UserError(
    f"init_from: none of the {len(runs)} runs in {folder} has the arm "
    f"'{wanted['arm']}' and the seed {wanted['seed']}; name one run"
  )


def start_model(params: Any, stats: Any, path: str) -> tuple[Any, Any]:
  """`Task.start` of a fusion model: from a run's folder or a file of weights.

  Raises:
    UserError: it cannot be read, or is of another size.
  """
  if not pathlib.Path(path).is_dir():
    return importing.init_from(params, stats, path)
  found, _ = _pretrained(path)
  return _fitted(tasks.start_from, {"model": params}, found)["model"], stats


def start_task(params: Any, stats: Any, path: str) -> tuple[Any, Any]:
  """`Task.start` of a network with a fusion model under "model".

  A decoder starts from the fusion layers, as in ALBEF; the layer that compares
  pictures, from that of a run with as many. The rest stays as it was drawn.

  Raises:
    UserError: the folder holds no such run, or a model of another size.
  """
  model, others = _pretrained(path)
  started = _fitted(tasks.start_from, params, model)
  if "decoder" in params:
    started["decoder"] = _decoder(params["decoder"], model, others, path)
  if "hidden" in params and "hidden" in others:
    if others["hidden"]["kernel"].shape == params["hidden"]["kernel"].shape:
      started["hidden"] = others["hidden"]
  return started, stats


def _pretrained(folder: str) -> tuple[Any, dict[str, Any]]:
  """Parameters of a run's fusion model, and those beside it."""
  method = _config(folder).method
  params = trained.trained_variables(folder)[0]["params"]
  return (params, {}) if method == "fusion" else (params["model"], params)


def _config(folder: str) -> ml_collections.ConfigDict:
  about = record.read_json(pathlib.Path(folder) / "run.json").get("config", {})
  method = about.get("method", "another kind")
  if method not in ("fusion", *METHODS):
    raise errors.UserError(
      f"init_from: {folder} is a run of {method}; a task starts from one of python -m "
      "experiments.pretrain --config=configs/fusion.py, or from that of another task"
    )
  return ml_collections.ConfigDict(about)


def _decoder(own: Any, model: Any, others: dict[str, Any], folder: str) -> Any:
  if "decoder" in others:
    return _fitted(tasks.start_from, {"model": own}, others["decoder"])["model"]
  if "mask_head" not in model:
    raise errors.UserError(
      f"init_from: {folder} is a run of a task without words to say, so no decoder can "
      "start from it; name its pretraining run"
    )
  return _fitted(decoder.start_from_fusion, own, model)


def _fitted(make, params, found):
  try:
    return make(params, found)
  except ValueError as error:
    raise errors.UserError(f"init_from: {error}") from error
