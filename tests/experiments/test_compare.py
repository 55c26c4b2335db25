"""Comparison of runs: numbers by hand, coverage, broken records, outputs."""

import csv
import io
import json
import math
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from experiments import compare
from experiments.engine import errors, record
from experiments.engine.comparison import groups, notes, page, runs, statistics, tables
from experiments.engine.reporting import curves

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOSS = [(10, 3.0), (20, 2.0), (30, 1.0)]


def write_run(folder, *, seed=0, name="a", final=None, loss=LOSS, tail="", **more):
  """A run folder by hand; `final=None` is a run in progress."""
  folder.mkdir(parents=True)
  config = {"seed": seed, "batch": 64, "objective": {"name": name}} | more
  about = {
    "command": f"python -m experiments.pretrain --config.seed={seed}",
    "config": config,
    "seed": seed,
    "versions": {"jax": "0.10.2"},
    "devices": ["cpu"],
  }
  (folder / "run.json").write_text(json.dumps(about))
  lines = [json.dumps({"step": s, "wall": s / 10, "loss": v}) for s, v in loss]
  (folder / "metrics.jsonl").write_text("".join(x + "\n" for x in lines) + tail)
  if final is not None:
    (folder / "summary.json").write_text(json.dumps({"probe/top1": final}))
  return folder


def two_groups(folder, a=(0.50, 0.54, 0.55), b=(0.60, 0.66, 0.63)):
  for seed, value in enumerate(a):
    write_run(folder / f"a{seed}", seed=seed, name="a", final=value)
  for seed, value in enumerate(b):
    write_run(folder / f"b{seed}", seed=seed, name="b", final=value)
  return folder


def collected(folder, **options):
  return compare.collect([str(folder)], **options)


def text_of(found):
  """The tables without line breaks and runs of blanks."""
  return " ".join(tables.text_tables(found).split())


def grouped(folder, keys=()):
  found = [runs.read_run(path) for path in runs.find_runs([str(folder)])]
  return groups.group_runs(found, keys)


def test_mean_interval_and_difference_are_those_computed_by_hand(tmp_path):
  found = collected(two_groups(tmp_path / "runs"), metrics=["probe/top1"])
  cell = found.cells["probe/top1", "objective.name=a"]
  low, high = curves.interval([0.50, 0.54, 0.55])[1:3]
  assert (cell.interval.low, cell.interval.high) == (
    low,
    high,
  )  # those of the tests below
  # mean 0.53; squares 0.0009 + 0.0001 + 0.0004 = 0.0014; s = sqrt(0.0007);
  # t(2, 0.975) = 4.302653; half = 4.302653 * 0.02645751 / sqrt(3) = 0.0657244
  assert cell.interval.n == 3
  np.testing.assert_allclose(cell.interval[:3], [0.53, 0.4642756, 0.5957244], rtol=1e-6)
  (difference,) = found.differences["probe/top1"]
  # differences 0.10, 0.12, 0.08: mean 0.1, s = 0.02, error 0.0115470, t = 8.660254;
  # with 2 degrees of freedom p = 1 - t / sqrt(2 + t^2) = 0.0130718
  assert difference.interval.mean == pytest.approx(0.1)
  assert difference.interval.high == pytest.approx(0.1 + 4.302653 * 0.0115470, rel=1e-5)
  t = 8.660254
  assert difference.p_value == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-5)
  assert difference.p_holm == difference.p_value
  text = text_of(found)
  assert "0.530" in text and "0.464 to 0.596" in text and "+0.100" in text
  assert "0.013" in text


@pytest.mark.parametrize("n", [5, 10])
def test_intervals_cover_the_truth_as_often_as_they_say(n):
  values = np.random.default_rng(n).normal(3.0, 2.0, (n, 20_000))
  _, low, high = curves.band(values)  # of which `interval` is one column
  share = np.mean((low <= 3.0) & (high >= 3.0))
  assert 0.93 <= share <= 0.97
  assert abs(share - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 20_000)


def test_a_skewed_law_is_covered_as_rarely_as_is_documented():
  values = np.random.default_rng(0).exponential(1.0, (5, 20_000))
  _, low, high = curves.band(values)
  assert 0.875 < np.mean((low <= 1.0) & (high >= 1.0)) < 0.893  # 88.4 %


