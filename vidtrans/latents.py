"""The blend of two keyframes' features, in place or moved, plain torch: the reference for every faster one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F


def blend(left: Tensor, right: Tensor, times: Sequence[Fraction]) -> Tensor:
    """(1 - t) left + t right for every t (JWDM Algorithm 2, with t ascending from the left keyframe: t = 1 - rho, J13).

    left, right: (C, h, w), latents or lifted features; lifting is linear and the weights sum to one, so both give the
    same.
    Returns (n, C, h, w).
    """
    weights = torch.tensor([float(t) for t in times], dtype=left.dtype, device=left.device).view(-1, 1, 1, 1)
    return torch.lerp(left.unsqueeze(0), right.unsqueeze(0), weights)


def gather(x: Tensor, displacement: Tensor) -> Tensor:
    """x (C, h, w) read bilinearly at every pixel plus its displacement (n, 2, h, w), (x, y) in pixels: (n, C, h, w).

    Positions outside are clamped to the border. In pixel coordinates, unlike `grid_sample`: a displacement of zero
    gives x back exactly, and constants stay constant.
    """
    height, width = x.shape[-2:]
    columns = (torch.arange(width, device=x.device, dtype=torch.float32) + displacement[:, 0]).clamp_(0, width - 1)
    rows = torch.arange(height, device=x.device, dtype=torch.float32).view(-1, 1) + displacement[:, 1]
    rows = rows.clamp_(0, height - 1)
    # Positions are not negative, so this is the floor; 32-bit indices with index_select are the fastest way to read.
    left, top = columns.int(), rows.int()
    across, down = (columns - left).to(x.dtype).unsqueeze(0), (rows - top).to(x.dtype).unsqueeze(0)
    start = top * width + left
    step_right = (left < width - 1).int()
    step_down = (top < height - 1).int() * width
    flat = x.flatten(1)

    def corner(index: Tensor) -> Tensor:
        return flat.index_select(1, index.flatten()).view(-1, *index.shape)

    upper = torch.lerp(corner(start), corner(start + step_right), across)
    start = start + step_down
    lower = torch.lerp(corner(start), corner(start + step_right), across)
    return torch.lerp(upper, lower, down).movedim(0, 1)


@dataclass(frozen=True)
class Fields:
    """Where the pixels of n instants come from, on one grid.

    Attributes:
        to_left: (n, 2, h, w) displacement (x, y), in pixels of this grid, from an instant's pixel to its place in the
            left keyframe.
        to_right: the same to the right keyframe.
        right_share: (n, 1, h, w), the weight of the right keyframe; the left one has the rest.
    """

    to_left: Tensor
    to_right: Tensor
    right_share: Tensor

    @property
    def byte_count(self) -> int:
        return self.to_left.nbytes + self.to_right.nbytes + self.right_share.nbytes

    def on(self, height: int, width: int) -> Fields:
        """The same fields on another grid over the same picture."""
        if self.to_left.shape[-2:] == (height, width):
            return self
        ratio = self.to_left.new_tensor([width / self.to_left.shape[-1], height / self.to_left.shape[-2]]).view(2, 1, 1)
        to_left, to_right, right_share = (
            F.interpolate(field, (height, width), mode="bilinear", antialias=True, align_corners=False)
            for field in (self.to_left, self.to_right, self.right_share)
        )
        return Fields(to_left * ratio, to_right * ratio, right_share)

    def pooled(self, stride: int, height: int, width: int) -> Fields:
        """The fields of features of this stride, whose grid (height, width) may reach past the picture by padding."""

        def pool(field: Tensor) -> Tensor:
            below, right = height * stride - field.shape[-2], width * stride - field.shape[-1]
            return F.avg_pool2d(F.pad(field, (0, right, 0, below), mode="replicate"), stride)

        return Fields(pool(self.to_left) / stride, pool(self.to_right) / stride, pool(self.right_share))

    def since(self, row: int) -> Fields:
        """The fields without those of the first `row` instants."""
        return Fields(self.to_left[row:], self.to_right[row:], self.right_share[row:])

    def to(self, device: torch.device | str) -> Fields:
        """The same fields on another device."""
        return Fields(self.to_left.to(device), self.to_right.to(device), self.right_share.to(device))

    def blend(self, left: Tensor, right: Tensor) -> Tensor:
        """Both keyframes (C, h, w), moved to every instant and blended: (n, C, h, w)."""
        return torch.lerp(gather(left, self.to_left), gather(right, self.to_right), self.right_share)
