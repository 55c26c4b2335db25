import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import noise_study as noise_config
from contrastive import fixed_points, synthetic
from experiments import noise_study
from experiments.engine import errors, record
from experiments.engine.studies import noise_report, noise_trials, noise_tuning

# The reduced study: one program for all objectives.
SIZES = noise_trials.Sizes(
  steps=1500, records=10, batch=32, negatives=16, init_scale=0.5
)
RUNS = 4
NONE, HEAVY = 0, 1
NUMERATOR = 4.0
NAMES = (
  "info_nce",
  "decoupled",
  "augmented_minibatch",
  "augmented_running",
  "augmented_running_mean",
)
KEYS = jax.random.split(jax.random.key(4), RUNS)


@pytest.fixture(scope="module")
def problem():
  return synthetic.gaussian_problem(jax.random.key(3), anchors=32)


@pytest.fixture(scope="module")
def reduced(problem):
  """Objective -> records [levels, RUNS] without noise and at heavy noise."""
  train = noise_trials.make_train([noise_trials.OBJECTIVES[n] for n in NAMES], SIZES)
  runs = jax.vmap(train, in_axes=(None, 0, None, None, None))
  program = jax.jit(jax.vmap(runs, in_axes=(None, None, 0, None, None)))
  rates, smoothings = np.full((2, len(NAMES)), [[0.02], [NUMERATOR]], np.float32)
  records = program(problem, KEYS, np.float32([0.0, 1.5]), rates, smoothings)
  return {
    name: {k: np.asarray(v)[:, :, o, -1] for k, v in records.items()}
    for o, name in enumerate(NAMES)
  }


@pytest.mark.parametrize("name", ["augmented_running", "augmented_running_mean"])
@pytest.mark.parametrize("level", [NONE, HEAVY])
def test_the_running_normaliser_reaches_the_optimum_at_any_noise(reduced, name, level):
  x = reduced[name]["x"][level]
  assert abs(x.mean() - 1) < 0.05
  assert np.all(np.abs(x - 1) < 0.1)


@pytest.mark.parametrize("name", ["info_nce", "augmented_minibatch", "decoupled"])
def test_minibatch_normalisers_miss_it_by_more_the_more_noise(reduced, name):
  assert np.all(reduced[name]["x"][NONE] > 1.15)
  assert np.all(reduced[name]["x"][HEAVY] > 1.4)


def test_the_direction_hides_the_bias_of_an_isotropic_law(reduced):
  for name in reduced:
    assert np.all(reduced[name]["alignment"] > 0.995), name
  assert np.all(reduced["info_nce"]["relative_error"][HEAVY] > 0.4)


@pytest.mark.parametrize("name", ["decoupled", "augmented_minibatch"])
@pytest.mark.parametrize("level, sd", [(NONE, 0.0), (HEAVY, 1.5)])
def test_the_wrong_fixed_point_is_the_predicted_one(reduced, problem, name, level, sd):
  critic = fixed_points.decoupled_fixed_point(problem, SIZES.negatives, sd)
  predicted = synthetic.recovery(problem, critic)["x"]
  assert abs(reduced[name]["x"][level].mean() / predicted - 1) < 0.02


def test_a_run_among_others_is_the_run_alone(reduced, problem):
  # Neither the other seeds nor the other objectives nor the other level matter.
  objective = noise_trials.OBJECTIVES["augmented_running"]
  alone = jax.jit(noise_trials.make_train([objective], SIZES))(
    problem, KEYS[1], 1.5, np.float32([0.02]), np.float32([NUMERATOR])
  )
  for name, values in alone.items():
    assert values.shape == (1, SIZES.records + 1)
    together = reduced["augmented_running"][name][HEAVY, 1]
    np.testing.assert_allclose(together, values[0, -1], rtol=1e-2, atol=1e-4)


