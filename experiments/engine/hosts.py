"""Several processes that train one model: start, who writes, waiting for each other."""

import os
import socket
import sys
import threading
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.engine import errors


def start(
  coordinator: str = "",
  process_id: int = -1,
  process_count: int = 0,
  *,
  timeout: float = 60.0,
) -> None:
  """Joins this process to the others; call before anything asks for devices.

  Of all processes only the first prints and writes records.

  Args:
    coordinator: host:port of the first process; empty: as the cluster's environment
      says (Slurm, Open MPI, TPU pods, Kubernetes), which jax.distributed reads.
    process_id: number of this process, from 0; -1: as the environment says.
    process_count: number of processes; 0: as the environment says.
    timeout: seconds to wait for the coordinator.

  Raises:
    UsageError: the three do not fit together, or there is no such environment.
    UserError: the coordinator cannot be reached, or this process has no device.

  Ends the process with a sentence and exit code 1 if others do not come in time.
  """
  given = (bool(coordinator), process_id >= 0, process_count > 0)
  if any(given) and not all(given):
    raise errors.UsageError(
      "--coordinator, --process_id and --process_count go together: give all three, or "
      "none where Slurm, Open MPI, Kubernetes or a TPU pod sets them"
    )
  if all(given):
    if process_id >= process_count:
      raise errors.UsageError(
        f"--process_id={process_id} is not below --process_count={process_count}; "
        f"processes are numbered 0 to {process_count - 1}"
      )
    if process_id > 0:
      _wait_for(coordinator, timeout)
  # JAX ends a process whose peers stay away by a signal and a stack of C++ frames.
  give_up = threading.Timer(timeout, _give_up, (process_count, timeout))
  give_up.daemon = True
  give_up.start()
  try:
    jax.distributed.initialize(
      coordinator or None,
      process_count or None,
      process_id if process_id >= 0 else None,
      initialization_timeout=round(timeout) + 60,
    )
  except ValueError as error:
    raise errors.UsageError(
      "--distributed found no cluster in the environment; give "
      "--coordinator=HOST:PORT, --process_id and --process_count"
    ) from error
  finally:
    give_up.cancel()
  _check_devices(process_id)
  if not first():
    sys.stdout = open(os.devnull, "w", encoding="utf-8")


def first() -> bool:
  """True in the process that prints and writes records; in a single one always."""
  return jax.process_index() == 0


def wait(name: str) -> None:
  """Waits until all processes are here; `name` tells one place from another."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def any_of(*flags: bool) -> tuple[bool, ...]:
  """Each flag: does any process raise it? All processes must ask at the same place."""
  if jax.process_count() == 1:
    return flags
  gathered = multihost_utils.process_allgather(np.array(flags))
  return tuple(map(bool, gathered.any(axis=0)))


def place(tree: Any, shardings: Any) -> Any:
  """Puts arrays that every process has on devices of all processes.

  Args:
    tree: arrays, the same in all processes.
    shardings: a sharding each, or a tree prefix of them.

  Returns:
    Global arrays; each process has copied its own part only.
  """

  def one(sharding, leaf):
    host = np.asarray(leaf)
    part = lambda index: host[index]
    return jax.make_array_from_callback(host.shape, sharding, part)

  return jax.tree.map(
    lambda sharding, branch: jax.tree.map(lambda leaf: one(sharding, leaf), branch),
    shardings,
    tree,
  )


def _check_devices(process_id):
  """With more processes on a host than devices, the last ones find none."""
  try:
    jax.local_devices()
  except (RuntimeError, AssertionError) as error:  # the latter without a back end
    reason = " ".join(str(error).split())[:200]
    raise errors.UserError(
      f"process {process_id if process_id >= 0 else ''} finds no device of its own"
      f"{f' ({reason})' if reason else ''}; start at most as many processes on a host "
      "as it has devices"
    ) from error


def _give_up(process_count: int, timeout: float) -> None:
  print(
    f"error: not all {process_count or ''} processes came within {timeout:.0f} s; "
    "start each of them with the same --coordinator and --process_count",
    file=sys.stderr,
    flush=True,
  )
  os._exit(1)


def _wait_for(coordinator: str, timeout: float) -> None:
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit():
    raise errors.UsageError(
      f"--coordinator={coordinator} is not HOST:PORT, such as 10.0.0.1:1234"
    )
  until = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host, int(port)), timeout=2).close()
      return
    except OSError as error:
      if time.monotonic() > until:
        raise errors.UserError(
          f"the coordinator {coordinator} cannot be reached within {timeout:.0f} s "
          f"({error.strerror or error}); start process 0 there, or mend the address"
        ) from error
      time.sleep(0.5)
