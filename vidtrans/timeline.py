"""Which instants the outputs show, and between which keyframes they lie. Exact fractions only: nothing is rounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Literal

from vidtrans.video.frame import Frame

Tail = Literal["hold", "drop"]


@dataclass(frozen=True)
class Instant:
    """One output frame.

    Attributes:
        t: position in the gap, in [0, 1); 0 is the left keyframe.
        time, duration: seconds; an instant lasts until the next one, the last until the video's end.
    """

    t: Fraction
    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class Interval:
    """A keyframe and what follows it: a gap up to the next one, or at the end (right is None) its duration, held.

    Attributes:
        instants: one output frame or more, ascending; t = 0 in all of them where the keyframe is held.
        index: number of the left keyframe among the input's frames.
        ends_segment: whether a segment of the outputs ends with it, see `in_segments`.
    """

    left: Frame
    right: Frame | None
    instants: tuple[Instant, ...]
    index: int = 0
    ends_segment: bool = False

    @property
    def is_held(self) -> bool:
        """Whether the left keyframe is shown all the way."""
        return all(instant.t == 0 for instant in self.instants)

    def held(self) -> Interval:
        """The same output times with the left keyframe shown all the way."""
        return replace(self, instants=tuple(replace(instant, t=Fraction(0)) for instant in self.instants))

    def until(self, end: Fraction) -> Interval:
        """The same, with the last instant lasting until `end` (seconds)."""
        last = self.instants[-1]
        return replace(self, instants=(*self.instants[:-1], replace(last, duration=end - last.time)))


@dataclass(frozen=True)
class Sampling:
    """Where on the input's time line the output frames lie.

    Attributes:
        factor: output frames per input frame, >= 1: output k is at position k / factor on the frame index, its time
            linear between its keyframes' times. Not used where there is a rate.
        rate: output frames per second, if not None: output k is k / rate after the first frame.
        slowmo: play the factor's frames at the input's rate: times from the first frame on are multiplied by it.
        tail: "hold" shows the last keyframe for as long as the input does; "drop" ends with the last output that does
            not lie after it.
    """

    factor: Fraction = Fraction(1)
    rate: Fraction | None = None
    slowmo: bool = False
    tail: Tail = "hold"

    def count(self, frames: int, seconds: Fraction) -> int:
        """How many outputs so many input frames give.

        seconds: how long they last, which only a rate asks; with tail "drop", up to the last one's time.
        """
        if self.rate is not None:
            return ceil(seconds * self.rate) if self.tail == "hold" else floor(seconds * self.rate) + 1
        return ceil(frames * self.factor) if self.tail == "hold" else floor((frames - 1) * self.factor) + 1

    def output_rate(self, input_rate: Fraction) -> Fraction:
        """Frames per second of the output, nominal as the input's."""
        if self.rate is not None:
            return self.rate
        return input_rate if self.slowmo else input_rate * self.factor

    def steps(self, time_base: Fraction) -> tuple[Fraction, ...]:
        """Seconds such that every output's time and duration is a sum of whole multiples of them.

        time_base: the same of the input's times.
        """
        if self.rate is not None:
            return 1 / self.rate, time_base
        return (time_base / (self.factor.denominator if self.slowmo else self.factor.numerator),)

    def instants(self, index: int, frame: Frame, origin: Fraction, slack: Fraction) -> list[tuple[Fraction, Fraction]]:
        """(t, time) of the outputs in the span of input frame number `index`; arguments as in `pair`."""
        if self.rate is None:
            first, end = ceil(index * self.factor), ceil((index + 1) * self.factor)
            positions = [k / self.factor - index for k in range(first, end)]
            return [(t, self.moved(frame.time + t * frame.duration, origin)) for t in positions]
        begin = frame.time - origin - slack
        first, end = max(0, ceil(begin * self.rate)), ceil((begin + frame.duration) * self.rate)
        times = [origin + k / self.rate for k in range(first, end)]
        since = [time - frame.time for time in times]
        return [
            (Fraction(0) if after < slack else after / frame.duration, time)
            for after, time in zip(since, times, strict=True)
        ]

    def moved(self, time: Fraction, origin: Fraction) -> Fraction:
        """The output's time of an input's."""
        return origin + (time - origin) * self.factor if self.slowmo else time


def pair(
    frames: Iterable[Frame],
    sampling: Sampling | Fraction | int,
    slack: Fraction = Fraction(0),
    first: int = 0,
    origin: Fraction | None = None,
) -> Iterator[Interval]:
    """The gaps in which outputs lie, in order, one keyframe ahead; a keyframe that no output shows is in none.

    In-betweens lie at exact parts of their own gap, whatever the rate does: variable-rate input keeps its time stamps.

    Args:
        frames: each lasts until the next one's time.
        sampling: which outputs; a number is a factor.
        slack: seconds by which the input's clock may have rounded a frame's time: an instant of a target rate that is
            nearer to a keyframe than this is that keyframe.
        first: number of the first of these frames among the input's, where those before are left out; then
        origin: seconds, the time of the input's first one.
    """
    if not isinstance(sampling, Sampling):
        sampling = Sampling(Fraction(sampling))
    if sampling.rate is not None:
        slack = min(slack, 1 / (2 * sampling.rate))  # of two instants at most one is a keyframe
    index = first
    left: Frame | None = None
    wanted: list[tuple[Fraction, Fraction]] = []  # (t, time) in the span of left
    waiting: Interval | None = None  # for the next instant, which ends its last one
    for index, right in enumerate(frames, first):
        origin = right.time if origin is None else origin
        following = sampling.instants(index, right, origin, slack)
        if left is not None and wanted:
            waiting = _interval(left, right, wanted, index - 1)
        if waiting is not None and following:
            yield waiting.until(following[0][1])
            waiting = None
        left, wanted = right, following
    if left is None or origin is None:
        return
    end = sampling.moved(left.time + left.duration, origin)
    kept = [(t, time) for t, time in wanted if t == 0 or sampling.tail == "hold"]
    if kept:
        last = _interval(left, None, [(Fraction(0), time) for _, time in kept], index)
        yield last.until(wanted[len(kept)][1] if len(kept) < len(wanted) else end)
    elif waiting is not None:
        yield waiting.until(end)


def in_segments(intervals: Iterable[Interval], length: int, after: int = -1) -> Iterator[Interval]:
    """The same intervals, the last one of every `length` input frames marked; those up to frame `after` are left out.

    What is made of a segment depends on nothing outside but the keyframe it shares with the next.
    """
    before: Interval | None = None
    for interval in intervals:
        if before is not None and before.index > after:
            yield replace(before, ends_segment=interval.index // length > before.index // length)
        before = interval
    if before is not None and before.index > after:
        yield replace(before, ends_segment=True)


def _interval(left: Frame, right: Frame | None, wanted: list[tuple[Fraction, Fraction]], index: int) -> Interval:
    """The last instant still without a length."""
    times = [time for _, time in wanted]
    lengths = [after - before for before, after in pairwise(times)]
    return Interval(
        left,
        right,
        tuple(Instant(t, time, length) for (t, time), length in zip(wanted, [*lengths, Fraction(0)], strict=True)),
        index,
    )
