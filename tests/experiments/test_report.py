"""The HTML report: whole, escaped, self-contained; and Markdown tables."""

import base64
import html.parser
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from experiments.engine import errors
from experiments.engine.reporting import curves, report

VOID = {"meta", "img", "source", "br", "hr", "link", "input"}
NASTY = '<script>alert("x & y")</script>'


class Tree(html.parser.HTMLParser):
  """Fails on tags out of order; collects tags with attributes and the text."""

  def __init__(self):
    super().__init__()
    self.open, self.tags, self.words = [], [], []

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, tag

  def handle_data(self, data):
    if self.open[-1:] != ["style"]:
      self.words.append(data)

  def all(self, tag):
    return [attrs for name, attrs in self.tags if name == tag]


def parse(path):
  tree = Tree()
  tree.feed(path.read_text(encoding="utf-8"))
  tree.close()
  assert not tree.open
  return tree


def sample():
  panel = curves.Panel("p", [curves.Series("a", [0, 1], [[1.0, 2.0], [2.0, 3.0]])])
  return curves.figure([panel, panel]), curves.figure([panel, panel], columns=1)


def full_report():
  page = report.Report(f"Title {NASTY}")
  page.text(f"One {NASTY} and `a < b`.\n\nTwo.")
  page.command("python -m experiments.x --config.a='<b>' && echo done")
  for name in ("Curves", f"Numbers {NASTY}", "Environment"):
    page.heading(name)
  page.heading("Part", 3)
  wide, narrow = sample()
  page.figure(wide, f'Loss "quoted" {NASTY}', narrow=narrow)
  page.figure(narrow)
  page.table(["name", NASTY], [[NASTY, 1.5], ["b|c", None]], f"Caption {NASTY}")
  page.environment(
    {
      "command": f"run {NASTY}",
      "seed": 0,
      "devices": ["cpu", "cpu"],
      "versions": {"jax": "1.2.3"},
      "config": {"loss": {"name": "<augmented>"}, "seed": 0},
    }
  )
  return page


def test_page_is_well_formed_escaped_and_reads_in_order(tmp_path):
  tree = parse(full_report().write(tmp_path / "new" / "report.html"))
  assert not tree.all("script")
  words = " ".join("".join(tree.words).split())
  order = ["Title", "One", "Two.", "python -m", "Figure 1.", "Figure 2", "Table 1."]
  places = [words.find(word) for word in order if word != "Figure 2"]
  assert places == sorted(places) and min(places) >= 0
  assert words.count(NASTY) == 10  # all places below, title and heading twice
  assert "2 × cpu" in words and "jax 1.2.3" in words and "Seed0" in words
  assert "loss.name = <augmented>" in words
  assert [a["lang"] for a in tree.all("html")] == ["en"]
  assert any(a.get("name") == "viewport" for a in tree.all("meta"))


