"""A training step of the encoder beside the same model written plainly in torch.

  python -m benchmarks.step --models=vit_tiny,resnet18 --views=64
  python -m benchmarks.step --models=resnet50,vit_base --views=256 --dtype=bfloat16

ViT-Ti/4 and ResNet-18 on 32-pixel images, or ResNet-50 and ViT-B/16 on 224-pixel ones:
forward, the mean of squared features (a loss that costs nothing), backward, AdamW. On a
GPU torch's step is compiled by torch.compile; bfloat16 is the type of the arithmetic,
parameters are float32. Memory is the device's peak, on CPU the process's. Each model
and framework runs in a process of its own; times are the best of --repeats after a call
to warm up. The numbers of parameters are printed, so that one sees that the models are
the same.

Both frameworks run as they start, and tuned: with large pages of memory, since a step
that allocates a gigabyte in pages of 4 kB waits for 250,000 of them, and, for XLA, with
Eigen's products and convolutions in place of YNNPACK's.
"""

import argparse
import json
import os
import resource
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


# Side of the images.
_SIZES = {"vit_tiny": 32, "resnet18": 32, "vit_base": 224, "resnet50": 224}


def main() -> None:
  """Prints one line for each model and framework."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--models", default="vit_tiny,resnet18")
  parser.add_argument("--views", type=int, default=64)
  parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
  parser.add_argument("--repeats", type=int, default=5)
  parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.cell:
    framework, model = args.cell.split(":")
    run, parameters, peak = {"ours": _ours, "torch": _torch}[framework](model, args)
    seconds = _best(run, args.repeats)
    print(json.dumps({"seconds": seconds, "parameters": parameters, "peak": peak()}))
    return
  print(
    "| model | environment | framework | parameters | GB | seconds | torch / ours |"
  )
  print("| --- | --- | --- | ---: | ---: | ---: | ---: |")
  for model in args.models.split(","):
    for environment, variables in _ENVIRONMENTS.items():
      found = {name: _cell(name, model, args, variables) for name in ("ours", "torch")}
      for name, cell in found.items():
        line = f"| {model} | {environment} | {name} | "
        if "note" in cell:
          print(f"{line}{cell['note']} | | | |", flush=True)
          continue
        ratio = found["torch"].get("seconds", float("nan")) / cell["seconds"]
        line += (
          f"{cell['parameters']:,} | {cell['peak']:.2f} | {cell['seconds']:.3f} | "
        )
        print(f"{line}{ratio:.2f} |", flush=True)


def _cell(framework, model, args, variables):
  command = [sys.executable, "-m", "benchmarks.step", f"--cell={framework}:{model}"]
  command += [f"--{k}={getattr(args, k)}" for k in ("views", "repeats", "dtype")]
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


def _images(model, views):
  import numpy as np

  size = _SIZES[model]
  rng = np.random.default_rng(0)
  return rng.standard_normal((views, size, size, 3), dtype=np.float32)


def _process_peak():
  """Gigabytes that this process has had at most."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _ours(model, args):
  import jax
  import jax.numpy as jnp
  import optax

  from contrastive.encoders import resnet, vit

  # Straight-line code on CPU, where the loop over layers costs a sixth.
  unroll = {"unroll": 12} if jax.default_backend() == "cpu" else {}
  encoder = {
    "vit_tiny": lambda **o: vit.vit_tiny(patch=4, **unroll, **o),
    "vit_base": lambda **o: vit.vit_base(**unroll, **o),
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
  }[model](dtype=jnp.dtype(args.dtype))
  images = jnp.asarray(_images(model, args.views))
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

  def peak():
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
      return stats["peak_bytes_in_use"] / 1e9
    return _process_peak()

  return run, count, peak


def _torch(model, args):
  import torch

  from benchmarks import torch_models

  net = {
    "vit_tiny": lambda: torch_models.ViT(32, 4, 192, 12, 3),
    "vit_base": lambda: torch_models.ViT(224, 16, 768, 12, 12),
    "resnet18": lambda: torch_models.resnet((2, 2, 2, 2), False, small=True),
    "resnet50": lambda: torch_models.resnet((3, 4, 6, 3), True, small=False),
  }[model]()
  on_gpu = torch.cuda.is_available()
  device = "cuda" if on_gpu else "cpu"
  net = net.to(device)
  images = torch.tensor(_images(model, args.views)).permute(0, 3, 1, 2).contiguous()
  images = images.to(device)
  optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
  forward = torch.compile(net) if on_gpu else net
  half = args.dtype == "bfloat16"

  def run():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=half):
      features = forward(images)
    features.float().square().mean().backward()
    optimizer.step()
    if on_gpu:
      torch.cuda.synchronize()

  peak = _process_peak
  if on_gpu:
    peak = lambda: torch.cuda.max_memory_allocated() / 1e9
  return run, sum(p.numel() for p in net.parameters()), peak


if __name__ == "__main__":
  main()
