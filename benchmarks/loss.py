"""The symmetric loss and its gradient: time and memory beside torch, plain JAX, optax.

  python -m benchmarks.loss --rows=1024,4096,16384

Each (rows, peer) runs in a process of its own, so that memory is that peer's. `torch`
is the formula of open_clip's ClipLoss on one device, `optax` is optax.losses.ntxent,
and `products` are the bare matrix products that a linear-memory form cannot do without:
the logits once forward and once again backward, and two products with them. Times are
the best of --repeats after one call to compile; memory is the growth of the process's
peak over what it was when the inputs were there, compiled programs included.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

WIDTH = 256
SCALE = 20.0


def main() -> None:
  """Runs the table, or one cell of it."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--rows", default="1024,4096,16384")
  parser.add_argument("--peers", default="ours,plain,optax,torch,products")
  parser.add_argument("--block_size", type=int, default=512)
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument(
    "--limit_gb", type=float, default=16.0, help="skip what needs more"
  )
  parser.add_argument("--cell", default="", help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.cell:
    peer, rows = args.cell.split(":")
    print(json.dumps(_measure(peer, int(rows), args)))
    return
  print("| rows | peer | seconds | times ours | GB above the inputs | value |")
  print("| ---: | --- | ---: | ---: | ---: | ---: |")
  for rows in map(int, args.rows.split(",")):
    base = None
    for peer in args.peers.split(","):
      found = _cell(peer, rows, args)
      if "note" in found:
        print(f"| {rows:,} | {peer} | {found['note']} | | | |", flush=True)
        continue
      base = base or found["seconds"]
      print(
        f"| {rows:,} | {peer} | {found['seconds']:.3g} | {found['seconds'] / base:.2f} "
        f"| {found['gigabytes']:.3g} | {found['value']:.5f} |",
        flush=True,
      )


def _cell(peer, rows, args):
  # float32 matrices of logits that the peer holds at once, at least.
  needed = {"plain": 3, "torch": 4, "optax": 4 * WIDTH}.get(peer, 0)
  if needed * rows**2 * 4 / 1e9 > args.limit_gb:
    return {"note": f"needs over {args.limit_gb:g} GB"}
  command = [sys.executable, "-m", "benchmarks.loss", f"--cell={peer}:{rows}"]
  command += [f"--block_size={args.block_size}", f"--repeats={args.repeats}"]
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    return {"note": reason or f"stopped with {done.returncode}"}
  return json.loads(done.stdout.splitlines()[-1])


def _measure(peer, rows, args):
  run = {"torch": _torch}.get(peer, _jax)(peer, rows, args)
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  value, times = run(), []
  for _ in range(args.repeats):
    start = time.perf_counter()
    value = run()
    times.append(time.perf_counter() - start)
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return {
    "seconds": min(times),
    "gigabytes": (after - before) * 1024 / 1e9,
    "value": float(value),
  }


def _inputs(rows):
  import numpy as np

  rng = np.random.default_rng(0)
  a = rng.standard_normal((rows, WIDTH), dtype=np.float32)
  b = a + rng.standard_normal((rows, WIDTH), dtype=np.float32)
  return tuple(z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))


def _jax(peer, rows, args):
  import jax
  import jax.numpy as jnp

  import contrastive

  a, b = map(jnp.asarray, _inputs(rows))
  scale = jnp.float32(SCALE)

  def ours(a, b, scale):
    values = contrastive.info_nce(a, b, scale=scale, block_size=args.block_size)
    return jnp.mean(values)

  def plain(a, b, scale):
    return jnp.mean(contrastive.info_nce(a, b, scale=scale))

  def ntxent(a, b, scale):
    import optax

    labels = jnp.tile(jnp.arange(rows), 2)
    return optax.losses.ntxent(jnp.concatenate([a, b]), labels, 1 / scale).mean()

  if peer == "products":
    program = jax.jit(lambda a, b, scale: _products(a, b, args.block_size))
  else:
    loss = {"ours": ours, "plain": plain, "optax": ntxent}[peer]
    program = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))

  def run():
    result = jax.block_until_ready(program(a, b, scale))
    return result[0] if peer != "products" else 0.0

  return run


def _products(a, b, block_size):
  import jax
  import jax.numpy as jnp

  from contrastive import numerics

  def visit(total, block):
    logits = numerics.product("nd,md->nm", block, b)
    # Something of the first tile is needed for the second, so that both are made.
    again = numerics.product("nd,md->nm", block + logits[:, :1], b)
    total += numerics.product("nm,nd->md", again, block)
    return total, numerics.product("nm,md->nd", again, b)

  return jax.lax.scan(visit, jnp.zeros_like(b), a.reshape(-1, block_size, WIDTH))


def _torch(peer, rows, args):
  del peer, args
  import torch
  import torch.nn.functional as functional

  a, b = (torch.tensor(z, requires_grad=True) for z in _inputs(rows))
  scale = torch.tensor(SCALE, requires_grad=True)

  def run():
    for leaf in (a, b, scale):
      leaf.grad = None
    logits = scale * a @ b.T
    numbers = torch.arange(rows)
    forward = functional.cross_entropy(logits, numbers)
    back = functional.cross_entropy(scale * b @ a.T, numbers)
    loss = (forward + back) / 2
    loss.backward()
    return loss.item()

  return run


if __name__ == "__main__":
  main()