def test_page_needs_no_other_file_or_network(tmp_path):
  path = full_report().write(tmp_path / "report.html")
  tree = parse(path)
  assert not re.search(r"https?:|url\(|@import|//cdn", path.read_text())
  for _, attrs in tree.tags:
    for name in ("src", "srcset", "href"):
      assert attrs.get(name, "#").startswith(("#", "data:image/"))
  assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_figures_carry_their_caption_as_alternative_text(tmp_path):
  tree = parse(full_report().write(tmp_path / "report.html"))
  first, second = tree.all("img")
  assert first["alt"] == f'Loss "quoted" {NASTY}' and second["alt"] == "Figure 2"
  assert len(tree.all("source")) == 1
  for source in (first["src"], tree.all("source")[0]["srcset"]):
    kind, content = source.split(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")


def test_a_large_figure_becomes_png(tmp_path, monkeypatch):
  monkeypatch.setattr(report, "_SVG_BYTES", 1000)
  page = report.Report("t")
  page.figure(sample()[0], "c")
  (image,) = parse(page.write(tmp_path / "r.html")).all("img")
  kind, content = image["src"].split(",")
  assert kind == "data:image/png;base64"
  assert base64.b64decode(content).startswith(b"\x89PNG")


def test_links_of_the_contents_lead_to_headings(tmp_path):
  tree = parse(full_report().write(tmp_path / "report.html"))
  links = [a["href"] for a in tree.all("a")]
  assert links == [f"#{a['id']}" for a in tree.all("h2")]
  assert len(set(links)) == 3


def test_same_content_gives_the_same_bytes(tmp_path):
  first = full_report().write(tmp_path / "a.html").read_bytes()
  assert first == full_report().write(tmp_path / "b.html").read_bytes()


def test_numbers_are_aligned_and_share_decimals(tmp_path):
  page = report.Report("t")
  cell = curves.Interval(0.5, 0.49, 0.51, 5)
  rows = [["a", 0.5, 3, cell, "x"], ["b", np.float32(0.75), None, None, "1"]]
  page.table(["name", "loss", "n", "accuracy", "note"], rows, "c")
  tree = parse(page.write(tmp_path / "r.html"))
  classes = [a.get("class") for a in tree.all("td")]
  assert classes == ["number", "number", "number", None] * 2
  assert [a.get("scope") for a in tree.all("th")] == ["col"] * 5 + ["row"] * 2
  words = [word for word in tree.words if word.strip()]
  assert words[-10:] == [
    *["a", "0.5000", "3", "0.5000 ± 0.0100", "x"],
    *["b", "0.7500", "–", "–", "1"],
  ]


def test_markdown_table():
  rows = [["a|b", 1.25, 3], ["c", float("nan"), None], ["d", 1e-9, -2]]
  assert report.markdown_table(["name", "value", "n"], rows) == (
    "| name | value | n |\n"
    "| --- | ---: | ---: |\n"
    "| a\\|b | 1.25 | 3 |\n"
    "| c | – | – |\n"
    "| d | 1e-09 | -2 |\n"
  )
  assert report.markdown_table(["x"], []) == "| x |\n| --- |\n"


@pytest.mark.parametrize(
  ("values", "texts"),
  [
    ([1.23456, 10.0], ["1.23", "10.00"]),
    ([0.912, 0.9], ["0.9120", "0.9000"]),
    ([1234.5, 800.0], ["1234", "800"]),
    ([0.1, 1e-4, 0.0], ["0.1", "0.0001", "0"]),
    ([float("inf"), 1.0], ["inf", "1.000"]),
    ([True, "text"], ["True", "text"]),
  ],
)
def test_decimals_of_a_column(values, texts):
  table = report.markdown_table(["x"], [[value] for value in values])
  assert [line.strip("| ") for line in table.splitlines()[2:]] == texts


def test_default_environment_is_this_process(tmp_path):
  page = report.Report("t")
  page.environment()
  words = "".join(parse(page.write(tmp_path / "r.html")).words)
  assert "jax" in words and "numpy" in words and "CPU cores" in words


def test_mistakes_are_sentences(tmp_path):
  page = report.Report("t")
  with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
    page.table(["a", "b"], [[1]])
  with pytest.raises(ValueError, match="level 2 or 3"):
    page.heading("x", 1)
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.UserError, match="choose another --workdir"):
    page.write(tmp_path / "file" / "r.html")


def test_a_saved_picture_is_embedded_and_a_missing_one_is_named(tmp_path):
  fig = curves.figure([curves.Panel("t", [curves.Series("a", [0, 1], [[0, 1]])])])
  png, svg = curves.save(fig, tmp_path / "loss")
  page = report.Report("t")
  page.picture(svg, "a < b")
  page.picture(png)
  text = page.write(tmp_path / "report.html").read_text()
  assert "data:image/svg+xml;base64," in text and "data:image/png;base64," in text
  assert "a &lt; b" in text
  with pytest.raises(errors.UserError, match=r"gone\.svg not found"):
    page.picture(tmp_path / "gone.svg")
