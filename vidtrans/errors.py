"""Errors a user can act on. Each carries the exit code of its kind; the command line prints the sentence, no traceback.

Exit codes: 0 done, 1 failure, 2 usage, 3 input unreadable, 4 no device or out of memory, 5 encoder or output,
6 training stopped on request and saved, 7 training diverged, 130 interrupted, 141 a pipe was closed by its reader.
"""

from __future__ import annotations


class VidtransError(Exception):
    """One clear sentence: what is wrong and what to do."""

    exit_code = 1


class UsageError(VidtransError):
    """An option, domain, model or engine that does not exist or does not fit."""

    exit_code = 2


class StrictError(VidtransError):
    """A warning, where --strict makes warnings fatal."""


class InputError(VidtransError):
    """An input file that is missing, empty, truncated or not what it should be."""

    exit_code = 3


class DeviceError(VidtransError):
    """A device that is not there, or ran out of memory after every fallback."""

    exit_code = 4


class OutputError(VidtransError):
    """An output that cannot be written: folder, permission, codec, container, disk."""

    exit_code = 5


class TrainingStopped(VidtransError):
    """A training run was asked to end (SIGTERM, or Ctrl-C once) and has saved everything: the same command resumes."""

    exit_code = 6


class TrainingDiverged(VidtransError):
    """A training run went wrong in a way that more steps do not mend; an earlier checkpoint is whole."""

    exit_code = 7


class PipeClosed(VidtransError):
    """Whoever read an output's pipe has gone away: nobody's mistake, but the run has ended early."""

    exit_code = 141  # 128 + SIGPIPE, as a shell shows it of other programs


def nearest_names(name: str, known: list[str] | tuple[str, ...]) -> str:
    """A hint for an unknown name: the closest known one if any, then the whole list."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known)}"


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value that is not one of the allowed ones.

    Raises:
        UsageError: it is not.
    """
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(map(str, allowed))}, not {value!r}")
