"""Processes whose steps take turns, so that all meet the same moods of the machine."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

# glibc keeps what it once got, and asks the kernel for pages of 2 MB.
_LARGE_PAGES = ":".join(
  f"glibc.malloc.{name}"
  for name in (
    "arena_max=1",
    "hugetlb=1",
    "mmap_threshold=8589934592",
    "trim_threshold=17179869184",
  )
)
ENVIRONMENTS: dict[str, dict[str, str]] = {
  "as it starts": {},
  "tuned": {"GLIBC_TUNABLES": _LARGE_PAGES},
}


class Process:
  """A module of its own process, which makes a step when it is asked to.

  Attributes:
    seconds: of each step.
    cpu: seconds that all threads of the process took for it.
  """

  def __init__(self, arguments: list[str], variables: dict[str, str]):
    """Starts `python -m` with these arguments, and waits until it is ready."""
    self._process = subprocess.Popen(
      [sys.executable, "-m", *arguments],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=os.environ | variables,
    )
    self._first = self._read()
    self.seconds: list[float] = []
    self.cpu: list[float] = []

  def step(self) -> None:
    """Asks for a step and notes its times."""
    self._process.stdin.write("\n")
    self._process.stdin.flush()
    took = self._read()
    self.seconds.append(took["seconds"])
    self.cpu.append(took["cpu"])

  def close(self) -> dict[str, Any]:
    """Ends the process; what it said of itself, and its peak in GB."""
    self._process.stdin.close()
    last = self._read()
    self._process.wait()
    return self._first | last

  def _read(self):
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit("a process stopped; its message is above")
    return json.loads(line)


def serve(run: Callable[[], Any], **about: Any) -> None:
  """The other side: makes a step for each line of the input, and says how long it took.

  Args:
    run: makes a step and waits for it.
    **about: what is said before; `first` is added, what `run` gave the first time.
  """
  say = lambda **values: print(json.dumps(values), flush=True)
  first = run()
  run()  # the caches and pages of a second step are those of all that follow
  say(first=first, **about)
  for _ in sys.stdin:
    start, used = time.perf_counter(), time.process_time()
    run()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    say(seconds=seconds, cpu=used)
  say(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)
