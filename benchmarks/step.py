"""A training step of the encoder beside the same model written plainly in torch.

  python -m benchmarks.step --models=vit_tiny,resnet18 --views=64

ViT-Ti/4 and ResNet-18 on 32-pixel images: forward, the mean of squared features (a loss
that costs nothing), backward, AdamW. Each model and framework runs in a process of its
own; times are the best of --repeats after a call to warm up. The numbers of parameters
are printed, so that one sees that the models are the same.

Both frameworks run as they start, and tuned: with large pages of memory, since a step
that allocates a gigabyte in pages of 4 kB waits for 250,000 of them, and, for XLA, with
Eigen's products and convolutions in place of YNNPACK's.
"""

import argparse
import json
import os
import subprocess
import sys
import time

# glibc keeps what it once got, and asks the kernel for pages of 2 MB.
_LARGE_PAGES = ":".join(
  f"glibc.malloc.{name}"
  for name in ("hugetlb=1", "mmap_threshold=8589934592", "trim_threshold=17179869184")
)
_ENVIRONMENTS = {
  "as it starts": {},
  "tuned": {
    "GLIBC_TUNABLES": _LARGE_PAGES,
    "XLA_FLAGS": "--xla_cpu_experimental_ynn_fusion_type=",
  },
}


def main() -> None:
  """Prints one line for each model and framework."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--models", default="vit_tiny,resnet18")
  parser.add_argument("--views", type=int, default=64)
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.cell:
    framework, model = args.cell.split(":")
    run, parameters = {"ours": _ours, "torch": _torch}[framework](model, args.views)
    print(json.dumps({"seconds": _best(run, args.repeats), "parameters": parameters}))
    return
  print("| model | environment | framework | parameters | seconds | torch over ours |")
  print("| --- | --- | --- | ---: | ---: | ---: |")
  for model in args.models.split(","):
    for environment, variables in _ENVIRONMENTS.items():
      found = {name: _cell(name, model, args, variables) for name in ("ours", "torch")}
      for name, cell in found.items():
        line = f"| {model} | {environment} | {name} | "
        if "note" in cell:
          print(f"{line}{cell['note']} | | |", flush=True)
          continue
        ratio = found["torch"].get("seconds", float("nan")) / found["ours"]["seconds"]
        line += f"{cell['parameters']:,} | {cell['seconds']:.3f} | "
        print(f"{line}{ratio if name == 'ours' else 1:.2f} |", flush=True)


def _cell(framework, model, args, variables):
  command = [sys.executable, "-m", "benchmarks.step", f"--cell={framework}:{model}"]
  command += [f"--views={args.views}", f"--repeats={args.repeats}"]
  done = subprocess.run(
    command, capture_output=True, text=True, check=False, env=os.environ | variables
  )
  if done.returncode:
    lines = done.stderr.strip().splitlines()
    return {"note": lines[-1] if lines else f"stopped with {done.returncode}"}
  return json.loads(done.stdout.splitlines()[-1])


def _best(run, repeats):
  run()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    run()
    times.append(time.perf_counter() - start)
  return min(times)


def _images(views):
  import numpy as np

  rng = np.random.default_rng(0)
  return rng.standard_normal((views, 32, 32, 3), dtype=np.float32)


def _ours(model, views):
  import jax
  import jax.numpy as jnp
  import optax

  from contrastive.encoders import resnet, vit

  if model == "vit_tiny":
    encoder = vit.ViT(patch=4, width=192, depth=12, heads=3, unroll=12)
  else:
    encoder = resnet.resnet18()
  images = jnp.asarray(_images(views))
  variables = encoder.init(jax.random.key(0), images[:2], train=False)
  params, stats = variables["params"], variables.get("batch_stats", {})
  tx = optax.adamw(1e-3)

  def loss(params, stats, images):
    variables = {"params": params, "batch_stats": stats}
    features, changed = encoder.apply(
      variables, images, train=True, mutable="batch_stats"
    )
    return jnp.mean(features**2), changed.get("batch_stats", {})

  def step(params, stats, opt_state, images):
    grads, stats = jax.grad(loss, has_aux=True)(params, stats, images)
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), stats, opt_state

  program = jax.jit(step, donate_argnums=(0, 1, 2))
  state = [params, stats, tx.init(params)]
  count = sum(leaf.size for leaf in jax.tree.leaves(params))

  def run():
    state[:] = jax.block_until_ready(program(*state, images))

  return run, count


def _torch(model, views):
  import torch

  net = _torch_vit() if model == "vit_tiny" else _torch_resnet18()
  images = torch.tensor(_images(views)).permute(0, 3, 1, 2).contiguous()
  optimizer = torch.optim.AdamW(net.parameters(), 1e-3)

  def run():
    optimizer.zero_grad(set_to_none=True)
    net(images).square().mean().backward()
    optimizer.step()

  return run, sum(p.numel() for p in net.parameters())


def _torch_vit():
  import torch
  from torch import nn

  class ViT(nn.Module):
    def __init__(self):
      super().__init__()
      self.patches = nn.Conv2d(3, 192, 4, 4)
      self.token = nn.Parameter(torch.zeros(1, 1, 192))
      self.register_buffer("positions", torch.zeros(1, 64, 192))
      layer = nn.TransformerEncoderLayer(
        192, 3, 768, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
      )
      self.blocks = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
      self.norm = nn.LayerNorm(192, 1e-6)

    def forward(self, x):
      x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
      x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
      return self.norm(self.blocks(x))[:, 0]

  return ViT()


def _torch_resnet18():
  from torch import nn

  def conv(i, o, kernel, stride):
    return nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=False)

  class Block(nn.Module):
    def __init__(self, i, o, stride):
      super().__init__()
      self.body = nn.Sequential(
        *(conv(i, o, 3, stride), nn.BatchNorm2d(o), nn.ReLU(inplace=True)),
        *(conv(o, o, 3, 1), nn.BatchNorm2d(o)),
      )
      self.shortcut = nn.Identity()
      if stride > 1 or i != o:
        self.shortcut = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o))

    def forward(self, x):
      return nn.functional.relu(self.body(x) + self.shortcut(x))

  layers = [conv(3, 64, 3, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
  width = 64
  for stage in range(4):
    for i in range(2):
      out = 64 * 2**stage
      layers.append(Block(width, out, 2 if stage and not i else 1))
      width = out
  return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


if __name__ == "__main__":
  main()
