"""UNIT (Liu, Breuel, Kautz, "Unsupervised image-to-image translation networks", 2017), Table 3.

One variational encoder and one generator per domain; the last residual block of all encoders is one and the same, and
so is the first of all generators, so that all domains share one latent space: a latent of one domain can be decoded in
any other, and latents of two keyframes can be blended. Decisions where the paper is silent or contradicts itself are
numbered as in docs/method.md (U1-U14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vidtrans.errors import UsageError
from vidtrans.nets.blocks import ResidualBlock, Upsample2, init_normal
from vidtrans.nets.config import NetConfig
from vidtrans.nets.contract import Domain, SizeFacts
from vidtrans.nets.heads import LABEL_HEADS, Heads

SLOPE = 0.01  # of all leaky ReLUs; the paper gives none, this is its code's (U11)


@dataclass(frozen=True)
class UNITConfig(NetConfig):
    """The shape of a UNIT net; it is saved with the weights. The defaults are the paper's.

    Attributes:
        domains: two in the paper, any number here.
        width: channels of the first layer (Table 3: 64); the next layers have 2 and 4 times as many.
        blocks: residual blocks in each encoder and each generator (4), the shared ones among them.
        shared_blocks: how many last ones of the encoders, and first ones of the generators, are shared (1; the paper's
            Figure 2b tries up to 4). 0 shares nothing.
        channels: of the residual blocks: "paper", 8 times the width (N512), which the first block is projected to;
            "official", 4 times, as in the authors' code (U1).
        norm: "instance" norms inside residual blocks, as in the code, or "none", as in the table (U8).
        upsampling: "transposed" (Table 3, U12) or "resize" (no checkerboards).
        label_head: "tanh" paints labels as a picture (the paper); "palette" gives one score per class, whose softmax
            weighs the palette's colours.
        trained_size: (width, height) in pixels of the training frames.
    """

    domains: tuple[Domain, ...]
    width: int = 64
    blocks: int = 4
    shared_blocks: int = 1
    channels: str = "paper"
    norm: str = "instance"
    upsampling: str = "transposed"
    label_head: str = "tanh"
    trained_size: tuple[int, int] = (128, 128)

    most: ClassVar[dict[str, int]] = {"width": 1024, "blocks": 100}
    choices: ClassVar[dict[str, tuple[object, ...]]] = {
        "channels": ("paper", "official"),
        "norm": ("instance", "none"),
        "upsampling": ("transposed", "resize"),
        "label_head": LABEL_HEADS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.shared_blocks) is not int or not 0 <= self.shared_blocks <= self.blocks:
            raise UsageError(
                f"shared_blocks must be a whole number from 0 to the {self.blocks} blocks, not {self.shared_blocks!r}"
            )

    @property
    def latent_channels(self) -> int:
        """Channels of the residual blocks, and of latents."""
        return self.width * (8 if self.channels == "paper" else 4)

    def residual_block(self, inputs: int) -> ResidualBlock:
        """RESBLK-(N512,K3,S1) for features of so many channels."""
        return ResidualBlock(inputs, outputs=self.latent_channels, slope=SLOPE, norm=self.norm == "instance")


class UNIT(Heads):
    """Encoders and generators of all domains.

    A latent is what the encoder's distribution has in its middle, E_mu(x): training adds noise to it (see
    train/unit_step.py), inference does not (U13). The first layer of a generator is a residual block, which is not
    affine: blending comes before it, so `lift` changes nothing.

    Fields: family, config, domains, sizes, shares_latent, lift_norm (see nets/contract.py).
    """

    family = "unit"
    shares_latent = True
    lift_norm = "none"
    config: UNITConfig

    def __init__(self, config: UNITConfig) -> None:
        super().__init__(config)
        # 8: a residual block's norm needs more than one position, or there is nothing to measure.
        self.sizes = SizeFacts(multiple=4, minimum=8, trained=config.trained_size)
        w, latent = config.width, config.latent_channels
        own, shared = config.blocks - config.shared_blocks, config.shared_blocks
        into = [4 * w, *[latent] * (config.blocks - 1)]  # channels that go into each block of an encoder
        encoders, decoders = {}, {}
        for domain in config.domains:
            encoders[domain.name] = nn.Sequential(
                nn.Conv2d(3, w, 7, padding=3),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(w, 2 * w, 3, 2, 1),
                nn.LeakyReLU(SLOPE),
                nn.Conv2d(2 * w, 4 * w, 3, 2, 1),
                nn.LeakyReLU(SLOPE),
                *(config.residual_block(inputs) for inputs in into[:own]),
            )
            outputs, tanh = self.head(domain)
            decoders[domain.name] = nn.Sequential(
                *(config.residual_block(latent) for _ in range(own)),
                Upsample2(latent, latent // 2, config.upsampling, slope=SLOPE, norm=False),
                Upsample2(latent // 2, latent // 4, config.upsampling, slope=SLOPE, norm=False),
                # DCONV-(N3,K1,S1): with one tap and stride 1 the transposed convolution is the ordinary one.
                nn.Conv2d(latent // 4, outputs, 1),
                *([nn.Tanh()] if tanh else []),
            )
        self.encoders = nn.ModuleDict(encoders)
        self.shared_encoder = nn.Sequential(*(config.residual_block(inputs) for inputs in into[own:]))
        self.shared_decoder = nn.Sequential(*(config.residual_block(latent) for _ in range(shared)))
        self.decoders = nn.ModuleDict(decoders)
        init_normal(self)

    def encode(self, x: Tensor, domain: str) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> E_mu(x) (B, 8 or 4 * width, H/4, W/4). H and W: multiples of 4, at least 8."""
        return self.shared_encoder(self.encoders[domain](x))

    def lift(self, z: Tensor, domain: str) -> Tensor:
        """z itself."""
        return z

    def finish(self, a: Tensor, domain: str) -> Tensor:
        """A latent -> (B, 3, H, W) in [-1, 1], or (B, K, H, W) class scores (see `has_scores`)."""
        return self.decoders[domain](self.shared_decoder(a))

    def decode(self, z: Tensor, domain: str) -> Tensor:
        """z -> (B, 3, H, W) in [-1, 1]."""
        return self.colour(self.finish(z, domain), domain)