def test_paired_intervals_cover_a_difference_whatever_the_seeds_share():
  rng = np.random.default_rng(7)
  shared = rng.exponential(5.0, (5, 20_000))
  ours, theirs = (shared + rng.normal(m, 1.0, shared.shape) for m in (1.0, 0.0))
  _, low, high = curves.band(ours - theirs)
  assert 0.94 < np.mean((low <= 1.0) & (high >= 1.0)) < 0.96


@pytest.mark.parametrize("effect", [0.3, 1.0, 4.0])
def test_the_seeds_needed_are_the_fewest_with_power_80_percent(effect):
  n = statistics.seeds_needed(effect * 0.02, 0.02)
  assert statistics.power(n, effect) >= 0.8
  assert n == 2 or statistics.power(n - 1, effect) < 0.8


def test_power_is_the_share_of_simulated_studies_that_find_the_difference():
  values = np.random.default_rng(0).normal(1.0, 1.0, (8, 20_000))
  found = stats.ttest_1samp(values, 0.0, axis=0).pvalue < 0.05
  power = statistics.power(8, 1.0)
  assert abs(found.mean() - power) < 4 * math.sqrt(power * (1 - power) / 20_000)


def test_no_seeds_suffice_for_no_difference_and_two_for_one_without_spread():
  assert statistics.seeds_needed(0.0, 1.0) == math.inf
  assert statistics.seeds_needed(1e-9, 1.0) == math.inf
  assert statistics.seeds_needed(1.0, 0.0) == 2
  assert statistics.seeds_needed(1e6, 1.0) == 2


def test_holm_multiplies_by_what_is_left_and_never_falls():
  # 0.01 * 3, 0.02 * 2, max(0.04, 0.03 * 1); NaN is no test
  assert statistics.holm([0.03, 0.01, math.nan, 0.02])[:2] == [0.04, 0.03]
  assert statistics.holm([0.03, 0.01, math.nan, 0.02])[3] == 0.04
  assert math.isnan(statistics.holm([0.5, math.nan])[1])
  assert statistics.holm([0.9, 0.8]) == [1.0, 1.0]


def test_only_common_seeds_are_paired(tmp_path):
  folder = two_groups(tmp_path / "runs", a=(0.5, 0.6, 0.7, 0.8), b=(0.6, 0.8))
  found = collected(folder, metrics=["probe/top1"])
  (difference,) = found.differences["probe/top1"]
  assert difference.interval.n == 2
  assert difference.interval.mean == pytest.approx(0.15)
  assert "other seeds than the baseline's" in text_of(found)


def test_too_few_common_seeds_are_said_in_words(tmp_path):
  write_run(tmp_path / "r/a0", seed=0, name="a", final=0.5)
  write_run(tmp_path / "r/b0", seed=0, name="b", final=0.6)
  write_run(tmp_path / "r/c9", seed=9, name="c", final=0.7)
  found = collected(tmp_path / "r")
  text = text_of(found)
  assert "one pair only: no interval, no test" in text and "no common seed" in text
  assert "one seed only, so no interval" in text


def test_runs_that_differ_in_the_seed_only_are_a_group_named_by_what_differs(tmp_path):
  for name, batch in (("a", 64), ("b", 64), ("a", 128)):
    for seed in (0, 1):
      more = {"seed": seed, "batch": batch, "workdir": f"{name}{batch}{seed}"}
      write_run(tmp_path / f"{name}{batch}{seed}", name=name, final=0.5, **more)
  names = {g.name: len(g.runs) for g in grouped(tmp_path).groups}
  assert names == {
    "batch=64 objective.name=a": 2,
    "batch=64 objective.name=b": 2,
    "batch=128 objective.name=a": 2,
  }
  names = [g.name for g in grouped(tmp_path, ["config.objective.name"]).groups]
  assert names == ["objective.name=a", "objective.name=b"]


def test_many_differing_keys_do_not_all_go_into_the_name(tmp_path):
  for i, name in enumerate("abc"):
    more = {f"key{k}": i for k in range(9)}
    write_run(tmp_path / name, name=name, final=0.5, **more)
  found = grouped(tmp_path)
  assert [g.name for g in found.groups] == [f"objective.name={n}" for n in "abc"]
  assert len(found.differing) == 10


