"""Frames that repeat the one before, as drawings shown twice do: found here, so that motion is timed across them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from vidtrans.video.frame import Frame

# A picture that stays for more input frames than this is meant to stand still. Drawings on fours at 24 frames a second
# last 4, on threes at 60 a second 8.
LONGEST_RUN = 8
BLOCK = 8  # samples a side: what a small thing moves must not drown in a picture that stands


def alike(one: Frame, other: Frame, tolerance: float = 0.0) -> bool:
    """Whether two frames of one video show the same picture.

    tolerance: 0: bit for bit; else how many code values (of 8 bits; deeper ones are scaled) a block of 8x8 of any plane
    may differ by in the mean.
    """
    if not tolerance:
        return all(np.array_equal(*pair) for pair in zip(one.planes, other.planes, strict=True))
    return block_difference(one, other) <= tolerance


def block_difference(one: Frame, other: Frame) -> float:
    """Mean absolute difference in the block of any plane where it is largest, in code values of 8 bits."""
    largest = 0.0
    for left, right in zip(one.planes, other.planes, strict=True):
        rows, columns = left.shape
        grid = (-(-columns // BLOCK), -(-rows // BLOCK))
        difference = cv2.absdiff(left, right).astype(np.float32)
        largest = max(largest, float(cv2.resize(difference, grid, interpolation=cv2.INTER_AREA).max()))
    return largest / 2.0 ** (one.pix_fmt.bits - 8)


def runs(
    frames: Iterable[Frame], tolerance: float, segment_frames: int, first: int = 0, after: int = -1
) -> Iterator[Sequence[Frame]]:
    """The frames, each with the repeats that follow it: up to LONGEST_RUN frames that are one keyframe.

    A picture that stays longer is a still: all its frames come alone, as do those of a picture that changes so slowly
    that each frame is like the one before, but not like the run's first. Where a segment of the outputs may begin (at
    every `segment_frames` input frames) a still is judged anew. So from the first frame of a segment on the runs are
    the same whatever was before it; a shorter run that lies across such a place is not broken, and the segment begins
    after it.

    Args:
        frames: of one video.
        tolerance: as of `alike`.
        first: number of the first of them among the input's frames.
        after: number of the last frame whose outputs are finished, -1 for none: no run goes on beyond it.
    """
    finder = _Finder(tolerance, segment_frames, after)
    for index, frame in enumerate(frames, first):
        yield from finder.take(index, frame)
    if finder.run:
        yield finder.run


class _Finder:
    """`runs`, a frame at a time; `run` is the one under way."""

    def __init__(self, tolerance: float, segment_frames: int, after: int) -> None:
        self.run: list[Frame] = []
        self._tolerance, self._segment_frames, self._after = tolerance, segment_frames, after
        self._is_still = False

    def take(self, index: int, frame: Frame) -> Iterator[Sequence[Frame]]:
        """The next frame; gives the runs that are over."""
        if not self.run:
            self.run = [frame]
            return
        run = self.run
        repeats = alike(run[-1], frame, self._tolerance)
        joins = repeats and not self._is_still and index != self._after + 1
        if len(run) > 1 and joins:
            joins = alike(run[0], frame, self._tolerance)
        if not joins:
            yield run
            self.run, self._is_still = [frame], repeats and index % self._segment_frames != 0
        elif len(run) < LONGEST_RUN:
            run.append(frame)
        else:
            yield from self._still(index, [*run, frame])

    def _still(self, index: int, frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
        """A run that has become too long, with its newest frame, number `index`."""
        begin = index + 1 - len(frames)
        border = (begin // self._segment_frames + 1) * self._segment_frames
        alone = min(border, index) - begin
        for frame in frames[:alone]:
            yield [frame]
        self.run, self._is_still = [frames[alone]], border > index
        for number, frame in enumerate(frames[alone + 1 :], begin + alone + 1):
            yield from self.take(number, frame)
