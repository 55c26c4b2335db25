"""The report of a study: one HTML page without scripts, network or other files.

Readable on a phone, on paper and in the dark. The same content gives the same bytes.
"""

import base64
import collections
import html
import math
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from experiments.engine import errors, files, record
from experiments.engine.reporting import curves

# A figure with many curves is smaller as PNG than as SVG.
_SVG_BYTES = 400_000
_NUMERIC = re.compile(r"[-+−±<>≈~]?\s*\d")

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --paper: #ffffff; --code: #f3f5f7; --accent: #0060a0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb8;
  --line: #3a424c; --paper: #14181c; --code: #1f252b; --accent: #7cc4ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0.5rem 0 1rem; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.5rem 0 0.6rem;
  padding-bottom: 0.25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.8rem 0 0.4rem; }
p, nav { max-width: 44rem; margin: 0.7rem 0; overflow-wrap: break-word; }
nav ul { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap;
  gap: 0.2rem 1.2rem; }
a { color: var(--accent); }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace;
  font-size: 0.86em; background: var(--code); border-radius: 4px; }
code { padding: 0.1em 0.3em; }
pre { padding: 0.7rem 0.9rem; overflow-x: auto; line-height: 1.45; }
pre code { padding: 0; font-size: 1em; background: none; }
figure { margin: 1.4rem 0; }
figure img { display: block; width: 100%; height: auto; margin: 0 auto; }
.card { background: #ffffff; border: 1px solid var(--line); border-radius: 8px;
  padding: 0.5rem; overflow-x: auto; }
