"""Page, figures and tables of the alignment study."""

import csv
import io
import pathlib
from typing import Any

from experiments.engine import files, record
from experiments.engine.reporting import curves, report
from experiments.engine.studies import (
  alignment_exact,
  alignment_figures,
  alignment_tables,
)

_FIGURES = {
  "arms": "Accuracy of every trained arm: means with their 95 % interval, a dot for "
  "each seed; dashed: four terms.",
  "dose": "Four terms and a growing weight of forced alignment. Right of the dotted "
  "line shared probe or retrieval are no longer intact: what is lost there is lost to "
  "collapse. Dashed: without the penalty, and the exact price of alignment.",
  "destructive": "Views that lose detail: each specific attribute survives a view with "
  "the chance on the x axis.",
}
_SECTIONS = (
  ("Arms", ("arms",), ("main", "embeddings", "noise", "minus_four", "minus_clip")),
  ("Dose of forced alignment", ("dose",), ("dose",)),
  (
    "Destructive augmentation",
    ("destructive",),
    ("destructive", "destructive_minus_four"),
  ),
  ("What does the work", (), ("ablation", "time", "geometry")),
  ("Tuning", (), ("tuning",)),
)


def write(
  workdir: str, exact: alignment_exact.Exact, summary: dict[str, Any], config
) -> None:
  """Writes tables/*.csv, a PNG and an SVG of each figure, and report.html."""
  folder = pathlib.Path(workdir)
  tables = alignment_tables.all_tables(summary)
  _write_tables(folder / "tables", tables, summary)
  wide = alignment_figures.make_figures(summary)
  narrow = alignment_figures.make_figures(summary, columns=1)
  page = report.Report("Alignment study: what does it cost, and what pays it back?")
  page.text(_PURPOSE)
  page.heading("The theorem on finite alphabets")
  page.text(_exact_text(summary["exact"]))
  fig = alignment_exact.figure(exact)
  curves.save(fig, folder / "slack")
  page.figure(fig, _EXACT_CAPTION, narrow=alignment_exact.figure(exact, columns=1))
  for heading, all_pictures, all_names in _SECTIONS:
    pictures = [name for name in all_pictures if name in wide]
    names = [name for name in all_names if name in tables]
    if not pictures and not names:
      continue
    page.heading(heading)
    page.text(_NOTES.get(heading, ""))
    for name in pictures:
      curves.save(wide[name], folder / name)
      page.figure(wide[name], _FIGURES[name], narrow=narrow[name])
    for name in names:
      caption, table = tables[name]
      page.table(*alignment_tables.plain(table), caption=caption)
  page.heading("How it was made")
  page.text(_making(summary, config))
  page.environment(record.read_json(folder / "run.json"))
  page.write(folder / "report.html")


def text(summary: dict[str, Any]) -> str:
  """The main tables as Markdown, for the terminal."""
  tables = alignment_tables.all_tables(summary)
  parts = []
  for name in ("main", "dose"):
    if name in tables:
      caption, table = tables[name]
      plain = alignment_tables.plain(table)
      parts += [f"\n{caption}\n", report.markdown_table(*plain)]
  return "\n".join(parts)


def _write_tables(folder: pathlib.Path, tables, summary) -> None:
  every = {name: alignment_tables.plain(table) for name, (_, table) in tables.items()}
  every["metrics"] = alignment_tables.metric_rows(summary)
  every["differences"] = alignment_tables.difference_rows(summary)
  for name, (headers, rows) in every.items():
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([headers, *rows])
    files.write(folder / f"{name}.csv", buffer.getvalue().encode(), "--workdir")


def _exact_text(exact: dict[str, Any]) -> str:
  violations = exact["violations"]
  vacuous, tight = exact["vacuous_case"], exact["tight_case"]
  return f"""
{exact["joints"]} random joint distributions of (x_T, x_V, y), whose support has one to
as many blocks as there are symbols; all {exact["encoders"]} pairs of encoders with
Z_T = Z_V. Violations of the theorem's bound: {violations["theorem"]}; of the exact
price (Gacs-Koerner common part): {violations["exact_price"]}; of the approximate bound
over {exact["random_pairs"]} random encoder pairs: {violations["approximate"]} (it is
above 0 in {exact["informative_pairs"]} of them). The best enumerated encoder and the
exact price differ by {exact["largest_difference_of_best_encoder_and_price"]:.1e} nats
at most.

Mean information gap {exact["gap"]["mean"]:.3f} nats, mean price
{exact["price"]["mean"]:.3f}: the theorem sees {exact["share_seen"]:.0%} of the price
(mean ratio where the gap is above 0.01). Tight where the text is a function of the
image: the best aligned encoder is within {tight["largest"]:.1e} nats of the bound in
all {tight["joints"]} joints. Vacuous where Y holds what each modality alone knows: gap
{vacuous["gap"]:.3f}, price {vacuous["price"]:.3f} nats.
"""


def _making(summary: dict[str, Any], config) -> str:
  seeds = ", ".join(map(str, summary["seeds"]))
  tuning = ", ".join(map(str, summary["tuning_seeds"]))
  tuned = (
    f"tuned on seeds {tuning}, {len(config.grids.rate)} trials an arm, by the mean of "
    "six readings scaled to 0 at chance and 1 if perfect: linear probes of s from z, "
    "u_V and u_T from [z, z^i] and (u_V, u_T) from all, zero-shot, R@1"
    if tuning
    else "taken from the config"
  )
  return f"""
Seeds {seeds}; a seed fixes world, initial parameters, data stream and evaluation, so
that arms differ in nothing else. Batches of {config.batch} fresh pairs, {config.steps}
steps of AdamW. Plain losses have their learning rate, all others the weight of what
they add, {tuned}. Geometry is in the published form, the sum over the other rows of
the batch: weight w is w times {config.batch - 1} in the library's default form, the
mean over pairs. Probes are fitted on {config.probe_train} examples and tested on
{config.probe_test}; noise is relative to the spread of the features. R@1 is among one
pair of every combination of shared attributes.
"""


_PURPOSE = """
Two modalities share some attributes, s, and have some that only the image (u_V) or only
the text (u_T) shows. An encoder pair with Z_V = Z_T must give up u_V and u_T. The study
asks how much plain alignment loses, and whether separation (a second head, z^i), bridge
and geometric consistency keep it. z is the shared head, z^i the specific one, h the
features below both.
"""

_EXACT_CAPTION = (
  "Left: share of cases whose price is at most so far above its lower bound; nothing "
  "lies below 0. Right: the price and the part of it that the theorem's bound sees."
)

_NOTES = {
  "Arms": """
Both controls are in the table: CLIP's two terms, and the four terms with the in-modal
ones. What a structure adds over four terms is in the table of differences to them.
""",
  "Dose of forced alignment": """
Four terms with w |z_V - z_T|^2. Only rows marked intact say what alignment costs: in
the others the features have collapsed, and s or retrieval are lost as well.
""",
  "What does the work": """
Separation without each of its parts, on CLIP; the bridge's time (t = 1 is the image
that is augmented, 0 the text); the geometry's weight.
""",
}
