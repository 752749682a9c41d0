"""Motion of a gap: flow in both directions, how far it can be trusted, and where an in-between finds its pixels.

Estimated once per gap at a bounded size, whatever the size of the video; everything that moves (features at their own
resolution, detail in the output's planes) uses the same fields, so source and translation move together.

Flow alone fails near a camera that drives: patches grow from one keyframe to the next, leave the picture, and do not
move linearly in time. So where the trusted flow shows that the camera moves through the scene, a plane sweep looks for
a better match at every instant, along the lines on which a rigid scene can move and by perspective's own law of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from vidtrans.latents import Fields, gather

WORKING_PIXELS = 512 * 256
LARGEST_ENLARGEMENT = 2.0  # small pictures are enlarged: the estimator's patches are 8 pixels wide
# Flow is kept, and fields are made, on a grid this much coarser than the working size: measured on rendered streets, as
# good as the full size.
FIELD_SHRINK = 4
# Forward-backward errors of this many pixels of the grid, or of this share of the motion, halve the trust.
TOLERANCE_PIXELS = 0.25
TOLERANCE_SHARE = 0.05
# Measured by benchmarks/in_betweens.py. On streets not held out: 0.20 and more over gaps of up to 8/17 s, 0.11 and less
# between different streets (between random textures up to 0.17).
LOST_CONFIDENCE = 0.18

LEAST_TRUST = 0.2  # where neither keyframe is trusted, the blend's weights fall back to t alone
# What moves more is nearer, as a rule, and hides what moves less: weight exp(0.25 |flow|), flow in pixels of the grid.
NEARNESS = 0.25
LEAST_COVERAGE = 0.1  # where less flow arrives than this, the flow at the pixel itself fills in

SURE = 0.8  # trust of flow that may tell how the camera moved
FEWEST_POINTS = 50  # of a quarter of the grid's, to tell that
FIT_STEPS = 10  # 15 change nothing
LEAST_EXPANSION = 0.5  # pixels of the grid at the picture's border: below, nothing comes nearer and nothing is swept

# The nearness that the sweep tries, the camera's way through the gap over the depth: small steps for what is far.
# Measured: 12 levels lose 0.2 dB, 24 gain less than 0.1, and nearer than 0.7 gains nothing.
LEVELS = (0.7 * np.linspace(0.0, 1.0, 16) ** 1.5).astype(np.float32)
WINDOWS = (5, 13)  # pixels of the grid compared: the small window keeps edges, the large one knows bare surfaces
DIFFERENCE_CAP = 40  # grey levels: more than this is just wrong
DIFFERENCE_OUTSIDE = 20  # where a keyframe has no pixel: neither right nor wrong

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(left, right), grey uint8 (h, w) -> flow (h, w, 2) float32: pixel p of left is at p + flow(p), (x, y), in right."""


