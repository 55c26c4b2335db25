import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bias_study as bias_config
from contrastive import bias
from experiments import bias_study
from experiments.engine import record
from experiments.engine.errors import UsageError
from experiments.engine.studies import bias_problems, bias_trials
from experiments.engine.studies.bias_problems import CLUSTERS, GAUSSIAN

Objective = bias.Objective
OBJECTIVES = {
  "info_nce": Objective("softmax"),
  "info_nce_own": Objective("softmax", coupled=True),
  "decoupled": Objective("decoupled"),
  "minibatch_1": Objective("augmented", "minibatch", 1.0),
  "running": Objective("augmented", "running", None, 0.1),
  "exact": Objective("augmented", "exact"),
  "exact_1": Objective("augmented", "exact", 1.0),
}
LIMITS = bias_trials.Limits(
  chains=32,
  max_gradients=2**14,
  max_pairs=2**21,
  fraction=0.1,
  negligible=0.1,
  floor=1e-3,
)


def cluster_problem():
  return bias_problems.cluster_problem(
    jax.random.key(0),
    anchors=64,
    width=6,
    embedding=4,
    components=6,
    concentration=0.5,
    separation=1.5,
    spread=0.5,
    view_noise=0.3,
    temperature=0.3,
  )


def gaussian_problem(gain=1.0):
  return bias_problems.gaussian_problem(
    jax.random.key(0), anchors=32, width=4, radius=1.2, view_noise=0.3, gain=gain
  )


def measure(family, problem, size, names, visits):
  chosen = {name: OBJECTIVES[name] for name in names}
  return bias_trials.measure(
    family,
    problem,
    chosen,
    size,
    key=jax.random.key(1),
    visits=visits,
    limits=LIMITS,
  )


@pytest.fixture(scope="module")
def cells():
  return measure(CLUSTERS, cluster_problem(), 8, OBJECTIVES, visits=60)


@pytest.fixture(scope="module")
def gaussian_cells():
  problem = gaussian_problem()
  return {
    size: measure(GAUSSIAN, problem, size, ("decoupled",), visits=1)["decoupled"]
    for size in (32, 128)
  }


def test_exact_u_has_no_bias_for_any_shape(cells):
  for name in ("exact", "exact_1"):
    assert abs(cells[name].plain.squared) < 4 * cells[name].plain.null_error
    # Which says something: its error is small beside the decoupled loss's bias.
    assert cells[name].plain.high < 0.25 * cells["decoupled"].bias.bias


def test_running_u_removes_most_of_the_bias(cells):
  assert cells["running"].bias.bias < 0.4 * cells["decoupled"].bias.bias
  assert cells["running"].cosine > cells["decoupled"].cosine


def test_minibatch_u_removes_no_bias_and_adds_noise(cells):
  null, decoupled = cells["minibatch_1"], cells["decoupled"]
  error = np.hypot(null.bias.error, decoupled.bias.error)
  assert abs(null.bias.bias - decoupled.bias.bias) < 4 * error
  assert null.sd > 1.1 * decoupled.sd


def test_most_of_info_nce_is_another_target(cells):
  assert cells["info_nce_own"].bias.bias < 0.3 * cells["info_nce"].bias.bias


def test_control_variate_changes_the_noise_and_not_the_mean(cells):
  for name in ("info_nce", "info_nce_own", "decoupled", "minibatch_1"):
    paired, plain = cells[name].paired, cells[name].plain
    error = np.hypot(paired.squared_error, plain.squared_error)
    assert abs(paired.squared - plain.squared) < 4 * error
  assert cells["running"].paired.mean_error < 0.8 * cells["running"].plain.mean_error
  for cell in cells.values():
    assert cell.bias.null_error == min(cell.paired.null_error, cell.plain.null_error)


def test_replicates_stop_when_the_bias_is_known(cells):
  assert cells["decoupled"].settled == "known"
  assert cells["decoupled"].gradients < LIMITS.max_gradients
  assert cells["decoupled"].bias.error <= 0.1 * cells["decoupled"].bias.bias


def test_a_batch_of_all_anchors_leaves_only_the_other_target():
  found = measure(
    CLUSTERS,
    cluster_problem(),
    64,
    ("info_nce", "info_nce_own", "running"),
    visits=2,
  )
  for name in ("info_nce_own", "running"):
    assert found[name].bias.high < bias_trials.ROUNDING
  assert found["info_nce"].bias.bias > 0.02


def test_bias_of_the_decoupled_loss_falls_as_one_over_the_batch(gaussian_cells):
  small, large = gaussian_cells[32].bias, gaussian_cells[128].bias
  assert 2.5 < small.bias / large.bias < 6


