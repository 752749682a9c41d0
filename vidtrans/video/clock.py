"""The tick of an output's clock: small enough that every output instant is a whole number of ticks."""

from __future__ import annotations

import math
from fractions import Fraction

# A frame's duration in ticks must fit 31 bits in MP4: at this many ticks per second a picture may stand for 21 s.
MAX_TICKS_PER_SECOND = 100_000_000


def exact_time_base(*steps: Fraction) -> Fraction:
    """The longest tick 1/n (seconds) of which every step is a whole multiple.

    Steps are times such that every output instant is a sum of whole multiples of them: for an integer factor f, `input
    time base / f`; for a factor p/q, `input time base / p`; for a target rate r, `1 / r` and the input's time base
    (which holds the start time).

    Where n would pass MAX_TICKS_PER_SECOND no exact clock exists in every container. Then the tick is the shortest one
    below that limit in which the first step's denominator still divides (or simply the limit), and each instant is to
    be rounded to it once, from its exact time,
    never accumulated: the error is at most half a tick, about 5 ns.

    Raises:
        ValueError: no step, or one that is not above zero.
    """
    if not steps or min(steps) <= 0:
        raise ValueError("steps of a clock must be above zero")
    ticks = math.lcm(*(step.denominator for step in steps))
    if ticks > MAX_TICKS_PER_SECOND:
        first = steps[0].denominator
        ticks = MAX_TICKS_PER_SECOND // first * first or MAX_TICKS_PER_SECOND
    return Fraction(1, ticks)
