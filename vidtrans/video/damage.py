"""Damage in the middle of a video: pictures that never come are noticed and held, so that nothing gets shorter."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

# A lost picture stands as far from its neighbours as pictures of the file do. Packets that show nothing of their own
# (the second field of a picture, a hidden reference frame) lie closer to one that does.
_LEAST_SHARE_OF_SPACING = Fraction(3, 4)
# A time stamp so many seconds and so many spacings after all others says nothing about them: it is damaged itself.
_LARGEST_STEP_SECONDS = 1
_LARGEST_STEP_SPACINGS = 4
# After so many failures of the container in a row there is no more to be had from the file.
_MOST_FAILURES = 50


def demuxed(
    container: av.container.InputContainer,
    streams: Sequence[av.stream.Stream],
    failed: Callable[[str], None] = lambda reason: None,
) -> Iterator[av.Packet[av.stream.Stream]]:
    """The packets of the streams from here on, also those behind a place where the container is damaged.

    failed: hears of each such place.

    Raises:
        av.FFmpegError: there is no way on.
    """
    failures = 0
    while True:
        try:
            for packet in container.demux(streams):
                failures = 0
                yield packet
            return
        except av.error.InvalidDataError as error:
            if failures == 0:
                failed(str(error.strerror))
            failures += 1
            if failures > _MOST_FAILURES:
                raise


@dataclass(frozen=True)
class Lost:
    """Stands where no picture comes. pts: its time in ticks; None: right after the one before.

    is_meant: the container itself has nothing there, which means the picture before; else it could not be decoded.
    """

    pts: int | None
    is_meant: bool = False


class Promises:
    """Keeps the times that a video's packets promise until their pictures come.

    Decoders do not tell which packet failed: some raise an error several packets later, some drop a picture without a
    word. What is sure is that a time was promised and a later picture came first.

    Args:
        rate: pictures per second, nominal; the smallest distance that is seen takes its place.
        time_base: seconds per tick.
    """

    def __init__(self, rate: Fraction, time_base: Fraction) -> None:
        self._spacing = 1 / (rate * time_base)
        self._second = 1 / time_base
        self._measured = False
        self._pending: list[int] = []
        self._flagged: set[int] = set()
        self._empty: set[int] = set()
        self._last: int | None = None

    def sent(self, packet: av.Packet[av.stream.Stream]) -> None:
        """The decoder is given this packet."""
        if packet.pts is None or packet.is_discard:  # an edit list hides the picture
            return
        insort(self._pending, packet.pts)
        if not packet.size:
            self._empty.add(packet.pts)
        elif packet.is_corrupt:
            self._flagged.add(packet.pts)

    def shown(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame | Lost]:
        """A picture came: the lost ones that belong before it, and itself."""
        if picture.pts is not None:
            yield from self._passed(picture.pts)
        yield picture

    def failed(self, packet: av.Packet[av.stream.Stream]) -> Iterator[Lost]:
        """The decoder has failed, at this packet or an earlier one."""
        if packet.pts is None:  # else it is missed when its time has passed
            yield Lost(None)

    def rest(self) -> Iterator[Lost]:
        """What was promised and will not come any more."""
        yield from self._spaced(self._pending)

    def is_flagged(self, pts: int | None) -> bool:
        """Whether the container says that this picture's data is damaged; asked once."""
        if pts is None or pts not in self._flagged:
            return False
        self._flagged.remove(pts)
        return True

    def _passed(self, pts: int) -> list[Lost]:
        place = bisect_left(self._pending, pts)
        if place < len(self._pending) and self._pending[place] == pts:
            del self._pending[place]
        passed = self._pending[:place]
        if passed and pts - passed[-1] > self._largest_step:
            return []
        del self._pending[:place]
        if self._last is not None and not passed and pts > self._last:
            distance = Fraction(pts - self._last)
            self._spacing = min(self._spacing, distance) if self._measured else distance
            self._measured = True
        lost = self._spaced([time for time in passed if pts - time >= self._spacing * _LEAST_SHARE_OF_SPACING])
        self._empty.difference_update(passed)
        self._last = pts
        return lost

    @property
    def _largest_step(self) -> Fraction:
        return max(_LARGEST_STEP_SECONDS * self._second, _LARGEST_STEP_SPACINGS * self._spacing)

    def _spaced(self, times: list[int]) -> list[Lost]:
        lost = []
        for time in times:
            if self._last is not None and time - self._last > self._largest_step:
                break
            if self._last is None or time - self._last >= self._spacing * _LEAST_SHARE_OF_SPACING:
                lost.append(Lost(time, time in self._empty))
                self._last = time
        return lost


class Slots:
    """The same for a container that only counts pictures as they are decoded: the next one shown has the next time."""

    def __init__(self) -> None:
        self._pending: list[int] = []

    def sent(self, packet: av.Packet[av.stream.Stream]) -> None:
        """The decoder is given this packet."""
        if packet.dts is not None:
            insort(self._pending, packet.dts)

    def shown(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame | Lost]:
        """A picture came; it gets its time."""
        picture.pts = self._pending.pop(0) if self._pending else None
        yield picture

    def failed(self, packet: av.Packet[av.stream.Stream]) -> Iterator[Lost]:
        """The decoder has failed, at this packet or an earlier one."""
        yield Lost(self._pending.pop(0) if self._pending else None)

    def rest(self) -> Iterator[Lost]:
        """What was counted and will not come any more."""
        yield from map(Lost, self._pending)

    def is_flagged(self, pts: int | None) -> bool:
        """Never: damage shows in the pictures only."""
        return False
