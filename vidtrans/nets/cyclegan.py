"""CycleGAN (Zhu et al., "Unpaired image-to-image translation using cycle-consistent adversarial networks", 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from torch import Tensor, nn

from vidtrans.errors import UsageError
from vidtrans.nets.blocks import NormReLU, ResidualBlock, Upsample2, conv, init_normal
from vidtrans.nets.config import NetConfig
from vidtrans.nets.contract import Domain, SizeFacts, direction
from vidtrans.nets.heads import LABEL_HEADS, Heads

MOST_DOMAINS = 8  # n domains have n (n - 1) generators


@dataclass(frozen=True)
class CycleGANConfig(NetConfig):
    """The shape of a CycleGAN; it is saved with the weights. The defaults are the paper's.

    Attributes:
        domains: two in the paper; every ordered pair has a generator of its own, so at most MOST_DOMAINS.
        width: channels of a generator's first layer; the next have 2 and 4 times as many.
        blocks: residual blocks of a generator, nine for pictures of 256 pixels and more, six below.
        upsampling: "transposed" (the paper) or "resize" (no checkerboards).
        label_head: "tanh" paints labels as a picture (the paper); "palette" gives one score per class.
        trained_size: (width, height) in pixels of the training frames.
    """

    domains: tuple[Domain, ...]
    width: int = 64
    blocks: int = 9
    upsampling: str = "transposed"
    label_head: str = "tanh"
    trained_size: tuple[int, int] = (256, 256)

    most: ClassVar[dict[str, int]] = {"width": 1024, "blocks": 100}
    choices: ClassVar[dict[str, tuple[object, ...]]] = {
        "upsampling": ("transposed", "resize"),
        "label_head": LABEL_HEADS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_few(self.domains)


class Generator(nn.Sequential):
    """The paper's generator: (B, 3, H, W) in [-1, 1] of one domain -> another's; H and W multiples of 4, at least 8.

    7x7, two stride-2 3x3, `blocks` residual blocks, two transposed 3x3 and 7x7 convolutions, reflected borders,
    instance norm. Nine blocks for pictures of 256 pixels and more, six below: 11.4 M and 7.8 M parameters at width 64.
    """

    def __init__(
        self, width: int = 64, blocks: int = 9, upsampling: str = "transposed", outputs: int = 3, tanh: bool = True
    ) -> None:
        w = width
        super().__init__(
            conv(3, w, 7, padding=3, padding_mode="reflect"),
            NormReLU(),
            conv(w, 2 * w, 3, 2, padding=1),
            NormReLU(),
            conv(2 * w, 4 * w, 3, 2, padding=1),
            NormReLU(),
            *(ResidualBlock(4 * w, padding_mode="reflect") for _ in range(blocks)),
            Upsample2(4 * w, 2 * w, upsampling),
            Upsample2(2 * w, w, upsampling),
            nn.Conv2d(w, outputs, 7, padding=3, padding_mode="reflect"),
            *([nn.Tanh()] if tanh else []),
        )
        init_normal(self)


class CycleGAN(Heads):
    """A generator for every ordered pair of domains. It keeps the contract `Translator` of nets/contract.py."""

    family = "cyclegan"
    shares_latent = False
    clip = 1
    clip_multiple = 1

    def __init__(self, config: CycleGANConfig) -> None:
        super().__init__(config)
        # Reflected borders and instance norm need more than one position where the picture is smallest, at a quarter.
        self.sizes = SizeFacts(multiple=4, minimum=8, trained=config.trained_size)
        self.generators = nn.ModuleDict(
            {
                way(source.name, target.name): Generator(
                    config.width, config.blocks, config.upsampling, *self.head(target)
                )
                for source, target in permutations(config.domains, 2)
            }
        )

    def translate(self, x: Tensor, source: str, target: str) -> Tensor:
        """(B, 3, H, W) in [-1, 1] of `source` -> the same of `target`, or (B, K, H, W) class scores (`has_scores`).

        Raises:
            UsageError: a domain that is not there, or the same one twice.
        """
        return generator_of(self, source, target)(x)


def way(source: str, target: str) -> str:
    """A generator's name."""
    return f"{source} to {target}"


def generator_of(net: Heads, source: str, target: str) -> nn.Module:
    """The generator of a direction.

    Raises:
        UsageError: a domain that is not there, or the same one twice.
    """
    source, target = direction(net.domains, target, source)
    generators = net.generators
    assert isinstance(generators, nn.ModuleDict)
    return generators[way(source, target)]


def check_few(domains: tuple[Domain, ...]) -> None:
    """Whether a generator for every ordered pair is still sensible.

    Raises:
        UsageError: there are more than MOST_DOMAINS domains.
    """
    if len(domains) > MOST_DOMAINS:
        raise UsageError(
            f"{len(domains)} domains would need {len(domains) * (len(domains) - 1)} generators; a CycleGAN takes at "
            f"most {MOST_DOMAINS} domains, jwdm any number"
        )
