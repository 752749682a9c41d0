"""Building blocks the families share.

Instance norm is without learned scale and shift, so convolutions before it need no bias.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Padding = Literal["zeros", "reflect"]


def conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, padding: int, padding_mode: Padding = "zeros"
) -> nn.Conv2d:
    """A convolution that an instance norm follows: no bias, the norm would remove it."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False, padding_mode=padding_mode)


class NormReLU(nn.Module):
    """Instance norm, then ReLU. (B, C, H, W) -> same."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.instance_norm(x))


class ResidualBlock(nn.Module):
    """x + f(x) with f of one or two 3x3 convolutions, each normed; no ReLU after the sum (JWDM Table 4, method J1).

    With one convolution f is conv-norm-ReLU as the table prints it; with two it is conv-norm-ReLU-conv-norm (CycleGAN,
    StarGAN).
    """

    def __init__(self, channels: int, convs: int = 2, padding_mode: Padding = "zeros") -> None:
        super().__init__()
        if convs not in (1, 2):
            raise ValueError("a residual block has one or two convolutions")
        layers: list[nn.Module] = [conv(channels, channels, 3, padding=1, padding_mode=padding_mode), NormReLU()]
        if convs == 2:
            layers.append(conv(channels, channels, 3, padding=1, padding_mode=padding_mode))
            layers.append(nn.InstanceNorm2d(channels))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Upsample2(nn.Module):
    """Twice the height and width by one of three first layers, then instance norm and ReLU.

    kind: "transposed" is Table 4's K3 S2 P1 with output padding 1 (method J3: without it 32 would become 63);
    "resize" repeats pixels and convolves, which leaves no checkerboard.
    """

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        first: list[nn.Module]
        if kind == "transposed":
            first = [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False)]
        elif kind == "resize":
            first = [nn.Upsample(scale_factor=2, mode="nearest"), conv(inputs, outputs, 3, padding=1)]
        else:
            raise ValueError(f"upsampling must be transposed or resize, not {kind!r}")
        self.body = nn.Sequential(*first, NormReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def init_normal(module: nn.Module, std: float = 0.02) -> None:
    """N(0, std) weights and zero biases for every convolution (CycleGAN; the papers leave it unstated)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Conv3d | nn.ConvTranspose3d):
            nn.init.normal_(part.weight, 0.0, std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def parameter_count(module: nn.Module) -> int:
    """Learned numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def coordinates(x: Tensor) -> Tensor:
    """Two channels that tell a convolution where it looks: y from -1 (top) to 1 and |x| from 1 (sides) to 0 (middle).

    |x|, not x: a street is about the same left and right, and the discriminator should not learn one drive's side.
    Shape (B, 2, H, W) like x.
    """
    batch, _, height, width = x.shape
    rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype).view(1, 1, height, 1)
    columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).abs().view(1, 1, 1, width)
    return torch.cat([rows.expand(batch, 1, height, width), columns.expand(batch, 1, height, width)], 1)
