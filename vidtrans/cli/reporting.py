"""What a command tells on stderr while it runs: for people as lines and a bar, for programs as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vidtrans.cli.parameters import LEVELS
from vidtrans.remarks import Warn
from vidtrans.text import plain

_SECONDS_APART = {"plain": 10.0, "json": 1.0}


class Reporter(AbstractContextManager["Reporter"]):
    """Tells everything on stderr, never on stdout, which may carry video.

    Args:
        progress: "plain", a line every ten seconds; "json", an object a line, every second, and all that is told as
            objects, too; "none"; "auto", a bar on a terminal, else as plain.
        level: "info" tells all, "warning" only warnings and errors, "error" only errors. Progress is none of these.
        command: the name of what runs, for the bar.
    """

    def __init__(self, progress: str, level: str, command: str) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._kind = ("bar" if self._console.is_terminal else "plain") if progress == "auto" else progress
        self._command = command
        self._level = LEVELS.index(level)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what = ""
        self._began = self._told = 0.0
        self._first: int | None = None

    def __enter__(self) -> Reporter:
        if self._kind == "bar":
            columns = (
                TextColumn(self._command),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.1f} frames/s"),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, what: str) -> None:
        """Progress from now on is that of this input."""
        self._what, self._first = plain(what), None
        self._began = self._told = time.monotonic()
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._task = self._bar.add_task(self._command, total=None, rate=0.0)

    def tell(self, text: str) -> None:
        """A note or a warning."""
        self._say(1 if isinstance(text, Warn) else 0, "warning" if isinstance(text, Warn) else "note", plain(text))

    def fail(self, text: str) -> None:
        """An error that does not end the command."""
        self._say(2, "error", plain(text))

    def _say(self, level: int, event: str, text: str) -> None:
        if level < self._level:
            return
        if self._kind == "json":
            self._object(event, text=text)
        else:
            self._console.print(Text(text if event == "note" else f"{event}: {text}"))  # names of files are no markup

    def progress(self, done: int, expected: int | None) -> None:
        """Frames of each output that are made, and how many there will be, where that is known."""
        now = time.monotonic()
        if self._first is None:  # frames of an earlier run were not made now
            self._first, self._began = done, now
        rate = (done - self._first) / (now - self._began) if now > self._began else 0.0
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=expected, rate=rate)
            return
        if self._kind == "none" or now - self._told < _SECONDS_APART[self._kind]:
            return
        self._told = now
        left = None if expected is None or not rate else max(0.0, (expected - done) / rate)
        if self._kind == "json":
            self._object(
                "progress",
                input=self._what,
                frames=done,
                expected=expected,
                frames_per_second=round(rate, 3),
                seconds_left=None if left is None else round(left, 1),
            )
            return
        count = f"{done} frames" if expected is None else f"{done} of {expected} frames"
        rest = "" if left is None else f", about {left:.0f} s left"
        self._console.print(Text(f"{self._what}: {count}, {rate:.1f} frames/s{rest}"))

    def result(self, lines: list[str], facts: Callable[[], dict[str, Any]]) -> None:
        """What came of an input: lines for people, one object for programs."""
        if self._kind == "json":
            self._object("result", **facts())
            return
        for line in lines if not self._level else ():
            self._console.print(Text(plain(line)))

    @staticmethod
    def _object(event: str, **facts: Any) -> None:
        click.echo(json.dumps({"event": event, **facts}), err=True)
