"""Self-supervised pretraining on images, followed by the probe.

  python -m experiments.pretrain --config=configs/pretrain.py:smoke --workdir=runs/a
  python -m experiments.pretrain --config=configs/pretrain.py:cifar10 \
    --config.objective.name=decoupled --config.batch=128 --data_dir=DIR

The same command continues a stopped run from its last checkpoint, and does nothing
for a run that is complete.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from contrastive import views
from experiments.engine import build, cli, data, loop, mesh, record
from experiments.engine import optimizer as optim
from experiments.engine import state as states
from experiments.engine import step as steps
from experiments.engine.checkpoint import Checkpoints
from experiments.engine.evaluation import evaluate, tables
from experiments.engine.objectives import Objective, build_objective
from experiments.engine.reporting import run_page


def run(config: ml_collections.ConfigDict, workdir: str) -> dict[str, Any]:
  """Pretrains, probes the frozen features and writes the records.

  Args:
    config: of configs/pretrain.py.
    workdir: folder of the run.

  Returns:
    The contents of summary.json: final loss, probe, diagnostics.
  """
  done = record.finished(workdir, config)
  if done is not None:
    print(f"{workdir} is complete; summary.json has its numbers")
    return done
  start = time.perf_counter()
  network = build.build_network(config)
  objective = build_objective(config.objective, config.method)
  train_set, test_set = data.load_pair(config.data, config.data_dir, config.seed)
  labelled = data.labelled_part(config.data, train_set, config.data_dir)
  settings = evaluate.read_settings(config.evaluate)
  evaluate.check_labels(labelled.labels, test_set.labels, settings)
  total = config.epochs * data.epoch_steps(len(train_set.labels), config.batch)
  mesh.check_batch(config.batch, mesh.data_mesh())
  with (
    record.Recorder(workdir, config) as recorder,
    Checkpoints(workdir) as checkpoints,
  ):
    _announce(config, objective, train_set, total)
    state = _train(config, network, objective, train_set, total, recorder, checkpoints)
    trained = time.perf_counter() - start
    variables = {"params": state.params["network"], "batch_stats": state.batch_stats}
    final = _last_metrics(recorder) | evaluate_network(
      config, network, variables, labelled, test_set
    )
    chance = objective.chance(config.batch)
    if chance is not None:
      final["train/chance"] = chance
    final["minutes/train"] = trained / 60
    final["minutes/total"] = (time.perf_counter() - start) / 60
    recorder.summary(final)
  run_page.write_run_page(workdir)
  _conclude(final, workdir)
  return final


def evaluate_network(
  config: ml_collections.ConfigDict,
  network: build.Network,
  variables: Any,
  train_set: data.ImageSet,
  test_set: data.ImageSet,
) -> dict[str, float]:
  """Embeds both splits once and evaluates the frozen features.

  Args:
    config: `data.mean` and `data.std`, and `evaluate`.
    network: as trained.
    variables: {"params", "batch_stats"} of the network.
    train_set: images that the probe is fitted on.
    test_set: images that it is tested on.
  """
  mean, std = build.channel_statistics(config.data, train_set.images.shape)

  def encode(variables, images):
    x = views.normalise(images.astype(jnp.float32) / 255, mean, std)
    return network.embed(variables, x)

  apply = jax.tree_util.Partial(encode, variables)

  def table(part):
    features = evaluate.embed(apply, part.images, split=part.name)
    return tables.Table(features, part.labels)

  return evaluate.evaluate_features(
    table(train_set), table(test_set), config=config.evaluate
  )


def _train(config, network, objective: Objective, train_set, total, recorder, saved):
  schedule = optim.build_schedule(config.optimizer, config.batch, total)
  tx = optim.build_optimizer(config.optimizer, schedule)
  momentum = None
  if config.method == "moco_v3":
    momentum = optim.target_momentum(config.target_momentum, total)
  init_key, run_key = jax.random.split(jax.random.key(config.seed))
  state = states.init_state(
    init_key,
    network,
    objective,
    tx,
    image_shape=train_set.images.shape[1:],
    examples=len(train_set.labels),
    with_target=momentum is not None,
  )
  if saved.latest() is not None:
    state = saved.restore(state)
    recorder.drop_after(int(state.step))
    print(f"continues from step {int(state.step)}")
  recipes = steps.Recipes(
    *build.build_recipes(config.views),
    *build.channel_statistics(config.data, train_set.images.shape),
  )
  return loop.train(
    state,
    steps.make_step(network, objective, tx, recipes, momentum=momentum),
    train_set,
    key=run_key,
    seed=config.seed,
    batch=config.batch,
    steps=total,
    log_every=config.log_every,
    save_every=config.save_every,
    recorder=recorder,
    checkpoints=saved,
    chance=objective.chance(config.batch),
  )


def _announce(config, objective, train_set, total):
  negatives = objective.negatives(config.batch)
  print(
    f"{config.method} with {config.objective.name} on {train_set.name}: "
    f"{len(train_set.labels):,} images of {train_set.images.shape[1:]}, "
    f"encoder {config.encoder.name}, global batch {config.batch}, "
    f"{'no' if negatives is None else f'{negatives:,}'} negatives an anchor, "
    f"{config.epochs} epochs = {total:,} steps on {jax.device_count()} device(s)"
  )


def _last_metrics(recorder: record.Recorder) -> dict[str, Any]:
  lines = record.read_metrics(recorder.workdir / "metrics.jsonl")
  last = lines[-1] if lines else {}
  return {f"train/{k}": v for k, v in last.items() if k != "wall"}


def _conclude(final, workdir):
  shown = [k for k in ("train/loss", "probe/top1", "knn/top1") if k in final]
  print("  ".join(f"{k} {final[k]:.4f}" for k in shown) + f"  -> {workdir}/report.html")


if __name__ == "__main__":
  cli.launch(run, default_config="configs/pretrain.py")
