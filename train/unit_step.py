"""One step of UNIT: forward, ascend the discriminators, descend encoders and generators, for any pair of domains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidtrans.nets.contract import Domain
from vidtrans.nets.unit import UNIT
from vidtrans.train import losses
from vidtrans.train.costs import Costs, Picture
from vidtrans.train.discriminators import picture_discriminator
from vidtrans.train.divergences import Played
from vidtrans.train.draws import Draws
from vidtrans.train.recipe import Recipe
from vidtrans.train.step import Batch, Step
from vidtrans.train.unit_options import UNITOptions


@dataclass
class Stream:
    """What one forward pass makes from one domain's batch, by way of the other domain; the paper's 1 is x's domain."""

    domain: Domain
    x: Tensor  # (B, 3, H, W)
    mean: Tensor  # E1(x), the middle of q1(z1|x1)
    own: Picture  # G1(z1 ~ q1(z1|x1)), the reconstruction
    translated: Picture  # G2(z1 ~ q1(z1|x1)), of the other domain
    mean_back: Tensor  # E2 of that translation, the middle of q2(z2|x1->2)
    cycled: Picture  # G1(z2 ~ q2(z2|x1->2))


class UNITStep(Step):
    """Encoders, generators and discriminators of all domains, and Eq. (2) for the pair that a step trains.

    Every domain has its own discriminator. With two domains every step is the paper's; with more, it is the paper's for
    one pair of them.
    """

    net: UNIT
    options: UNITOptions

    def __init__(self, net: UNIT, recipe: Recipe, device: torch.device) -> None:
        super().__init__(net, recipe, device)
        o = self.options
        self.costs = Costs(net, o)
        self.data = nn.ModuleDict(
            {
                domain.name: Played(o.divergence, picture_discriminator(o.discriminator, o.discriminator_width), 0.0)
                for domain in net.domains
            }
        )

    def discriminators(self) -> list[nn.Parameter]:
        return list(self.data.parameters())

    def parts(self) -> list[nn.Module]:
        net = self.net
        return [*net.encoders.values(), net.shared_encoder, net.shared_decoder, *net.decoders.values()]

    def forward(self, batch: Batch) -> tuple[Stream, Stream]:
        net, draws, (xd, yd), (x, y) = self.net, batch.draws, batch.domains, (batch.x, batch.y)
        with self.autocast():
            mx, my = net.encode(x, xd.name), net.encode(y, yd.name)
            zx, zy = sample(mx, "x", draws), sample(my, "y", draws)
            xx, yx = self._generated(xd, zx, zy)
            yy, xy = self._generated(yd, zy, zx)
            mxy = net.encode(self.costs.sent_back(xy, yd), yd.name)
            myx = net.encode(self.costs.sent_back(yx, xd), xd.name)
            (xyx,) = self._generated(xd, sample(mxy, "xy", draws))
            (yxy,) = self._generated(yd, sample(myx, "yx", draws))
        return Stream(xd, x, mx, xx, xy, mxy, xyx), Stream(yd, y, my, yy, yx, myx, yxy)

    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]:
        """VAE1 + VAE2, Eqs. (3), (4), alone."""
        terms: dict[str, Tensor] = {}
        rows = zip(self.letters(batch), batch.domains, (batch.x, batch.y), ("x", "y"), strict=True)
        for letter, domain, x, purpose in rows:
            with self.autocast():
                mean = self.net.encode(x, domain.name)
                (own,) = self._generated(domain, sample(mean, purpose, batch.draws))
            terms |= self._vae(own, x, mean, domain, letter)
        return terms

    def discriminator_loss(self, batch: Batch, streams: tuple[Stream, Stream]) -> dict[str, Tensor]:
        """The ascent on GAN1 + GAN2, Eqs. (5), (6): real pictures against translations, not reconstructions."""
        terms: dict[str, Tensor] = {}
        for letter, stream, other in zip(self.letters(batch), streams, reversed(streams), strict=True):
            shown = self.costs.shown(stream.x, [(1.0, other.translated.colours)], stream.domain)
            with self.autocast():
                ascent = self._data(stream.domain).ascent(*shown, batch.draws)
            terms[f"d{letter}"] = self.options.lambda_0 * ascent
        return terms

    def generator_loss(self, batch: Batch, streams: tuple[Stream, Stream]) -> dict[str, Tensor]:
        """The descent on Eq. (2)."""
        terms: dict[str, Tensor] = {}
        for letter, stream, other in zip(self.letters(batch), streams, reversed(streams), strict=True):
            terms |= self._vae(stream.own, stream.x, stream.mean, stream.domain, letter)
            terms |= self._gan(stream, other, batch.draws, letter)
            terms |= self._cycle(stream, letter)
        return terms

    def _vae(self, own: Picture, x: Tensor, mean: Tensor, domain: Domain, letter: str) -> dict[str, Tensor]:
        """VAE1, Eq. (3), and VAE2, Eq. (4): lambda_1 KL(q1(z1|x1) || p) - lambda_2 E log p_G1(x1|z1)."""
        o = self.options
        return {
            f"k{letter}": o.lambda_1 * latent_divergence(mean),
            f"r{letter}": o.lambda_2 * self.costs.reconstruction(own, x, domain),
        }

    def _gan(self, stream: Stream, other: Stream, draws: Draws, letter: str) -> dict[str, Tensor]:
        """GAN1, Eq. (5), and GAN2, Eq. (6), as the generators see them."""
        shown = self.costs.shown(stream.x, [(1.0, other.translated.colours)], stream.domain)
        with self.autocast():
            descent = self._data(stream.domain).descent(*shown, draws)
        return {f"g{letter}": self.options.lambda_0 * descent}

    def _cycle(self, stream: Stream, letter: str) -> dict[str, Tensor]:
        """CC1, Eq. (7), and CC2, Eq. (8).

        lambda_3 (KL(q1(z1|x1) || p) + KL(q2(z2|x1->2) || p)) - lambda_4 E log p_G1(x1|z2). The first divergence is in
        Eq. (3) too, and counts twice, as printed (U14).
        """
        o = self.options
        return {
            f"q{letter}": o.lambda_3 * (latent_divergence(stream.mean) + latent_divergence(stream.mean_back)),
            f"c{letter}": o.lambda_4 * self.costs.cycle(stream.cycled, stream.x, stream.domain),
        }

    def _generated(self, domain: Domain, *latents: Tensor) -> list[Picture]:
        """Pictures of a domain; all latents go through it as one batch, in which instance norm keeps samples apart."""
        outputs = self.net.finish(torch.cat(latents), domain.name).chunk(len(latents))
        return [self.costs.picture(out, domain) for out in outputs]

    def _data(self, domain: Domain) -> Played:
        found = self.data[domain.name]
        assert isinstance(found, Played)
        return found


def sample(mean: Tensor, purpose: str, draws: Draws) -> Tensor:
    """z ~ q(z|x) = N(mean, I): z = E_mu(x) + eta, eta ~ N(0, I) (section 3)."""
    return mean + draws.normal(f"noise {purpose}", mean)


def latent_divergence(mean: Tensor) -> Tensor:
    """KL(N(mean, I) || N(0, I)) = 1/2 |mean|^2, as a mean over all numbers of the latent (U7)."""
    return 0.5 * losses.full(mean).square().mean()
