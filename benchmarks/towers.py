"""A training step of two towers beside the same model written plainly in torch.

  python -m benchmarks.towers
  python -m benchmarks.towers --data_wait

ViT-Ti/8 on 64-pixel images and a text transformer of 4 layers, width 192, 3 heads and
4,096 tokens; CLIP's loss with a learned temperature, forward, backward, AdamW. torch
computes the loss as open_clip's ClipLoss does. The numbers of parameters are printed,
so that one sees that the models are the same, and so are the losses of the first step,
which are near log(batch) as drawn.

Each framework runs in a process of its own; their steps take turns, so that both meet
the same moods of the machine, and the best of --repeats counts. "Tuned" is with large
pages of memory (see docs/scaling.md; Eigen's products, of use there for a ResNet, are a
third slower here). CPU seconds are those of all threads, which other programs on the
machine disturb less; for torch those that its threads wait in are among them, so
compare on one core (`OMP_NUM_THREADS=1 taskset -c 0`). Memory is the process's peak,
compilation included.

With --data_wait, what share of the time `experiments.pretrain` waits for data on the
procedural scenes, by the line that the training loop prints; what follows the flags
is handed on to it (--config.towers.text.view=eda).
"""

import argparse
import math
import subprocess
import sys
import tempfile

from benchmarks import turns

_SIZE, _PATCH, _WIDTH, _HEADS, _VOCABULARY, _SHARED = 64, 8, 192, 3, 4096, 128
_IMAGE_DEPTH, _TEXT_DEPTH, _END = 12, 4, 2


def main() -> None:
  """Prints one line for each environment and framework, or the share of waiting."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--batch", type=int, default=128)
  parser.add_argument("--context", type=int, default=40)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--environments", default=",".join(turns.ENVIRONMENTS))
  parser.add_argument("--data_wait", action="store_true")
  parser.add_argument("--config", default="configs/towers.py:scenes")
  parser.add_argument("--examples", type=int, default=2560, help="with --data_wait")
  parser.add_argument("--epochs", type=int, default=2, help="with --data_wait")
  parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
  args, args.override = parser.parse_known_args()
  if args.cell:
    run, parameters = {"ours": _ours, "torch": _torch}[args.cell](args)
    turns.serve(run, parameters=parameters)
  elif args.data_wait:
    _data_wait(args)
  else:
    _table(args)


def _table(args):
  columns = ("parameters", "loss", "GB", "CPU seconds", "seconds", "torch / ours")
  print("| environment | framework |", " | ".join(columns), "|")
  print("| --- | --- |", " | ".join(["---:"] * len(columns)), "|")
  for environment in args.environments.split(","):
    if environment not in turns.ENVIRONMENTS:
      sys.exit(
        f"unknown environment '{environment}'; known: {', '.join(turns.ENVIRONMENTS)}"
      )
    variables = turns.ENVIRONMENTS[environment]
    cells = {
      name: turns.Process(_command(name, args), variables) for name in ("ours", "torch")
    }
    for _ in range(args.repeats):
      for cell in cells.values():
        cell.step()
    best = {name: min(cell.seconds) for name, cell in cells.items()}
    for name, cell in cells.items():
      found = cell.close()
      print(
        f"| {environment} | {name} | {found['parameters']:,} | {found['first']:.3f} | "
        f"{found['peak']:.2f} | {min(cell.cpu):.3f} | {best[name]:.3f} | "
        f"{best['torch'] / best[name]:.2f} |",
        flush=True,
      )


def _command(framework, args):
  given = [f"--{name}={getattr(args, name)}" for name in ("batch", "context")]
  return ["benchmarks.towers", f"--cell={framework}", *given]


def _inputs(args):
  """Images [n, h, w, 3] and token ids [n, context] that end at various places."""
  import numpy as np

  rng = np.random.default_rng(0)
  images = rng.standard_normal((args.batch, _SIZE, _SIZE, 3), dtype=np.float32)
  tokens = rng.integers(_END + 1, _VOCABULARY, (args.batch, args.context))
  ends = rng.integers(5, args.context, args.batch)
  tokens[np.arange(args.context)[None, :] > ends[:, None]] = 0
  tokens[np.arange(args.batch), ends] = _END
  return images, tokens.astype(np.int32)


def _ours(args):
  import jax
  import jax.numpy as jnp
  import optax

  import multimodal
  from contrastive.encoders import vit
  from multimodal import text_transformer, towers

  image = vit.vit_tiny(patch=_PATCH, depth=_IMAGE_DEPTH, unroll=_IMAGE_DEPTH)
  text = text_transformer.TextTransformer(
    _VOCABULARY,
    context=args.context,
    width=_WIDTH,
    depth=_TEXT_DEPTH,
    heads=_HEADS,
    end=_END,
    unroll=_TEXT_DEPTH,
  )
  model = towers.Towers(
    {"image": towers.Tower(image, _SHARED), "text": towers.Tower(text, _SHARED)}
  )
  inputs = dict(zip(("image", "text"), map(jnp.asarray, _inputs(args)), strict=True))
  sample = {name: rows[:2] for name, rows in inputs.items()}
  params = {
    "towers": model.init(jax.random.key(0), sample)["params"],
    "log_scale": jnp.asarray(-math.log(0.07), jnp.float32),
  }
  tx = optax.adamw(1e-3)

  def loss(params, inputs):
    made, _ = model.forward({"params": params["towers"]}, inputs)
    shared = {name: found.shared for name, found in made.items()}
    scale = jnp.exp(params["log_scale"])
    return jnp.mean(multimodal.alignment_loss(shared, scale=scale, terms="two"))

  def step(params, opt_state, inputs):
    value, grads = jax.value_and_grad(loss)(params, inputs)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value

  program = jax.jit(step, donate_argnums=(0, 1))
  state = [params, tx.init(params)]

  def run():
    *state[:], value = jax.block_until_ready(program(*state, inputs))
    return float(value)

  return run, sum(leaf.size for leaf in jax.tree.leaves(params))


def _torch(args):
  import torch

  from benchmarks import torch_models, torch_towers

  net = torch_towers.Clip(
    torch_models.ViT(_SIZE, _PATCH, _WIDTH, _IMAGE_DEPTH, _HEADS),
    torch_towers.Text(_VOCABULARY, args.context, _WIDTH, _TEXT_DEPTH, _HEADS, _END),
    _WIDTH,
    _SHARED,
  )
  images, tokens = map(torch.tensor, _inputs(args))
  images, tokens = images.permute(0, 3, 1, 2).contiguous(), tokens.long()
  optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

  def run():
    optimizer.zero_grad(set_to_none=True)
    loss = net(images, tokens)
    loss.backward()
    optimizer.step()
    return loss.item()

  return run, sum(p.numel() for p in net.parameters())


def _data_wait(args):
  """Trains for a few epochs and prints the last line of the loop."""
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, "-m", "experiments.pretrain", f"--config={args.config}"]
    command += [f"--workdir={folder}/run", f"--config.data.train_limit={args.examples}"]
    command += [f"--config.epochs={args.epochs}", f"--config.batch={args.batch}"]
    command += ["--config.evaluate.probe=False", "--config.evaluate.few_shot=False"]
    command += args.override
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
  lines = [line for line in done.stderr.splitlines() if "data wait" in line]
  if done.returncode or not lines:
    raise SystemExit(done.stderr.strip() or "the run printed no line")
  print(lines[-1])


if __name__ == "__main__":
  main()
