"""MODEL_CARD.md: what an exported model is, what it scored, how to load it."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from experiments.engine import record
from experiments.engine.datasets import builders
from experiments.engine.datasets.builders import folders
from experiments.engine.exporting import programs
from experiments.engine.pretraining import pair_network
from experiments.engine.reporting import report

_EMBEDDED_LICENCES = {
  "scenes": "procedural, drawn by this repository (Apache-2.0)",
  "scenes_text_easy": "procedural, drawn by this repository (Apache-2.0)",
  "scenes_text": "procedural, drawn by this repository (Apache-2.0)",
  "scenes_text_hard": "procedural, drawn by this repository (Apache-2.0)",
  "scenes_hard": "procedural, drawn by this repository (Apache-2.0)",
  "paired_factors": "procedural, drawn by this repository (Apache-2.0)",
  "digits": "scikit-learn's `load_digits`, from the UCI repository",
}


class Subject(NamedTuple):
  """What is exported.

  Attributes:
    config: of the run.
    about: contents of run.json.
    summary: contents of summary.json, or {} for a run that is not finished.
    step: of the checkpoint.
    part: of `programs.parts_of`.
    variables: {"params", "batch_stats"} of the whole network.
    inputs: of the test split: uint8 [n, h, w, c], or int32 [n, t] token ids.
    licence: of the data set.
  """

  config: ml_collections.ConfigDict
  about: dict[str, Any]
  summary: dict[str, Any]
  step: int
  part: str
  variables: dict[str, Any]
  inputs: np.ndarray
  licence: str


def data_licence(name: str, data_dir: str = "") -> str:
  """The licence of a data set as far as the repository knows it."""
  if name in _EMBEDDED_LICENCES:
    return _EMBEDDED_LICENCES[name]
  prepared = folders.find_prepared(name, data_dir)
  provenance = folders.read_provenance(prepared) if prepared else {}
  if provenance.get("licence"):
    return provenance["licence"]
  if name in builders.RECIPES:
    return builders.RECIPES[name].licence
  return "not known to this repository"


def objective_name(config: ml_collections.ConfigDict) -> str:
  """The objective of a run; a fusion model has several, which have a weight each."""
  if config.method == "fusion":
    losses = ("contrast", "matching", "masking")
    return ", ".join(name for name in losses if config.objective[name])
  return config.objective.name


def model_card(subject: Subject, differences: dict[str, float]) -> str:
  """The card as Markdown.

  Args:
    subject: what it describes.
    differences: per exported file, what the parity check measured.
  """
  config = subject.config
  parts = [
    f"# {_encoder(subject)} trained by {config.method} with "
    f"{objective_name(config)} on {config.data.name}",
    "## What it is",
    report.markdown_table(["", ""], _facts(subject)),
    "## Results",
    _results(subject.summary),
    "## Files",
    report.markdown_table(
      ["file", "largest difference from the live model, relative"],
      [[f"`{name}`", f"{value:.1e}"] for name, value in differences.items()],
    ),
    "Each file was read back in a fresh process and run on inputs of the test split.",
    *(_usage(name, subject) for name in differences),
    "## Versions",
    ", ".join(f"{k} {v}" for k, v in subject.about.get("versions", {}).items()),
    "## Config",
    f"```json\n{json.dumps(record.config_dict(config), indent=1)}\n```",
  ]
  return "\n\n".join(part.strip() for part in parts) + "\n"


def _facts(subject: Subject) -> list[list[str]]:
  config, shape = subject.config, subject.inputs.shape[1:]
  params = programs.select_part(config, subject.variables, subject.part)["params"]
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  heads = "" if subject.part == "encoder" else " with its heads"
  return [
    ["model", f"{_encoder(subject)}{heads}, {count:,} parameters"],
    ["objective", objective_name(config)],
    ["data set", f"{config.data.name}, split `{config.data.train}`"],
    ["licence of the data", subject.licence],
    ["input", _input(subject, ", ".join(map(str, shape)))],
    ["output", _output(subject)],
    ["seed", str(config.seed)],
    ["step", f"{subject.step:,} ({config.epochs} epochs, batch {config.batch})"],
    ["command", f"`{subject.about.get('command', 'not recorded')}`"],
  ]


def _encoder(subject: Subject) -> str:
  config = subject.config
  if config.method == "towers":
    return f"{subject.part} tower ({config.towers[subject.part].encoder.name})"
  if config.method == "fusion":
    return f"{subject.part} encoder of a fusion model ({config.model.size})"
  return config.encoder.name


def _input(subject: Subject, shape: str) -> str:
  if subject.inputs.dtype == np.uint8:
    return f"uint8 images [n, {shape}], not normalised"
  if subject.inputs.dtype == np.int32:
    return f"int32 ids [n, {shape}] of `multimodal.tokenizer`"
  return f"{subject.inputs.dtype} vectors [n, {shape}]"


def _output(subject: Subject) -> str:
  if subject.config.method in pair_network.METHODS:
    specific = subject.config.structures.separation.weight > 0
    more = " and `specific` [n, d]" if specific else ""
    return f"a dict of `features` [n, f], `shared` [n, d]{more}"
  if subject.part == "encoder":
    return "features, float32 [n, f]"
  return "a dict of `features` [n, f], `projection` [n, d] and `query` [n, d]"


def _results(summary: dict[str, Any]) -> str:
  if not summary:
    return "The run was not finished when it was exported: no summary.json."
  rows = [
    [name, f"{value:.4g}"]
    for name, value in sorted(summary.items())
    if isinstance(value, int | float)
  ]
  return report.markdown_table(["metric", "value"], rows)


def _usage(name: str, subject: Subject) -> str:
  shape, dtype = ", ".join(map(str, subject.inputs.shape[1:])), subject.inputs.dtype
  if pathlib.PurePath(name).suffix == ".stablehlo":
    return f"""### `{name}`

Needs jax only, on CPU, GPU (CUDA) or TPU, with a batch of any size. `sha256sum -c
{name}.sha256` checks the file. jax reads programs for some months after they
were written: keep the safetensors file too.

```python
import pathlib
import jax
import numpy as np

encoder = jax.export.deserialize(bytearray(pathlib.Path("{name}").read_bytes()))
inputs = np.zeros((2, {shape}), np.{dtype})
outputs = encoder.call(inputs)
```"""
  return f"""### `{name}`

Parameters and batch statistics by name; the config and the versions are its metadata.
From a checkout of the repository, with the digest checked and the normalisation done:

```python
import pathlib
import numpy as np
from experiments.engine.exporting import parity, weights

variables, metadata = weights.load_weights("{name}")
encode = parity.load_encoder(pathlib.Path("{name}"))
inputs = np.zeros((2, {shape}), np.{dtype})
outputs = encode(inputs)
```

Anywhere else, `safetensors.numpy.load_file("{name}")` gives the arrays by name."""