def test_pairs_agree_in_the_keys_that_vary_within_a_group(tmp_path):
  # Batch 128 adds 0.2 to both objectives; a is missing at seed 1, batch 128.
  for name, gain in (("a", 0.0), ("b", 0.1)):
    for seed in (0, 1):
      for batch in (64, 128):
        value = 0.5 + gain + 0.2 * (batch == 128) + 0.01 * seed * (name == "b")
        if (name, seed, batch) != ("a", 1, 128):
          path = tmp_path / "r" / f"{name}{seed}{batch}"
          write_run(path, seed=seed, name=name, final=value, batch=batch)
  found = collected(tmp_path / "r", group_by=["objective.name"], metrics=["probe/top1"])
  (difference,) = found.differences["probe/top1"]
  assert difference.interval.n == 2
  assert difference.interval.mean == pytest.approx((0.1 + 0.11) / 2)
  cell = found.cells["probe/top1", "objective.name=a"]
  assert cell.values == {0: pytest.approx(0.6), 1: pytest.approx(0.5)}


def test_starts_of_a_sweep_go_with_the_seed(tmp_path):
  for arm, seed in (("a", 0), ("a", 1), ("b", 0), ("b", 1)):
    start = {"arm": arm, "init_from": f"pre/arm={arm},seed={seed}"}
    write_run(tmp_path / f"{arm}{seed}", seed=seed, final=0.5, **start)
  assert len(grouped(tmp_path).groups) == 2
  found = collected(tmp_path, group_by=["arm"], metrics=["probe/top1"])
  assert found.differences["probe/top1"][0].interval.n == 2


def test_a_run_that_was_made_twice_counts_once_and_the_finished_one_stays(tmp_path):
  write_run(tmp_path / "broken", seed=3, loss=LOSS[:1])
  write_run(tmp_path / "whole", seed=3, final=0.5)
  found = grouped(tmp_path)
  assert [run.path for run in found.groups[0].runs] == [str(tmp_path / "whole")]
  assert len(found.repeated) == 1


def test_one_and_one_point_zero_are_the_same_setting(tmp_path):
  write_run(tmp_path / "a", seed=0, final=0.5, rate=1)
  write_run(tmp_path / "b", seed=1, final=0.5, rate=1.0)
  assert [g.name for g in grouped(tmp_path).groups] == ["all runs"]


def test_the_baseline_may_be_given_by_a_part_of_its_name(tmp_path):
  folder = two_groups(tmp_path / "runs")
  found = collected(folder, baseline="name=b", metrics=["probe/top1"])
  (difference,) = found.differences["probe/top1"]
  assert difference.group.name == "objective.name=a"
  assert difference.interval.mean == pytest.approx(-0.1)


def test_runs_are_found_at_any_depth_once_and_in_numeric_order(tmp_path):
  for name in ("x/s10", "x/s2", "y"):
    write_run(tmp_path / name)
  write_run(tmp_path / "y/probe")  # belongs to the run y
  (tmp_path / "x/round").symlink_to(tmp_path / "x", target_is_directory=True)
  asked = [str(tmp_path / "y"), str(tmp_path)]
  found = [
    pathlib.Path(p).relative_to(tmp_path).as_posix() for p in runs.find_runs(asked)
  ]
  assert found == ["y", "x/s2", "x/s10"]


def test_what_a_recorder_writes_is_read_back(tmp_path):
  config = {"seed": 4, "objective": {"name": "a"}}
  with record.Recorder(tmp_path / "r", config, "python -m x") as recorder:
    recorder.write(5, loss=2.5)
    recorder.write(10, loss=float("nan"))
    unfinished = runs.read_run(str(tmp_path / "r"))
    recorder.summary({"probe/top1": 0.5, "nested": {"k": 2}, "name": "text"})
  run = runs.read_run(str(tmp_path / "r"))
  assert (unfinished.finished, run.finished) == (False, True)
  assert (run.seed, run.command, run.config["objective.name"]) == (
    4,
    "python -m x",
    "a",
  )
  assert run.final == {"probe/top1": 0.5, "nested.k": 2.0}
  assert run.last_step == 10 and math.isnan(runs.final_value(run, "loss"))
  assert run.curves["loss"].values[0] == 2.5
  assert "versions.jax" in run.circumstances


