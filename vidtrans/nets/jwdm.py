"""Joint Wasserstein Distribution Matching (JWDM, journal name JWAE), Table 4: one encoder and one decoder per domain.

Every domain's encoder maps into one latent space, so a latent of one domain can be decoded in any other, and latents
of two keyframes can be blended. Decisions where the paper is silent or contradicts itself are numbered as in
docs/method.md (J1-J7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vidtrans.nets.blocks import NormReLU, ResidualBlock, Upsample2, conv, init_normal
from vidtrans.nets.config import NetConfig
from vidtrans.nets.contract import Domain, SizeFacts
from vidtrans.nets.heads import LABEL_HEADS, Heads


@dataclass(frozen=True)
class JWDMConfig(NetConfig):
    """The shape of a JWDM net; it is saved with the weights. The defaults are the paper's.

    Attributes:
        domains: two in the paper, any number here.
        width: channels of the first layer (Table 4: 64); the next layers have 2 and 4 times as many.
        latent_channels: Nz, 256 in the paper.
        blocks: residual blocks in each encoder and each decoder (6; J2).
        res_convs: convolutions in a residual block (2; J1).
        shared_trunk: one encoder for all domains, and one decoder up to its last block; only the upsampling and the
            output are a domain's own. False in the paper (J24); UNIT shares in this way. For domains that differ
            little, such as seasons: what two decoders would each get wrong in their own way is the same in both.
        embedding: "relu" is Table 4's norm and ReLU, so z >= 0; "linear" leaves the embedding bare (J4).
        upsampling: "transposed" (Table 4, J3) or "resize" (no checkerboards).
        label_head: "tanh" paints labels as a picture (the paper); "palette" gives one score per class, whose softmax
            weighs the palette's colours.
        trained_size: (width, height) in pixels of the training frames.
    """

    domains: tuple[Domain, ...]
    width: int = 64
    latent_channels: int = 256
    blocks: int = 6
    res_convs: int = 2
    shared_trunk: bool = False
    embedding: str = "relu"
    upsampling: str = "transposed"
    label_head: str = "tanh"
    trained_size: tuple[int, int] = (128, 128)

    most: ClassVar[dict[str, int]] = {"width": 1024, "latent_channels": 4096, "blocks": 100}
    choices: ClassVar[dict[str, tuple[object, ...]]] = {
        "res_convs": (1, 2),
        "shared_trunk": (False, True),
        "embedding": ("relu", "linear"),
        "upsampling": ("transposed", "resize"),
        "label_head": LABEL_HEADS,
    }


EMBED_KERNEL = (
    8  # Table 4: the embedding is an 8x8 convolution without padding, the decoder's first layer its transpose
)


class Encoder(nn.Sequential):
    """Table 4, upper half: (B, 3, H, W) -> z (B, Nz, H/4 - 7, W/4 - 7). 11.65 M parameters at width 64."""

    def __init__(self, config: JWDMConfig) -> None:
        w = config.width
        embed: list[nn.Module] = [conv(4 * w, config.latent_channels, EMBED_KERNEL, padding=0)]
        if config.embedding == "relu":
            embed.append(NormReLU())
        super().__init__(
            conv(3, w, 7, padding=3),
            NormReLU(),
            conv(w, 2 * w, 3, 2, padding=1),
            NormReLU(),
            conv(2 * w, 4 * w, 3, 2, padding=1),
            NormReLU(),
            *(ResidualBlock(4 * w, config.res_convs) for _ in range(config.blocks)),
            *embed,
        )


class Decoder(nn.Module):
    """Table 4, lower half: z -> (B, 3 or K, H, W). 11.65 M parameters at width 64.

    `lift` is its first layer, the 8x8 transposed convolution. It is linear, so lifted features may be blended in place
    of
    latents: L((1-t) z0 + t z1) = (1-t) L(z0) + t L(z1).
    """

    def __init__(self, config: JWDMConfig, outputs: int, tanh: bool) -> None:
        super().__init__()
        w = config.width
        self.lift = nn.ConvTranspose2d(config.latent_channels, 4 * w, EMBED_KERNEL, bias=False)
        self.finish = nn.Sequential(
            NormReLU(),
            *(ResidualBlock(4 * w, config.res_convs) for _ in range(config.blocks)),
            Upsample2(4 * w, 2 * w, config.upsampling),
            Upsample2(2 * w, w, config.upsampling),
            nn.Conv2d(w, outputs, 7, padding=3),
            *([nn.Tanh()] if tanh else []),
        )


class OwnEnd(nn.Module):
    """What is a domain's own of a decoder whose beginning is shared; its parameters have the names of a whole one's."""

    def __init__(self, whole: Decoder, blocks: int) -> None:
        super().__init__()
        self.finish = whole.finish[1 + blocks :]


class JWDM(Heads):
    """Encoders and decoders of all domains; no weights are shared between domains (J24), or all trunks are one.

    Fields: family, config, domains, sizes, shares_latent, lift_norm (see nets/contract.py).
    """

    family = "jwdm"
    shares_latent = True
    lift_norm = "instance_relu"
    config: JWDMConfig

    def __init__(self, config: JWDMConfig) -> None:
        super().__init__(config)
        # 36: the 8x8 embedding needs more than one position left, or instance norm has nothing to measure.
        self.sizes = SizeFacts(multiple=4, minimum=36, trained=config.trained_size)
        decoders = {domain.name: Decoder(config, *self.head(domain)) for domain in config.domains}
        if config.shared_trunk:
            self.shared_encoder = Encoder(config)
            self.shared_decoder = next(iter(decoders.values()))
            self.decoders = nn.ModuleDict({name: OwnEnd(whole, config.blocks) for name, whole in decoders.items()})
            self.shared_decoder.finish = self.shared_decoder.finish[: 1 + config.blocks]
        else:
            self.encoders = nn.ModuleDict({domain.name: Encoder(config) for domain in config.domains})
            self.decoders = nn.ModuleDict(decoders)
        init_normal(self)

    def parts(self) -> list[nn.Module]:
        """Every module that is called as a whole, once."""
        encoders = [part for part in self.modules() if isinstance(part, Encoder)]
        whole = [part for part in self.modules() if isinstance(part, Decoder)]
        ends = [part.finish for part in self.decoders.values() if isinstance(part, OwnEnd)]
        return [*encoders, *(part for each in whole for part in (each.lift, each.finish)), *ends]

    def encode(self, x: Tensor, domain: str) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> z (B, Nz, H/4 - 7, W/4 - 7). H and W: multiples of 4, at least 36."""
        encoder = self.shared_encoder if self.config.shared_trunk else self.encoders[domain]
        return encoder(x)

    def lift(self, z: Tensor, domain: str) -> Tensor:
        """z -> (B, 4 * width, H/4, W/4), the decoder's first, linear layer."""
        return self._decoder(domain).lift(z)

    def finish(self, a: Tensor, domain: str) -> Tensor:
        """Lifted features -> (B, 3, H, W) in [-1, 1], or (B, K, H, W) class scores (see `has_scores`)."""
        return self.end(self._decoder(domain).finish(a), domain)

    def trunk(self, z: Tensor) -> Tensor:
        """z -> (B, 4 * width, H/4, W/4), what all decoders have in common; only where they share it."""
        return self.shared_decoder.finish(self.shared_decoder.lift(z))

    def freeze_trunk(self) -> None:
        """What all domains share learns no more."""
        self.shared_encoder.requires_grad_(False)
        self.shared_decoder.requires_grad_(False)

    def end(self, features: Tensor, domain: str) -> Tensor:
        """What `trunk` gave -> what `finish` gives. Without a shared trunk a decoder is whole, and nothing is left."""
        own = self.decoders[domain]
        return own.finish(features) if isinstance(own, OwnEnd) else features

    def finish_normed(self, a: Tensor, domain: str) -> Tensor:
        """`finish` of features that have been through its first instance norm and ReLU already."""
        return self.end(self._decoder(domain).finish[1:](a), domain)

    def decode(self, z: Tensor, domain: str) -> Tensor:
        """z -> (B, 3, H, W) in [-1, 1]."""
        return self.colour(self.finish(self.lift(z, domain), domain), domain)

    def _decoder(self, domain: str) -> Decoder:
        decoder = self.shared_decoder if self.config.shared_trunk else self.decoders[domain]
        assert isinstance(decoder, Decoder)
        return decoder
