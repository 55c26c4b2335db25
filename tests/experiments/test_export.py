"""Exports of one small run: what is in the files, how they fail, who can read them."""

import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
import safetensors.numpy

from configs import pretrain as pretrain_config
from contrastive import views
from experiments import export
from experiments.engine import build, data, errors
from experiments.engine import state as states
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.exporting import card, parity, programs, weights
from experiments.engine.objectives import build_objective
from experiments.engine.record import Recorder

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Config and folder of a run whose state is random, in place of a training."""
  workdir = tmp_path_factory.mktemp("run")
  config = pretrain_config.get_config("smoke")
  config.encoder = {"name": "resnet_tiny", "width": 8}
  config.data.update(test_limit=48, image_size=16, std=(0.2, 0.25, 0.3))
  config.projector.update(hidden=16, out=8)
  config.predictor.hidden = 16
  config.method = "moco_v3"
  network = build.build_network(config)
  state = jax.eval_shape(
    lambda: states.init_state(
      jax.random.key(0),
      network,
      build_objective(config.objective, config.method),
      optax.sgd(0.1, momentum=0.9),
      sample=jnp.zeros((2, 16, 16, 3)),
      examples=32,
      with_target=True,
    )
  )
  rng = np.random.default_rng(0)
  draw = lambda leaf: jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), leaf.dtype)
  state = jax.tree.map(draw, state).replace(step=jnp.asarray(2))
  with Recorder(str(workdir), config) as recorder, Checkpoints(str(workdir)) as saved:
    saved.save(2, state)
    recorder.summary({"probe/top1": 0.123456, "train/loss": 3.5})
  return config, workdir


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
  out = tmp_path_factory.mktemp("export")
  return out, export.run(str(trained[1]), out=str(out))


@pytest.fixture(scope="module")
def live(trained):
  """The network, its variables and what it makes of eight test images."""
  config, workdir = trained
  with Checkpoints(str(workdir)) as checkpoints:
    saved = checkpoints.restore_tree()
  network = build.build_network(config)
  variables = {
    "params": saved["params"]["network"],
    "batch_stats": saved["batch_stats"],
  }
  images = data.load("scenes", "test[:8]", image_size=16).images
  x = views.normalise(images.astype(jnp.float32) / 255, (0.5,) * 3, config.data.std)
  return variables, images, jax.jit(network.embed)(variables, x)


def test_both_files_and_the_card_are_there_and_nothing_else(exported):
  out, told = exported
  assert {path.name for path in out.iterdir()} == {
    "encoder.safetensors",
    "encoder.stablehlo",
    "encoder.stablehlo.sha256",
    "MODEL_CARD.md",
  }
  assert told["out"] == str(out)
  assert all(value < 1e-5 for value in told["differences"].values())


def test_anybodys_safetensors_reads_the_parameters_by_name(exported, live):
  flat = safetensors.numpy.load_file(exported[0] / "encoder.safetensors")
  variables, _, _ = live
  np.testing.assert_array_equal(
    flat["params/encoder/Conv_0/kernel"],
    variables["params"]["encoder"]["Conv_0"]["kernel"],
  )
  np.testing.assert_array_equal(
    flat["batch_stats/encoder/BatchNorm_0/var"],
    variables["batch_stats"]["encoder"]["BatchNorm_0"]["var"],
  )
  assert all(name.split("/")[1] == "encoder" for name in flat)


def test_the_metadata_say_what_it_is(exported, trained):
  _, metadata = weights.load_weights(exported[0] / "encoder.safetensors")
  config = ml_collections.ConfigDict(json.loads(metadata["config"]))
  assert config.encoder.width == 8 and list(config.data.std) == [0.2, 0.25, 0.3]
  assert metadata["objective"] == "info_nce" and metadata["data"] == "scenes"
  assert metadata["seed"] == "0" and metadata["step"] == "2"
  assert json.loads(metadata["versions"])["jax"] == jax.__version__
  assert json.loads(metadata["input_shape"]) == [16, 16, 3]


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.stablehlo"])
def test_a_file_maps_pixels_to_the_live_features(name, exported, live):
  encode = parity.load_encoder(exported[0] / name)
  _, images, features = live
  np.testing.assert_allclose(encode(images), features, rtol=1e-5)
  np.testing.assert_allclose(encode(images[2:5]), features[2:5], rtol=1e-5)


def test_the_program_is_for_every_platform_and_any_batch(exported):
  program = programs.load_program(exported[0] / "encoder.stablehlo")
  assert program.platforms == ("cpu", "cuda", "tpu")
  (images,), (features,) = program.in_avals, program.out_avals
  assert images.dtype == np.uint8 and images.shape[1:] == (16, 16, 3)
  assert features.shape[0] == images.shape[0] and not isinstance(features.shape[0], int)
  with pytest.raises(ValueError, match="float32"):
    program.call(np.zeros((2, 16, 16, 3), np.float32))


def test_the_program_runs_where_there_is_jax_alone(exported, live, tmp_path):
  """From a folder without the checkout; the digest is in the form of sha256sum."""
  out, _ = exported
  np.save(tmp_path / "images.npy", live[1])
  code = f"""
