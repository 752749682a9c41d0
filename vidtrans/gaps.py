"""What lies between two keyframes: nothing, where they are equal; a cut; or motion."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from vidtrans.cuts import cut_value
from vidtrans.latents import Fields
from vidtrans.motion import Motion, estimate
from vidtrans.remarks import Remarks
from vidtrans.repeats import alike
from vidtrans.timeline import Interval
from vidtrans.video.colour import to_network_rgb
from vidtrans.video.frame import Frame
from vidtrans.video.seam import Mark, Seam, SegmentReport
from vidtrans.video.source import FrameSource, Sought


@dataclass(frozen=True)
class Moving:
    """An interval, its keyframes as colour.to_network_rgb gives them, and the motion between them if any.

    left, right: one array where the keyframes are equal; right is None where nothing leans on it.
    report: of the segment that ends with it. ends_scene: whether a cut that is held follows.
    """

    interval: Interval
    left: np.ndarray
    right: np.ndarray | None
    motion: Fields | None
    report: SegmentReport | None = None
    ends_scene: bool = False


@dataclass(frozen=True)
class _Gap:
    """What was found between two keyframes: the arguments of Moving, whether left is shown all the way, the motion."""

    frames: tuple[Frame, Frame | None]
    left: np.ndarray
    right: np.ndarray | None
    is_held: bool = False
    is_cut: bool = False
    motion: Motion | None = None


class Tracker:
    """The stage motion: every gap's motion, and what to do where there is none.

    A gap whose keyframes are equal is held, and so is a cut, whose left keyframe stays until the right one: nothing is
    blended across it. Lost motion falls back to the blend in place.

    Args:
        moving: whether motion is looked for.
        cut_threshold: from which value of `cuts.cut_value` on a gap is a cut.
        holds_cuts: whether cuts are held; else they are told, and are gaps like others.
        remarks: of the run; reader: of the input: what the reports of segments say of warnings.

    Attributes:
        cuts, repeats, lost: gaps of each kind so far; removed: frames that were taken out as repeats.
    """

    def __init__(
        self,
        *,
        moving: bool,
        cut_threshold: float,
        holds_cuts: bool = True,
        remarks: Remarks | None = None,
        reader: FrameSource | None = None,
    ) -> None:
        self._moving, self._cut_threshold, self._holds_cuts = moving, cut_threshold, holds_cuts
        self._remarks, self._reader = remarks, reader
        self._gap: _Gap | None = None  # the one before
        self._cuts: list[tuple[int, Fraction, float]] = []  # of the segment under way
        self._reported = (0, 0, 0)
        self.cuts = self.repeats = self.lost = self.removed = 0

    def __call__(self, interval: Interval) -> Moving:
        gap = self._gap
        if gap is None or gap.frames != (interval.left, interval.right):
            gap = self._gap = self._looked_at(interval)
        if gap.is_held:
            interval = interval.held()
        if not interval.goes_on:
            self.removed += interval.repeats
        times = [instant.t for instant in interval.instants]
        motion = None if gap.motion is None or interval.is_held else gap.motion.at(times)
        report = self._report(interval) if interval.ends_segment else None
        return Moving(interval, gap.left, gap.right, motion, report, gap.is_cut and not interval.goes_on)

    def _report(self, interval: Interval) -> SegmentReport:
        """Of the segment that ends with this interval."""
        after = None if interval.right is None else Mark.of(interval.right)
        is_clean = isinstance(self._reader, Sought) and self._reader.is_clean
        seam = Seam(interval.index + interval.repeats, Mark.of(interval.last or interval.left), after, is_clean)
        counted = (self.repeats, self.lost, self.removed)
        repeats, lost, removed = (now - then for now, then in zip(counted, self._reported, strict=True))
        cuts, self._cuts, self._reported = tuple(self._cuts), [], counted
        warnings = () if self._remarks is None else tuple(self._remarks.warnings)
        return SegmentReport(seam, cuts, repeats, lost, removed, warnings)

    def _looked_at(self, interval: Interval) -> _Gap:
        frames = (interval.left, interval.right)
        before = self._gap
        known = before.right if before is not None and before.frames[1] is interval.left else None
        left = to_network_rgb(interval.left) if known is None else known
        if interval.right is None:
            return _Gap(frames, left, None)
        if alike(interval.left, interval.right):
            self.repeats += 1
            return _Gap(frames, left, left, is_held=True)
        if interval.is_held and not interval.goes_on:
            return _Gap(frames, left, None)
        right = to_network_rgb(interval.right)
        pictures = in_eight_bits(left), in_eight_bits(right)
        value = cut_value(*pictures)
        if value >= self._cut_threshold:
            self.cuts += 1
            self._cuts.append((interval.index + interval.repeats + 1, interval.right.time, value))
            if self._holds_cuts:
                return _Gap(frames, left, right, is_held=True, is_cut=True)
        if not self._moving:
            return _Gap(frames, left, right)
        motion = estimate(*pictures)
        if motion.is_lost:
            self.lost += 1
            return _Gap(frames, left, right)
        return _Gap(frames, left, right, motion=motion)


def in_eight_bits(rgb: np.ndarray) -> np.ndarray:
    """A keyframe (H, W, 3) as uint8: to find motion takes no more."""
    return rgb if rgb.dtype == np.uint8 else cv2.convertScaleAbs(rgb, alpha=1 / 257)
