"""Which instants lie between two keyframes. Exact fractions only: nothing here is ever rounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from vidtrans.video.frame import Frame


@dataclass(frozen=True)
class Instant:
    """One output frame.

    Attributes:
        t: position in the gap, in [0, 1); 0 is the left keyframe.
        time, duration: seconds; an instant lasts until the next one.
    """

    t: Fraction
    time: Fraction
    duration: Fraction


@dataclass(frozen=True)
class Interval:
    """A keyframe and what follows it: a gap up to the next one, or at the end (right is None) its duration, held.

    Attributes:
        instants: `factor` output frames; t = 0 in all of them where the keyframe is held.
    """

    left: Frame
    right: Frame | None
    instants: tuple[Instant, ...]

    @property
    def is_held(self) -> bool:
        """Whether the left keyframe is shown all the way."""
        return all(instant.t == 0 for instant in self.instants)

    def held(self) -> Interval:
        """The same output times with the left keyframe shown all the way."""
        return replace(self, instants=tuple(replace(instant, t=Fraction(0)) for instant in self.instants))


def pair(frames: Iterable[Frame], factor: int) -> Iterator[Interval]:
    """Every keyframe with its successor: N frames give N intervals and N * factor output frames, the input's duration.

    In-betweens lie at equal parts of their own gap, whatever the rate does: variable-rate input keeps its time stamps.
    """
    left: Frame | None = None
    for right in frames:
        if left is not None:
            yield Interval(left, right, _parts(left.time, right.time - left.time, factor, held=False))
        left = right
    if left is not None:
        yield Interval(left, None, _parts(left.time, left.duration, factor, held=True))


def _parts(start: Fraction, length: Fraction, factor: int, *, held: bool) -> tuple[Instant, ...]:
    step = length / factor
    return tuple(Instant(Fraction(0) if held else Fraction(k, factor), start + k * step, step) for k in range(factor))