def test_a_run_in_progress_counts_with_its_last_value_and_is_named(tmp_path):
  write_run(tmp_path / "r/a0", seed=0, final=0.5)
  write_run(tmp_path / "r/a1", seed=1, loss=LOSS[:2])
  found = collected(tmp_path / "r")
  assert found.cells["loss", "all runs"].values == {0: 1.0, 1: 2.0}
  assert found.cells["probe/top1", "all runs"].values == {0: 0.5}
  text = text_of(found)
  assert "2* 1.5" in text
  assert f"1 run: {tmp_path}/r/a1 (step 20)" in text
  assert f"left out: 1 run without probe/top1: {tmp_path}/r/a1" in text


def test_a_run_in_progress_is_not_paired_with_one_at_another_step(tmp_path):
  for seed in (0, 1, 2):
    write_run(tmp_path / f"r/a{seed}", seed=seed, name="a", final=0.5)
    cut = LOSS[:2] if seed == 2 else LOSS
    final = None if seed == 2 else 0.5
    write_run(tmp_path / f"r/b{seed}", seed=seed, name="b", final=final, loss=cut)
  found = collected(tmp_path / "r", metrics=["loss"])
  (difference,) = found.differences["loss"]
  assert (difference.interval.n, difference.unequal) == (2, 1)
  assert any("left out of the differences" in line for line in notes.remarks(found))
  found = collected(tmp_path / "r", metrics=["loss"], at_step="common")
  (difference,) = found.differences["loss"]
  assert found.step == 20 and difference.interval.n == 3
  assert found.cells["loss", "objective.name=a"].interval.mean == 2.0
  assert notes.remarks(found) == []


def test_runs_that_have_not_come_so_far_are_left_out_at_a_step(tmp_path):
  write_run(tmp_path / "r/a0", seed=0)
  write_run(tmp_path / "r/a1", seed=1, loss=LOSS[:1])
  found = collected(tmp_path / "r", at_step="25")
  text = text_of(found)
  assert "values at step 25" in text
  assert f"left out: 1 run short of step 25: {tmp_path}/r/a1" in text


def test_torn_lines_missing_files_and_lost_values_are_worked_with(tmp_path):
  write_run(tmp_path / "r/torn", seed=0, tail='{"step": 40, "lo')
  write_run(tmp_path / "r/bare", seed=1, final=0.5)
  (tmp_path / "r/bare/metrics.jsonl").unlink()
  write_run(tmp_path / "r/diverged", seed=2, loss=[*LOSS, (40, None)])
  write_run(tmp_path / "r/long", seed=3, final=0.5, loss=[*LOSS, (40, 0.5)])
  write_run(tmp_path / "r/short", seed=4, final=0.5)
  found = collected(tmp_path / "r", threshold="loss=2")
  assert found.cells["loss", "all runs"].values == {0: 1.0, 3: 0.5, 4: 1.0}
  text = text_of(found)
  assert f"torn or broken lines of metrics.jsonl in {tmp_path}/r/torn (1)" in text
  assert f"1 run without loss: {tmp_path}/r/bare" in text
  assert "whose loss is not a finite number" in text
  assert "finished runs of different lengths in all runs: 30 to 40 steps" in text
  assert "left out of the steps to loss <= 2: 1 run" in text


def test_other_versions_are_remarked(tmp_path):
  write_run(tmp_path / "r/a", seed=0, final=0.5)
  path = write_run(tmp_path / "r/b", seed=1, final=0.5) / "run.json"
  about = json.loads(path.read_text())
  about["versions"]["jax"], about["commit"] = "0.11.0", "abc (dirty)"
  path.write_text(json.dumps(about))
  found = collected(tmp_path / "r")
  text = text_of(found)
  assert "versions.jax (0.10.2, 0.11.0)" in text
  assert "commit (not recorded, abc (dirty))" in text


def test_the_first_step_at_a_threshold_and_who_misses_it(tmp_path):
  write_run(tmp_path / "r/a0", seed=0, final=0.5)
  write_run(tmp_path / "r/a1", seed=1, final=0.5, loss=[(10, 2.0), (20, 3.0)])
  write_run(tmp_path / "r/a2", seed=2, final=0.5, loss=[(10, 9.0), (20, 8.0)])
  found = collected(tmp_path / "r", threshold="train/loss=2.0")
  ((row,),) = found.arrivals.values()
  assert sorted(row.steps.values()) == [10, 20] and row.median == 20
  assert [run.path for run in row.missed] == [str(tmp_path / "r/a2")]
  text = text_of(found)
  assert "steps to train/loss <= 2" in text
  assert "not reached by 1 run" in text


