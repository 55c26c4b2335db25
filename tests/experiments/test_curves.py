"""Intervals over seeds and the figures that show them."""

import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy import stats

from experiments.engine import errors
from experiments.engine.reporting import curves

WEIGHTS = [4.17, 5.58, 5.18, 6.11, 4.5, 4.61, 5.17, 4.53, 5.33, 5.14]


def axes(fig, i=0):
  return fig.axes[i]


def texts(ax):
  return [text.get_text() for text in ax.texts]


def labels(axis):
  axis.axes.figure.draw_without_rendering()
  low, high = sorted(axis.get_view_interval())
  ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
  return [text.get_text() for place, text in ticks if low <= place <= high]


def series(name="a", seeds=3, steps=20, seed=0):
  runs = np.random.default_rng(seed).normal(2.0, 0.1, (seeds, steps))
  return curves.Series(name, np.arange(1, steps + 1), runs)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_interval_is_students(confidence):
  found = curves.interval(WEIGHTS, confidence)
  low, high = stats.t.interval(
    confidence, len(WEIGHTS) - 1, np.mean(WEIGHTS), stats.sem(WEIGHTS)
  )
  np.testing.assert_allclose(found[:3], [np.mean(WEIGHTS), low, high], rtol=1e-10)
  assert found.n == 10


def test_interval_of_two_known_numbers():
  # mean 1, standard error 1, t(1 degree of freedom, 0.975) = 12.706
  np.testing.assert_allclose(
    curves.interval([0.0, 2.0])[:3], [1.0, -11.7062, 13.7062], rtol=1e-5
  )


def test_interval_covers_the_mean_as_often_as_it_says():
  trials, seeds = 4000, 4
  values = np.random.default_rng(1).normal(3.0, 2.0, (seeds, trials))
  _, low, high = curves.band(values)
  covered = np.mean((low <= 3.0) & (3.0 <= high))
  assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_one_value_has_no_bounds_and_none_has_no_mean():
  one, none = curves.interval([2.5]), curves.interval([])
  assert one.mean == 2.5 and one.n == 1 and np.isnan([one.low, one.high]).all()
  assert none.n == 0 and np.isnan(none[:3]).all()
  assert curves.interval([3.0, 3.0, 3.0])[:3] == (3.0, 3.0, 3.0)


def test_values_that_are_not_finite_are_left_out_and_counted():
  found = curves.interval([1.0, np.nan, 2.0, np.inf, 4.0])
  assert found == curves.interval([1.0, 2.0, 4.0]) and found.n == 3


def test_band_is_the_interval_of_each_step():
  runs = np.random.default_rng(2).normal(size=(5, 7))
  runs[1, 3] = runs[:4, 5] = runs[:, 6] = np.nan
  found = np.stack(curves.band(runs))
  assert found.shape == (3, 7)
  for step in range(7):
    np.testing.assert_allclose(
      found[:, step], curves.interval(runs[:, step])[:3], rtol=1e-12
    )
  assert np.isnan(found[1:, 5]).all() and found[0, 5] == runs[4, 5]
  assert np.isnan(found[:, 6]).all()


def test_a_shared_offset_cancels_in_paired_differences():
  rng = np.random.default_rng(3)
  offset, gap = rng.normal(0, 10.0, 8), rng.normal(0.5, 0.1, 8)
  found = curves.paired_difference(offset + gap, offset)
  np.testing.assert_allclose(found[:3], curves.interval(gap)[:3], rtol=1e-9)
  assert found.low > 0
  assert curves.paired_p_value(offset + gap, offset) == pytest.approx(
    stats.ttest_rel(offset + gap, offset).pvalue, rel=1e-6
  )


def test_pairs_lack_a_value_together():
  a, b = [1.0, np.nan, 3.0, 5.0], [0.5, 1.0, np.nan, 3.5]
  found = curves.paired_difference(a, b)
  assert found.n == 2 and found.mean == 1.0
  assert curves.paired_p_value([1.0, 2.0], [1.0, 2.0]) == 1.0
  assert curves.paired_p_value([2.0, 3.0], [1.0, 2.0]) == 0.0
  assert np.isnan(curves.paired_p_value([1.0], [2.0]))


def test_wrong_shapes_are_sentences():
  with pytest.raises(ValueError, match="same seeds on both sides"):
    curves.paired_difference([1.0, 2.0], [1.0])
  with pytest.raises(ValueError, match=r"values \[seeds\]"):
    curves.interval(np.ones((2, 2)))
  with pytest.raises(ValueError, match=r"runs \[seeds, t\]"):
    curves.band(np.ones(3))
  with pytest.raises(ValueError, match="confidence 95"):
    curves.interval([1.0, 2.0], 95)
  with pytest.raises(ValueError, match=r"'a' needs x \[t\]"):
    wrong = curves.Series("a", np.arange(3), np.ones((2, 4)))
    curves.figure([curves.Panel("p", [wrong])])


