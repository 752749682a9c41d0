"""The adversaries: Dx and Dy look at pictures, Dz at latents. All give logits; "real" is positive."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from vidtrans.errors import UsageError, nearest_names
from vidtrans.nets.blocks import coordinates, init_normal
from vidtrans.nets.cyclegan3d import ClipNorm


class Table5(nn.Sequential):
    """JWDM Table 5: six 4x4 stride-2 convolutions, no norm, a 3x3 head. (B, 3, H, W) -> (B, 1, H/64, W/64).

    44.7 M parameters at width 64 without biases. Slope 0.01 and the bias-free head are StarGAN's, whose table it is
    (J7).
    """

    def __init__(self, width: int = 64, slope: float = 0.01) -> None:
        channels = [3, *(width * 2**layer for layer in range(6))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Conv2d(channels[-1], 1, 3, 1, 1, bias=False))
        init_normal(self)


class UnitTable3(nn.Sequential):
    """UNIT Table 3, lower part: five 3x3 stride-2 convolutions, no norm, a 2x2 head (U11 for the slope).

    (B, 3, H, W) -> (B, 1, ceil(H/32) - 1, ceil(W/32) - 1), H and W at least 33. 6.27 M parameters at width 64.
    """

    def __init__(self, width: int = 64, slope: float = 0.01) -> None:
        channels = [3, *(width * 2**layer for layer in range(5))]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Conv2d(channels[-1], 1, 2))
        init_normal(self)


class Patch70(nn.Sequential):
    """CycleGAN's 70x70 PatchGAN (J6 names it as the alternative). (B, 3, H, W) -> (B, 1, H/8 - 2, W/8 - 2)."""

    def __init__(self, width: int = 64, slope: float = 0.2) -> None:
        w = width
        super().__init__(
            nn.Conv2d(3, w, 4, 2, 1),
            nn.LeakyReLU(slope),
            *self._normed(w, 2 * w, 2, slope),
            *self._normed(2 * w, 4 * w, 2, slope),
            *self._normed(4 * w, 8 * w, 1, slope),
            nn.Conv2d(8 * w, 1, 4, 1, 1),
        )
        init_normal(self)

    @staticmethod
    def _normed(inputs: int, outputs: int, stride: int, slope: float) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 4, stride, 1, bias=False), nn.InstanceNorm2d(outputs), nn.LeakyReLU(slope)]


# Spectral norm alone bounds the logits so tightly that the discriminator stayed at chance beside its generators; times
# 8 it learns about as fast as one without norm, and still cannot run away.
LOGIT_GAIN = 8.0


class CoordinatePatch(nn.Module):
    """Our own default: four stride-2 layers with spectral norm that also see where in the frame they look.

    Unpaired training leaves it open which class is which; position (sky above, road below) is what settles it, so two
    coordinate channels are added. Spectral norm keeps the adversary from overpowering the generators. (B, 3, H, W) ->
    (B, 1, H/16, W/16).
    """

    def __init__(self, width: int = 64, slope: float = 0.2, layers: int = 4) -> None:
        super().__init__()
        channels = [5, *(width * 2**layer for layer in range(layers))]
        body: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            body += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(slope)]
        self.body = nn.Sequential(*body, nn.Conv2d(channels[-1], 1, 3, 1, 1))
        init_normal(self)
        for part in self.body:
            if isinstance(part, nn.Conv2d):
                spectral_norm(part)

    def forward(self, x: Tensor) -> Tensor:
        return LOGIT_GAIN * self.body(torch.cat([x, coordinates(x)], 1))