def test_extra_negatives_reach_the_normaliser_only(problem):
  few = SIZES._replace(steps=1, records=1)
  more = few._replace(extra_negatives=8)
  seen = []

  def spy(batch, state):
    seen.append((batch.rows.negative.shape, batch.estimate.shape))
    return batch.rows.positive + jnp.sum(batch.estimate), state

  objective = noise_trials.Objective("spy", spy)
  args = (problem, KEYS[0], 0.0, np.float32([0.1]), np.float32([1.0]))
  for sizes in (few, more):
    noise_trials.make_train([objective], sizes)(*args)
  assert set(seen) == {((32, 16), (32,))}


def test_an_epoch_visits_each_anchor_once_and_orders_differ():
  key = jax.random.key(6)
  batches = [noise_trials.epoch_batch(key, step, 32, 8) for step in range(8)]
  first, second = np.concatenate(batches[:4]), np.concatenate(batches[4:])
  np.testing.assert_array_equal(np.sort(first), np.arange(32))
  np.testing.assert_array_equal(np.sort(second), np.arange(32))
  assert not np.array_equal(first, second)


def test_passing_through_the_optimum_is_not_reaching_it():
  assert noise_report.settled(np.array([0.0, 1.0, 1.3, 1.5]), 10, 0.05) is None
  assert noise_report.settled(np.array([0.0, 1.0, 1.3, 1.04, 0.96]), 10, 0.05) == 30
  assert noise_report.settled(np.array([1.0, 1.01]), 10, 0.05) == 0
  assert noise_report.settled(np.array([1.0, np.nan]), 10, 0.05) is None


def tiny(**changes) -> ml_collections.ConfigDict:
  config = noise_config.get_config("smoke")
  config.setups = ("gaussian",)
  config.steps, config.records = 20, 2
  config.update(changes)
  return config


def test_smoke_leaves_a_complete_run_directory(tmp_path):
  config = noise_config.get_config("smoke")
  summary = noise_study.run(config, str(tmp_path / "a"))
  names = {path.name for path in (tmp_path / "a").iterdir()}
  assert names >= {
    "run.json",
    "metrics.jsonl",
    "summary.json",
    "report.html",
    "gaussian.png",
    "gaussian.svg",
    "heavy_tails.png",
    "heavy_tails.svg",
  }
  cell = summary["setups"]["gaussian"]["1.5"]["objectives"]["info_nce"]
  assert cell["of"] == 2 and len(cell["x_runs"]) == 2
  np.testing.assert_allclose(cell["x"]["mean"], np.mean(cell["x_runs"]), rtol=1e-6)
  assert summary["setups"]["gaussian"]["0"]["theory_decoupled_x"] > 1.2
  assert "theory_decoupled_x" not in summary["setups"]["heavy_tails"]["0"]
  assert "within" in (tmp_path / "a" / "report.html").read_text()
  lines = record.read_metrics(tmp_path / "a" / "metrics.jsonl")
  assert len(lines) == 2 * 2 * 2 * (config.records + 1)
  assert lines[-1]["step"] == config.steps


def test_the_same_command_gives_the_same_numbers_once(tmp_path, capsys):
  config = tiny(objectives=("augmented_running_mean",))
  first = noise_study.run(config, str(tmp_path / "a"))
  noise_study.run(config, str(tmp_path / "b"))
  files = [(tmp_path / name / "summary.json").read_bytes() for name in "ab"]
  assert files[0] == files[1]
  capsys.readouterr()
  again = noise_study.run(config, str(tmp_path / "a"))
  assert "complete" in capsys.readouterr().out
  assert again == json.loads(json.dumps(first))


def test_an_interrupted_study_leaves_no_stale_lines(tmp_path):
  config = tiny(objectives=("decoupled",), noise=(0.0,))
  with record.Recorder(str(tmp_path), config) as recorder:
    recorder.write(0, stale=1.0)
  noise_study.run(config, str(tmp_path))
  lines = record.read_metrics(tmp_path / "metrics.jsonl")
  assert len(lines) == config.records + 1 and "stale" not in lines[0]


