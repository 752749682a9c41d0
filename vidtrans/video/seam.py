"""Where two segments meet: what is known of it when the first is finished, so that a later run can go on from there."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vidtrans.video.frame import Frame

# Why a source cannot go on at a seam, in words.
FRONT_ONLY = "it is read from front to back only"


@dataclass(frozen=True)
class Mark:
    """An input frame, so that it is known again.

    Attributes:
        time: seconds; crc32: of its code values, plane after plane.
    """

    time: Fraction
    crc32: int

    @classmethod
    def of(cls, frame: Frame) -> Mark:
        crc32 = 0
        for plane in frame.planes:
            crc32 = zlib.crc32(plane.data, crc32)
        return cls(frame.time, crc32)

    def to_json(self) -> list[Any]:
        return [str(self.time), self.crc32]

    @classmethod
    def from_json(cls, row: list[Any]) -> Mark:
        return cls(Fraction(row[0]), int(row[1]))


@dataclass(frozen=True)
class Seam:
    """Where a finished segment ends.

    Attributes:
        index: number of the last input frame that it shows, from the first one used on.
        before: that frame; after: the next one, None where the input has ended.
        is_clean: whether nothing had been found wrong with the input until then.
    """

    index: int
    before: Mark
    after: Mark | None
    is_clean: bool


@dataclass(frozen=True)
class SegmentReport:
    """What a run knows of a finished segment beside its packets.

    Attributes:
        seam: where it ends.
        cuts: (number of the first frame after it, seconds, value) of each; repeats, lost, removed: how many, see
            summary.Summary.
        warnings: all that were told until then.
    """

    seam: Seam
    cuts: tuple[tuple[int, Fraction, float], ...] = ()
    repeats: int = 0
    lost: int = 0
    removed: int = 0
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        seam = self.seam
        return {
            "index": seam.index,
            "before": seam.before.to_json(),
            "after": None if seam.after is None else seam.after.to_json(),
            "is_clean": seam.is_clean,
            "cuts": [[index, str(time), value] for index, time, value in self.cuts],
            "repeats": self.repeats,
            "lost": self.lost,
            "removed": self.removed,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> SegmentReport:
        """Raises KeyError, TypeError or ValueError for anything else than `to_json` gives."""
        after = None if row["after"] is None else Mark.from_json(row["after"])
        return cls(
            Seam(int(row["index"]), Mark.from_json(row["before"]), after, bool(row["is_clean"])),
            tuple((int(index), Fraction(time), float(value)) for index, time, value in row["cuts"]),
            int(row["repeats"]),
            int(row["lost"]),
            int(row["removed"]),
            tuple(str(line) for line in row["warnings"]),
        )