@pytest.mark.parametrize(
  ("value", "text"),
  [
    (curves.Interval(1.0031, 0.999, 1.0072, 5), "1.003 ± 0.004"),
    (curves.Interval(2.0, float("nan"), float("nan"), 1), "2.000"),
    (curves.Interval(float("nan"), float("nan"), float("nan"), 0), "n/a"),
    (curves.Interval(1.0, 0.9, 1.3, 5), "1.000 [0.900, 1.300]"),
  ],
)
def test_format_interval(value, text):
  assert curves.format_interval(value) == text


def test_figure_shows_runs_mean_and_band():
  ax = axes(curves.figure([curves.Panel("p", [series()])]))
  thin = [line for line in ax.lines if line.get_linewidth() < 1]
  (mean,) = [line for line in ax.lines if line.get_linewidth() > 1.5]
  assert len(thin) == 3 and len(ax.collections) == 1
  np.testing.assert_allclose(mean.get_ydata(), series().runs.mean(0))
  hidden = axes(curves.figure([curves.Panel("p", [series()], show_runs=False)]))
  assert len(hidden.lines) == 1 and len(hidden.collections) == 1


def test_one_seed_has_no_band():
  fig = curves.figure([curves.Panel("p", [series(seeds=1)])])
  assert not axes(fig).collections and len(axes(fig).lines) == 1
  assert [text.get_text() for text in fig.legends[0].get_texts()] == ["a"]


def test_missing_values_are_gaps_and_are_said():
  broken = series()
  broken.runs[0, 10:] = np.inf
  broken.runs[:, 4] = np.nan
  other = series("b", seed=1)
  ax = axes(curves.figure([curves.Panel("p", [broken, other])]))
  assert "missing or infinite values: a 3 of 3" in " ".join(texts(ax))
  assert np.isnan(ax.lines[3].get_ydata()[4])
  assert np.isfinite(ax.get_ylim()).all()


@pytest.mark.parametrize(
  ("panel", "sentence"),
  [
    (curves.Panel("p", []), "no runs to show"),
    (curves.PointPanel("p", {}), "no values to show"),
    (curves.PointPanel("p", {"a": [np.nan]}), "no values to show"),
    (curves.PointPanel("p", {"a": [-1.0]}, log_x=True), "no values to show"),
    (
      curves.Panel("p", [curves.Series("a", [1, 2], [[-1, 0]])], log_y=True),
      "no values to show",
    ),
    (
      curves.Panel("p", [curves.Series("a", np.arange(3), np.full((2, 3), np.nan))]),
      "no values to show",
    ),
  ],
)
def test_nothing_to_show_is_said(panel, sentence):
  assert texts(axes(curves.figure([panel]))) == [sentence]


def test_no_panels_is_a_sentence():
  assert texts(axes(curves.figure([]))) == ["no runs to show"]


def test_many_series_differ_in_colour_or_dashes_and_keep_them_across_panels():
  many = [series(f"method {i}", seeds=1, seed=i) for i in range(20)]
  fig = curves.figure([curves.Panel("p", many), curves.Panel("q", many[::-1])])
  looks = [
    {(line.get_color(), str(line._dash_pattern)) for line in ax.lines}
    for ax in fig.axes
  ]
  assert len(looks[0]) == 20 and looks[0] == looks[1]
  assert fig.axes[0].lines[3].get_color() == fig.axes[1].lines[-4].get_color()
  assert len(fig.legends) == 1 and len(fig.legends[0].get_texts()) == 20


def test_long_lines_are_thinned_but_keep_ends_and_spikes():
  x = np.arange(20_000)
  runs = np.random.default_rng(4).normal(0, 0.01, (2, x.size))
  runs[0, 12_345], runs[0, 777] = 9.0, -9.0
  ax = axes(curves.figure([curves.Panel("p", [curves.Series("a", x, runs)])]))
  drawn = ax.lines[0].get_xydata()
  assert len(drawn) <= 210
  assert {0, 777, 12_345, 19_999} <= set(drawn[:, 0])
  assert len(curves.encode(ax.figure, "svg")) < 60_000


def test_lines_and_guides_have_labels_inside_the_axes_and_off_the_curves():
  x = np.geomspace(8, 4096, 10)
  falling = curves.Series("a", x, np.stack([2 / x, 2.2 / x, 1.8 / x]))
  panel = curves.Panel(
    "p",
    [falling],
    log_x=True,
    log_y=True,
    lines={"floor": 1e-3, "absent": np.nan},
    guides=[("slope −1/2", x, x**-0.5)],
  )
  fig = curves.figure([panel])
  ax = axes(fig)
  assert texts(ax) == ["slope −1/2", "floor"]
  fig.draw_without_rendering()
  for text in ax.texts:
    box = text.get_window_extent()
    assert ax.bbox.x0 <= box.x0 and box.x1 <= ax.bbox.x1
    assert ax.bbox.y0 <= box.y0 and box.y1 <= ax.bbox.y1 + 8
    mean = ax.transData.transform(np.stack([x, 2 / x], axis=1))
    assert not box.count_contains(mean)


