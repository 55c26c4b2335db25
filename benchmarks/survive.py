"""Kills a run at random moments, turns bits in its checkpoints, and counts the losses.

  python -m benchmarks.survive --kills=20 --flips=200

The run has every kind of state (momentum target, batch statistics, per-anchor
normalisers, optimiser) and saves after every step, so that many kills fall into a save.
Every other kill is SIGTERM, the others SIGKILL; after each the same command is started
again. At the end metrics and summary must be byte for byte those of a run that nobody
disturbed. Then single bits are turned in copies of its checkpoints: what is read must
be a state that was saved, or the damage must have been said.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

_COMMAND = [
  *(sys.executable, "-m", "experiments.pretrain"),
  "--config=configs/pretrain.py:smoke",
  *("--config.method=moco_v3", "--config.encoder.name=mlp"),
  *("--config.objective.name=augmented", "--config.epochs=4"),
  *("--config.save_every=1", "--config.log_every=1"),
  *("--config.evaluate.few_shot=False", "--config.evaluate.untrained=False"),
]


def main() -> None:
  """Prints what was done and what was lost; exits with 1 if anything was."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--flips", type=int, default=200)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  chance = random.Random(args.seed)
  root = pathlib.Path(tempfile.mkdtemp())
  print("a run that nobody disturbs ...", flush=True)
  start = time.monotonic()
  _start(root / "whole").communicate()
  length = time.monotonic() - start
  lost = _kills(root, args.kills, length, chance)
  wrong = _flips(root / "whole", root, args.flips, chance)
  if lost or wrong:
    sys.exit(1)
  shutil.rmtree(root)


def _kills(root, kills, length, chance):
  done, runs, lost, codes = 0, 0, 0, {}
  while done < kills:
    workdir = root / f"run{runs}"
    runs += 1
    while True:
      process = _start(workdir)
      if done < kills and chance.random() < 0.8:
        time.sleep(chance.uniform(0.3, 1.0) * length)
        number = signal.SIGKILL if done % 2 else signal.SIGTERM
        if process.poll() is None:
          process.send_signal(number)
          done += 1
      _, text = process.communicate()
      codes[process.returncode] = codes.get(process.returncode, 0) + 1
      if process.returncode == 0:
        break
      if process.returncode not in (75, -signal.SIGKILL):
        sys.exit(f"LOST in {workdir}: exit code {process.returncode}: {text[-500:]}")
    pairs = zip(_results(workdir), _results(root / "whole"), strict=False)
    differ = [
      f"{found} instead of {expected}" for found, expected in pairs if found != expected
    ]
    same = not differ and len(_results(workdir)) == len(_results(root / "whole"))
    lost += not same
    print(f"run {runs}: {done} kills so far, {'same' if same else 'OTHER'} numbers")
    if not same:
      print(f"  {len(differ)} lines, first {differ[:1]}; the folder stays: {workdir}")
  print(f"{done} kills in {runs} runs, exit codes {codes}: {lost} lost", flush=True)
  return lost


def _start(workdir):
  return subprocess.Popen(
    [*_COMMAND, f"--workdir={workdir}"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


def _results(workdir):
  """Lines of metrics, and the summary, without what the clock says."""
  lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
  summary = json.loads((workdir / "summary.json").read_text())
  plain = lambda d: {k: v for k, v in d.items() if k != "wall" and "minutes" not in k}
  return [json.dumps(plain(x)) for x in [*lines, summary]]


def _flips(run, root, flips, chance):
  import jax
  import numpy as np

  from experiments.engine import errors
  from experiments.engine.checkpoint import Checkpoints

  def states(folder):
    with Checkpoints(str(folder)) as checkpoints:
      return checkpoints.restore_tree()

  steps = sorted(int(p.name) for p in (run / "checkpoints").iterdir())
  saved = {}
  for step in steps:
    copy = root / f"only{step}"
    for other in steps:
      if other == step:
        name = f"checkpoints/{other}"
        shutil.copytree(run / name, copy / name)
    saved[step] = states(copy)
  files = [p for p in (run / "checkpoints").rglob("*") if p.is_file()]
  found = {"harmless": 0, "said": 0, "wrong": 0}
  for i in range(flips):
    copy = root / "flipped"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run / "checkpoints", copy / "checkpoints")
    file = copy / files[i % len(files)].relative_to(run)
    raw = bytearray(file.read_bytes())
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    file.write_bytes(bytes(raw))
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
      try:
        state = states(copy)
      except errors.UserError:
        found["said"] += 1
        continue
    same = any(
      jax.tree.structure(state) == jax.tree.structure(other)
      and all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True)
      )
      for other in saved.values()
    )
    said = "is damaged" in text.getvalue()
    found["wrong" if not same else "said" if said else "harmless"] += 1
  print(f"{flips} bits turned over {len(files)} files of checkpoints: {found}")
  return found["wrong"]


if __name__ == "__main__":
  main()
