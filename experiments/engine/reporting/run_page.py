"""The page of one pretraining run: curves, probe, config, how to run it again."""

import pathlib

from experiments.engine import record
from experiments.engine.reporting import curves, pictures, report, task_page, tower_page
from experiments.engine.reporting.logged import logged_panel

_EXPLAINED = {
  "train/loss": "training loss (nats)",
  "train/alignment": "alignment: mean squared distance of positives",
  "train/uniformity": "uniformity: log mean Gaussian potential, lower is more uniform",
  "probe/top1": "linear probe, top-1",
  "probe/mean_per_class": "linear probe, mean per class",
  "probe/untrained_top1": "linear probe on the untrained network, top-1",
  "chance/top1": "commonest class, top-1",
  "knn/top1": "k nearest neighbours, top-1",
}


def write_run_page(workdir: str) -> pathlib.Path:
  """Writes report.html, loss.png and loss.svg from the records of a complete run.

  The page holds a copy of the pictures that the run left, too (`pictures`).
  """
  folder = pathlib.Path(workdir)
  about = record.read_json(folder / "run.json")
  final = record.read_json(folder / "summary.json")
  lines = record.read_metrics(folder / "metrics.jsonl")
  method = about["config"]["method"]
  write = _image_parts
  if method in ("towers", "fusion"):
    write = _tower_parts
  elif method in task_page.METHODS:
    write = _task_parts
  page = write(folder, about["config"], final, lines)
  page.heading("How it was made")
  page.environment(about)
  page.write(folder / "report.html")
  return folder / "report.html"


def _image_parts(folder, config, final, lines) -> report.Report:
  page = report.Report(
    f"{config['method']} with {config['objective']['name']} on {config['data']['name']}"
  )
  figure = run_figure(lines, final.get("train/chance"))
  curves.save(figure, folder / "loss")
  page.figure(figure, "Training loss, alignment and uniformity over the steps.")
  _add_pictures(page, folder)
  page.table(*final_table(final), "Final numbers (summary.json).")
  return page


def _tower_parts(folder, config, final, lines) -> report.Report:
  page = report.Report(tower_page.tower_title(config))
  panels = tower_page.tower_panels(lines, final.get("train/chance"))
  figure = curves.figure(panels, columns=3)
  curves.save(figure, folder / "loss")
  narrow = curves.figure(panels, columns=1)
  page.heading("Training")
  page.figure(figure, "Loss and its parts over the steps of training.", narrow)
  if pictures.read_pictures(folder):
    page.heading("Pictures of the test split")
    _add_pictures(page, folder)
  page.heading("Final numbers")
  for table in tower_page.tower_tables(final):
    page.table(*table)
  return page


def _task_parts(folder, config, final, lines) -> report.Report:
  page = report.Report(task_page.task_title(config))
  panels = task_page.task_panels(lines, final.get("train/chance"))
  figure = curves.figure(panels, columns=2)
  curves.save(figure, folder / "loss")
  page.heading("Final numbers")
  for table in task_page.task_tables(final):
    page.table(*table)
  if pictures.read_pictures(folder):
    page.heading("Examples of the test split")
    _add_pictures(page, folder)
  page.heading("Training")
  page.figure(figure, "Over the steps of training.", curves.figure(panels, columns=1))
  return page


def _add_pictures(page: report.Report, folder: pathlib.Path) -> None:
  for path, caption in pictures.read_pictures(folder):
    page.picture(path, caption)


def final_table(final: dict) -> tuple[list[str], list[list]]:
  """Headers and rows of a run's final numbers, the well-known ones in words."""
  rows = [[_EXPLAINED.get(name, name), value] for name, value in sorted(final.items())]
  return ["quantity", "value"], rows


def run_figure(lines: list[dict], chance: float | None):
  """Figure of the loss beside its chance level, alignment and uniformity."""
  panels = [
    logged_panel(lines, name, name.capitalize(), name, chance)
    for name in ("loss", "alignment", "uniformity")
  ]
  return curves.figure(panels, columns=3)
