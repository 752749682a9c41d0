"""What sources without time stamps have in common: frame k is shown at k / rate, and little more is known."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from vidtrans.errors import UsageError
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.excerpt import Excerpt
from vidtrans.video.frame import (
    TAG_RANGE_FULL,
    TAG_RANGE_LIMITED,
    TAG_RANGE_UNSPECIFIED,
    TAG_UNSPECIFIED,
    Colour,
    PixelFormat,
)
from vidtrans.video.video_info import VideoInfo

# As ffmpeg takes it where nothing is said.
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Span:
    """Which frames of a source are used: those numbered [first, end); end None: all from first on."""

    first: int
    end: int | None

    @classmethod
    def between(cls, start: Fraction, end: Fraction | None, rate: Fraction, name: str) -> Span:
        """The frames that begin in [start, end), seconds.

        Raises:
            UsageError: there is none.
        """
        span = cls(ceil(start * rate), None if end is None else ceil(end * rate))
        if span.end is not None and span.end <= span.first:
            raise UsageError(
                f"{name}: no frame begins from --start {float(start):g} s up to --end {float(end or 0):g} s; "
                "leave more time between them"
            )
        return span

    def count(self, frames: int | None) -> int | None:
        """How many they are of a source of so many frames; None where that is not known."""
        if frames is None:
            return None
        return max(0, (frames if self.end is None else min(self.end, frames)) - self.first)

    def holds(self, number: int) -> bool:
        """Whether frame `number`, counted from 0, does not lie behind it."""
        return self.end is None or number < self.end

    def too_late(self, frames: int, rate: Fraction, name: str) -> UsageError:
        """The error for a source that ends, after so many frames, before the first one of the span."""
        return UsageError(
            f"{name}: no frame begins at --start {float(self.first / rate):g} s or later, it ends at "
            f"{float(frames / rate):g} s; choose an earlier start"
        )


@dataclass
class _Untagged:
    """A picture of which only the range may be known."""

    color_range: int
    colorspace: int = TAG_UNSPECIFIED
    color_primaries: int = TAG_UNSPECIFIED
    color_trc: int = TAG_UNSPECIFIED


def untagged_colour(
    pix_fmt: PixelFormat, width: int, height: int, *, full_range: bool | None = None, told: Told = NOTHING_TOLD
) -> Colour:
    """The colour facts of a source that has no tags but perhaps its range: the one place where they are decided.

    The usual rules, see `Colour.read`: the matrix by the size, limited range for YUV and full for all else; what
    the user says goes before them.
    """
    span = TAG_RANGE_UNSPECIFIED if full_range is None else TAG_RANGE_FULL if full_range else TAG_RANGE_LIMITED
    return Colour.read(_Untagged(span), pix_fmt.name, width, height).told(told, pix_fmt)


def steady_info(
    *,
    width: int,
    height: int,
    rate: Fraction,
    span: Span,
    frames: int | None,
    pix_fmt: PixelFormat,
    source_pix_fmt: str,
    colour: Colour,
    container: str,
    codec: str,
    sample_aspect_ratio: Fraction | None = None,
) -> VideoInfo:
    """The facts of a source whose frames are shown evenly.

    Args:
        rate: frames per second.
        span: which of them are used.
        frames: how many the source has as a whole; None: not known.
        the others: as in VideoInfo.
    """
    count = span.count(frames)
    since = span.first / rate
    return VideoInfo(
        width=width,
        height=height,
        average_rate=rate,
        time_base=1 / rate,
        stamp_error=Fraction(0),
        start_time=Fraction(0),
        frame_count=count,
        duration=None if count is None else count / rate,
        excerpt=Excerpt(since or None, None if span.end is None else span.end / rate, since),
        pix_fmt=pix_fmt,
        source_pix_fmt=source_pix_fmt,
        colour=colour,
        container=container,
        codec=codec,
        audio_codecs=(),
        sample_aspect_ratio=sample_aspect_ratio,
        display_matrix=None,
    )
