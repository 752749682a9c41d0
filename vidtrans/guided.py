"""A change of colours fitted to the picture that it changes: the guided filter (He, Sun, Tang 2013, section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RADIUS = 8  # pixels: two positions of a latent, about as far as a decoder's edges lie beside the picture's
FLATNESS = 1e-3  # a variance of colours in [-1, 1], about four grey levels: fainter structure is taken for flat


class GuidedFilter:
    """What a picture's own edges say of where a change of it ends.

    In every window of 17 x 17 pixels the change is fitted as an affine function of the guide's three colours, and each
    pixel has the mean of what the windows around it say. A change that goes with the guide (leaves turn orange, snow
    lies on grass) comes out with the guide's edges; what does not, such as two decoders' different noise, is averaged
    away. Linear in the change, so one filter serves all changes of a picture, and gradients pass.
    """

    def __init__(self, guide: Tensor) -> None:
        """guide: (B, 3, H, W) in [-1, 1], float32 or float64."""
        self._guide = guide
        self._mean = _box(guide)
        first, second = torch.triu_indices(3, 3)
        products = _box(guide[:, first] * guide[:, second]) - self._mean[:, first] * self._mean[:, second]
        rr, rg, rb, gg, gb, bb = products.unbind(1)
        rr, gg, bb = rr + FLATNESS, gg + FLATNESS, bb + FLATNESS
        # The inverse of the windows' 3 x 3 covariances by their cofactors: many small systems, of which LAPACK is slow.
        minors = [
            gg * bb - gb * gb,
            rb * gb - rg * bb,
            rg * gb - rb * gg,
            rr * bb - rb * rb,
            rg * rb - rr * gb,
            rr * gg - rg * rg,
        ]
        determinant = rr * minors[0] + rg * minors[1] + rb * minors[2]
        inverse = torch.stack([minors[k] for k in (0, 1, 2, 1, 3, 4, 2, 4, 5)], 1) / determinant.unsqueeze(1)
        self._inverse = inverse.unflatten(1, (3, 3))  # (B, 3, 3, H, W)

    def __call__(self, change: Tensor) -> Tensor:
        """(B, C, H, W), added to the guide where it is a change of it -> the same, fitted to the guide."""
        guide, mean = self._guide.unsqueeze(2), self._mean.unsqueeze(2)
        middle = _box(change)
        shared = _box((guide * change.unsqueeze(1)).flatten(1, 2)).unflatten(1, (3, -1)) - mean * middle.unsqueeze(1)
        slopes = torch.einsum("bijhw,bjchw->bichw", self._inverse, shared)
        offsets = middle - (slopes * mean).sum(1)
        slopes = _box(slopes.flatten(1, 2)).unflatten(1, (3, -1))
        return (slopes * guide).sum(1) + _box(offsets)


def _box(x: Tensor) -> Tensor:
    """Means over (2 RADIUS + 1)^2 pixels, at the border over those that are there: (B, C, H, W) -> the same."""
    size = 2 * RADIUS + 1
    rows = F.avg_pool2d(x, (1, size), 1, (0, RADIUS), count_include_pad=False)
    return F.avg_pool2d(rows, (size, 1), 1, (RADIUS, 0), count_include_pad=False)
