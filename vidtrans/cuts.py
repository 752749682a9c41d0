"""How little two keyframes have in common: what tells a cut from motion, on small copies of the pictures."""

from __future__ import annotations

import math

import cv2
import numpy as np

from vidtrans.motion import LARGEST_ENLARGEMENT, dis_flow

SMALL_PIXELS = 128 * 72
# Forward-backward errors of this many pixels, or of this share of the motion, halve the belief, about.
TOLERANCE_PIXELS = 0.5
TOLERANCE_SHARE = 0.1
WINDOW = 9  # pixels a side, in which structure is compared
NO_STRUCTURE = 60.0  # variance, in squares of code values, that noise has: what differs by less is alike
TEXTURE = 100.0  # the same of a place that counts half; bare ones look alike in any two scenes
BARE = 0.02  # what a place without any texture counts
DOUBTED = 0.5  # from which value on a second look is worth its time: is all of it shifted, farther than flow reaches?
LEAST_RESPONSE = 0.25  # of phase correlation, to believe its shift; over cuts it is mostly below 0.1


def cut_value(left: np.ndarray, right: np.ndarray) -> float:
    """How much of each picture cannot be found in the other: 0 for equal pictures, 1 for nothing in common.

    A place is found where motion there and back returns to it, inside the picture, and as far as structure (contrast,
    not brightness: a flash is no cut) is alike at both ends. Places count by their texture; the value is one minus the
    mean of both directions.

    Args:
        left, right: (H, W, 3) uint8, of one size, whatever it is.

    Returns:
        Rounded to three decimals, so that a value that is printed is the one that was compared.
    """
    pictures = [_small(picture) for picture in (left, right)]
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    value = _missing(pictures, greys, (0, 0))
    if value > DOUBTED:
        window = cv2.createHanningWindow(greys[0].shape[::-1], cv2.CV_32F)
        there, here = (grey.astype(np.float32) for grey in greys)
        (x, y), response = cv2.phaseCorrelate(there, here, window)
        shift = round(x), round(y)
        if response > LEAST_RESPONSE and any(shift):
            value = min(value, _missing(pictures, greys, shift))
    return round(min(max(value, 0.0), 1.0), 3)


def _small(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = min(math.sqrt(SMALL_PIXELS / (height * width)), LARGEST_ENLARGEMENT)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _missing(pictures: list[np.ndarray], greys: list[np.ndarray], shift: tuple[int, int]) -> float:
    """`cut_value` with flow looked for near a shift (x, y) of the whole picture, from left to right."""
    flows = []
    for (here, there), sign in ((greys, 1), (greys[::-1], -1)):
        offset = sign * np.array(shift, np.float32)
        flows.append(dis_flow(here, _shifted(there, offset)) + offset)
    found = 0.0
    for (here, there), (flow, back), grey in ((pictures, flows, greys[0]), (pictures[::-1], flows[::-1], greys[1])):
        weight = _texture(grey)
        share = _returning(flow, back) * _alike(here, _moved(there, flow))
        found += float((weight * share).sum() / weight.sum()) / 2.0
    return 1.0 - found


def _shifted(picture: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The picture as seen from `offset` pixels away, its border repeated."""
    affine = np.array([[1, 0, offset[0]], [0, 1, offset[1]]], np.float64)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, affine, picture.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _places(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where flow (H, W, 2) leads: columns and rows, (H, W) float32."""
    height, width = flow.shape[:2]
    return flow[..., 0] + np.arange(width, dtype=np.float32), flow[..., 1] + np.arange(height, dtype=np.float32)[
        :, None
    ]


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What flow leads to in a picture or in another flow."""
    return cv2.remap(picture, *_places(flow), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _returning(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Belief (H, W) in [0, 1] that flow is right: it stays inside, and there and back ends where it began."""
    columns, rows = _places(flow)
    height, width = columns.shape
    inside = (columns > -0.5) & (columns < width - 0.5) & (rows > -0.5) & (rows < height - 0.5)
    returned = _moved(back, flow)
    error = np.square(flow + returned).sum(-1)
    length = np.square(flow).sum(-1) + np.square(returned).sum(-1)
    belief: np.ndarray = inside * np.exp(-0.5 * error / (TOLERANCE_PIXELS**2 + TOLERANCE_SHARE**2 * length))
    return belief


def _mean(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (WINDOW, WINDOW))


def _texture(grey: np.ndarray) -> np.ndarray:
    """What places count, (H, W)."""
    values = grey.astype(np.float32)
    variance = np.maximum(_mean(values * values) - np.square(_mean(values)), 0.0)
    counts: np.ndarray = variance / (variance + TEXTURE) + BARE
    return counts


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Structure in common, (H, W) in [0, 1], as SSIM's (Wang et al., 2004) contrast and structure terms together."""
    a, b = one.astype(np.float32), other.astype(np.float32)
    mean_a, mean_b = _mean(a), _mean(b)
    variances = _mean(a * a) - mean_a * mean_a + _mean(b * b) - mean_b * mean_b
    common = 2.0 * (_mean(a * b) - mean_a * mean_b)
    alike: np.ndarray = ((common + NO_STRUCTURE) / (variances + NO_STRUCTURE)).mean(-1).clip(0.0, 1.0)
    return alike
