"""What came of a run, for people and in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from vidtrans import __version__
from vidtrans.errors import OutputError, UsageError
from vidtrans.files import write_atomically
from vidtrans.options import UpsampleOptions
from vidtrans.runs import Batch
from vidtrans.summary import Summary
from vidtrans.video.names import STDOUT, is_pipe
from vidtrans.video.writer import check_replaceable

FORMAT = "vidtrans-summary-1"


def result_lines(summary: Summary) -> list[str]:
    """The end of a run in words."""
    lines = [f"wrote {path}" for path in dict.fromkeys(path for path in summary.outputs if not is_pipe(path))]
    held = [
        (summary.cuts, "cut{}"),
        (summary.removed, "repeat{} taken out"),
        (summary.repeats, "repeat{} held"),
        (summary.lost, "gap{} without motion blended"),
    ]
    if any(count for count, _ in held):
        lines.append(", ".join(f"{count} {words.format('s' * (count > 1))}" for count, words in held if count))
    new = summary.frames_out - summary.frames_continued
    rate = Fraction(new) / Fraction(summary.seconds)
    continued = f", {summary.frames_continued} of them before" if summary.frames_continued else ""
    times = {1: "", 2: " twice", 3: " three times"}.get(len(summary.outputs), f" {len(summary.outputs)} times")
    lines.append(
        f"{summary.frames_in} frames in, {summary.frames_out} out{times}{continued}, {summary.seconds:.1f} s "
        f"({float(rate):.1f} frames/s), bottleneck: {summary.bottleneck}"
    )
    stages = ", ".join(f"{stage} {busy:.1f}" for stage, busy in summary.busy_seconds.items())
    return [*lines, f"seconds by stage: {stages}"]


def check_summary_file(name: str, runs: Sequence[UpsampleOptions]) -> None:
    """Refuses a file that cannot be written, before anything else is done.

    Raises:
        UsageError: it is one of the videos, or standard output.
        OutputError: it cannot be written.
    """
    path = Path(name)
    if path == STDOUT:
        raise UsageError("--summary cannot be standard output, which carries video or nothing; name a file")
    if any(path.absolute() in (output.absolute() for output in options.output_paths) for options in runs):
        raise UsageError(f"--summary {path} is one of the outputs; choose another name")
    if not is_pipe(path):
        check_replaceable(path, overwrite=True)


def write_summary(name: str, batch: Batch) -> None:
    """What became of every input, as JSON.

    Raises:
        OutputError: it cannot be written.
    """
    path = Path(name)
    text = json.dumps({"format": FORMAT, "vidtrans": __version__, **batch.to_json()}, indent=1) + "\n"
    try:
        if is_pipe(path):
            path.write_text(text)
        else:
            write_atomically(path, text.encode())
    except OSError as error:
        raise OutputError(f"{path}: the summary cannot be written ({error.strerror})") from error
