"""From what the network decoded to what the encoders get: resize, carried detail, labels, rounding.

Everything before the one rounding at the end is float and linear, in the planes of the output, so a keyframe's own
planes come back bit for bit and a still picture cannot pulse.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.latents import Fields, blend
from vidtrans.nets.contract import Domain
from vidtrans.palettes import Palette
from vidtrans.timeline import Interval
from vidtrans.video.colour import planes_to_rgb, rgb_to_planes, round_planes
from vidtrans.video.frame import Colour, Frame, PixelFormat

Planes = tuple[Tensor, ...]


class Composer:
    """Makes one output's frames, interval by interval.

    Args:
        domain: what is written.
        scores: whether the engine gives class scores for it.
        size: (width, height) of the output in pixels.
        pix_fmt, colour: of the output.
        is_source: whether this is the up-converted input, whose keyframes pass through untouched.
        carry_detail: add what the decoder loses of the keyframes to the in-betweens (source photo domains only).
    """

    def __init__(
        self,
        domain: Domain,
        *,
        scores: bool,
        size: tuple[int, int],
        pix_fmt: PixelFormat,
        colour: Colour,
        is_source: bool,
        carry_detail: bool,
    ) -> None:
        self._domain = domain
        self._scores = scores
        self._size = size
        self._pix_fmt = pix_fmt
        self._colour = colour
        self._is_source = is_source
        self._carry_detail = carry_detail and is_source and not domain.is_label

    def frames(
        self, interval: Interval, decoded: Tensor, right_decoded: Tensor | None, motion: Fields | None = None
    ) -> list[Frame]:
        """All output frames of an interval.

        Args:
            interval: keyframes and instants.
            decoded: (n, C, h, w), one for each instant's t, as an engine gives them.
            right_decoded: (C, h, w), the right keyframe's own decoding; None where the interval is held.
            motion: fields of the instants; None: detail stays where it is, as the blend in place does.
        """
        planes = self._planes(decoded)
        if self._is_source:
            own = self._keyframe(interval.left)
            if self._carry_detail and interval.right is not None and right_decoded is not None:
                residuals = (
                    _minus(own, tuple(plane[:1] for plane in planes)),
                    _minus(self._keyframe(interval.right), self._planes(right_decoded.unsqueeze(0))),
                )
                detail = _between(*residuals, [instant.t for instant in interval.instants], motion)
                planes = tuple(plane + part for plane, part in zip(planes, detail, strict=True))
        finished = round_planes(planes, self._pix_fmt)
        frames = []
        for row, instant in enumerate(interval.instants):
            arrays = tuple(plane[row].cpu().numpy() for plane in finished)
            if self._is_source and instant.t == 0:
                arrays = self._keyframe_planes(interval.left)
            frames.append(Frame(arrays, instant.time, instant.duration, self._pix_fmt, self._colour))
        return frames

    def _planes(self, decoded: Tensor) -> Planes:
        """What the engine gave -> float planes of the output's size, unrounded."""
        width, height = self._size
        if self._domain.is_label:
            scores = decoded if self._scores else colour_scores(decoded, self._domain.colours)
            rgb = label_colours(scores, self._domain.colours, height, width)
        else:
            rgb = (resized(decoded, height, width) + 1.0) / 2.0
        return rgb_to_planes(rgb, self._pix_fmt, self._colour)

    def _fits(self, frame: Frame) -> bool:
        return frame.pix_fmt == self._pix_fmt and (frame.width, frame.height) == self._size

    def _keyframe(self, frame: Frame) -> Planes:
        """A keyframe as float planes of the output: its own where they fit, else one conversion."""
        planes = [torch.from_numpy(plane).unsqueeze(0) for plane in frame.planes]
        if self._fits(frame):
            return tuple(plane.to(torch.float32) for plane in planes)
        width, height = self._size
        rgb = planes_to_rgb(planes, frame.pix_fmt, frame.colour)
        return rgb_to_planes(resized(rgb, height, width), self._pix_fmt, self._colour)

    def _keyframe_planes(self, frame: Frame) -> tuple[np.ndarray, ...]:
        if self._fits(frame):
            return frame.planes
        return tuple(plane[0].numpy() for plane in round_planes(self._keyframe(frame), self._pix_fmt))


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """(n, C, h, w) floats to (n, C, height, width); the same tensor where nothing changes."""
    if x.shape[-2:] == (height, width):
        return x
    shrinks = height < x.shape[-2] or width < x.shape[-1]
    return F.interpolate(x.float(), (height, width), mode="bilinear", align_corners=False, antialias=shrinks)


def label_colours(scores: Tensor, palette: Palette, height: int, width: int) -> Tensor:
    """Class scores (n, K, h, w) to pure palette colours (n, 3, height, width) in [0, 1].

    The scores are scaled and then the best class is chosen, so no colour is ever mixed.
    """
    best = best_class(resized(scores, height, width))
    table = torch.from_numpy(palette.array.T.copy()).to(scores.device, torch.float32) / 255.0
    return table.index_select(1, best.flatten()).view(3, *best.shape).movedim(0, 1)


def best_class(scores: Tensor) -> Tensor:
    """(n, K, h, w) -> (n, h, w) int32: the class of the highest score; argmax is slow across planes on a CPU."""
    best_score = scores[:, 0].clone()
    best = torch.zeros(best_score.shape, dtype=torch.int32, device=scores.device)
    for number in range(1, scores.shape[1]):
        best.masked_fill_(scores[:, number] > best_score, number)
        torch.maximum(best_score, scores[:, number], out=best_score)
    return best


def colour_scores(rgb: Tensor, palette: Palette) -> Tensor:
    """Painted labels (n, 3, h, w) in [-1, 1] to scores (n, K, h, w): minus the squared distance to each colour."""
    table = torch.from_numpy(palette.array.copy()).to(rgb.device, torch.float32) / 127.5 - 1.0
    return -(rgb.float().unsqueeze(1) - table.view(1, -1, 3, 1, 1)).square().sum(2)


def _minus(first: Planes, second: Planes) -> Planes:
    return tuple(a.to(b.device) - b for a, b in zip(first, second, strict=True))


def _between(left: Planes, right: Planes, times: Sequence[Fraction], motion: Fields | None) -> Planes:
    """Both keyframes' detail, planes (1, H, W), at every instant, planes (n, H, W).

    plane(t) = Y(D(t)) + (1 - t) (y0 - Y(D(0))) + t (y1 - Y(D(1))), each keyframe's part moved to t where there is
    motion: at t = 0 and 1 both keyframes are met exactly.
    """
    made: list[Tensor] = []
    for group in (slice(0, 1), slice(1, None)):  # luma, then chroma, whose two planes move as one
        if not left[group]:
            continue
        both = torch.cat(left[group]), torch.cat(right[group])
        moved = blend(*both, times) if motion is None else motion.on(*both[0].shape[-2:]).blend(*both)
        made.extend(moved.unbind(1))
    return tuple(made)