figcaption, caption { color: var(--soft); font-size: 0.9rem; text-align: left; }
figcaption { margin-top: 0.5rem; max-width: 44rem; }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { width: max-content; max-width: max(100%, 60rem);
  border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
caption { padding-bottom: 0.4rem; }
th, td { padding: 0.35rem 0.9rem 0.35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
tbody th { font-weight: 500; }
th + th, td { padding-left: 0.9rem; }
.number { text-align: right; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.25rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 40rem) {
  h1 { font-size: 1.45rem; } h2 { font-size: 1.15rem; }
  .wide img { min-width: 34rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: 0.5rem; }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --code: #f3f5f7;
    --accent: #000; }
  main { max-width: none; padding: 0; } nav { display: none; }
  figure, tr, pre { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .card { border: 0; padding: 0; } .scroll, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
}
"""


class Report:
  """Collects the parts of a page in order; `write` puts them in one file.

  Text is escaped everywhere; `code` in backticks is set as code.

  Args:
    title: heading of the page.
  """

  def __init__(self, title: str):
    self._title = title
    self._parts: list[str] = []
    self._headings: list[tuple[str, str]] = []
    self._figures = 0
    self._tables = 0

  def heading(self, text: str, level: int = 2) -> None:
    """Starts a section (level 2) or a part of one (level 3)."""
    if level not in (2, 3):
      raise ValueError(f"a heading has level 2 or 3, not {level}")
    anchor = f"part-{len(self._headings) + 1}"
    if level == 2:
      self._headings.append((anchor, text))
      self._parts.append(f'<h2 id="{anchor}">{_marked(text)}</h2>')
    else:
      self._parts.append(f"<h3>{_marked(text)}</h3>")

  def text(self, paragraph: str) -> None:
    """Adds a paragraph; an empty line in it starts the next one."""
    for part in re.split(r"\n\s*\n", paragraph.strip()):
      self._parts.append(f"<p>{_marked(' '.join(part.split()))}</p>")

  def command(self, shell_command: str) -> None:
    """Adds a command to type."""
    code = html.escape(shell_command.strip())
    self._parts.append(f'<pre tabindex="0"><code>{code}</code></pre>')

  def table(
    self, headers: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = ""
  ) -> None:
    """Adds a table of str, int, float, `curves.Interval` and None cells.

    The floats of a column share their number of decimals; columns of numbers are
    aligned at the right; the first column names the rows.

    Raises:
      ValueError: a row has more or fewer cells than there are headers.
    """
    self._tables += 1
    texts, numeric = _columns(headers, rows)
    kinds = [' class="number"' if right else "" for right in numeric]
    head = "".join(
      f'<th scope="col"{kind}>{_marked(str(name))}</th>'
      for name, kind in zip(headers, kinds, strict=True)
    )
    lines = []
    for row in texts:
      cells = [f"{kind}>{_marked(cell)}" for cell, kind in zip(row, kinds, strict=True)]
      first = f'<th scope="row"{cells[0]}</th>' if cells else ""
      lines.append(
        f"<tr>{first}{''.join(f'<td{cell}</td>' for cell in cells[1:])}</tr>"
      )
    said = f"<b>Table {self._tables}.</b> {_marked(caption)}" if caption else ""
    said = f"<caption>{said}</caption>\n" if said else ""
    label = html.escape(caption or f"Table {self._tables}", quote=True)
    body = "\n".join(lines)
    self._parts.append(
      f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>\n'
      f"{said}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )

  def figure(self, fig: Any, caption: str = "", narrow: Any = None) -> None:
    """Adds a matplotlib figure; its caption is also its alternative text.

    Args:
      fig: a figure, such as from `curves.figure`.
      caption: what it shows.
      narrow: the same in one column, shown instead on a phone. Without it a phone
        shows a wide figure in a box that scrolls.
    """
    alt = html.escape(caption or f"Figure {self._figures + 1}", quote=True)
    natural = round(96 * fig.get_figwidth())
    image = f'<img src="{_data_uri(fig)}" alt="{alt}" style="max-width: {natural}px">'
    card = "card wide" if natural > 600 and narrow is None else "card"
    if narrow is not None:
      other = f'<source media="(max-width: 40rem)" srcset="{_data_uri(narrow)}">'
      image = f"<picture>{other}{image}</picture>"
    self._add_figure(image, caption, card)

  def picture(self, path: str | os.PathLike, caption: str = "") -> None:
    """Adds a PNG or SVG file, such as `curves.save` wrote; the page holds a copy.

    Raises:
      UserError: the file is missing.
    """
    path = pathlib.Path(path)
    kind = {".png": "image/png", ".svg": "image/svg+xml"}[path.suffix]
    try:
      data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
      raise errors.UserError(
        f"picture {path} not found; run that part again"
      ) from error
    alt = html.escape(caption or path.stem, quote=True)
    image = f'<img src="data:{kind};base64,{data}" alt="{alt}">'
    self._add_figure(image, caption, "card wide")

  def _add_figure(self, image: str, caption: str, card: str) -> None:
    self._figures += 1
    said = f"<b>Figure {self._figures}.</b> {_marked(caption)}" if caption else ""
    said = f"<figcaption>{said}</figcaption>" if said else ""
    self._parts.append(f'<figure><div class="{card}">{image}</div>{said}</figure>')

  def environment(self, run: dict[str, Any] | None = None) -> None:
    """Adds what produced the numbers: command, seed, machine, devices, versions.

    Args:
      run: contents of a run.json; default this process.
    """
    run = record.describe({}) if run is None else run
    devices = collections.Counter(run.get("devices") or [])
    shown = {
      "Command": run.get("command"),
      "Seed": run.get("seed"),
      "Machine": run.get("machine"),
      "Backend": run.get("backend"),
      "Devices": ", ".join(f"{count} × {kind}" for kind, count in devices.items()),
      "Versions": ", ".join(f"{k} {v}" for k, v in run.get("versions", {}).items()),
    }
    pairs = [
      f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>"
      for name, value in shown.items()
      if value not in (None, "")
    ]
    self._parts.append("<dl>\n" + "\n".join(pairs) + "\n</dl>")
    if run.get("config"):
      flat = record.flatten(run["config"])
      lines = "\n".join(f"{name} = {value}" for name, value in sorted(flat.items()))
      self._parts.append(
        "<details><summary>Configuration</summary>"
        f"<pre><code>{html.escape(lines)}</code></pre></details>"
      )

  def write(self, path: str | os.PathLike) -> pathlib.Path:
    """Writes the page atomically.

    Raises:
      UserError: the file cannot be written.
    """
    path = pathlib.Path(path)
    files.write(path, self._page().encode(), "--workdir")
    return path

  def _page(self) -> str:
    title = html.escape(self._title)
    contents = ""
    if len(self._headings) > 2:
      items = [f'<li><a href="#{a}">{_marked(t)}</a></li>' for a, t in self._headings]
      contents = f'<nav aria-label="Contents"><ul>{"".join(items)}</ul></nav>'
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "\n".join(
      [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>",
        f"<h1>{_marked(self._title)}</h1>",
        *filter(None, [contents]),
        *self._parts,
        "</main>\n</body>\n</html>\n",
      ]
    )


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A Markdown table of str, int, float, `curves.Interval` and None cells.

  Raises:
    ValueError: a row has more or fewer cells than there are headers.
  """
  texts, numeric = _columns(headers, rows)
  rule = ["---:" if right else "---" for right in numeric]
  escaped = [
    [cell.replace("|", "\\|").replace("\n", " ") for cell in row]
    for row in [list(map(str, headers)), *texts]
  ]
  lines = [escaped[0], rule, *escaped[1:]]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _columns(
  headers: Sequence[str], rows: Sequence[Sequence[Any]]
) -> tuple[list[list[str]], list[bool]]:
  """Cells as text, and for each column whether it holds numbers."""
  for row in rows:
    if len(row) != len(headers):
      raise ValueError(
        f"a row of {len(row)} cells in a table of {len(headers)} columns: {list(row)}"
      )
  columns = [_column([row[i] for row in rows]) for i in range(len(headers))]
  texts = [list(row) for row in zip(*columns, strict=True)]
  numeric = [
    any(cell != "–" for cell in column)
    and all(cell == "–" or _NUMERIC.match(cell) for cell in column)
    for column in columns
  ]
  return texts, numeric


def _column(cells: list[Any]) -> list[str]:
  """Texts of one column; its floats share decimals: four digits of the largest."""
  cells = [c.item() if hasattr(c, "item") else c for c in cells]
  sizes = [abs(c) for c in cells if isinstance(c, float) and math.isfinite(c) and c]
  sizes += [abs(c.mean) for c in cells if isinstance(c, curves.Interval) and c.mean]
  sizes = [size for size in sizes if math.isfinite(size)] or [1.0]
  decimals = min(max(3 - math.floor(math.log10(max(sizes))), 0), 6)
  wide = max(sizes) / min(sizes) > 100 or not 1e-3 <= max(sizes) < 1e6
  return [_cell(cell, decimals, wide) for cell in cells]


def _cell(cell: Any, decimals: int, wide: bool) -> str:
  if cell is None or (isinstance(cell, float) and math.isnan(cell)):
    return "–"
  if isinstance(cell, curves.Interval):
    return curves.format_interval(cell, decimals)
  if isinstance(cell, float) and math.isfinite(cell):
    return f"{cell:.3g}" if wide else f"{cell:.{decimals}f}"
  return str(cell)


def _marked(text: str) -> str:
  """Escaped text, with what stands in backticks as code."""
  return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _data_uri(fig: Any) -> str:
  """A figure as a data URI: inside <img> its ids cannot clash with another figure's."""
  kind, content = "svg+xml", curves.encode(fig, "svg")
  if len(content) > _SVG_BYTES:
    kind, content = "png", curves.encode(fig, "png")
  return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
