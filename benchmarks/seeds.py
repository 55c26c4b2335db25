"""Ten seeds in one program: what the noise study pays for them.

  python -m benchmarks.seeds --preset=quick

Runs the noise study with 1 and with 10 seeds and prints the ratio of the times. Each
run is a process of its own and is done twice: compiled programs are at hand for the
second, which counts.
"""

import argparse
import subprocess
import sys
import tempfile
import time


def main() -> None:
  """Prints seconds and their ratio."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--preset", default="quick")
  args = parser.parse_args()
  seconds = {}
  for seeds in (1, 10):
    for _ in range(2):
      with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.noise_study"]
        command += [f"--config=configs/noise_study.py:{args.preset}"]
        command += [f"--config.runs={seeds}", f"--workdir={folder}"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds[seeds] = time.perf_counter() - start
  print("| seeds | seconds | times one seed |")
  print("| ---: | ---: | ---: |")
  for seeds, value in seconds.items():
    print(f"| {seeds} | {value:.1f} | {value / seconds[1]:.2f} |")


if __name__ == "__main__":
  main()
