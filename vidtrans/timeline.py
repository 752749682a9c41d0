"""Which instants the outputs show, and between which keyframes they lie. Exact fractions only: nothing is rounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Literal, TypeAlias

from vidtrans.video.frame import Frame

Tail = Literal["hold", "drop"]
Outputs: TypeAlias = list[tuple[Fraction, Fraction]]
"""(t, time) of each, ascending."""


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
        repeats: input frames between left and right that were taken out as repeats of left, see `pair_runs`.
        last: the last of them; without any, left.
        goes_on: whether more instants of the same gap follow in the next interval: one holds those of one input frame.
    """

    left: Frame
    right: Frame | None
    instants: tuple[Instant, ...]
    index: int = 0
    ends_segment: bool = False
    repeats: int = 0
    last: Frame | None = None
    goes_on: bool = False

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

    def instants(self, index: int, frame: Frame, origin: Fraction, slack: Fraction) -> Outputs:
        """The outputs in the span of input frame number `index`; arguments as in `pair`."""
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
    return pair_runs(((frame,) for frame in frames), sampling, slack, first, origin)


def pair_runs(
    runs: Iterable[Sequence[Frame]],
    sampling: Sampling | Fraction | int,
    slack: Fraction = Fraction(0),
    first: int = 0,
    origin: Fraction | None = None,
) -> Iterator[Interval]:
    """`pair` of runs of frames: the first of each is a keyframe, and those that follow, repeats of it, are none.

    The outputs are those of all frames, in number and time, but a gap goes from keyframe to keyframe, and position in
    it is linear in time. An interval for each frame that has outputs: a long gap is many small pieces of work.
    """
    if not isinstance(sampling, Sampling):
        sampling = Sampling(Fraction(sampling))
    if sampling.rate is not None:
        slack = min(slack, 1 / (2 * sampling.rate))  # of two instants at most one is a keyframe
    index = first  # of left
    left: Sequence[Frame] = ()
    wanted: list[Outputs] = []  # in the span of each of its frames
    waiting: Interval | None = None  # for the next instant, which ends its last one
    for right in runs:
        origin = right[0].time if origin is None else origin
        begin = index + len(left)
        following = [sampling.instants(begin + k, frame, origin, slack) for k, frame in enumerate(right)]
        if any(wanted):
            *done, waiting = _intervals(left, right[0], _across(left, wanted, sampling, origin), index)
            yield from done
        if waiting is not None and any(following):
            yield waiting.until(next(outputs[0][1] for outputs in following if outputs))
            waiting = None
        index, left, wanted = begin, right, following
    if not left or origin is None:
        return
    end = sampling.moved(left[-1].time + left[-1].duration, origin)
    if sampling.tail == "drop" and wanted:
        ended = [time for t, time in wanted[-1] if t > 0]
        end = ended[0] if ended else end
        wanted[-1] = [(t, time) for t, time in wanted[-1] if t == 0]
    if any(wanted):
        *done, waiting = _intervals(left, None, [[(Fraction(0), time) for _, time in part] for part in wanted], index)
        yield from done
    if waiting is not None:
        yield waiting.until(end)


def _across(run: Sequence[Frame], wanted: list[Outputs], sampling: Sampling, origin: Fraction) -> list[Outputs]:
    """Outputs in the spans of a run's frames, with their positions between its first frame and what follows it."""
    if len(run) == 1:
        return wanted
    begin, end = (sampling.moved(time, origin) for time in (run[0].time, run[-1].time + run[-1].duration))
    first = [(t and (time - begin) / (end - begin), time) for t, time in wanted[0]]
    return [first, *([((time - begin) / (end - begin), time) for _, time in part] for part in wanted[1:])]


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


def _intervals(run: Sequence[Frame], right: Frame | None, wanted: list[Outputs], index: int) -> list[Interval]:
    """An interval for each frame of the run that has outputs; the last instant of all is still without a length."""
    parts = [part for part in wanted if part]
    times = [time for part in parts for _, time in part]
    lengths = iter([*(after - before for before, after in pairwise(times)), Fraction(0)])
    return [
        Interval(
            run[0],
            right,
            tuple(Instant(t, time, next(lengths)) for t, time in part),
            index,
            repeats=len(run) - 1,
            last=run[-1],
            goes_on=part is not parts[-1],
        )
        for part in parts
    ]
