"""Motion of a gap: flow in both directions, how far it can be trusted, and where an in-between finds its pixels.

Estimated once per gap at a bounded size, whatever the size of the video; everything that moves (features at their own
resolution, detail in the output's planes) uses the same fields, so source and translation move together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.latents import Fields, gather

WORKING_PIXELS = 512 * 256
LARGEST_ENLARGEMENT = 2.0  # small pictures are enlarged: the estimator's patches are 8 pixels wide
# Forward-backward errors of this many pixels (at the working size), or of this share of the motion, halve the trust.
TOLERANCE_PIXELS = 1.0
TOLERANCE_SHARE = 0.1
# Measured on rendered streets at gaps of up to 8/17 s: mean confidence 0.48 and more; across cuts at most 0.28.
LOST_CONFIDENCE = 0.35
CUT_DIFFERENCE = 20.0 / 255.0

LEAST_TRUST = 0.2  # where neither keyframe is trusted, the blend's weights fall back to t alone
# Flow is smooth and carrying it to every instant costs more than finding it, so that is done on a coarser grid.
# Measured on rendered streets: a quarter of the size is as good as the full one.
FIELD_SHRINK = 4
# What moves more is nearer, as a rule, and hides what moves less: weight exp(0.5 |flow|), flow in pixels of the coarse
# grid.
NEARNESS = 0.5
LEAST_COVERAGE = 0.1  # where less flow arrives than this, the flow at the pixel itself fills in

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(left, right), grey uint8 (h, w) -> flow (h, w, 2) float32: pixel p of left is at p + flow(p), (x, y), in right."""


def dis_flow(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Dense inverse search (Kroeger et al., 2016) as OpenCV has it."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(left, right, np.zeros((*left.shape, 2), np.float32))


ESTIMATORS: dict[str, Estimator] = {"dis": dis_flow}


@dataclass(frozen=True)
class Motion:
    """Flow of a gap in both directions, at its working size.

    Attributes:
        forward: (2, h, w) float32, pixels (x, y): where the left keyframe's pixels are in the right one; backward: the
            other way.
        forward_trust, backward_trust: (h, w) in [0, 1] from forward-backward agreement: low where something is hidden
            in the other keyframe, or the flow is wrong.
        difference: mean absolute difference of the keyframes after compensation, as a share of white.
    """

    forward: Tensor
    backward: Tensor
    forward_trust: Tensor
    backward_trust: Tensor
    difference: float

    @property
    def confidence(self) -> float:
        """Mean trust of both directions."""
        return (self.forward_trust.mean().item() + self.backward_trust.mean().item()) / 2.0

    @property
    def is_lost(self) -> bool:
        """The keyframes' motion could not be found: blend in place, or hold if it `is_cut`."""
        return self.confidence < LOST_CONFIDENCE

    @property
    def is_cut(self) -> bool:
        """The keyframes show different scenes."""
        return self.is_lost and self.difference > CUT_DIFFERENCE

    def at(self, times: Sequence[Fraction]) -> Fields:
        """Fields of the instants t, on a grid FIELD_SHRINK times coarser.

        Both flows are carried along themselves to t (splatted), the nearer over the farther, which gives the velocity
        v(t) of every pixel of the instant; the keyframes are then at -t v and (1 - t) v from it. The weights are t's,
        times the trust at the place fetched from, times whether that place is inside the picture.
        """
        size = tuple(max(1, round(length / FIELD_SHRINK)) for length in self.forward.shape[-2:])
        forward, backward = (_shrunk_flow(flow, size) for flow in (self.forward, self.backward))
        forward_trust, backward_trust = (
            _shrunk(trust[None], size)[0] for trust in (self.forward_trust, self.backward_trust)
        )
        t = torch.tensor([float(value) for value in times]).view(-1, 1, 1, 1)
        from_left, left_coverage = _splat(forward, t, (1 - t) * _weight(forward, forward_trust))
        from_right, right_coverage = _splat(backward, 1 - t, t * _weight(backward, backward_trust))
        here = (1 - t) * forward - t * backward
        velocity = (from_left - from_right + LEAST_COVERAGE * here) / (left_coverage + right_coverage + LEAST_COVERAGE)
        to_left, to_right = -t * velocity, (1 - t) * velocity
        left_weight = (1 - t) * (gather(forward_trust[None], to_left) * _inside(to_left) + LEAST_TRUST)
        right_weight = t * (gather(backward_trust[None], to_right) * _inside(to_right) + LEAST_TRUST)
        return Fields(to_left, to_right, right_weight / (left_weight + right_weight))


def estimate(left: np.ndarray, right: np.ndarray, estimator: str = "dis") -> Motion:
    """The motion between two keyframes.

    left, right: (H, W, 3) uint8, of any size; the flow is estimated at no more than WORKING_PIXELS.
    """
    height, width = left.shape[:2]
    scale = min(math.sqrt(WORKING_PIXELS / (height * width)), LARGEST_ENLARGEMENT)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    filter_ = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    greys = []
    for picture in (left, right):
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        greys.append(grey if size == (width, height) else cv2.resize(grey, size, interpolation=filter_))
    flow = ESTIMATORS[estimator]
    forward, backward = _planes(flow(greys[0], greys[1])), _planes(flow(greys[1], greys[0]))
    moved = gather(torch.from_numpy(greys[1]).float().unsqueeze(0), forward.unsqueeze(0))[0, 0]
    difference = (moved - torch.from_numpy(greys[0]).float()).abs().mean().item() / 255.0
    return Motion(forward, backward, _agreement(forward, backward), _agreement(backward, forward), difference)


def _planes(flow: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1)))


