"""In-betweens while training: which frame of a clip is made, and how, by the same arithmetic as `upsample`."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from vidtrans.latents import blend
from vidtrans.motion import estimate
from vidtrans.train.draws import Draws


def between_place(draws: Draws, clip: int) -> int:
    """Which frame of a clip this step makes from the clip's ends: 1 ... clip - 2, the same for all of its samples."""
    return 1 + draws.integer("between", clip - 2)


def between(lifted: Tensor, t: Fraction, keyframes: Tensor | None = None) -> Tensor:
    """The features of instant t between two keyframes: (B, C, h, w).

    Args:
        lifted: (B, 2, C, h, w), the left and the right keyframe's.
        t: in (0, 1), from the left keyframe on.
        keyframes: (B, 2, 3, H, W) in [-1, 1], whose motion the features follow; None blends in place (Algorithm 2).
            Where the motion of a sample is lost its features are blended in place, as `upsample` does.
    """
    return torch.cat(
        [
            _sample(left, right, t, None if keyframes is None else keyframes[row])
            for row, (left, right) in enumerate(lifted.unbind())
        ]
    )


def _sample(left: Tensor, right: Tensor, t: Fraction, keyframes: Tensor | None) -> Tensor:
    if keyframes is None:
        return blend(left, right, [t])
    height, width = keyframes.shape[-2:]
    pictures = ((keyframes.detach() + 1.0) * 127.5).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    motion = estimate(pictures[0], pictures[1])
    if motion.is_lost:
        return blend(left, right, [t])
    fields = motion.at([t]).to(left.device).on(height, width)
    return fields.pooled(height // left.shape[-2], *left.shape[-2:]).blend(left, right)
