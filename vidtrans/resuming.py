"""A run that goes on where an earlier one of the same command was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import torch

from vidtrans import __version__
from vidtrans.checkpoint import Model
from vidtrans.errors import StrictError
from vidtrans.opening import chosen_engine
from vidtrans.options import UpsampleOptions
from vidtrans.remarks import Remarks, Warn
from vidtrans.summary import Cut, Summary
from vidtrans.video.contract import Output
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import descriptor, spoken
from vidtrans.video.local_file import fingerprint
from vidtrans.video.output_plan import OutputPlan
from vidtrans.video.seam import FRONT_ONLY, SegmentReport
from vidtrans.video.source import FrameSource, Sought

# What changes no packet of an output.
_WITHOUT_EFFECT = (
    *("input", "output", "output_to", "out_dir", "overwrite", "strict"),
    *("model", "engine", "device", "from_"),  # stand there by what they stand for
)


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        frames: of the input, from number `first` on.
        after: the number of the last input frame whose outputs are finished; -1: none is.
    """

    frames: Iterable[Frame]
    first: int = 0
    after: int = -1


def identity_of(
    options: UpsampleOptions, model: Model, source: str, plans: Sequence[OutputPlan], segment_frames: int
) -> dict[str, Any]:
    """What must be equal for one run to continue another: whatever changes a single packet of the outputs.

    segment_frames: input frames to a segment. The run must be one that can be continued, see `why_not`.
    """
    assert isinstance(options.input, Path)
    choice = chosen_engine(model, options)
    told = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in _WITHOUT_EFFECT}
    return {
        "input": fingerprint(options.input),
        "options": {name: str(value) for name, value in told.items()},
        "domains": [source, *(plan.domain.name for plan in plans)],
        "model": model.sha256,
        "engine": [choice.engine, choice.device],
        "segment_frames": segment_frames,
        "versions": {"vidtrans": __version__, "torch": torch.__version__, "av": av.__version__},
    }


def why_not(options: UpsampleOptions, plans: Sequence[OutputPlan]) -> str | None:
    """Why a run cannot be continued if it is stopped, in words; None: it can.

    Of an input that is no file of its own name nobody can tell that it is the same again; and only files are kept in
    segments.
    """
    source = options.input
    if not isinstance(source, Path):
        return f"{source} is no local file"
    if descriptor(source) is not None or not source.is_file():
        return f"{spoken(source)} is no video file"
    if options.mux == "both":
        return "--mux both writes its videos into one file as they are made; without it each is kept in segments"
    other = next((plan for plan in plans if plan.kind != "file"), None)
    return None if other is None else f"{other.name} is no video file"


def continued_segments(outputs: Sequence[Output]) -> Sequence[SegmentReport]:
    """What is known of the finished segments that all outputs share; all continue after these, at the same frame."""
    done = min(len(output.reports) for output in outputs)
    for output in outputs:
        output.continue_after(done)
    return outputs[0].reports


def keep_shared_segments(
    outputs: Sequence[Output],
    tell: Callable[[str], None],
    kind: type[BaseException] | None,
    value: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """A run that fails leaves the segments that all outputs have."""
    if kind is not None and continued_segments(outputs):
        same = "the same command without --strict" if kind is StrictError else "the same command"
        tell(f"what is finished is kept; {same} continues it")


def recall(reports: Sequence[SegmentReport], summary: Summary, remarks: Remarks, tell: Callable[[str], None]) -> None:
    """Into the summary and the remarks goes what was found in finished segments; cuts are told as lines.

    Raises:
        StrictError: a warning, which must not be.
    """
    for report in reports:
        for found in report.cuts:
            cut = Cut(*found)
            summary.cuts_at.append(cut)
            tell(f"cut at {float(cut.time):.2f} s, before input frame {cut.frame} (value {cut.value:.3f})")
        summary.repeats += report.repeats
        summary.lost += report.lost
        summary.removed += report.removed
        remarks.add(*(Warn(line) for line in report.warnings))


def started_at(
    reports: Sequence[SegmentReport], reader: FrameSource, reopened: Callable[[], FrameSource], remarks: Remarks
) -> tuple[FrameSource, Start]:
    """The input at the first frame that is needed, and the reader of it.

    Where the file can be sought, and what is found there proves to be what the earlier run had, the frames before are
    not decoded again; else they are, and a line says why.

    Args:
        reports: of the finished segments.
        reader: of the input, at its front.
        reopened: gives another one, where the first has moved and must not have.
    """
    if not reports:
        return reader, Start(reader)
    seam = reports[-1].seam
    if seam.after is None:
        return reader, Start((), seam.index + 1, seam.index)
    why = reader.continue_at(seam) if isinstance(reader, Sought) else FRONT_ONLY
    if why is None:
        remarks.add(f"continued at input frame {seam.index + 1}, {float(seam.after.time):.2f} s")
        return reader, Start(reader, seam.index, seam.index)
    remarks.add(f"continued at input frame {seam.index + 1}, the input is decoded from its front once more: {why}")
    again = reopened()
    remarks.follow(again.notes)
    return again, Start(again, 0, seam.index)


def numbered(start: Start, summary: Summary) -> Iterator[Frame]:
    """The start's frames, counted in the summary with those before."""
    summary.frames_in = start.first
    for frame in start.frames:
        summary.frames_in += 1
        yield frame
