"""A run's checkpoints: written whole or not at all, the last k and the best kept, none lost to a full disk or a kill.

RUN/state.safetensors, model.safetensors      the newest: to resume from, and to use
RUN/checkpoints/0001500/state..., model...    older ones, hard links to what was the newest once
RUN/best.safetensors                          the model with the best score, where the recipe names one
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vidtrans.errors import InputError, OutputError, UsageError
from vidtrans.model_library import RUN_MODEL
from vidtrans.tensor_header import read_header
from vidtrans.train.keep_options import KeepOptions

if sys.platform != "win32":
    import fcntl

STATE = "state.safetensors"
MODEL = RUN_MODEL
BEST = "best.safetensors"
CHECKPOINTS = "checkpoints"

Write = Callable[[Path], None]


class Keeper:
    """The checkpoints of one run folder, which exists.

    Attributes:
        best: {"name", "value", "step"} of the best score so far; a part of the state, so that a resumed run goes on
            comparing with it. None: nothing was scored yet.
    """

    def __init__(self, folder: Path, options: KeepOptions) -> None:
        self._folder = folder
        self._options = options
        self.best: dict[str, Any] | None = None

    def save(self, step: int, write_state: Write, write_model: Write, score: float | None = None) -> None:
        """Write the newest checkpoint, after the one before has become an older one.

        Each function writes one file, atomically. The state comes last: what it says was saved is there.

        Raises:
            OutputError: not everything could be written; the checkpoint before is still whole and the newest.
        """
        try:
            self._set_aside(step)
            if score is not None and (self.best is None or score < self.best["value"]):
                self.best = {"name": self._options.best, "value": score, "step": step}
                write_model(self._folder / BEST)
            write_model(self._folder / MODEL)
            write_state(self._folder / STATE)
            self._forget(step)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"step {step} cannot be saved in {self._folder} ({reason}); {self.good()}") from error

    def good(self, before: int | None = None) -> str:
        """The newest checkpoint, or the newest of a step below `before`, and how to go on from it; in words."""
        newest = saved_step(self._folder / STATE)
        if newest is None:
            return "nothing was saved before"
        if before is None or newest < before:
            return f"last good checkpoint: {self._folder / STATE} of step {newest}, from which --resume continues"
        older = [step for step in self.steps() if step < before]
        if not older:
            return f"no checkpoint from before is kept; the newest is {self._folder / STATE} of step {newest}"
        path = self._folder / CHECKPOINTS / _name(older[-1]) / STATE
        return f"last checkpoint from before: {path}, from which --resume {older[-1]} continues"

    def steps(self) -> list[int]:
        """Of the older checkpoints, ascending."""
        folder = self._folder / CHECKPOINTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal() and (folder / name / STATE).is_file())

    def state_of(self, step: int | None) -> Path:
        """The state to resume from: the newest, or that of an older step.

        Raises:
            InputError: there is none.
        """
        newest = saved_step(self._folder / STATE)
        if step is None or step == newest:
            if newest is None:
                raise InputError(f"{self._folder} holds no state that can be resumed from{self._or_older()}")
            return self._folder / STATE
        if step not in self.steps():
            raise InputError(f"{self._folder} keeps no checkpoint of step {step}{self._or_older()}")
        return self._folder / CHECKPOINTS / _name(step) / STATE

    def clean(self) -> None:
        """Remove what a killed process left unfinished."""
        for path in self._folder.glob(".*.partial"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._folder / CHECKPOINTS / ".partial", ignore_errors=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else trains in the folder meanwhile: a scheduler may start a job again before the old one is gone.

        Raises:
            UsageError: someone does.
        """
        if sys.platform == "win32":
            yield
            return
        with (self._folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"another process is training in {self._folder}") from error
            except OSError:
                pass  # some network file systems have no locks
            yield

    def _or_older(self) -> str:
        steps = ", ".join(str(step) for step in self.steps())
        return f"; --resume STEP continues from an older one: {steps}" if steps else ""

    def _set_aside(self, step: int) -> None:
        """Make the newest checkpoint, if it is of an earlier step, an older one; it stays the newest too."""
        newest = saved_step(self._folder / STATE)
        if newest is None or newest >= step or not self._options.last:
            return
        kept = self._folder / CHECKPOINTS / _name(newest)
        if kept.is_dir():
            return
        partial = kept.with_name(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        # A kill between the two files leaves a model that is newer than the state.
        names = (STATE, MODEL) if _model_step(self._folder / MODEL) == newest else (STATE,)
        for name in names:
            _link(self._folder / name, partial / name)
        partial.rename(kept)

    def _forget(self, step: int) -> None:
        """Remove all but the last older checkpoints, and those of a future that a resume has left behind."""
        steps = self.steps()
        earlier = [old for old in steps if old < step]
        for old in {*earlier[: max(0, len(earlier) - self._options.last)], *(old for old in steps if old > step)}:
            shutil.rmtree(self._folder / CHECKPOINTS / _name(old))


def saved_step(path: Path) -> int | None:
    """The step of a state file; None: there is none that could be read."""
    return _step_in(path, "facts")


def _model_step(path: Path) -> int | None:
    return _step_in(path, "trained")


def _step_in(path: Path, key: str) -> int | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(read_header(path).metadata[key])["step"])
    return None


def _name(step: int) -> str:
    return f"{step:07d}"


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # file systems without hard links
        shutil.copy2(source, target)