def _agreement(there: Tensor, back: Tensor) -> Tensor:
    """Trust (h, w): 1 where going there and back ends at the start, towards 0 the farther from it."""
    returned = gather(back, there.unsqueeze(0))[0]
    error = (there + returned).square().sum(0)
    allowed = TOLERANCE_PIXELS**2 + TOLERANCE_SHARE**2 * (there.square().sum(0) + returned.square().sum(0))
    return torch.exp(-0.5 * error / allowed)


def _inside(displacement: Tensor) -> Tensor:
    """(n, 1, h, w): 1 where a displaced pixel is in the picture, 0 from one pixel outside on."""
    height, width = displacement.shape[-2:]
    columns = torch.arange(width, dtype=torch.float32) + displacement[:, 0]
    rows = torch.arange(height, dtype=torch.float32).view(-1, 1) + displacement[:, 1]
    inside = torch.minimum(torch.minimum(columns, width - 1 - columns), torch.minimum(rows, height - 1 - rows))
    return (inside + 1.0).clamp(0.0, 1.0).unsqueeze(1)


def _shrunk(planes: Tensor, size: tuple[int, ...]) -> Tensor:
    """(C, h, w) averaged to (C, *size)."""
    return F.interpolate(planes[None], size, mode="bilinear", antialias=True, align_corners=False)[0]


def _shrunk_flow(flow: Tensor, size: tuple[int, ...]) -> Tensor:
    """Flow (2, h, w) on a coarser grid, in that grid's pixels."""
    ratio = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]]).view(2, 1, 1)
    return _shrunk(flow, size) * ratio


def _weight(flow: Tensor, trust: Tensor) -> Tensor:
    """What a pixel's flow counts where several arrive, (h, w): trusted and near first."""
    nearness = (NEARNESS * flow.square().sum(0).sqrt()).clamp(max=8.0)
    return (trust + 0.01) * nearness.exp()


def _splat(flow: Tensor, share: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (2, h, w) carried along `share` (n, 1, 1, 1) of itself, bilinearly.

    weight: (n, 1, h, w). Returns the weighted sums that arrive at every pixel, (n, 2, h, w), and of the weights, (n,
        1, h, w).
    """
    count, (_, height, width) = len(share), flow.shape
    moved = flow * share
    columns = torch.arange(width) + moved[:, 0]
    rows = torch.arange(height).view(-1, 1) + moved[:, 1]
    left, top = columns.floor(), rows.floor()
    values = torch.cat([flow.expand(count, -1, -1, -1), torch.ones(count, 1, height, width)], 1) * weight
    sums = torch.zeros(count * height * width, 3)
    start = torch.arange(count).view(-1, 1, 1) * (height * width)
    for column in (left, left + 1):
        for row in (top, top + 1):
            arrives = (1 - (columns - column).abs()) * (1 - (rows - row).abs())
            arrives = arrives * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
            index = start + row.long().clamp(0, height - 1) * width + column.long().clamp(0, width - 1)
            sums.index_add_(0, index.flatten(), (values * arrives[:, None]).movedim(1, -1).reshape(-1, 3))
    sums = sums.view(count, height, width, 3).movedim(-1, 1)
    return sums[:, :2], sums[:, 2:]
