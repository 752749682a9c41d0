"""The times of decoded pictures: ascending, and mended where a time stamp is missing or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain

import av

from vidtrans.errors import InputError
from vidtrans.video.damage import Lost

# A time stamp that steps back further than this starts a new clock (files glued together); less is a stray or doubled
# frame.
_LARGEST_STRAY_SECONDS = 1


@dataclass(frozen=True)
class Timed:
    """A decoded picture; its time on the file's own clock and how long it says it lasts (0: it does not), seconds.

    is_damaged: the decoder mended it; is_stand_in: it is a neighbour's, its own could not be decoded.
    """

    picture: av.VideoFrame
    time: Fraction
    length: Fraction
    is_damaged: bool = False
    is_stand_in: bool = False


class Stamps:
    """Reads the time stamps of one file's pictures.

    A picture without a time stamp follows its predecessor, and so does one whose time stamp is damaged. A picture whose
    time is not after its predecessor's is left out. For what is lost the picture before stands in, at the front the
    first one.

    Args:
        name: of the file, for errors.
        rate: pictures per second, nominal.
        time_base: seconds per tick.
        is_damaged: whether the container or the decoder says so of a picture.

    Attributes:
        left_out: how many pictures so far.
    """

    def __init__(
        self, name: str, rate: Fraction, time_base: Fraction, is_damaged: Callable[[av.VideoFrame], bool]
    ) -> None:
        self.left_out = 0
        self._name, self._rate, self._time_base, self._is_damaged = name, rate, time_base, is_damaged

    def ascending(self, pictures: Iterable[av.VideoFrame | Lost]) -> Iterator[Timed]:
        """Pictures in the order in which they are shown, with their times.

        Raises:
            InputError: a new clock begins.
        """
        before: Timed | None = None
        gap = 1 / self._rate
        early: list[Fraction] = []  # times of what is lost before the first picture, which stands in for it
        pictures, count = iter(pictures), 0
        while (picture := next(pictures, None)) is not None:
            expected = before.time + (before.length or gap) if before is not None else len(early) * gap
            time = expected if picture.pts is None else picture.pts * self._time_base
            if isinstance(picture, Lost):
                if before is None:
                    early.append(time)
                elif time > before.time:
                    before = replace(before, time=time, length=Fraction(0), is_stand_in=not picture.is_meant)
                    yield before
                continue
            for lost in early:
                if lost < time:
                    yield Timed(picture, lost, Fraction(0), is_stand_in=True)
            early.clear()
            is_stray = False
            if before is not None:
                if abs(time - expected) > _LARGEST_STRAY_SECONDS:
                    after = next(pictures, None)
                    pictures = pictures if after is None else chain((after,), pictures)
                    is_stray = self._is_stray(time, before.time, after)
                    time = expected if is_stray else time
                if time <= before.time:
                    self._leave_out(before.time - time, count)
                    count += 1
                    continue
                gap = time - before.time
            count += 1
            length = (picture.duration or 0) * self._time_base
            before = Timed(picture, time, length, self._is_damaged(picture) or is_stray)
            yield before

    def _is_stray(self, time: Fraction, before: Fraction, after: av.VideoFrame | Lost | None) -> bool:
        """Whether a time stamp is damaged: the picture after it goes on where the one before it was."""
        if after is None or after.pts is None:
            return False
        following = after.pts * self._time_base
        return before < following <= before + _LARGEST_STRAY_SECONDS and not before < time < following

    def _leave_out(self, step: Fraction, count: int) -> None:
        """A picture, `step` seconds earlier than the one before it; count: of those before."""
        if step > _LARGEST_STRAY_SECONDS:
            raise InputError(
                f"{self._name}: its clock jumps back by {float(step):.2f} s after {count} frames (files glued "
                "together?); give it one clock first, with: ffmpeg -i INPUT REPAIRED.mp4"
            )
        self.left_out += 1
