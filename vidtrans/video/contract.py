"""What the pipeline asks of whatever takes its frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from vidtrans.video.frame import Frame
from vidtrans.video.seam import SegmentReport


class Output(AbstractContextManager[Any]):
    """Takes finished frames in order: a VideoWriter, a pipe, or something that counts or drops them.

    Only leaving its block without an exception gives it its final name.

    Attributes:
        notes: things a user should be told, one line each.
    """

    notes: list[str]

    @property
    def reports(self) -> Sequence[SegmentReport]:
        """Of the finished segments, those included that an earlier run has left."""
        return ()

    @property
    def frames_continued(self) -> int:
        """How many frames are in those segments."""
        return 0

    def continue_after(self, count: int) -> None:
        """Continues after so many of the finished segments; the rest of them is dropped."""

    @abstractmethod
    def write(self, frame: Frame) -> None:
        """Takes a frame, which begins where the one before has ended.

        Raises:
            OutputError: it cannot be written.
        """

    def end_segment(self, report: SegmentReport | None = None) -> None:
        """What was written so far depends on nothing that follows.

        report: kept with it where the output can be continued; without one it cannot be after this segment.
        """

    def complete(self) -> None:
        """All frames are written: makes everything ready, so that leaving the block has only a name to give.

        Raises:
            OutputError: it cannot be completed.
        """


@runtime_checkable
class Cancellable(Protocol):
    """An output that may wait for a reader: `cancel`, from another thread, ends a `write` that does."""

    def cancel(self) -> None: ...