def dis_flow(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Dense inverse search (Kroeger et al., 2016) as OpenCV has it.

    Its medium preset without variational refinement: 40 % less time, and as good on the fields' grid. No initial flow
    is given: zeros compete with what is found, which cost 0.3 dB at gaps of 8/17 s.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setVariationalRefinementIterations(0)
    flow: np.ndarray = search.calc(left, right, None)  # type: ignore[call-overload]
    return flow


ESTIMATORS: dict[str, Estimator] = {"dis": dis_flow}


@dataclass(frozen=True)
class Camera:
    """How the camera moved through a rigid scene, and what it saw at both ends, on the fields' grid.

    A camera that turns a little shifts everything alike; one that travels moves everything away from (or towards) the
    focus of expansion, the nearer the faster. A point at p at instant t, of nearness k (the camera's way through the
    gap over the point's depth at t, negative backwards), is in the keyframes at

        left: focus + (p - focus - t turn) / (1 + t k)
        right: focus + turn + (p - focus - t turn) / (1 - (1 - t) k)

    Attributes:
        focus: (2, 1, 1), the focus of expansion in the left keyframe; turn: (2, 1, 1), the shift by rotation.
        direction: 1.0 forwards, -1.0 backwards.
        left, right: keyframes, (h, w) uint8, grey.
    """

    focus: np.ndarray
    turn: np.ndarray
    direction: float
    left: np.ndarray
    right: np.ndarray

    def sweep(
        self, t: float, to_left: np.ndarray, to_right: np.ndarray, trust: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Better displacements for instant t, by plane sweep.

        Each level of nearness says for every pixel where both keyframes have it; the level at which they differ least
        around the pixel wins. It replaces the flow where they differ less than there, the more easily the less the flow
        is trusted.

        to_left, to_right: (2, h, w), what the flow says; trust: (h, w), of it. Returns both displacements, and where
        they were replaced, (h, w) bool.
        """
        height, width = self.left.shape
        nearness, least = np.zeros((height, width), np.float32), np.full((height, width), np.inf, np.float32)
        for level in self.direction * LEVELS:
            difference = self._difference_of(t, level)
            nearness[difference < least] = level
            least = np.minimum(least, difference)
        grid = np.stack(np.meshgrid(np.arange(width), np.arange(height))).astype(np.float32)
        swept = least < (1.0 - trust) * self._difference_at(grid + to_left, grid + to_right)
        lines = self._lines(t, cv2.medianBlur(nearness, 5))
        (left_scale, left_offset), (right_scale, right_offset) = lines
        to_left = np.where(swept, left_scale * grid + left_offset - grid, to_left)
        to_right = np.where(swept, right_scale * grid + right_offset - grid, to_right)
        return to_left, to_right, swept

    def _lines(self, t: float, nearness: Any) -> tuple[tuple[Any, np.ndarray], tuple[Any, np.ndarray]]:
        """(scale, offset) to the left and to the right keyframe: p is at scale p + offset there."""
        here = self.focus + t * self.turn
        left, right = 1.0 / (1.0 + t * nearness), 1.0 / (1.0 - (1.0 - t) * nearness)
        return (left, self.focus - left * here), (right, self.focus + self.turn - right * here)

    def _difference_of(self, t: float, nearness: float) -> np.ndarray:
        """How much the keyframes differ if everything is this near."""
        height, width = self.left.shape
        moved, outside = [], [np.zeros(width, bool), np.zeros(height, bool)]
        for picture, (scale, offset) in zip((self.left, self.right), self._lines(t, nearness), strict=True):
            affine = np.array([[scale, 0, offset[0, 0, 0]], [0, scale, offset[1, 0, 0]]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            moved.append(cv2.warpAffine(picture, affine, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE))
            for axis, length in enumerate((width, height)):
                outside[axis] |= _outside(scale * np.arange(length) + offset[axis, 0, 0], length)
        return _difference(moved, outside[0] | outside[1][:, None])

    def _difference_at(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The same where left and right, (2, h, w), say where the pixels are."""
        height, width = self.left.shape
        moved, outside = [], np.zeros((height, width), bool)
        for picture, (x, y) in ((self.left, left), (self.right, right)):
            moved.append(cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
            outside |= _outside(x, width) | _outside(y, height)
        return _difference(moved, outside)


def _outside(position: np.ndarray, length: int) -> np.ndarray:
    return (position < -0.5) | (position > length - 0.5)


def _difference(moved: Sequence[np.ndarray], outside: np.ndarray) -> np.ndarray:
    """Absolute difference of two pictures, averaged over windows: (h, w) float32."""
    difference = np.minimum(cv2.absdiff(*moved), DIFFERENCE_CAP)
    difference[outside] = DIFFERENCE_OUTSIDE
    average = np.zeros(difference.shape, np.float32)
    for size in WINDOWS:
        average += cv2.boxFilter(difference, cv2.CV_32F, (size, size), borderType=cv2.BORDER_REPLICATE)
    return average


@dataclass(frozen=True)
class Motion:
    """Flow of a gap in both directions, on the fields' grid.

    Attributes:
        forward: (2, h, w) float32, pixels (x, y): where the left keyframe's pixels are in the right one; backward: the
            other way.
        forward_trust, backward_trust: (h, w) in [0, 1] from forward-backward agreement: low where something is hidden
            in the other keyframe, or the flow is wrong.
        camera: how the camera moved, where it moved through the scene.
    """

    forward: Tensor
    backward: Tensor
    forward_trust: Tensor
    backward_trust: Tensor
    camera: Camera | None = None

    @property
    def confidence(self) -> float:
        """Mean trust of both directions."""
        return (self.forward_trust.mean().item() + self.backward_trust.mean().item()) / 2.0

    @property
    def is_lost(self) -> bool:
        """The keyframes' motion could not be found: blend in place."""
        return self.confidence < LOST_CONFIDENCE

    def at(self, times: Sequence[Fraction]) -> Fields:
        """Fields of the instants t.

        Both flows are carried along themselves to t (splatted), the nearer over the farther, which gives the velocity
        v(t) of every pixel of the instant; the keyframes are then at -t v and (1 - t) v from it. Where the camera's
        sweep knows better, it replaces them. The weights are t's, times the trust at the place fetched from (1 where
        swept), times whether that place is inside the picture.
        """
        t = torch.tensor([float(value) for value in times]).view(-1, 1, 1, 1)
        velocity = self._velocity(times)
        to_left, to_right = -t * velocity, (1 - t) * velocity
        left_trust, right_trust = gather(self.forward_trust[None], to_left), gather(self.backward_trust[None], to_right)
        if self.camera is not None:
            trust = torch.minimum(left_trust, right_trust)
            for row, time in enumerate(times):
                if not 0 < time < 1:  # keyframes are where they are
                    continue
                flow = (to_left[row].numpy(), to_right[row].numpy(), trust[row, 0].numpy())
                to_left[row], to_right[row], swept = map(torch.from_numpy, self.camera.sweep(float(time), *flow))
                left_trust[row, 0, swept], right_trust[row, 0, swept] = 1.0, 1.0
        left_weight = (1 - t) * (left_trust * _inside(to_left) + LEAST_TRUST)
        right_weight = t * (right_trust * _inside(to_right) + LEAST_TRUST)
        return Fields(to_left, to_right, right_weight / (left_weight + right_weight))

    def _velocity(self, times: Sequence[Fraction]) -> Tensor:
        """Velocity (n, 2, h, w) of the instants' pixels."""
        forward, backward = self.forward.numpy(), self.backward.numpy()
        weight = _weight(forward, self.forward_trust.numpy())
        back_weight = _weight(backward, self.backward_trust.numpy())
        made = []
        for t in map(float, times):
            # All as seen from the left: the backward flow is turned round.
            sums = _splat(forward, t, (1 - t) * weight) + _splat(backward, 1 - t, t * back_weight) * (-1, -1, 1)
            here = (1 - t) * forward - t * backward
            made.append((sums[..., :2].transpose(2, 0, 1) + LEAST_COVERAGE * here) / (sums[..., 2] + LEAST_COVERAGE))
        return torch.from_numpy(np.stack(made).astype(np.float32))


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
    grid = (round(size[0] / FIELD_SHRINK), round(size[1] / FIELD_SHRINK))
    flow = ESTIMATORS[estimator]
    forward, backward = (_on_grid(flow(*pair), grid) for pair in (greys, greys[::-1]))
    forward_trust, backward_trust = _agreement(forward, backward), _agreement(backward, forward)
    small = [cv2.resize(grey, grid, interpolation=cv2.INTER_AREA) for grey in greys]
    camera = _camera(forward.numpy(), forward_trust.numpy(), small)
    return Motion(forward, backward, forward_trust, backward_trust, camera)


def _on_grid(flow: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Flow (H, W, 2) on the grid (width, height), in its pixels, (2, h, w)."""
    ratio = np.array([grid[0] / flow.shape[1], grid[1] / flow.shape[0]], np.float32)
    coarse = cv2.resize(flow, grid, interpolation=cv2.INTER_AREA) * ratio
    return torch.from_numpy(np.ascontiguousarray(coarse.transpose(2, 0, 1)))


def _camera(flow: np.ndarray, trust: np.ndarray, pictures: Sequence[np.ndarray]) -> Camera | None:
    """The camera's motion from trusted flow (2, h, w); None where it does not travel.

    What the shift by rotation leaves of the flow must point away from the focus: least squares of the part across,
    robust (Cauchy weights) because things move on their own and flow is wrong in places.
    """
    height, width = trust.shape
    y, x = np.nonzero(trust[::2, ::2] > SURE)
    if len(x) < FEWEST_POINTS:
        return None
    centre = np.array([width / 2, height / 2])
    place, flow_there = np.stack([2 * x, 2 * y], 1) - centre, flow[:, 2 * y, 2 * x].T.astype(np.float64)
    focus, turn = np.zeros(2), np.zeros(2)
    for step in range(FIT_STEPS):
        arm, rest = place - focus, flow_there - turn
        length = np.hypot(*arm.T) + 2.0  # nearer to the focus, directions mean little
        across = (arm[:, 0] * rest[:, 1] - arm[:, 1] * rest[:, 0]) / length
        slopes = np.stack([-rest[:, 1], rest[:, 0], arm[:, 1], -arm[:, 0]], 1) / length[:, None]
        spread = max(0.1, 1.5 * float(np.median(np.abs(across))))
        weight = 1.0 / (1.0 + (across / spread) ** 2)
        # The focus is likely near the centre, which decides where flow does not; at first it leads past wrong optima.
        pull = max(0.02, 0.7**step) * (spread * 8.0 / width) ** 2
        pulls = weight.sum() * np.array([pull, pull, 1e-6, 1e-6])
        normal = (slopes * weight[:, None]).T @ slopes + np.diag(pulls)
        change = np.linalg.solve(normal, slopes.T @ (weight * across) + pulls * np.concatenate([focus, turn]))
        focus, turn = focus - change[:2], turn - change[2:]
    expansion = float(np.average((arm * rest).sum(1) / length**2, weights=weight))
    if abs(expansion) * width / 2 < LEAST_EXPANSION:
        return None
    in_left, shift = (vector.astype(np.float32).reshape(2, 1, 1) for vector in (focus + centre, turn))
    return Camera(in_left, shift, math.copysign(1.0, expansion), *pictures)


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


def _weight(flow: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """What a pixel's flow counts where several arrive, (h, w): trusted and near first."""
    weight: np.ndarray = (trust + 0.01) * np.exp(np.minimum(NEARNESS * np.hypot(*flow), 8.0))
    return weight


def _splat(flow: np.ndarray, share: float, weight: np.ndarray) -> np.ndarray:
    """Flow (2, h, w) carried along `share` of itself to the nearest pixel, spread over its neighbours.

    weight: (h, w). Returns the weighted sums that arrive at every pixel, and of the weights, (h, w, 3).
    """
    _, height, width = flow.shape
    column = np.rint(np.arange(width, dtype=np.float32) + share * flow[0]).astype(np.int32)
    row = np.rint(np.arange(height, dtype=np.float32)[:, None] + share * flow[1]).astype(np.int32)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = np.where(inside, row * width + column, height * width).ravel()  # one more takes what leaves the picture
    values = (flow[0] * weight, flow[1] * weight, weight)
    sums = [np.bincount(index, value.ravel(), height * width + 1)[:-1] for value in values]
    return cv2.blur(np.stack(sums, 1).reshape(height, width, 3).astype(np.float32), (3, 3))
