"""A pretraining step of a fusion model beside the same written plainly in torch.

  python -m benchmarks.fusion
  python -m benchmarks.fusion --memory
  python -m benchmarks.fusion --memory --shapes --preset=albef --batch=8

The step is the one that `experiments.pretrain` makes of `--preset` of
configs/fusion.py, without augmentation: size tiny, 64-pixel images, captions of up to
40 tokens, batch 64, a queue of 1,024 pairs, unless other flags change them. Contrast to
momentum keys and queues with soft targets, matching with hard negatives, hidden words
with distillation, forward, backward, AdamW and the momentum copy's average. torch
(benchmarks/torch_fusion.py) does the same eagerly in float32; a test marked torch has
its losses agree with ours over steps. The numbers of parameters have to be equal. The
losses (contrast, matching, words) are those of the first step, each framework's
parameters as drawn.

Each framework runs in a process of its own; their steps take turns, so that both meet
the same moods of the machine, and the medians of --repeats steps count. "Tuned" is with
memory kept from step to step, in large pages, for both. CPU seconds are those of all
threads; for torch those that its threads wait in are among them, so compare on one core
(`OMP_NUM_THREADS=1 taskset -c 0`) beside other programs. GB are the process's peak,
compilation included.

With --memory, what the compiled step takes by `memory_analysis`, in small batches, the
batch and twice that. The peak is arguments, results that do not lie in an argument's
place, and temporaries. Activations are what it grows by for another pair, up to the
next larger batch; the rest is to be at most 6 times the parameters: the parameters, the
momentum copy, AdamW's two moments, the gradient, and one more. Unless --shapes, one
step of the smallest batch is run, to see that its state stays where it is. The command
fails if the rest is more or if not all of the state is updated in place. Sizes are
those on the backend at hand: on CPU bfloat16 takes more than float32, since XLA
computes in float32 there and converts the parameters twice.
"""

import argparse
import statistics
import sys

from benchmarks import turns

# Losses of the first step, in this order.
LOSSES = ("contrast", "matching", "masking")
_SHARED_FLAGS = ("preset", "batch", "size", "side", "context", "queue", "dtype")


