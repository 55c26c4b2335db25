"""The line that tells how a run goes: step, loss, speed, data wait, time left."""

import sys
import time

from experiments.engine import hosts


class Progress:
  """Prints one line every few seconds; on a terminal the line is overwritten.

  Args:
    total: steps of the run.
    first: steps that were done before (a resumed run).
    every: seconds between lines.
  """

  def __init__(self, total: int, first: int = 0, every: float = 5.0):
    self._total, self._first, self._every = total, first, every
    self._start = self._last = time.perf_counter()
    self._waited = 0.0

  def waited(self, seconds: float) -> None:
    """Counts time in which the devices had to wait for data."""
    self._waited += seconds

  def show(self, step: int, items: int, **values: float | None) -> None:
    """Prints the state after `step` steps of `items` examples each, if it is time."""
    now = time.perf_counter()
    done = step - self._first
    if (
      not hosts.first()
      or done <= 0
      or (now - self._last < self._every and step < self._total)
    ):
      return
    self._last = now
    passed = now - self._start
    shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items() if v is not None)
    left = passed / done * (self._total - step)
    line = (
      f"step {step}/{self._total}  {shown}  {items * done / passed:,.0f} images/s  "
      f"data wait {self._waited / passed:.0%}  {clock(left)} left"
    )
    on_terminal = sys.stderr.isatty()
    end = "\r" if on_terminal and step < self._total else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
  """Seconds as m:ss or h:mm:ss."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
