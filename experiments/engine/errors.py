"""Errors that a user can act on: one sentence that names the thing and the remedy."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A run that cannot go on; the entry point prints the sentence and exits with 1."""

  exit_code = 1


class UsageError(UserError):
  """A flag, name or config value that makes no sense; exit code 2."""

  exit_code = 2


class Stopped(UserError):
  """A run that was asked to stop, and did so with everything saved; exit code 75."""

  exit_code = 75


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ` (did you mean 'x'?)` for the known name nearest to `name`, or ``."""
  matches = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
  return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
  """Builds the error for a name that is not in a table, with the nearest known one.

  Args:
    kind: what the name stands for, such as "objective".
    name: what the user wrote.
    known: the names that exist.
  """
  known = sorted(known)
  return UsageError(
    f"unknown {kind} '{name}'{nearest(name, known)}; known: {', '.join(known)}"
  )