def test_tuning_is_recorded_and_used(tmp_path):
  config = tiny(objectives=("sogclr_tuned",), noise=(1.5,), tune=True)
  config.tuning.problems, config.tuning.trials = 2, 12
  summary = noise_study.run(config, str(tmp_path))
  best = record.read_json(tmp_path / "tuned.json")["gaussian"]["sogclr_tuned"][0]
  used = summary["setups"]["gaussian"]["1.5"]["objectives"]["sogclr_tuned"]
  assert used["learning_rate"] == best["learning_rate"]
  assert used["smoothing"] == best["smoothing"]
  assert best["smoothing"] in noise_trials.OBJECTIVES["sogclr_tuned"].smoothing


def test_each_objective_gets_the_same_number_of_trials():
  config = noise_config.get_config()
  count, rates = config.tuning.trials, config.tuning.rates
  for objective in noise_trials.OBJECTIVES.values():
    rate, smoothing = noise_tuning.trials(objective, count, rates)
    assert len(rate) == len(set(zip(rate, smoothing, strict=True))) == count
    assert rate.min() == pytest.approx(rates[0])
    assert rate.max() == pytest.approx(rates[1])


def test_the_best_trial_is_the_gentlest_of_those_as_good():
  rate = np.array([0.1, 0.01, 0.02, 0.01])
  assert noise_tuning.best_trial(np.array([1.0, 1.01, 1.0, 1.5]), rate) == 1
  assert noise_tuning.best_trial(np.array([1.0, 1.05, 1.03, 1.5]), rate) == 0
  assert noise_tuning.best_trial(np.array([np.nan, 1.0, 0.5, 2.0]), rate) == 2


def test_every_preset_has_values_for_each_of_its_objectives():
  for preset in noise_config.PRESETS:
    config = noise_config.get_config(preset)
    for setup in config.setups:
      for name in config.objectives:
        for sd, rate, smoothing in config.tuned[setup][name]:
          assert sd >= 0 and rate > 0 and smoothing > 0
  with pytest.raises(ValueError, match=r"unknown preset 'qick'.*quick"):
    noise_config.get_config("qick")


def test_overrides_replace_the_tuned_values():
  config = tiny(learning_rate=0.5, smoothing=0.25)
  rows = ((0.0, 0.1, 4.0), (2.0, 0.2, 8.0))
  running = noise_trials.OBJECTIVES["augmented_running"]
  plain = noise_trials.OBJECTIVES["info_nce"]
  assert noise_study.tuned_at(config, running, rows, 1.5) == (0.5, 0.25)
  assert noise_study.tuned_at(config, plain, rows, 1.5) == (0.5, 8.0)
  assert noise_study.tuned_at(tiny(), running, rows, 0.9) == (0.1, 4.0)


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"objectives": ("info_nse",)}, "unknown objective 'info_nse'.*info_nce"),
    ({"objectives": ()}, "no objective chosen"),
    ({"setups": ("gausian",)}, "unknown set-up 'gausian'.*gaussian"),
    ({"negatives": 0}, "negatives must be at least 1"),
    ({"runs": 0}, "runs must be at least 1"),
    ({"noise": (-1.0,)}, "standard deviations of at least 0"),
    ({"noise": ()}, "standard deviations of at least 0"),
    ({"anchors": 20}, "anchors=20 is not a multiple of batch=8; try anchors=16"),
    ({"steps": 21}, "steps=21 is not a multiple of records=2; try steps=20"),
    ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ({"radius": -1.0}, "radius must be positive"),
    ({"view_noise": -1.0}, "view_noise must be at least 0"),
    ({"smoothing": 4.0, "objectives": ("sogclr_tuned",)}, "at most 1 for sogclr_tuned"),
  ],
)
def test_bad_configs_are_one_sentence(tmp_path, changes, said):
  with pytest.raises(errors.UsageError, match=said) as caught:
    noise_study.run(tiny(**changes), str(tmp_path / "run"))
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "run").exists()


def test_a_tuning_budget_that_does_not_divide_is_refused(tmp_path):
  config = tiny(objectives=("sogclr_tuned",), tune=True)
  config.tuning.trials = 7
  with pytest.raises(errors.UsageError, match="try 6"):
    noise_study.run(config, str(tmp_path))
