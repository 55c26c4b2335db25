import pathlib

import jax
import numpy as np
import pytest

from configs import pretrain as pretrain_config
from configs import probe as probe_config
from experiments import pretrain, probe
from experiments.engine import build, data, errors, loop, record
from experiments.engine.pretraining import images


def small_config(**changes):
  config = pretrain_config.get_config("smoke")
  config.encoder = {"name": "mlp"}
  config.data.update(train_limit=64, test_limit=64, image_size=16)
  config.projector.update(hidden=32, out=16)
  config.update(batch=16, epochs=2, log_every=1)
  config.evaluate.update(few_shot=False, untrained=False)
  config.update_from_flattened_dict(changes)
  return config


def losses(workdir):
  return [line["loss"] for line in record.read_metrics(f"{workdir}/metrics.jsonl")]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
  workdir = str(tmp_path_factory.mktemp("run"))
  changes = {"objective.name": "augmented", "save_every": 3, "evaluate.untrained": True}
  config = small_config(**changes)
  return config, workdir, pretrain.run(config, workdir)


def test_a_run_leaves_records_report_and_a_probe(finished_run):
  _, workdir, final = finished_run
  assert (
    record.read_json(f"{workdir}/summary.json")["probe/top1"] == final["probe/top1"]
  )
  assert 0 <= final["probe/top1"] <= 1 and final["train/step"] == 8
  assert final["train/chance"] == 0  # of the augmented objective
  assert len(losses(workdir)) == 8 and np.all(np.isfinite(losses(workdir)))
  page = pathlib.Path(workdir, "report.html").read_text(encoding="utf-8")
  assert "simclr with augmented on scenes" in page and "linear probe" in page


@pytest.mark.usefixtures("pageless")
def test_the_untrained_accuracy_is_that_of_the_state_before_the_first_step(
  finished_run, tmp_path, monkeypatch
):
  config, _, final = finished_run
  begun, original = [], loop.train

  def before(state, *args, **kwargs):
    begun.append(jax.tree.map(np.array, (state.params["network"], state.batch_stats)))
    return original(state, *args, **kwargs)

  monkeypatch.setattr(loop, "train", before)
  pretrain.run(config, str(tmp_path))
  params, stats = begun[0]
  train_set, test_set = data.load_pair(config.data, "", config.seed)
  measured = images.evaluate_network(
    config,
    build.build_network(config),
    {"params": params, "batch_stats": stats},
    train_set,
    test_set,
  )
  assert final["probe/untrained_top1"] == measured["probe/top1"]


def test_a_complete_run_is_not_run_again_but_gets_its_page(finished_run, capsys):
  config, workdir, _ = finished_run
  page = pathlib.Path(workdir, "report.html")
  text = page.read_text(encoding="utf-8")
  page.unlink()
  assert pretrain.run(config, workdir) == record.read_json(f"{workdir}/summary.json")
  assert "is complete" in capsys.readouterr().out
  assert page.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("pageless")
def test_the_same_config_gives_the_same_numbers(finished_run, tmp_path):
  config, workdir, final = finished_run
  again = pretrain.run(config, str(tmp_path))
  assert losses(tmp_path) == losses(workdir)
  assert again["probe/top1"] == final["probe/top1"]


@pytest.mark.usefixtures("pageless")
def test_a_stopped_run_resumes_to_the_same_numbers(finished_run, tmp_path, monkeypatch):
  config, workdir, final = finished_run
  original = loop.draw

  def killed(images, plan, step):
    if step == 5:  # after the checkpoint of step 3
      raise KeyboardInterrupt
    return original(images, plan, step)

  monkeypatch.setattr(loop, "draw", killed)
  with pytest.raises(KeyboardInterrupt):
    pretrain.run(config, str(tmp_path))
  monkeypatch.setattr(loop, "draw", original)
  resumed = pretrain.run(config, str(tmp_path))
  assert losses(tmp_path) == losses(workdir)
  for name in ("probe/top1", "probe/untrained_top1"):
    assert resumed[name] == final[name]


def test_the_probe_command_gives_the_numbers_of_the_run(finished_run, tmp_path):
  _, workdir, final = finished_run
  config = probe_config.get_config("linear")
  config.run = workdir
  probed = probe.run(config, str(tmp_path))
  assert probed["probe/top1"] == final["probe/top1"]


@pytest.mark.usefixtures("pageless", "one_device")
def test_moco_v3_moves_its_target_and_trains(tmp_path):
  config = small_config(method="moco_v3", epochs=1)
  final = pretrain.run(config, str(tmp_path))
  assert np.isfinite(final["train/loss"])
  assert "probe/untrained_top1" not in final  # it was not asked for


@pytest.mark.usefixtures("pageless")
def test_one_device_and_eight_give_the_same_curve(tmp_path, monkeypatch):
  config = small_config(**{"objective.name": "augmented", "epochs": 1})
  pretrain.run(config, str(tmp_path / "eight"))
  one = jax.devices()[:1]
  monkeypatch.setattr(loop.mesh.jax, "devices", lambda *args: one)
  pretrain.run(config, str(tmp_path / "one"))
  np.testing.assert_allclose(
    losses(tmp_path / "one"), losses(tmp_path / "eight"), rtol=2e-4
  )


@pytest.mark.parametrize(
  "changes, words",
  [
    ({"encoder.name": "resnet_tny"}, "did you mean 'resnet_tiny'"),
    ({"data.name": "cifar1"}, "cifar10"),
    ({"batch": 128}, "128"),
    ({"batch": 12}, "not a multiple of 8 devices"),
    ({"views": "simcrl"}, "did you mean 'simclr'"),
    ({"optimizer.name": "adam"}, "did you mean 'adamw'"),
    ({"method": "byol"}, "unknown method"),
    ({"dtype": "float16"}, "unknown dtype"),
    ({"data.mean": (0.5, 0.5)}, "data.mean has 2 numbers"),
  ],
)
def test_what_cannot_work_is_refused_in_one_sentence(changes, words, tmp_path):
  config = small_config(**changes)
  with pytest.raises(errors.UserError, match=words):
    pretrain.run(config, str(tmp_path))


@pytest.mark.usefixtures("one_device")
def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path):
  config = small_config(**{"optimizer.name": "sgd", "optimizer.learning_rate": 1e30})
  with pytest.raises(errors.UserError, match=r"at step \d+ .*learning_rate"):
    pretrain.run(config, str(tmp_path))


def test_probing_a_folder_without_a_run_says_so(tmp_path):
  config = probe_config.get_config()
  with pytest.raises(errors.UsageError, match="--run=DIR"):
    probe.run(config, str(tmp_path))
  config.run = str(tmp_path)
  with pytest.raises(errors.UserError, match="not found"):
    probe.run(config, str(tmp_path / "probe"))
