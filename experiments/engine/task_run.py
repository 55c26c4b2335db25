"""A run from its config to its records: trains a task, measures it, writes the page."""

import pathlib
import time
from typing import Any

import jax
import ml_collections
from jax.sharding import Mesh

from experiments.engine import (
  errors,
  hosts,
  loop,
  mesh,
  preflight,
  ranges,
  record,
  session,
)
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.finetuning import answering_task, assigning, judging
from experiments.engine.pretraining import (
  fusion_start,
  fusion_task,
  images,
  tower_task,
)
from experiments.engine.pretraining.task import Task
from experiments.engine.reporting import run_page

_TASKS = dict.fromkeys(images.METHODS, images.image_task) | {
  "towers": tower_task.build_tower_task,
  "fusion": fusion_task.build_fusion_task,
  "answering": answering_task.build_answering_task,
  "judging": judging.build_judging_task,
  "assigning": assigning.build_assigning_task,
}
# Numbers that are said in the end, where a run has them.
_SHOWN = (
  "train/loss",
  "accuracy",
  "consistency",
  "zero_shot/top1",
  "image_to_text/recall@1",
  "text_to_image/recall@1",
  "reranked/image_to_text/recall@1",
  "reranked/text_to_image/recall@1",
  "knn/top1",
  "probe/top1",
  "probe/untrained_top1",
  "chance/top1",
)


def run_task(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Trains what a config says, measures it and writes the records.

  Args:
    config: of configs/pretrain.py, configs/finetune.py and the like.
    workdir: folder of the run. Of a run that is complete the numbers are read; one that
      was stopped goes on from its last checkpoint.

  Returns:
    The contents of summary.json; of a dry run what it would be, in words.

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  ranges.check(config)
  config = fusion_start.found_start(config)
  done = record.finished(workdir, config)
  if done is not None:
    print(f"{workdir} is complete; summary.json has its numbers")
    if hosts.first() and not pathlib.Path(workdir, "report.html").exists():
      run_page.write_run_page(workdir)  # stopped between the summary and the page
    return done
  start = time.perf_counter()
  devices = mesh.data_mesh()
  mesh.check_batch(config.batch, devices, config.accum_steps)
  task = build_task(config, devices)
  if config.dry_run:
    return _dry_run(config, task, workdir)
  with (
    record.Recorder(workdir, config) as recorder,
    Checkpoints(workdir, config.keep) as checkpoints,
  ):
    state = _train(config, task, recorder, checkpoints)
    trained = time.perf_counter() - start
    if not hosts.first():  # the first process evaluates alone, on its own devices
      hosts.wait("evaluated")
      return record.read_json(recorder.workdir / "summary.json")
    variables = jax.device_get(
      {"params": state.params["network"], "batch_stats": state.batch_stats}
    )
    # A continued run no longer has them: its state comes from a checkpoint.
    before = session.initial_variables(config, task) if task.untrained else None
    measured = task.evaluate(variables, before, recorder.workdir)
    final = _last_metrics(recorder) | measured
    chance = task.objective.chance(config.batch)
    if chance is not None:
      final["train/chance"] = chance
    final["minutes/train"] = trained / 60
    final["minutes/total"] = (time.perf_counter() - start) / 60
    try:
      if task.illustrate is not None:
        task.illustrate(variables, recorder.workdir)
    finally:  # numbers are not lost for want of pictures
      recorder.summary(final)
    run_page.write_run_page(workdir)
    hosts.wait("evaluated")
  shown = [f"{name} {final[name]:.4f}" for name in _SHOWN if name in final]
  print("  ".join(shown) + f"  -> {workdir}/report.html")
  return final


def build_task(config: ml_collections.ConfigDict, devices: Mesh) -> Task:
  """What a config trains, by its `method`.

  Raises:
    UserError: a name or value that makes no sense, or data that cannot be read.
  """
  if config.method not in _TASKS:
    raise errors.unknown("method", config.method, _TASKS)
  return _TASKS[config.method](config, devices)


def _train(config, task, recorder, saved):
  begun = session.begin(config, task)
  state = begun.state
  if saved.latest() is not None:
    state = saved.restore(state)
    print(f"continues from step {int(state.step)}")
  recorder.drop_after(int(state.step))  # also of a run killed before its first save
  preflight.show(preflight.describe(config, task, begun, state, str(recorder.workdir)))
  return loop.train(
    state,
    begun.compiled,
    task.train_set,
    key=begun.key,
    plan=begun.plan,
    recorder=recorder,
    checkpoints=saved,
  )


def _dry_run(config, task, workdir) -> dict[str, str]:
  """Says what the run would be; takes a few steps and writes nothing."""
  begun = session.begin(config, task)
  lines = preflight.describe(config, task, begun, begun.state, workdir)
  lines["time"] = preflight.time_to_expect(task, begun)
  preflight.show(lines)
  return lines


def _last_metrics(recorder: record.Recorder) -> dict[str, Any]:
  lines = record.read_metrics(recorder.workdir / "metrics.jsonl")
  last = lines[-1] if lines else {}
  return {f"train/{k}": v for k, v in last.items() if k != "wall"}
