"""Everything once, small: the noise study and a pretraining run with its probe.

  make quickstart        or        python -m experiments.quickstart

Needs no data and no network; ends with one HTML report.
"""

import pathlib
import time
from typing import Any

import ml_collections

from experiments import noise_study, pretrain
from experiments.engine import cli, record
from experiments.engine.reporting import report, run_page
from experiments.engine.studies import noise_report


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Runs both parts below `workdir` and writes one report.

  Args:
    config: of configs/quickstart.py: `noise` and `pretrain` are the parts' configs.
    workdir: folder of the run; what is complete there is not run again.

  Returns:
    {"noise": ..., "pretrain": ...}, the parts' summaries.
  """
  start = time.perf_counter()
  folder = pathlib.Path(workdir)
  print("1/2  noise study: objectives on a problem whose optimum is known")
  noise = noise_study.run(config.noise, str(folder / "noise_study"))
  print("2/2  pretraining on procedural images, then a probe of the frozen features")
  trained = pretrain.run(config.pretrain, str(folder / "pretrain"))
  with record.Recorder(workdir, config) as recorder:
    recorder.summary({"noise": noise, "pretrain": trained})
  page = write_page(folder, noise, trained)
  print(verdict(trained))
  minutes = (time.perf_counter() - start) / 60
  print(f"done in {minutes:.1f} minutes; open {page.resolve()}")
  return {"noise": noise, "pretrain": trained}


def write_page(
  folder: pathlib.Path, noise: dict[str, Any], trained: dict[str, Any]
) -> pathlib.Path:
  """Writes <folder>/report.html from the parts' summaries and figures."""
  page = report.Report("Quickstart: a bias, its cure, and a probe")
  page.heading("Which objectives reach the known optimum?")
  for setup, levels in noise["setups"].items():
    caption = "Share of the optimum over training steps; 1 is the optimum."
    page.picture(folder / "noise_study" / f"{setup}.svg", caption)
    page.table(*noise_report.table(levels), "Final values over the seeds.")
  page.text("More: noise_study/report.html in the same folder.")
  page.heading("Pretraining on procedural images")
  page.picture(folder / "pretrain" / "loss.svg", "Loss, alignment and uniformity.")
  page.text(verdict(trained))
  page.table(*run_page.final_table(trained), "Probe of the frozen features.")
  page.text("More: pretrain/report.html in the same folder.")
  page.heading("How to run it again")
  page.environment(record.read_json(folder / "run.json"))
  return page.write(folder / "report.html")


def verdict(trained: dict[str, Any]) -> str:
  """One sentence: the probe after pretraining, before it, and chance, in per cent."""
  share = lambda name: f"{100 * trained[name]:.1f} %"
  sentence = f"A linear probe names {share('probe/top1')} of the test pictures"
  if "probe/untrained_top1" in trained:
    untrained = share("probe/untrained_top1")
    sentence += f"; on the same network before pretraining {untrained}"
  return f"{sentence}; by chance {share('chance/top1')}."


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/quickstart.py",
    workdir_of=lambda config: "runs/quickstart",
  )
