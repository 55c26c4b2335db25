"""A polite end: SIGTERM and SIGINT are noted, and the run stops after its step."""

import signal
import threading
from types import FrameType
from typing import Any

_NOTED = (signal.SIGTERM, signal.SIGINT)


class Interrupt:
  """Notes signals while it is entered; a second signal does what it always did.

  Schedulers send SIGTERM some seconds before they kill; a run that saves in that time
  loses nothing.
  """

  def __init__(self) -> None:
    self._before: dict[int, Any] = {}
    self.name = ""

  def __enter__(self) -> "Interrupt":
    # Python lets only the main thread ask for signals.
    if threading.current_thread() is threading.main_thread():
      self._before = {number: signal.signal(number, self._note) for number in _NOTED}
    return self

  def __exit__(self, *_: Any) -> None:
    self._restore()

  def _note(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.name = signal.Signals(number).name
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}