def main() -> None:
  """Prints one line for each environment and framework, or for each batch."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--preset", default="scenes", help="of configs/fusion.py")
  parser.add_argument("--batch", type=int)
  parser.add_argument("--size", help="micro, tiny or base")
  parser.add_argument("--side", type=int, help="of the images, in pixels")
  parser.add_argument("--context", type=int, help="most tokens of a caption")
  parser.add_argument("--queue", type=int, help="pairs of earlier keys; 0: none")
  parser.add_argument("--dtype", choices=("float32", "bfloat16"))
  parser.add_argument("--remat", action="store_true", default=None)
  parser.add_argument("--repeats", type=int, default=9)
  parser.add_argument("--environments", default=",".join(turns.ENVIRONMENTS))
  parser.add_argument("--memory", action="store_true")
  parser.add_argument(
    "--shapes", action="store_true", help="with --memory: run nothing"
  )
  parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.cell:
    {"ours": _ours, "torch": _torch}[args.cell](args)
  elif args.memory:
    from benchmarks import fusion_memory

    fusion_memory.table(args)
  else:
    _table(args)


def _table(args):
  columns = ("parameters", "losses", "GB", "CPU seconds", "seconds", "torch / ours")
  print("| environment | framework |", " | ".join(columns), "|")
  print("| --- | --- |", " | ".join(["---:"] * len(columns)), "|")
  for environment in args.environments.split(","):
    if environment not in turns.ENVIRONMENTS:
      known = ", ".join(turns.ENVIRONMENTS)
      sys.exit(f"unknown environment '{environment}'; known: {known}")
    variables = turns.ENVIRONMENTS[environment]
    cells = {
      name: turns.Process(_command(name, args), variables) for name in ("ours", "torch")
    }
    for _ in range(args.repeats):
      for cell in cells.values():
        cell.step()
    took = {name: statistics.median(cell.seconds) for name, cell in cells.items()}
    found = {name: cell.close() for name, cell in cells.items()}
    if found["ours"]["parameters"] != found["torch"]["parameters"]:
      sys.exit(f"these are two models: {found}")
    for name, cell in cells.items():
      losses = ", ".join(f"{value:.2f}" for value in found[name]["first"])
      print(
        f"| {environment} | {name} | {found[name]['parameters']:,} | {losses} | "
        f"{found[name]['peak']:.2f} | {statistics.median(cell.cpu):.3f} | "
        f"{took[name]:.3f} | {took['torch'] / took[name]:.2f} |",
        flush=True,
      )


def _command(framework, args):
  given = {name: getattr(args, name) for name in _SHARED_FLAGS}
  flags = [f"--{name}={value}" for name, value in given.items() if value is not None]
  flags += ["--remat"] if args.remat else []
  return ["benchmarks.fusion", f"--cell={framework}", *flags]


def _ours(args):
  import jax
  import jax.numpy as jnp

  from benchmarks import fusion_step

  config = fusion_step.read_config(args)
  made = fusion_step.make(config, config.batch)
  program = fusion_step.compiled(made)
  kept = [fusion_step.fill_queues(jax.jit(made.init)(jax.random.key(0)))]
  batch = jax.tree.map(jnp.asarray, made.batch)
  parameters = sum(x.size for x in jax.tree.leaves(kept[0].params))

  def run():
    kept[0], metrics = jax.block_until_ready(program(kept[0], batch, made.key))
    return [float(metrics[f"term/{name}"]) for name in LOSSES]

  turns.serve(run, parameters=parameters)


def _torch(args):
  import torch

  from benchmarks import fusion_step

  config = fusion_step.read_config(args)
  training = torch_training(config)
  context = training.net.text.positions.shape[0]
  drawn = fusion_step.draw(config.batch, config.data.image_size, context)
  images, tokens = map(torch.tensor, drawn)
  images, tokens = images.permute(0, 3, 1, 2).contiguous(), tokens.long()
  count = sum(p.numel() for p in training.net.parameters())
  turns.serve(lambda: training.step(images, tokens), parameters=count)


def torch_training(config):
  """Model and step in torch of our config, with full queues."""
  import torch

  from benchmarks import fusion_step, torch_fusion

  if config.dtype != "float32":
    sys.exit("torch's side is written for float32; compare with --dtype=float32")
  knobs, optimizer = config.objective, config.optimizer
  if any(knobs[name] != 1 for name in LOSSES) or not knobs.queue_size:
    sys.exit("torch's side has all three losses at weight 1, and a queue")
  sizes = torch_sizes(config)
  rows = fusion_step.older_keys(knobs.queue_size, sizes.shared)
  return torch_fusion.Pretraining(
    torch_fusion.Fusion(sizes),
    [torch.tensor(queue) for queue in rows],
    torch_fusion.Knobs(
      alpha=knobs.alpha,
      mask_rate=knobs.mask_rate,
      temperature=knobs.temperature,
      target_momentum=config.target_momentum,
      learning_rate=optimizer.learning_rate,
      weight_decay=optimizer.weight_decay,
      b2=optimizer.b2,
      mean=fusion_step.channels(config.data.mean),
      std=fusion_step.channels(config.data.std),
    ),
  )


def torch_sizes(config):
  """Sizes of torch's model, from our config's."""
  from benchmarks import torch_fusion
  from experiments.engine.pretraining import fusion_network

  model = fusion_network.build_fusion(config).model
  image, text = model.image, model.text
  if (image.width, image.heads) != (text.width, text.heads):
    sys.exit("torch's side takes images and texts of one width")
  return torch_fusion.Sizes(
    side=config.data.image_size,
    patch=image.patch,
    width=image.width,
    heads=image.heads,
    image_depth=image.depth,
    text_depth=text.depth,
    fusion_depth=model.depth,
    shared=model.width,
    vocabulary=text.vocabulary_size,
    context=text.context,
  )


if __name__ == "__main__":
  main()
