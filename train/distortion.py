"""Photos in other colours than their own, for encoders to see: what is left to tell one from another is structure."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.train.draws import Draws

CELLS = (4, 8)  # rows and columns of the random fields, which are read smoothly in between


def distorted(x: Tensor, strength: float, draws: Draws, purpose: str) -> Tensor:
    """x (B, 3, H, W) in [-1, 1] with random saturation, and random contrast and colour that change across the frame.

    Saturation is scaled by up to `strength` less, contrast by up to half of it up or down, and every channel shifted by
    up to `strength` either way. A decoder that has to give the true colours back learns how its domain looks where
    things have this structure, and so what to make of another domain's frame (after denoising autoencoders, Vincent
    2008).
    """

    def field(name: str, channels: int) -> Tensor:
        drawn = draws.uniform(f"{purpose} {name}", x.new_empty(len(x), channels, *CELLS)) * 2.0 - 1.0
        return F.interpolate(drawn, x.shape[-2:], mode="bilinear", align_corners=True)

    saturation = 1.0 - strength * draws.uniform(f"{purpose} saturation", x[:, :1, :1, :1])
    grey = x.mean(1, keepdim=True)
    pale = torch.lerp(grey, x, saturation)
    return (pale * (1.0 + strength / 2.0 * field("contrast", 1)) + strength * field("colour", 3)).clamp(-1.0, 1.0)
