"""An output that is not kept, to measure what comes before it."""

from __future__ import annotations

from vidtrans.video.contract import Output
from vidtrans.video.frame import Frame


class Nowhere(Output):
    """A writer that drops its frames."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __exit__(self, *error: object) -> None:
        return None

    def write(self, frame: Frame) -> None:
        return None
