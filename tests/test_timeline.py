"""The contract of the outputs' times: how many, where, exact, ascending, over the input's whole duration."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pytest

from vidtrans.timeline import Instant, Interval, Sampling, pair
from vidtrans.video.clock import exact_time_base
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame

BASES = [Fraction(1, 25), Fraction(1001, 24000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000)]
FACTORS = [Fraction(1), Fraction(8), Fraction(5, 2), Fraction(7, 3), Fraction(1001, 1000), Fraction(25, 24)]
RATES = [Fraction(60), Fraction(60000, 1001), Fraction(24000, 1001), Fraction(25, 2), Fraction(1, 3), Fraction(997, 7)]


def frames_at(times: list[Fraction], last: Fraction) -> list[Frame]:
    ends = [*times[1:], times[-1] + last]
    plane = np.zeros((2, 2), np.uint8)
    return [
        Frame((plane, plane, plane), time, end - time, PIXEL_FORMATS["yuv444p"], Colour("bt601", False))
        for time, end in zip(times, ends, strict=True)
    ]


def random_frames(draw: random.Random) -> tuple[list[Frame], Fraction]:
    """Frames at a constant or variable rate that begin before, at or after zero, and their time base."""
    base = draw.choice(BASES)
    ticks = [draw.randint(-50, 50)]
    longest = draw.choice([1, 9])
    for _ in range(draw.randint(0, 12)):
        ticks.append(ticks[-1] + draw.randint(1, longest))
    return frames_at([tick * base for tick in ticks], draw.randint(1, longest) * base), base


def instants_of(intervals: list[Interval]) -> list[Instant]:
    return [instant for interval in intervals for instant in interval.instants]


def check_order(frames: list[Frame], intervals: list[Interval], end: Fraction) -> list[Instant]:
    """What holds whatever is asked for; the instants."""
    instants = instants_of(intervals)
    assert instants[0].time == frames[0].time
    for before, after in pairwise(instants):
        assert before.time < after.time == before.time + before.duration
    assert instants[-1].time + instants[-1].duration == end
    follows = dict(zip(frames, [*frames[1:], None], strict=True))
    assert [frame for frame in frames if frame in {interval.left for interval in intervals}] == [
        interval.left for interval in intervals
    ]
    for interval in intervals:
        assert interval.right is follows[interval.left]
        assert interval.instants
        assert all(0 <= instant.t < 1 for instant in interval.instants)
        if interval.right is None:
            assert interval.is_held
        else:  # an engine takes them like this
            assert all(before.t < after.t for before, after in pairwise(interval.instants))
    return instants


@pytest.mark.parametrize("seed", range(40))
def test_a_factor_over_random_time_bases(seed: int) -> None:
    draw = random.Random(seed)
    frames, base = random_frames(draw)
    factor = draw.choice([*FACTORS, Fraction(draw.randint(20, 99), draw.randint(1, 20))])
    begin, end, count = frames[0].time, frames[-1].time + frames[-1].duration, len(frames)

    held = check_order(frames, list(pair(frames, factor)), end)
    assert len(held) == ceil(count * factor) == Sampling(factor).count(count, end - begin)
    for k, instant in enumerate(held):
        index, t = divmod(k / factor, 1)
        frame = frames[int(index)]
        assert instant.time == frame.time + t * frame.duration
        assert instant.t == (0 if frame is frames[-1] else t)  # keyframes only where k / factor is whole

    dropping = Sampling(factor, tail="drop")
    dropped = instants_of(list(pair(frames, dropping)))
    assert len(dropped) == floor((count - 1) * factor) + 1 == dropping.count(count, end - begin)
    assert dropped == held[: len(dropped)]

    slow = check_order(frames, list(pair(frames, Sampling(factor, slowmo=True))), begin + (end - begin) * factor)
    assert [(instant.t, begin + (instant.time - begin) / factor) for instant in slow] == [
        (instant.t, instant.time) for instant in held
    ]

    for sampling, instants in ((Sampling(factor), held), (Sampling(factor, slowmo=True), slow)):
        tick = exact_time_base(*sampling.steps(base))
        assert all((value / tick).denominator == 1 for i in instants for value in (i.time, i.duration))


@pytest.mark.parametrize("seed", range(40))
def test_a_rate_over_random_time_bases(seed: int) -> None:
    draw = random.Random(seed)
    frames, base = random_frames(draw)
    rate = draw.choice(RATES)
    begin, end = frames[0].time, frames[-1].time + frames[-1].duration

    sampling = Sampling(rate=rate)
    instants = check_order(frames, list(pair(frames, sampling)), end)
    assert len(instants) == ceil((end - begin) * rate) == sampling.count(len(frames), end - begin)
    assert [instant.time for instant in instants] == [begin + k / rate for k in range(len(instants))]
    tick = exact_time_base(*sampling.steps(base))
    assert all((value / tick).denominator == 1 for i in instants for value in (i.time, i.duration))

    keyframes = {frame.time: frame for frame in frames}
    for interval in pair(frames, sampling):
        for instant in interval.instants:
            if instant.time in keyframes:
                assert (instant.t, interval.left) == (0, keyframes[instant.time])
            elif interval.right is not None:
                length = interval.right.time - interval.left.time
                assert instant.t == (instant.time - interval.left.time) / length

    dropping = Sampling(rate=rate, tail="drop")
    dropped = instants_of(list(pair(frames, dropping)))
    last = frames[-1].time
    assert len(dropped) == len([i for i in instants if i.time <= last]) == dropping.count(1, last - begin)
    assert dropped == instants[: len(dropped)]


def test_stamps_rounded_by_the_inputs_clock_still_are_keyframes() -> None:
    """30 frames a second as Matroska keeps them, 0, 33, 67, 100 ms ...: of 60 a second every other is a keyframe."""
    times = [Fraction(round(Fraction(1000 * k, 30)), 1000) for k in range(31)]
    frames = frames_at(times[:-1], times[-1] - times[-2])
    slack = Fraction(1, 2000)
    instants = instants_of(list(pair(frames, Sampling(rate=Fraction(60)), slack)))
    assert [instant.time for instant in instants] == [Fraction(k, 60) for k in range(60)]
    assert [instant.t == 0 for instant in instants] == [True, False] * 29 + [True, True]  # the last one is held
    fast = list(pair(frames, Sampling(rate=Fraction(5000)), slack))  # more than one within the slack
    check_order(frames, fast, times[-1])


def test_keyframes_come_one_ahead() -> None:
    """An interval leaves as soon as its right keyframe is known, and its instants need nothing further."""
    read = 0

    def reading() -> Iterator[Frame]:
        nonlocal read
        for frame in frames_at([Fraction(k) for k in range(9)], Fraction(1)):
            read += 1
            yield frame

    for index, _ in enumerate(pair(reading(), Fraction(5, 2))):
        assert read == min(index + 2, 9)


def test_no_frames_give_nothing() -> None:
    assert list(pair([], 8)) == []
    assert list(pair([], Sampling(rate=Fraction(60)))) == []
