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
    """Instance norm, then ReLU, leaky if it has a slope. (B, C, H, W) -> same."""

    def __init__(self, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        x = F.instance_norm(x)
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


class ResidualBlock(nn.Module):
    """x + f(x) with f of one or two 3x3 convolutions, each normed; no ReLU after the sum (JWDM Table 4, method J1).

    With one convolution f is conv-norm-ReLU as the table prints it; with two it is conv-norm-ReLU-conv-norm (CycleGAN,
    StarGAN). Where the number of channels changes, x passes through a 1x1 convolution (He et al. 2015).

    Args:
        outputs: channels that come out; None for as many as go in.
        slope: of leaky ReLUs.
        norm: without it the norms are left out, and the convolutions have biases.
    """

    def __init__(
        self,
        channels: int,
        convs: int = 2,
        padding_mode: Padding = "zeros",
        *,
        outputs: int | None = None,
        slope: float = 0.0,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if convs not in (1, 2):
            raise ValueError("a residual block has one or two convolutions")
        outputs = channels if outputs is None else outputs

        def conv3(inputs: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm, padding_mode=padding_mode)

        layers: list[nn.Module] = [conv3(channels), NormReLU(slope) if norm else nn.LeakyReLU(slope)]
        if convs == 2:
            layers.append(conv3(outputs))
            if norm:
                layers.append(nn.InstanceNorm2d(outputs))
        self.body = nn.Sequential(*layers)
        self.skip = nn.Identity() if outputs == channels else nn.Conv2d(channels, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class Upsample2(nn.Module):
    """Twice the height and width by one of two first layers, then instance norm and ReLU.

    Args:
        kind: "transposed" is Table 4's K3 S2 P1 with output padding 1 (method J3: without it 32 would become 63);
            "resize" repeats pixels and convolves, which leaves no checkerboard.
        slope, norm: as in ResidualBlock.
    """

    def __init__(self, inputs: int, outputs: int, kind: str, *, slope: float = 0.0, norm: bool = True) -> None:
        super().__init__()
        first: list[nn.Module]
        if kind == "transposed":
            first = [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=not norm)]
        elif kind == "resize":
            repeat = nn.Upsample(scale_factor=2, mode="nearest")
            first = [repeat, nn.Conv2d(inputs, outputs, 3, padding=1, bias=not norm)]
        else:
            raise ValueError(f"upsampling must be transposed or resize, not {kind!r}")
        self.body = nn.Sequential(*first, NormReLU(slope) if norm else nn.LeakyReLU(slope))

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
