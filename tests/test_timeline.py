"""The frame contract: N frames and factor f give N * f instants, exact, ascending, over the input's whole duration."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from vidtrans.timeline import pair
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame


def frames_at(times: list[Fraction], last: Fraction) -> list[Frame]:
    ends = [*times[1:], times[-1] + last]
    plane = np.zeros((2, 2), np.uint8)
    return [
        Frame((plane, plane, plane), time, end - time, PIXEL_FORMATS["yuv444p"], Colour("bt601", False))
        for time, end in zip(times, ends, strict=True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_instants_over_random_time_bases(seed: int) -> None:
    draw = random.Random(seed)
    base = draw.choice(
        [Fraction(1, 25), Fraction(1001, 24000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 1000)]
    )
    ticks = [draw.randint(-50, 50)]
    for _ in range(draw.randint(0, 12)):
        ticks.append(ticks[-1] + draw.randint(1, 9))
    times = [tick * base for tick in ticks]
    last = draw.randint(1, 9) * base
    factor = draw.randint(1, 9)

    intervals = list(pair(frames_at(times, last), factor))
    instants = [instant for interval in intervals for instant in interval.instants]

    assert len(intervals) == len(times)
    assert len(instants) == len(times) * factor
    assert [instant.time for instant in instants[::factor]] == times
    for before, after in pairwise(instants):
        assert before.time + before.duration == after.time
    assert instants[-1].time + instants[-1].duration == times[-1] + last
    assert all(0 <= instant.t < 1 for instant in instants)
    for interval in intervals[:-1]:
        assert [instant.t for instant in interval.instants] == [Fraction(k, factor) for k in range(factor)]
    assert intervals[-1].right is None
    assert all(instant.t == 0 for instant in intervals[-1].instants)


def test_no_frames_give_nothing() -> None:
    assert list(pair([], 8)) == []
