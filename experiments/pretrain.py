"""Self-supervised pretraining on images, followed by the probe.

  python -m experiments.pretrain --config=configs/pretrain.py:smoke --workdir=runs/a
  python -m experiments.pretrain --config=configs/pretrain.py:cifar10 \
    --config.objective.name=decoupled --config.batch=128 --data_dir=DIR

The same command continues a stopped run from its last checkpoint, and does nothing
for a run that is complete.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from contrastive import views
from experiments.engine import (
  build,
  cli,
  data,
  hosts,
  loop,
  mesh,
  preflight,
  ranges,
  record,
  session,
  spread,
)
from experiments.engine import state as states
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.evaluation import evaluate, tables
from experiments.engine.objective import Objective
from experiments.engine.objectives import build_objective
from experiments.engine.reporting import run_page


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains, probes the frozen features and writes the records.

  Args:
    config: of configs/pretrain.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json: final loss, probe, diagnostics.
  """
  ranges.check(config)
  done = record.finished(workdir, config)
  if done is not None:
    print(f"{workdir} is complete; summary.json has its numbers")
    if hosts.first() and not pathlib.Path(workdir, "report.html").exists():
      run_page.write_run_page(workdir)  # stopped between the summary and the page
    return done
  start = time.perf_counter()
  network = build.build_network(config)
  devices = mesh.data_mesh()
  mesh.check_batch(config.batch, devices, config.accum_steps)
  objective = _objective(config, devices)
  train_set, test_set = data.load_pair(config.data, config.data_dir, config.seed)
  labelled = data.labelled_part(config.data, train_set, config.data_dir)
  settings = evaluate.read_settings(config.evaluate)
  evaluate.check_labels(labelled.labels, test_set.labels, settings)
  total = config.epochs * data.epoch_steps(len(train_set.labels), config.batch)
  if config.dry_run:
    return _dry_run(config, network, objective, train_set, total, workdir)
  with (
    record.Recorder(workdir, config) as recorder,
    Checkpoints(workdir, config.keep) as checkpoints,
  ):
    state = _train(config, network, objective, train_set, total, recorder, checkpoints)
    trained = time.perf_counter() - start
    if not hosts.first():  # the first process evaluates alone, on its own devices
      hosts.wait("evaluated")
      return record.read_json(recorder.workdir / "summary.json")
    variables = jax.device_get(
      {"params": state.params["network"], "batch_stats": state.batch_stats}
    )
    final = _last_metrics(recorder) | evaluate_network(
      config,
      network,
      variables,
      labelled,
      test_set,
      untrained=_initial_variables(config, network, train_set)
      if settings.untrained
      else None,
    )
    chance = objective.chance(config.batch)
    if chance is not None:
      final["train/chance"] = chance
    final["minutes/train"] = trained / 60
    final["minutes/total"] = (time.perf_counter() - start) / 60
    recorder.summary(final)
    run_page.write_run_page(workdir)
    hosts.wait("evaluated")
  _conclude(final, workdir)
  return final


def _objective(config, devices) -> Objective:
  how = spread.execution(
    config.mesh, devices, anchors=2 * config.batch, width=config.projector.out
  )
  objective = build_objective(config.objective, config.method, how)
  return (
    objective if how.axis_name is None else spread.spread_objective(objective, devices)
  )


def evaluate_network(
  config: ml_collections.ConfigDict,
  network: build.Network,
  variables: Any,
  train_set: data.ImageSet,
  test_set: data.ImageSet,
  *,
  untrained: Any = None,
) -> dict[str, float]:
  """Embeds both splits once and evaluates the frozen features.

  Args:
    config: `data.mean` and `data.std`, and `evaluate`.
    network: as trained.
    variables: {"params", "batch_stats"} of the network.
    train_set: images that the probe is fitted on.
    test_set: images that it is tested on.
    untrained: variables before training; given, probe/untrained_top1 is theirs.
  """
  mean, std = build.channel_statistics(config.data, train_set.images.shape)

  def encode(variables, images):
    x = views.normalise(images.astype(jnp.float32) / 255, mean, std)
    return network.embed(variables, x)

  def both(variables):
    apply = jax.tree_util.Partial(encode, variables)
    for part in (train_set, test_set):
      features = evaluate.embed(apply, part.images, split=part.name)
      yield tables.Table(features, part.labels)

  report = evaluate.evaluate_features(*both(variables), config=config.evaluate)
  if untrained is not None:
    top1 = evaluate.probe_top1(*both(untrained), config=config.evaluate)
    report["probe/untrained_top1"] = top1
  return report


def _initial_variables(config, network: build.Network, train_set) -> Any:
  """The network's variables before the first step, made again from the seed.

  A continued run no longer has them: its state comes from a checkpoint.
  """
  shape = train_set.images.shape[1:]
  return states.init_variables(
    session.keys(config.seed)[0], network, shape, config.init_from
  )


def _train(config, network, objective: Objective, train_set, total, recorder, saved):
  begun = session.begin(config, network, objective, train_set, total)
  state = begun.state
  if saved.latest() is not None:
    state = saved.restore(state)
    print(f"continues from step {int(state.step)}")
  recorder.drop_after(int(state.step))  # also of a run killed before its first save
  preflight.show(
    preflight.describe(
      config, objective, train_set, state, begun.compiled, str(recorder.workdir), total
    )
  )
  return loop.train(
    state,
    begun.compiled,
    train_set,
    key=begun.key,
    plan=begun.plan,
    recorder=recorder,
    checkpoints=saved,
  )


def _dry_run(config, network, objective, train_set, total, workdir) -> dict[str, str]:
  """Says what the run would be; takes a few steps and writes nothing."""
  state, compiled, key, plan = session.begin(
    config, network, objective, train_set, total
  )
  lines = preflight.describe(
    config, objective, train_set, state, compiled, workdir, total
  )
  lines["time"] = preflight.time_to_expect(state, compiled, train_set, key, plan)
  preflight.show(lines)
  return lines


def _last_metrics(recorder: record.Recorder) -> dict[str, Any]:
  lines = record.read_metrics(recorder.workdir / "metrics.jsonl")
  last = lines[-1] if lines else {}
  return {f"train/{k}": v for k, v in last.items() if k != "wall"}


def _conclude(final, workdir):
  names = (
    "train/loss",
    "knn/top1",
    "probe/top1",
    "probe/untrained_top1",
    "chance/top1",
  )
  shown = [f"{name} {final[name]:.4f}" for name in names if name in final]
  print("  ".join(shown) + f"  -> {workdir}/report.html")


if __name__ == "__main__":
  cli.launch(
    run,
    default_config="configs/pretrain.py",
    settings={
      "resume": "force: go on although the folder's run had another config",
      "init_from": "FILE.safetensors of weights that the network starts from",
    },
    switches={"dry_run": "say what the run would be, and stop"},
  )
