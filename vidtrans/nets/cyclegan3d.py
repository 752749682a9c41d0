"""3D CycleGAN (Bashkirova et al., "Unsupervised video-to-video translation", 2018): whole clips at once.

Decisions where paper and code differ are numbered as in docs/method.md (V1-V17).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.errors import UsageError
from vidtrans.nets.blocks import Padding, init_normal
from vidtrans.nets.config import NetConfig
from vidtrans.nets.contract import Domain, SizeFacts
from vidtrans.nets.cyclegan import check_few, generator_of, way
from vidtrans.nets.heads import LABEL_HEADS, Heads

MULTIPLE = 4  # frames, rows and columns of a clip: two layers halve all three
SHORTEST = 8  # frames of a clip: two are left where it is shortest, and one cannot be reflected


@dataclass(frozen=True)
class CycleGAN3DConfig(NetConfig):
    """The shape of a 3D CycleGAN; it is saved with the weights. The defaults are those of the paper's code.

    Attributes:
        domains: two in the paper; every ordered pair has a generator of its own, so at most cyclegan.MOST_DOMAINS.
        clip: frames translated at once, and trained on; a multiple of 4, at least 8 (8 in the paper's street scenes).
        width: channels of a generator's first layer; the next have 2 and 4 times as many.
        blocks: residual blocks of a generator.
        kernel: of its first and last layer, 7 in the code, 3 in the paper's text (V2).
        norm: "batch" or "instance", see `ClipNorm` (V16).
        upsampling: "transposed" (the paper) or "resize" (no checkerboards).
        label_head: "tanh" paints labels as a picture (the paper); "palette" gives one score per class.
        trained_size: (width, height) in pixels of the training frames.
    """

    domains: tuple[Domain, ...]
    clip: int = 8
    width: int = 64
    blocks: int = 9
    kernel: int = 7
    norm: str = "batch"
    upsampling: str = "transposed"
    label_head: str = "tanh"
    trained_size: tuple[int, int] = (192, 108)

    most: ClassVar[dict[str, int]] = {"clip": 256, "width": 1024, "blocks": 100}
    choices: ClassVar[dict[str, tuple[object, ...]]] = {
        "kernel": (3, 7),
        "norm": ("batch", "instance"),
        "upsampling": ("transposed", "resize"),
        "label_head": LABEL_HEADS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_few(self.domains)
        if self.clip % MULTIPLE or self.clip < SHORTEST:
            raise UsageError(
                f"a clip of cyclegan3d has a number of frames divisible by {MULTIPLE}, {SHORTEST} or more, not "
                f"{self.clip}; set data.clip"
            )


class ClipNorm(nn.Module):
    """Norm of every channel by its mean and variance over time, height and width of each clip: (B, C, T, H, W) -> same.

    learned: with scale and shift. That is what the paper's code does: a batch norm that never leaves its training mode,
    on batches of one clip (V16). Here it stays so for any batch, so that clips do not see each other.
    """

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels)) if learned else None
        self.shift = nn.Parameter(torch.zeros(channels)) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, weight=self.scale, bias=self.shift)


def conv3d(inputs: int, outputs: int, kernel: int, stride: int = 1, *, reflect: bool) -> nn.Conv3d:
    """A convolution that a norm follows, same in all three axes."""
    mode: Padding = "reflect" if reflect else "zeros"
    return nn.Conv3d(inputs, outputs, kernel, stride, kernel // 2, bias=False, padding_mode=mode)


class ResidualBlock3d(nn.Module):
    """x + f(x), f: 3x3x3, norm, ReLU, 3x3x3, norm; reflected borders."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv3d(channels, channels, 3, reflect=True),
            ClipNorm(channels, learned),
            nn.ReLU(),
            conv3d(channels, channels, 3, reflect=True),
            ClipNorm(channels, learned),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator3d(nn.Module):
    """A clip (B, T, 3, H, W) in [-1, 1] of one domain -> another's, (B, T, outputs, H, W).

    `kernel`^3 with reflected borders, two stride-2 3x3x3, `blocks` residual blocks, two transposed 3x3x3, `kernel`^3.
    T, H and W: multiples of 4, at least 8. 34.2 M parameters at width 64 with nine blocks.
    """

    def __init__(self, config: CycleGAN3DConfig, outputs: int, tanh: bool) -> None:
        super().__init__()
        w, learned = config.width, config.norm == "batch"

        def normed(layer: nn.Module, channels: int) -> list[nn.Module]:
            return [layer, ClipNorm(channels, learned), nn.ReLU()]

        def twice(inputs: int, outputs: int) -> nn.Module:
            if config.upsampling == "transposed":
                return nn.ConvTranspose3d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False)
            return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv3d(inputs, outputs, 3, reflect=False))

        k = config.kernel
        self.body = nn.Sequential(
            *normed(conv3d(3, w, k, reflect=True), w),
            *normed(conv3d(w, 2 * w, 3, 2, reflect=False), 2 * w),
            *normed(conv3d(2 * w, 4 * w, 3, 2, reflect=False), 4 * w),
            *(ResidualBlock3d(4 * w, learned) for _ in range(config.blocks)),
            *normed(twice(4 * w, 2 * w), 2 * w),
            *normed(twice(2 * w, w), w),
            nn.Conv3d(w, outputs, k, padding=k // 2, padding_mode="reflect"),
            *([nn.Tanh()] if tanh else []),
        )
        init_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.movedim(2, 1)).movedim(1, 2)


class CycleGAN3D(Heads):
    """A generator of clips for every ordered pair of domains. It keeps the contract `Translator` of nets/contract.py.

    Videos of any length are translated in windows of `clip` frames (nets/windows.py).
    """

    family = "cyclegan3d"
    shares_latent = False
    clip_multiple = MULTIPLE

    def __init__(self, config: CycleGAN3DConfig) -> None:
        super().__init__(config)
        self.clip = config.clip
        self.sizes = SizeFacts(multiple=MULTIPLE, minimum=8, trained=config.trained_size)
        self.generators = nn.ModuleDict(
            {
                way(source.name, target.name): Generator3d(config, *self.head(target))
                for source, target in permutations(config.domains, 2)
            }
        )

    def translate(self, x: Tensor, source: str, target: str) -> Tensor:
        """Clips (B, T, 3, H, W) in [-1, 1] of `source` -> the same of `target`, or (B, T, K, H, W) class scores.

        T: a multiple of 4, at least 8.

        Raises:
            UsageError: a domain that is not there, or the same one twice.
        """
        return generator_of(self, source, target)(x)