def test_the_direction_of_a_threshold_follows_the_name_or_the_word():
  parse = lambda text: statistics.parse_thresholds(text, ["loss", "top1", "gap"])
  found = parse("loss=1.0, top1=0.5,gap=2:falling")
  assert [t.falling for t in found] == [True, False, True]
  assert str(found[1]) == "top1 >= 0.5"
  for text in ("loss", "loss=x", "loss<=1", "loss=1:down", "loss=nan"):
    with pytest.raises(errors.UsageError, match="METRIC=VALUE"):
      parse(text)
  with pytest.raises(errors.UsageError, match="did you mean 'loss'"):
    parse("los=1")


def test_the_csv_holds_every_value_to_the_last_digit(tmp_path):
  folder = two_groups(tmp_path / "runs", a=(1 / 3, 0.1), b=(2 / 3,))
  text = tables.csv_text(collected(folder, metrics=["probe/top1", "loss"]))
  rows = list(csv.DictReader(io.StringIO(text)))
  assert len(rows) == 6
  assert list(rows[0]) == ["group", "seed", "run", "metric", "value"]
  first = [row for row in rows if row["metric"] == "probe/top1"]
  assert [float(row["value"]) for row in first] == [1 / 3, 0.1, 2 / 3]
  assert [row["seed"] for row in first] == ["0", "1", "0"]
  assert (first[2]["run"], first[2]["group"]) == (
    str(folder / "b0"),
    "objective.name=b",
  )


def test_the_page_loads_nothing_and_holds_what_was_promised(tmp_path):
  folder = two_groups(tmp_path / "runs")
  write_run(folder / "c<i>", name="</td><script>x</script>", final=0.2)
  compare.run([str(folder)], out=str(tmp_path / "out"), threshold="loss=2")
  text = (tmp_path / "out/compare.html").read_text()
  assert "http://" not in text and "https://" not in text and "<script" not in text
  assert not re.search(r'(?:src|href|srcset)="(?!data:|#)', text)
  for heading in ("Final values", "Differences", "Curves", "Configs", "Runs"):
    assert f">{heading}</h2>" in text
  assert "python -m experiments.pretrain --config.seed=2" in text
  assert "0.10.2" in text and text.count("<img") == 2
  again = tmp_path / "again"
  compare.run([str(folder)], out=str(again), threshold="loss=2")
  assert (again / "compare.html").read_text() == text


def test_curves_come_on_a_linear_and_a_logarithmic_axis(tmp_path):
  group = grouped(two_groups(tmp_path)).groups
  linear, log = page.curve_panels(group, "loss")
  assert (linear.log_x, linear.log_y, log.log_x, log.log_y) == (
    False,
    False,
    True,
    True,
  )
  assert [s.name for s in linear.series] == [g.name for g in group]
  write_run(tmp_path / "n", name="n", loss=[(10, 0.5), (20, -0.5)])
  _, log = page.curve_panels(grouped(tmp_path).groups, "loss")
  assert (log.log_x, log.log_y) == (True, False)


def test_curves_of_other_steps_and_lengths_meet_on_one_grid():
  a = runs.Curve(np.array([0, 10, 20]), np.array([0.0, 1.0, 2.0]))
  b = runs.Curve(np.array([5, 10]), np.array([4.0, np.nan]))
  steps, values = statistics.aligned([a, b])
  np.testing.assert_array_equal(steps, [0, 5, 10, 20])
  np.testing.assert_array_equal(values[0], [0.0, 0.5, 1.0, 2.0])
  np.testing.assert_array_equal(values[1], [np.nan, 4.0, np.nan, np.nan])


def test_the_table_fits_into_100_columns(tmp_path):
  folder = two_groups(tmp_path / "runs", a=(0.5, 0.6), b=(-123456.0, 7e-7))
  write_run(folder / "c", name="a-name-that-takes-more-room-than-there-is", final=1.0)
  found = collected(folder, threshold="loss=2,wall=1", metrics=["*"])
  lines = tables.text_tables(found).splitlines()
  long = [line for line in lines if len(line) > 100 and str(tmp_path) not in line]
  assert not long


