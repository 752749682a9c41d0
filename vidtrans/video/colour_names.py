"""FFmpeg's names of colour tags, for `--color-matrix` and its like; numbers are FFmpeg's, as in ITU-T H.273."""

from __future__ import annotations

from dataclasses import dataclass

from vidtrans.errors import UsageError, nearest_names

# Of these the conversion knows the coefficients; "bt601" and "bt2020" are short for the two that are meant by them.
MATRICES = {
    "bt709": 1,
    "fcc": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "bt2020nc": 9,
    "bt601": 6,
    "bt2020": 9,
}
RANGES = {"tv": 1, "limited": 1, "mpeg": 1, "pc": 2, "full": 2, "jpeg": 2}
PRIMARIES = {
    "bt709": 1,
    "bt470m": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "film": 8,
    "bt2020": 9,
    "smpte428": 10,
    "smpte431": 11,
    "smpte432": 12,
    "jedec-p22": 22,
}
TRANSFERS = {
    "bt709": 1,
    "gamma22": 4,
    "gamma28": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "linear": 8,
    "log100": 9,
    "log316": 10,
    "iec61966-2-4": 11,
    "bt1361e": 12,
    "iec61966-2-1": 13,
    "bt2020-10": 14,
    "bt2020-12": 15,
    "smpte2084": 16,
    "smpte428": 17,
    "arib-std-b67": 18,
}
# Matrices that the conversion does not know: not weights of red and blue, or not linear.
FOREIGN_MATRICES = {
    8: "ycgco",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True)
class Told:
    """What a user says of an input's colours, in FFmpeg's names; None says nothing.

    Raises:
        UsageError: a name that is not known; the message lists those that are.
    """

    matrix: str | None = None
    range: str | None = None
    primaries: str | None = None
    transfer: str | None = None

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--color-matrix", self.matrix, MATRICES),
            ("--color-range", self.range, RANGES),
            ("--color-primaries", self.primaries, PRIMARIES),
            ("--color-trc", self.transfer, TRANSFERS),
        ):
            if value is not None and value not in known:
                raise UsageError(f"{option} has no {value!r}; {nearest_names(value, tuple(known))}")


NOTHING_TOLD = Told()
