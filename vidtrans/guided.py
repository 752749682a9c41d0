"""A change of colours fitted to the picture that it changes: the fast guided filter (He and Sun 2015)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.planes import resized

COARSE = 4  # pixels, the step of latents: what is fitted is fitted on means of so many by so many
RADIUS = 3  # coarse pixels: windows of 28 x 28 pixels, which hold a decoder's edge and the picture's own beside it
FLATNESS = 3e-4  # a variance of colours in [-1, 1], of two grey levels: fainter structure counts as flat
FAINT = 0.06  # of colours in [-1, 1], eight grey levels: how strong that must be which does not go with the guide


class GuidedFilter:
    """What a picture's own edges say of where a change of it ends.

    In every window the change is fitted as an affine function of the guide's three colours, and each pixel has the mean
    of what the windows around it say. A change that goes with the guide (leaves turn orange, snow lies on grass) comes
    out with the guide's edges. Of the rest stays what coarse pixels hold and is strong (wheel tracks in snow, where the
    guide has none); what is finer or faint, two decoders' different noise, goes. One filter serves all changes of a
    picture.
    """

    def __init__(self, guide: Tensor, working: tuple[int, int] | None = None) -> None:
        """
        Args:
            guide: (B, 3, H, W) in [-1, 1].
            working: (height, width) that changes have and where they are fitted; the guide's own by default.
        """
        self._guide, self._working = guide, working or (guide.shape[-2], guide.shape[-1])
        self._coarse = _coarse(resized(guide, *self._working))
        self._mean = _windows(self._coarse)
        first, second = torch.triu_indices(3, 3, device=guide.device)
        products = self._coarse[:, first] * self._coarse[:, second]
        covariances = _windows(products) - self._mean[:, first] * self._mean[:, second]
        rr, rg, rb, gg, gb, bb = covariances.unbind(1)
        rr, gg, bb = rr + FLATNESS, gg + FLATNESS, bb + FLATNESS
        # The inverse of each window's 3 x 3 covariance by its cofactors: LAPACK is slow at many small systems.
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
        self._inverse = _table(inverse)  # (B, 3, 3, h, w)

    def __call__(self, change: Tensor) -> Tensor:
        """(B, 3, h, w), what shall be added to the guide, at the working size -> (B, 3, H, W), fitted to the guide."""
        change = _coarse(change)
        guide, mean, middle = self._coarse.unsqueeze(2), self._mean.unsqueeze(2), _windows(change)
        shared = _table(_windows((guide * change.unsqueeze(1)).flatten(1, 2))) - mean * middle.unsqueeze(1)
        slopes = (self._inverse.unsqueeze(3) * shared.unsqueeze(1)).sum(2)  # (B, guide, change, h, w)
        offsets = middle - (slopes * mean).sum(1)
        slopes, offsets = _windows(slopes.flatten(1, 2)), _windows(offsets)
        rest = _strong(change - ((_table(slopes) * guide).sum(1) + offsets))
        return (_table(self._fine(slopes)) * self._guide.unsqueeze(2)).sum(1) + self._fine(offsets + rest)

    def _fine(self, x: Tensor) -> Tensor:
        height, width = self._working
        # What a coarse pixel at the border has beyond the picture is cut off before the rest is stretched.
        x = F.interpolate(x, scale_factor=COARSE, mode="bilinear")[..., :height, :width]
        return resized(x, *self._guide.shape[-2:])


def _coarse(x: Tensor) -> Tensor:
    """Means of COARSE x COARSE pixels, at the right and lower border of those that are there."""
    return F.avg_pool2d(x, COARSE, ceil_mode=True)


def _windows(x: Tensor) -> Tensor:
    """Means over (2 RADIUS + 1)^2 coarse pixels, at the border over those that are there: (B, C, h, w) -> the same."""
    return F.avg_pool2d(x, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)


def _strong(x: Tensor) -> Tensor:
    """Wiener's share of every pixel: its power over that and the noise's."""
    power = x.square().mean(1, keepdim=True)
    return x * (power / (power + FAINT**2))


def _table(x: Tensor) -> Tensor:
    """(B, 9, h, w) -> (B, 3, 3, h, w)."""
    return x.view(x.shape[0], 3, 3, *x.shape[2:])
