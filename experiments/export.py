"""Exports a pretraining run: weights, a program that runs anywhere, a model card.

  python -m experiments.export --run=runs/a
  python -m experiments.export --run=runs/a --format=safetensors --part=network

Without --out the files go to <run>/export. Before it says done, every file is read back
in a fresh process and compared with the live model on images of the run's data; a file
that differs is kept as *.failed. Works on the CPU: no accelerator is needed, also to
export for one. docs/export.md has more.
"""

import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from contrastive import views
from experiments.engine import build, cli, data, errors, files, record
from experiments.engine.exporting import card, parity, programs, weights
from experiments.engine.pretraining import (
  pair_loading,
  pair_network,
  tower_evaluation,
  tower_network,
  trained,
)
from experiments.engine.pretraining.pairs import Texts

FORMATS = ("safetensors", "stablehlo")
_INPUTS = 16  # that the check compares on


def run(
  folder: str,
  *,
  formats: Sequence[str] = FORMATS,
  part: str = "",
  out: str = "",
  data_dir: str = "",
) -> dict[str, Any]:
  """Exports the latest checkpoint of a run.

  Args:
    folder: of the pretraining run.
    formats: any of FORMATS.
    part: "encoder", or "network" with the heads; of towers the name of one, of a fusion
      model "image" or "text", which have their heads. Empty is the encoder, or the
      first that reads images.
    out: folder of the files; default <folder>/export.
    data_dir: folder of prepared data sets.

  Returns:
    `out`, and `differences`: per file, the largest difference from the live model as
    a share of its largest output.

  Raises:
    UsageError: an unknown format or part, or no run was named.
    UserError: no run or checkpoint there, `out` cannot be written, or a file does not
      compute what the model does.
  """
  _check_names(folder, formats)
  subject = _read_run(folder, part, data_dir)
  target = pathlib.Path(out or pathlib.Path(folder) / "export")
  with _staging(target) as name:
    stage = pathlib.Path(name)
    exported = _write_files(subject, formats, stage)
    differences = _check_files(subject, exported, stage, target)
    page = card.model_card(subject, differences)
    files.write(stage / "MODEL_CARD.md", page.encode(), "--out")
    _move(stage, target, [*exported, "MODEL_CARD.md"])
  for file, difference in differences.items():
    print(f"{file}: differs from the live model by {difference:.1e}, relative")
  print(f"-> {target}/MODEL_CARD.md")
  return {"out": str(target), "differences": differences}


def _check_names(folder: str, formats: Sequence[str]) -> None:
  if not folder:
    raise errors.UsageError("which run? give its folder: --run=DIR")
  if not formats:
    raise errors.UsageError(f"which format? --format={','.join(FORMATS)}")
  for name in formats:
    if name not in FORMATS:
      raise errors.unknown("format", name, FORMATS)


def _read_run(folder: str, part: str, data_dir: str) -> card.Subject:
  """All that is exported of a run, with a few images to try it on."""
  config = trained.trained_config(folder)
  part = part or programs.parts_of(config)[0]
  programs.check_part(config, part)
  path = pathlib.Path(folder)
  if not (path / "checkpoints").is_dir():
    raise errors.UserError(
      f"no checkpoint under {path}; train first: python -m experiments.pretrain"
    )
  variables, step = trained.trained_variables(folder)
  finished = (path / "summary.json").exists()
  return card.Subject(
    config=config,
    about=record.read_json(path / "run.json"),
    summary=record.read_json(path / "summary.json") if finished else {},
    step=step,
    part=part,
    variables=variables,
    inputs=_test_inputs(config, part, data_dir),
    licence=card.data_licence(config.data.name, data_dir),
  )


def _test_inputs(config, part: str, data_dir: str) -> np.ndarray:
  """A few inputs of the run's test split: images [n, h, w, c] or tokens [n, t]."""
  if config.method in pair_network.METHODS:
    asked = pair_network.reading_config(config)
    asked.data_dir = data_dir
    _, pairs = pair_loading.load_pairs(asked, train=False)
    rows = np.arange(min(_INPUTS, len(pairs.labels)))
    column = pairs.columns[part]
    found = column.inputs(rows, 0, 0)["base"]
    if isinstance(column, Texts):  # any text has to fit into the program's rows
      found = np.pad(found, ((0, 0), (0, column.context - found.shape[1])))
    return found
  load = functools.partial(
    data.load,
    config.data.name,
    config.data.test,
    data_dir=data_dir,
    image_size=config.data.image_size,
  )
  try:
    return load(limit=_INPUTS).images
  except errors.UsageError:  # a split of fewer images, if it is not something worse
    return load().images[:_INPUTS]


