import numpy as np
import pytest

from configs import batch_study as batch_config
from experiments import batch_study
from experiments.engine import errors, record


@pytest.fixture
def trained(monkeypatch):
  """Replaces training by a formula; returns the configs that were asked for."""
  asked = []

  def run(config, workdir):
    asked.append((config, workdir))
    gain = 0.02 if config.objective.name == "augmented" else 0.0
    accuracy = 0.5 + gain + config.seed / 100 + config.batch / 1000
    rate = config.optimizer.learning_rate
    return {
      "probe/top1": accuracy,
      "knn/top1": accuracy - 0.1,
      "probe/validation_top1": 1 - abs(rate - 2e-3),
      "minutes/train": 1.0,
    }

  monkeypatch.setattr(batch_study.pretrain, "run", run)
  return asked


def test_cells_are_grouped_with_paired_differences_to_the_first_arm(trained, tmp_path):
  config = batch_config.get_config("smoke")
  config.study.seeds = (0, 1, 2)
  summary = batch_study.run(config, str(tmp_path))
  rows = {(row["arm"], row["batch"]): row for row in summary["cells"]}
  row = rows["augmented_running", 32]
  assert row["seeds"] == [0, 1, 2]
  assert row["probe/top1"]["mean"] == pytest.approx(0.52 + 0.01 + 0.032)
  assert row["probe/top1"]["difference"]["mean"] == pytest.approx(0.02)
  assert "difference" not in rows["info_nce", 16]["probe/top1"]
  assert record.read_json(tmp_path / "summary.json") == summary
  assert (tmp_path / "report.html").exists() and (tmp_path / "batch_study.svg").exists()


def test_a_tuning_names_the_rate_with_the_best_validation_accuracy(trained, tmp_path):
  config = batch_config.get_config("smoke")
  config.study.batches = (16,)
  config.study.learning_rates = (1e-3, 2e-3, 4e-3)
  summary = batch_study.run(config, str(tmp_path))
  rows = {(row["arm"], row["rate"]): row for row in summary["cells"]}
  gain = rows["augmented_running", 4e-3]["probe/top1"]["difference"]
  assert gain["mean"] == pytest.approx(0.02)
  assert summary["tuned"] == {"scenes": {"info_nce": 2e-3, "augmented_running": 2e-3}}


def test_a_cell_changes_objective_data_batch_seed_and_rate(trained, tmp_path):
  config = batch_config.get_config("smoke")
  config.study.rate_exponent = 1.0
  config.tuned.scenes.info_nce = config.tuned.scenes.augmented_running = 2e-3
  batch_study.run(config, str(tmp_path))
  seen = {
    (c.objective.name, c.batch, c.seed, round(c.optimizer.learning_rate, 6))
    for c, _ in trained
  }
  assert ("augmented", 32, 1, 4e-3) in seen and ("info_nce", 16, 0, 2e-3) in seen
  assert len({workdir for _, workdir in trained}) == len(trained) == 8


def test_the_default_compares_every_arm_at_b_and_2b_over_five_seeds():
  config = batch_config.get_config("cpu")
  cells = batch_study.plan(config)
  assert len(cells) == 2 * 5 * 2 * 5
  assert config.study.batches[1] == 2 * config.study.batches[0]
  control = next(c for c in cells if c.arm == "augmented_minibatch")
  assert batch_study.cell_config(config, control).objective.source == "minibatch"
  epochs = {batch_study.cell_config(config, c).epochs for c in cells}
  assert len(epochs) == 1 and np.isfinite(epochs.pop())


@pytest.mark.parametrize("key, known", [("arms", "info_nce"), ("data", "scenes")])
def test_unknown_names_are_refused(key, known, tmp_path):
  config = batch_config.get_config("smoke")
  config.study[key] = ("nonsense",)
  with pytest.raises(errors.UsageError, match=known):
    batch_study.run(config, str(tmp_path))
