"""Values that cannot work are refused at once, with a sentence that names the key."""

import pathlib

import pytest

from experiments import pretrain
from experiments.engine import errors
from tests.experiments.test_pretrain import small_config

REFUSED = [
  ({"batch": -4}, "batch is -4, but must be at least 2"),
  ({"batch": 0}, "batch is 0"),
  ({"batch": 1}, "batch is 1"),
  ({"epochs": -1}, "epochs is -1, but must be at least 0"),
  ({"seed": -1}, "seed is -1, but must be between 0 and 4294967295"),
  ({"log_every": 0}, "log_every is 0"),
  ({"log_every": -2}, "log_every is -2"),
  ({"save_every": -1}, "save_every is -1"),
  ({"save_minutes": -1.0}, "save_minutes is -1.0"),
  ({"keep": 0}, "keep is 0, but must be at least 1"),
  ({"skip_bad_steps": -1}, "skip_bad_steps is -1"),
  ({"accum_steps": -1}, r"accum_steps .* at least 1, not -1"),
  ({"mesh.block_size": -2}, "mesh.block_size -2"),
  ({"projector.out": 0}, "projector.out is 0"),
  ({"projector.hidden": -1}, "projector.hidden is -1"),
  ({"projector.layers": 0}, "projector.layers is 0"),
  ({"predictor.hidden": 0, "method": "moco_v3"}, "predictor.hidden is 0"),
  ({"data.image_size": -3}, "data.image_size is -3"),
  ({"data.train_limit": -5}, "data.train_limit is -5"),
  ({"data.test_limit": -1}, "data.test_limit is -1"),
  ({"data.std": (0.0,)}, r"data.std is \(0.0,\), but must be positive"),
  ({"data.mean": (float("nan"),)}, r"data.mean is \(nan,\), but must be finite"),
  ({"data.train": "trian"}, "did you mean 'train'"),
  ({"optimizer.learning_rate": -1.0}, "optimizer.learning_rate is -1.0"),
  ({"optimizer.learning_rate": float("nan")}, "optimizer.learning_rate is nan"),
  ({"optimizer.weight_decay": -1.0}, "optimizer.weight_decay is -1.0"),
  ({"optimizer.clip_norm": -1.0}, "optimizer.clip_norm is -1.0"),
  ({"optimizer.momentum": 1.5}, "momentum is 1.5, but must be between 0 and 1"),
  ({"optimizer.warmup": 2.0}, "optimizer.warmup is a share of the steps"),
  ({"objective.temperature": 0.0}, "objective.temperature must be positive"),
  ({"objective.temperature": -1.0}, "objective.temperature must be positive"),
  ({"target_momentum": 2.0, "method": "moco_v3"}, "target_momentum lies in"),
  ({"resume": "forse"}, "did you mean 'force'"),
  ({"init_from": "/nowhere.safetensors"}, "cannot read /nowhere.safetensors"),
  ({"batch": 12}, "not a multiple of 8 devices"),
  ({"batch": 4}, "not a multiple of 8 devices"),
  (
    {"evaluate.few_shot": True, "evaluate.shots": (50,)},
    "50-shot .* but class 5 has 2",
  ),
  ({"data.name": "sceens"}, "did you mean 'scenes'"),
  ({"objective.name": "infonce"}, "did you mean 'info_nce'"),
  ({"encoder.name": "resnet_tinny"}, "did you mean 'resnet_tiny'"),
  ({"views": "simcrl"}, "did you mean 'simclr'"),
  ({"method": "moco"}, "did you mean 'moco_v3'"),
  ({"dtype": "float16"}, "dtype"),
  ({"batch": 128}, "128"),
]


@pytest.mark.parametrize("changes, words", REFUSED)
def test_a_value_that_cannot_work_is_refused(changes, words, tmp_path):
  workdir = pathlib.Path(tmp_path) / "run"
  with pytest.raises(errors.UserError, match=words) as found:
    pretrain.run(small_config(**changes), str(workdir))
  assert "\n" not in str(found.value)
  assert not list(workdir.rglob("checkpoints/[0-9]*"))


@pytest.mark.usefixtures("pageless", "one_device")
def test_no_epochs_probe_the_network_as_it_is(tmp_path):
  final = pretrain.run(small_config(epochs=0), str(tmp_path))
  assert 0 <= final["probe/top1"] <= 1