import pathlib, jax, numpy as np
content = pathlib.Path({str(out / "encoder.stablehlo")!r}).read_bytes()
outputs = jax.export.deserialize(bytearray(content)).call(np.load("images.npy"))
np.save("outputs.npy", outputs)
"""
  subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
  np.testing.assert_allclose(np.load(tmp_path / "outputs.npy"), live[2], rtol=1e-5)
  digest, name = (out / "encoder.stablehlo.sha256").read_text().split()
  assert name == "encoder.stablehlo"
  assert digest == hashlib.sha256((out / name).read_bytes()).hexdigest()


def test_the_card_has_the_results_the_licence_and_code_that_runs(
  exported, trained, monkeypatch
):
  out, _ = exported
  text = (out / "MODEL_CARD.md").read_text()
  summary = json.loads((trained[1] / "summary.json").read_text())
  assert f"| probe/top1 | {summary['probe/top1']:.4g} |" in text
  assert "Apache-2.0" in text and "moco_v3 with info_nce on scenes" in text
  assert f"jax {jax.__version__}" in text and '"width": 8' in text
  blocks = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
  assert len(blocks) == 2
  monkeypatch.chdir(out)
  for block in blocks:
    names: dict = {}
    exec(block, names)
    assert names["outputs"].shape == (2, 16)


def test_the_licence_is_what_the_repository_knows(tmp_path):
  assert card.data_licence("fashion_mnist", str(tmp_path)) == "MIT"
  assert "UCI" in card.data_licence("digits")
  assert card.data_licence("pets", str(tmp_path)).startswith("not known")


def test_the_network_is_exported_with_its_heads(trained, live, tmp_path):
  export.run(str(trained[1]), part="network", out=str(tmp_path))
  variables, images, features = live
  loaded, metadata = weights.load_weights(tmp_path / "network.safetensors")
  assert metadata["part"] == "network"
  jax.tree.map(np.testing.assert_array_equal, loaded, variables)
  for name in ("network.safetensors", "network.stablehlo"):
    outputs = parity.load_encoder(tmp_path / name)(images)
    assert {name: x.shape for name, x in outputs.items()} == {
      "features": (8, 16),
      "projection": (8, 8),
      "query": (8, 8),
    }
    np.testing.assert_allclose(outputs["features"], features, rtol=1e-5)
    assert np.abs(outputs["query"] - outputs["projection"]).max() > 1e-3


def test_the_same_content_gives_the_same_bytes(tmp_path):
  metadata = {name: name.upper() for name in "dcab"}
  for name in ("a", "b"):
    weights.save_weights(tmp_path / name, {"x": np.ones(3)}, metadata)
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
  with pytest.raises(ValueError, match="'sha256' is the file's own"):
    weights.save_weights(tmp_path / "c", {"x": np.ones(3)}, {"sha256": ""})


def test_arrays_of_any_layout_and_type_come_back(tmp_path):
  base = np.arange(24, dtype=np.float32).reshape(4, 6)
  tree = {
    "transposed": base.T,
    "sliced": base[:, ::2],
    "reversed": base[::-1],
    "fortran": np.asfortranarray(base),
    "half": {"scalar": jnp.bfloat16(1.5), "empty": np.zeros((0, 3), np.int32)},
  }
  weights.save_weights(tmp_path / "a", tree, {"note": 'ü "quoted" \\ \n'})
  loaded, metadata = weights.load_weights(tmp_path / "a")
  assert metadata == {"note": 'ü "quoted" \\ \n'}
  jax.tree.map(np.testing.assert_array_equal, loaded, tree)
  assert loaded["half"]["scalar"].dtype == jnp.bfloat16


def test_every_flip_and_every_truncation_is_detected(tmp_path):
  whole, damaged = tmp_path / "whole", tmp_path / "damaged"
  weights.save_weights(whole, {"a": {"b": np.arange(5.0)}}, {"seed": "0"})
  content = whole.read_bytes()
  for place in range(len(content)):
    # Every bit of the length of the header, and one bit of every other byte.
    for bit in range(8) if place < 8 else [place % 8]:
      flipped = bytearray(content)
      flipped[place] ^= 1 << bit
      damaged.write_bytes(flipped)
      with pytest.raises(errors.UserError, match="damaged"):
        weights.load_weights(damaged)
  for length in range(len(content)):
    damaged.write_bytes(content[:length])
    with pytest.raises(errors.UserError, match="damaged"):
      weights.load_weights(damaged)
  damaged.write_bytes(content + b"\0")
  with pytest.raises(errors.UserError, match="damaged"):
    weights.load_weights(damaged)
  assert weights.load_weights(whole)[1] == {"seed": "0"}


def test_a_damaged_program_is_refused(exported, tmp_path):
  path = tmp_path / "encoder.stablehlo"
  content = (exported[0] / path.name).read_bytes()
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=r"\.sha256 belong together"):
    programs.load_program(path)
  shutil.copy(exported[0] / f"{path.name}.sha256", tmp_path)
  programs.load_program(path)
  for wrong in (content[:-1], content[:500] + b"\x07" + content[501:], b""):
    path.write_bytes(wrong)
    with pytest.raises(errors.UserError, match="damaged"):
      programs.load_program(path)
  programs.save_program(path, b"not a program")
  with pytest.raises(errors.UserError, match="is of a version that jax"):
    programs.load_program(path)


def test_a_file_that_differs_is_no_export(trained, tmp_path, monkeypatch):
  """One weight is off: the file is kept aside, and an older export stays."""
  (tmp_path / "encoder.safetensors").write_text("the export before")
  honest = weights.save_weights

  def off(path, tree, metadata):
    tree = jax.tree.map(np.array, tree)
    tree["params"]["encoder"]["Conv_0"]["kernel"][0, 0, 0, 0] += 0.1
    honest(path, tree, metadata)

  monkeypatch.setattr(weights, "save_weights", off)
  with pytest.raises(errors.UserError, match="differs from the live model by"):
    export.run(str(trained[1]), formats=["safetensors"], out=str(tmp_path))
  assert {path.name for path in tmp_path.iterdir()} == {
    "encoder.safetensors",
    "encoder.safetensors.failed",
  }
  assert (tmp_path / "encoder.safetensors").read_text() == "the export before"


def test_a_file_that_does_not_run_is_no_export(trained, tmp_path, monkeypatch):
  monkeypatch.setattr(programs, "export_program", lambda *_: b"no program")
  with pytest.raises(errors.UserError, match=r"fresh process .*cannot read; export"):
    export.run(str(trained[1]), formats=["stablehlo"], out=str(tmp_path))
  assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_a_difference(tmp_path, monkeypatch):
  wanted = {"features": np.ones((2, 3))}
  found = {"features": np.full((2, 3), np.nan)}

  def child(*_, **__):
    np.savez(tmp_path / "a.npz", **found)
    return subprocess.CompletedProcess([], 0, "", "")

  monkeypatch.setattr(parity.subprocess, "run", child)
  images = np.zeros((2, 4, 4, 3), np.uint8)
  measured = parity.measure_differences(tmp_path, ["a"], images, wanted)
  assert not measured["a"] <= parity.TOLERANCE["float32"]
  found["features"] = np.ones((2, 4))
  assert parity.measure_differences(tmp_path, ["a"], images, wanted)["a"] == np.inf
  with pytest.raises(errors.UserError, match="where the live model gives"):
    parity.measure_differences(tmp_path, ["a"], images, wanted | {"query": np.ones(2)})


def test_parameters_beyond_a_flatbuffer_are_refused(monkeypatch):
  monkeypatch.setattr(programs, "_MOST_BYTES", 100)
  with pytest.raises(errors.UserError, match="export --format=safetensors"):
    programs.export_program(lambda v, x: x, {"a": np.zeros(26)}, (4, 4, 3))


@pytest.mark.parametrize(
  ("options", "code", "words"),
  [
    ({"folder": ""}, 2, "--run=DIR"),
    ({"folder": "nowhere"}, 1, r"nowhere/run.json not found"),
    ({"formats": ["safetensor"]}, 2, "did you mean 'safetensors'"),
    ({"formats": []}, 2, "which format"),
    ({"part": "encodr"}, 2, "did you mean 'encoder'"),
    ({"out": __file__ + "/below"}, 1, "choose another --out"),
  ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(options, code, words, trained):
  with pytest.raises(errors.UserError, match=words) as caught:
    export.run(**{"folder": str(trained[1]), **options})
  assert caught.value.exit_code == code


def test_a_run_without_checkpoint_is_not_touched(trained, tmp_path):
  shutil.copy(trained[1] / "run.json", tmp_path)
  with pytest.raises(errors.UserError, match="no checkpoint under"):
    export.run(str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_an_unfinished_run_has_a_card_that_says_so(trained, tmp_path, monkeypatch):
  agree = lambda _, names, *__: dict.fromkeys(names, 0.0)
  monkeypatch.setattr(parity, "measure_differences", agree)
  run = tmp_path / "run"
  shutil.copytree(trained[1], run)
  (run / "summary.json").unlink()
  export.run(str(run), formats=["safetensors"])
  assert "was not finished" in (run / "export" / "MODEL_CARD.md").read_text()


def test_the_command_exports_and_fails_with_a_code(trained, tmp_path):
  command = [sys.executable, "-m", "experiments.export", f"--run={trained[1]}"]
  call = lambda *args: subprocess.run(
    [*command, *args], cwd=ROOT, capture_output=True, text=True
  )
  done = call("--format=safetensors", f"--out={tmp_path}")
  assert done.returncode == 0, done.stderr
  assert "encoder.safetensors: differs from the live model by" in done.stdout
  assert (tmp_path / "MODEL_CARD.md").exists()
  wrong = call("--format=onxx")
  assert wrong.returncode == 2
  assert wrong.stderr.startswith("error: unknown format 'onxx'")