def _staging(target: pathlib.Path) -> tempfile.TemporaryDirectory:
  """A folder beside the files to come: what lies in `target` itself was checked."""
  try:
    target.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=target, prefix="unchecked-")
  except OSError as error:
    raise errors.UserError(
      f"cannot write to {target} ({error.strerror}); choose another --out"
    ) from error


def _write_files(
  subject: card.Subject, formats: Sequence[str], stage: pathlib.Path
) -> list[str]:
  """Writes the exports and returns their names."""
  chosen = programs.select_part(subject.config, subject.variables, subject.part)
  names = [f"{subject.part}.{name}" for name in formats]
  for name, kind in zip(names, formats, strict=True):
    if kind == "safetensors":
      weights.save_weights(stage / name, chosen, _metadata(subject))
    else:
      encode = programs.part_encoder(subject.config, subject.part)
      program = programs.export_program(encode, chosen, subject.inputs)
      programs.save_program(stage / name, program)
  return names


def _metadata(subject: card.Subject) -> dict[str, str]:
  config = subject.config
  return {
    "writer": "experiments.export",
    "part": subject.part,
    "step": str(subject.step),
    "seed": str(config.seed),
    "objective": card.objective_name(config),
    "data": config.data.name,
    "input_shape": json.dumps(subject.inputs.shape[1:]),
    "config": json.dumps(record.config_dict(config), sort_keys=True),
    "versions": json.dumps(subject.about.get("versions", {}), sort_keys=True),
  }


def _check_files(
  subject: card.Subject, names: list[str], stage: pathlib.Path, target: pathlib.Path
) -> dict[str, float]:
  """Compares the files with the live model; keeps those that differ as *.failed."""
  expected = _live_outputs(subject)
  differences = parity.measure_differences(stage, names, subject.inputs, expected)
  most = parity.TOLERANCE[subject.config.dtype]
  wrong = [name for name in names if not differences[name] <= most]
  if wrong:
    for name in wrong:
      os.replace(stage / name, target / f"{name}.failed")
    raise errors.UserError(
      f"{wrong[0]} differs from the live model by {differences[wrong[0]]:.1e} of its "
      f"largest output, more than {most:.0e}; it is kept as {wrong[0]}.failed in "
      f"{target}, and nothing was exported"
    )
  return differences


def _live_outputs(subject: card.Subject) -> Any:
  """What the network gives in evaluation mode, as training and the probe call it."""
  if subject.config.method in pair_network.METHODS:
    return _live_tower(subject)
  network = build.build_network(subject.config)
  statistics = build.channel_statistics(subject.config.data, subject.inputs.shape)
  x = views.normalise(jnp.asarray(subject.inputs, jnp.float32) / 255, *statistics)
  if subject.part == "encoder":
    return jax.jit(network.embed)(subject.variables, x)
  outputs: Any = jax.jit(functools.partial(network.apply, train=False))(
    subject.variables, x
  )
  return outputs._asdict()


def _live_tower(subject: card.Subject) -> dict[str, np.ndarray]:
  config, part = subject.config, subject.part
  tower = pair_network.reading_config(config).towers[part]
  reading = tower_network.build_reading(tower, config.data, subject.inputs.shape[1:])
  network = pair_network.build_pair_network(config)
  return tower_evaluation.embed_inputs(
    network, reading, subject.variables, part, subject.inputs
  )


def _move(stage: pathlib.Path, target: pathlib.Path, names: list[str]) -> None:
  """Puts checked files, and the digests of those that have one, into place."""
  for name in names:
    digest = programs.digest_path(stage / name)
    if digest.exists():
      os.replace(digest, target / digest.name)
    os.replace(stage / name, target / name)


def main(argv: Sequence[str]) -> None:
  """Reads the command line; see the module's docstring."""
  if len(argv) > 1:
    raise errors.UsageError(f"'{argv[1]}' is no flag; give the run as --run=DIR")
  # Lowering for an accelerator needs none, and the process that checks the files could
  # not share a TPU with this one.
  jax.config.update("jax_platforms", "cpu")
  cli.use_compilation_cache()
  values = flags.FLAGS.flag_values_dict()
  run(
    values["run"],
    formats=[name.strip() for name in values["format"].split(",") if name.strip()],
    part=values["part"],
    out=values["out"],
    data_dir=values["data_dir"],
  )


if __name__ == "__main__":
  flags.DEFINE_string("run", "", "folder of the pretraining run")
  flags.DEFINE_string("format", ",".join(FORMATS), "formats, with commas between them")
  flags.DEFINE_string(
    "part",
    "",
    "encoder (the default) or network; of towers the name of one, of a fusion model "
    "image (the default) or text",
  )
  flags.DEFINE_string("out", "", "folder of the files; default <run>/export")
  flags.DEFINE_string("data_dir", "", "folder of prepared data sets; default $DATA_DIR")
  cli.guard(main)