@pytest.mark.parametrize(
  ("mean", "half", "text"),
  [(0.5, 0.01, "0.500"), (4.15, 0.6, "4.15"), (1e-5, 1e-6, "1e-05"), (9e9, 1, "9e+09")],
)
def test_numbers_have_the_digits_that_their_interval_deserves(mean, half, text):
  found = curves.Interval(mean, mean - half, mean + half, 3)
  assert tables.formatter([found])(mean) == text


def test_three_hundred_runs_are_compared_in_seconds(tmp_path):
  rng = np.random.default_rng(0)
  for i in range(300):
    loss = [(10 * t, 5 / t + rng.random()) for t in range(1, 31)]
    more = {"seed": i % 5, "rate": i // 5, "loss": loss}
    write_run(tmp_path / f"r/{i}", final=rng.random(), **more)
  found = collected(tmp_path / "r", group_by=["objective.name"])
  assert found.cells["loss", "objective.name=a"].interval.n == 5
  found = compare.run([str(tmp_path / "r")], out=str(tmp_path), metrics=["loss"])
  assert len(found.grouping.groups) == 60
  assert "300 runs in 60 groups" in text_of(found)
  assert "first 12 of 60 groups" in (tmp_path / "compare.html").read_text()


def test_what_cannot_be_compared_is_said_in_a_sentence(tmp_path):
  run = lambda *folders, **options: compare.run(
    [str(f) for f in folders], out=str(tmp_path / "out"), **options
  )
  with pytest.raises(errors.UsageError, match="which runs"):
    run()
  with pytest.raises(errors.UserError, match="does not exist"):
    run(tmp_path / "nowhere")
  (tmp_path / "empty").mkdir()
  with pytest.raises(errors.UserError, match=r"no run in .*run\.json"):
    run(tmp_path / "empty")
  good = write_run(tmp_path / "good", final=0.5)
  with pytest.raises(errors.UserError, match="is a file"):
    run(good / "run.json")
  with pytest.raises(errors.UsageError, match="did you mean 'probe/top1'"):
    run(good, metrics=["probe/top2"])
  with pytest.raises(errors.UsageError, match=r"did you mean 'objective\.name'"):
    run(good, group_by=["objective.nam"])
  with pytest.raises(errors.UsageError, match="unknown group"):
    run(good, baseline="b")
  with pytest.raises(errors.UsageError, match="stands for 2 groups"):
    run(two_groups(tmp_path / "two"), baseline="objective")
  with pytest.raises(errors.UserError, match="no run has reached step 99"):
    run(good, at_step="99")
  with pytest.raises(errors.UsageError, match="at_step"):
    run(good, at_step="last")
  bare = write_run(tmp_path / "bare", loss=[])
  with pytest.raises(errors.UserError, match="no metrics yet"):
    run(bare)
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ['{"config"', "[]", "{}", "\xff\xfe", '{"config": 3}'])
def test_an_unreadable_run_json_is_named(tmp_path, text):
  path = write_run(tmp_path / "r") / "run.json"
  path.write_bytes(text.encode("latin-1"))
  with pytest.raises(errors.UserError, match=re.escape(str(path))):
    collected(tmp_path / "r")


def test_the_command_compares_and_explains_itself(tmp_path):
  folder = two_groups(tmp_path / "runs")
  command = [sys.executable, "-m", "experiments.compare"]
  run = lambda *args: subprocess.run(
    [*command, *args], cwd=ROOT, capture_output=True, text=True
  )
  args = ["--metric=probe/top1,loss", "--group_by=config.objective.name"]
  args += ["--threshold=loss=1.5", "--baseline=objective.name=b", f"--out={tmp_path}"]
  done = run(str(folder), *args)
  assert done.returncode == 0, done.stderr
  assert "objective.name=b (baseline)" in done.stdout and not done.stderr
  assert (tmp_path / "compare.csv").exists() and (tmp_path / "compare.html").exists()
  wrong = run(str(folder), "--metric=probe/top2")
  assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown metric")
  assert "Traceback" not in wrong.stderr