class CoarsePatch(nn.Module):
    """For photos into photos: no norm, at half the resolution, and it sees where in the frame it looks.

    What sets two seasons apart is the colour of things and places; at full resolution a discriminator finds how a
    decoder draws instead, and under a spectral norm this one would be too smooth to ask for snow. With least squares
    ("lsgan") it stays near balance beside its generators. (B, 3, H, W) -> (B, 1, H/32, W/32), H and W at least 32.
    """

    def __init__(self, width: int = 64, slope: float = 0.2, layers: int = 4) -> None:
        super().__init__()
        channels = [5, *(width * min(2**layer, 6) for layer in range(layers))]
        body: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            body += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(slope)]
        self.body = nn.Sequential(*body, nn.Conv2d(channels[-1], 1, 3, 1, 1))
        for part in self.body:
            if isinstance(part, nn.Conv2d):
                # No norm would make up for small numbers: they must pass the layers at their own size.
                nn.init.kaiming_normal_(part.weight, slope)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 2)
        return self.body(torch.cat([half, coordinates(half)], 1))


class SameConv3d(nn.Conv3d):
    """4x4x4, padded with zeros so that ceil(n / stride) of n positions stay, one more at the end where it is odd."""

    KERNEL = 4

    def __init__(self, inputs: int, outputs: int, stride: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, self.KERNEL, stride, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for length, stride in zip(reversed(x.shape[-3:]), reversed(self.stride), strict=True):
            missing = max((-(-length // stride) - 1) * stride + self.KERNEL - length, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(F.pad(x, pads))


class Patch3d(nn.Module):
    """The PatchGAN of the 3D CycleGAN's code: (B, T, 3, H, W) -> (B, 1, T/8, H/8, W/8), rounded up.

    Like Patch70, with 4x4x4 convolutions and the norm of the generators; 11.1 M parameters at width 64. Its borders
    keep the sizes (SameConv3d), or nothing would be left of eight frames.
    """

    def __init__(self, width: int = 64, slope: float = 0.2, norm: str = "batch", places: bool = False) -> None:
        """places: it also sees where in the frame it looks, as CoordinatePatch does. norm: see nets.cyclegan3d."""
        super().__init__()
        w = width
        self._places = places

        def normed(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            conv = SameConv3d(inputs, outputs, stride, bias=False)
            return [conv, ClipNorm(outputs, norm == "batch"), nn.LeakyReLU(slope)]

        self.body = nn.Sequential(
            SameConv3d(5 if places else 3, w, 2, bias=True),
            nn.LeakyReLU(slope),
            *normed(w, 2 * w, 2),
            *normed(2 * w, 4 * w, 2),
            *normed(4 * w, 8 * w, 1),
            SameConv3d(8 * w, 1, 1, bias=True),
        )
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        if self._places:
            where = coordinates(x[:, 0]).unsqueeze(1).expand(-1, x.shape[1], -1, -1, -1)
            x = torch.cat([x, where], 2)
        return self.body(x.movedim(2, 1))


class LatentDiscriminator(nn.Sequential):
    """Dz: fully convolutional, so any latent size works (the paper gives none; J5). (B, Nz, h, w) -> (B, 1, h, w).

    kernel 1 judges every position's vector by itself, 3 also its neighbours.
    """

    def __init__(self, latent_channels: int, width: int = 512, kernel: int = 1, slope: float = 0.2) -> None:
        channels = [latent_channels, width, width, width]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(channels):
            layers += [nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2), nn.LeakyReLU(slope)]
        super().__init__(*layers, nn.Conv2d(width, 1, kernel, 1, kernel // 2))
        init_normal(self)


PICTURE_DISCRIMINATORS: dict[str, type[Table5 | UnitTable3 | Patch70 | CoordinatePatch | CoarsePatch]] = {
    "table5": Table5,
    "unit": UnitTable3,
    "patch70": Patch70,
    "coordinates": CoordinatePatch,
    "coarse": CoarsePatch,
}


def picture_discriminator(kind: str, width: int, slope: float | None = None) -> nn.Module:
    """A fresh Dx or Dy; slope: of its leaky ReLUs, None for the kind's own (J7).

    Raises:
        UsageError: no such kind.
    """
    if kind not in PICTURE_DISCRIMINATORS:
        raise UsageError(f"unknown discriminator {kind!r}; {nearest_names(kind, tuple(PICTURE_DISCRIMINATORS))}")
    own = PICTURE_DISCRIMINATORS[kind]
    return own(width) if slope is None else own(width, slope)
