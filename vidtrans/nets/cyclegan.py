"""CycleGAN (Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial networks", 2017)."""

from __future__ import annotations

from torch import nn

from vidtrans.nets.blocks import NormReLU, ResidualBlock, Upsample2, conv, init_normal


class Generator(nn.Sequential):
    """The paper's generator: (B, 3, H, W) in [-1, 1] of one domain -> the same of another; H and W multiples of 4.

    7x7, two stride-2 3x3, `blocks` residual blocks, two transposed 3x3 and 7x7 convolutions, reflected borders,
    instance norm. Nine blocks for pictures of 256 pixels and more, six below: 11.4 M and 7.8 M parameters at width 64.
    """

    def __init__(self, width: int = 64, blocks: int = 9) -> None:
        w = width
        super().__init__(
            conv(3, w, 7, padding=3, padding_mode="reflect"),
            NormReLU(),
            conv(w, 2 * w, 3, 2, padding=1),
            NormReLU(),
            conv(2 * w, 4 * w, 3, 2, padding=1),
            NormReLU(),
            *(ResidualBlock(4 * w, padding_mode="reflect") for _ in range(blocks)),
            Upsample2(4 * w, 2 * w, "transposed"),
            Upsample2(2 * w, w, "transposed"),
            nn.Conv2d(w, 3, 7, padding=3, padding_mode="reflect"),
            nn.Tanh(),
        )
        init_normal(self)
