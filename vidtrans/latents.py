"""The blend of two keyframes' features, plain torch: the reference that every faster blend must equal."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor


def blend(left: Tensor, right: Tensor, times: Sequence[Fraction]) -> Tensor:
    """(1 - t) left + t right for every t (JWDM Algorithm 2, with t ascending from the left keyframe: t = 1 - rho, J13).

    left, right: (C, h, w), latents or lifted features; lifting is linear and the weights sum to one, so both give the
    same.
    Returns (n, C, h, w).
    """
    weights = torch.tensor([float(t) for t in times], dtype=left.dtype, device=left.device).view(-1, 1, 1, 1)
    return torch.lerp(left.unsqueeze(0), right.unsqueeze(0), weights)