def test_log_axes_have_readable_ticks():
  x = 2.0 ** np.arange(3, 15)
  wide = curves.Panel("p", [curves.Series("a", x, (1e6 / x)[None])], log_y=True)
  own = curves.Series("a", x[::2], x[None, ::2])
  few = curves.Panel("p", [own], log_x=True)
  fig = curves.figure([wide, few])
  assert labels(fig.axes[0].yaxis) == ["100", "1000", "10k", "100k"]
  assert labels(fig.axes[1].xaxis) == ["8", "32", "128", "512", "2048", "8192"]
  small = curves.Series("a", np.arange(3), np.array([[2e-7, 1e-6, 3e-4]]))
  ax = axes(curves.figure([curves.Panel("p", [small], log_y=True)]))
  assert "$10^{-5}$" in labels(ax.yaxis)


def test_a_log_axis_survives_values_and_bounds_below_zero():
  runs = np.array([[1.0, 0.1, -0.1], [1.2, 0.9, 0.2]])
  panel = curves.Panel("p", [curves.Series("a", [0, 1, 2], runs)], log_y=True)
  low, high = axes(curves.figure([panel])).get_ylim()
  assert 0.01 < low < 0.1 and 1.2 < high < 6


def test_wide_bands_do_not_flatten_the_curves():
  # Two seeds: the 95 % band is 12.7 standard errors wide on either side.
  runs = np.array([[0.0, 0.0], [1.0, 1.0]])
  ax = axes(curves.figure([curves.Panel("p", [curves.Series("a", [0, 1], runs)])]))
  low, high = ax.get_ylim()
  assert -1 < low < 0 and 1 < high < 2
  limited = curves.Panel("p", [curves.Series("a", [0, 1], runs)], ylim=(-3.0, 3.0))
  assert axes(curves.figure([limited])).get_ylim() == (-3.0, 3.0)


def test_points_show_mean_whisker_and_dots_of_each_group():
  ready = curves.Interval(0.5, 0.4, 0.7, 9)
  groups = {"a": [0.1, 0.2, 0.3], "ready": ready, "one": [0.6]}
  ax = axes(curves.points(groups, "accuracy", lines={"chance": 0.1}))
  assert [text.get_text() for text in ax.get_yticklabels()] == list(groups)
  assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first group is on top
  drawn = [line.get_xdata() for line in ax.lines if line.get_linestyle() == "-"]
  whiskers = [x for x in drawn if len(x) == 2 and np.isfinite(x).all()]
  np.testing.assert_allclose(whiskers[0], curves.interval(groups["a"])[1:3])
  np.testing.assert_allclose(whiskers[1], [0.4, 0.7])
  assert len(whiskers) == 2 and texts(ax) == ["chance"]


def test_a_whisker_that_reaches_zero_goes_to_the_edge_of_a_log_axis():
  panel = curves.PointPanel("p", {"a": [0.1, 3.0]}, log_x=True)
  ax = axes(curves.figure([panel]))
  (whisker,) = [line for line in ax.lines if line.get_linewidth() == 1.8]
  assert whisker.get_xdata()[0] == ax.get_xlim()[0] > 0
  assert whisker.get_xdata()[1] == curves.interval([0.1, 3.0]).high


def test_files_are_whole_and_the_same_twice(tmp_path):
  def draw(name):
    panel = curves.Panel("A <title> & more", [series()], lines={"optimum": 2.0})
    fig = curves.figure([panel, curves.PointPanel("q", {"a": [1.0, 2.0]})], title="T")
    return curves.save(fig, tmp_path / "new" / name)

  first, second = draw("one.v1"), draw("two")
  assert [path.name for path in first] == ["one.v1.png", "one.v1.svg"]
  assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
  assert first[0].read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
  root = ElementTree.fromstring(first[1].read_text())
  assert root.tag.endswith("svg")
  words = first[1].read_text()
  assert "<dc:date>" not in words and "<text" not in words and 'href="http' not in words


def test_an_unwritable_place_is_a_sentence(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="choose another --workdir"):
    curves.save(curves.figure([]), tmp_path / "file" / "figure")


def test_no_matplotlib_is_a_sentence(monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  with pytest.raises(errors.UserError, match="pip install"):
    curves.figure([])
  assert curves.interval([1.0, 3.0]).mean == 2.0


def test_a_series_without_points_beside_a_reference_line_is_drawn():
  empty = curves.Series("a", np.empty(0), np.empty((1, 0)))
  full = curves.Series("b", np.arange(3), np.ones((2, 3)))
  fig = curves.figure([curves.Panel("t", [empty, full], lines={"chance": 0.5})])
  assert curves.encode(fig, "png").startswith(b"\x89PNG")