def test_leading_order_predicts_the_bias_of_large_batches(gaussian_cells):
  problem = gaussian_problem()
  unit = bias_problems.attraction(GAUSSIAN, problem)
  predicted = bias_problems.predicted_bias(GAUSSIAN, problem, 128) / unit
  found = gaussian_cells[128].bias
  predicted = float(jnp.linalg.norm(predicted))
  # Of heavy-tailed negatives the next order still counts 10 to 20 % here.
  assert abs(found.bias - predicted) < 0.25 * predicted + 4 * found.error


@pytest.mark.parametrize("coupled", [None, 5])
def test_closed_form_gradient_is_the_one_of_many_negatives(coupled):
  problem, count = gaussian_problem(gain=0.5), 2**17
  x, y, a = (
    np.asarray(v, np.float64) for v in (problem.query, problem.key, problem.params)
  )
  negatives = np.random.default_rng(0).normal(size=(count, 4))
  terms = np.exp(x @ a @ negatives.T)
  positive = np.exp(np.sum((x @ a) * y, axis=1))
  own = positive if coupled is not None else 0 * positive
  nominal = 1 if coupled is None else coupled
  s = own + nominal * terms.mean(1)
  # d log s / dA = (e^p x y' + K E[e^n x y']) / s for each anchor.
  pull = np.einsum("i,ij,ik->jk", own / s - 1, x, y)
  push = np.einsum("i,ij,ik->jk", nominal / s, x, terms @ negatives / count)
  expected = (pull + push) / len(x)
  found = bias_problems.generalised_gradient(GAUSSIAN, problem, coupled)
  np.testing.assert_allclose(found, expected.reshape(-1), atol=0.02)


def test_gaussian_gradient_vanishes_at_the_optimum_only():
  at = bias_problems.generalised_gradient(GAUSSIAN, gaussian_problem())
  off = bias_problems.generalised_gradient(GAUSSIAN, gaussian_problem(gain=0.5))
  assert jnp.linalg.norm(at) < 1e-5
  assert jnp.linalg.norm(off) > 0.1


def test_training_lowers_the_loss_and_keeps_the_data():
  problem = cluster_problem()
  trained = bias_problems.train(problem, 50, 0.03)
  loss = lambda p: jnp.mean(
    CLUSTERS.log_norm(p, p.params) - CLUSTERS.positive(p, p.params)
  )
  assert loss(trained) < loss(problem) - 0.1
  assert jnp.array_equal(trained.query, problem.query)


def smoke(**changes):
  config = bias_config.get_config("smoke")
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def test_smoke_run_leaves_its_records_and_is_not_run_twice(tmp_path):
  config = smoke(problem_seeds=1)
  found = bias_study.run(config, str(tmp_path))
  for name in ("run.json", "summary.json", "report.html", "bias_study.png"):
    assert (tmp_path / name).stat().st_size > 0
  lines = record.read_metrics(tmp_path / "metrics.jsonl")
  assert {line["sweep"] for line in lines} == {"random", "closed_form"}
  assert {line["settled"] for line in lines} <= {"known", "negligible", "budget"}
  place = found["sweeps"]["random"]["objectives"]["decoupled"]["places"][0]
  assert place["bias"]["mean"] > 0 and place["sd"]["mean"] > place["bias"]["mean"]
  assert any("exact u" in line for line in found["conclusions"])
  assert bias_study.run(config, str(tmp_path))["sweeps"].keys() == {
    "random",
    "closed_form",
  }


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"sweeps.random.grid": (64,)}, "batch 64 is larger than the 32 anchors"),
    ({"sweeps.random.grid": (2,)}, "at least 4 anchors"),
    ({"temperature": 0.0}, "must be positive"),
    ({"objectives.exact.shape": -1.0}, "Gamma shape must be positive"),
    ({"objectives.exact.rate": "exactly"}, "unknown rate 'exactly'"),
    ({"objectives.exact.schedule": "decreasng"}, "did you mean 'decreasing'"),
    ({"sweeps.random.objectives": ("infonce",)}, "did you mean 'info_nce'"),
    ({"sweeps.random.problem": "cluster"}, "did you mean 'clusters'"),
    ({"sweeps.closed_form.vary": "temperature"}, "has no temperature"),
    ({"run": ("randm",)}, "did you mean 'random'"),
    ({"run": ()}, "no sweep chosen"),
    ({"chains": 2}, "at least 4 chains"),
    ({"problem_seeds": 0}, "must be at least 1"),
    ({"spread": 0.0}, "must be positive"),
  ],
)
def test_a_config_that_makes_no_sense_is_one_sentence(tmp_path, changes, said):
  with pytest.raises(UsageError) as caught:
    bias_study.run(smoke(**changes), str(tmp_path / "run"))
  assert said in str(caught.value) and "\n" not in str(caught.value)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", bias_config.PRESETS)
def test_every_preset_passes_its_checks(preset):
  config = bias_config.get_config(preset)
  objectives = bias_study.objectives_of(config)
  tasks = bias_study.tasks_of(config, objectives)
  assert {task.sweep for task in tasks} == set(config.run)
