"""One step of UNIT: forward, ascend the discriminators, descend encoders and generators, for any pair of domains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vidtrans.nets.contract import Domain
from vidtrans.nets.unit import UNIT
from vidtrans.train import losses
from vidtrans.train.draws import Draws
from vidtrans.train.pair_step import PairStep, Picture
from vidtrans.train.step import Batch
from vidtrans.train.unit_options import UNITOptions


@dataclass
class Stream:
    """What one forward pass makes from one domain's batch, by way of the other domain; the paper's 1 is x's domain."""

    domain: Domain  # of x
    other: Domain
    x: Tensor  # (B, 3, H, W)
    mean: Tensor  # E1(x), the middle of q1(z1|x1)
    own: Picture  # G1(z1 ~ q1(z1|x1)), the reconstruction
    translated: Picture  # G2(z1 ~ q1(z1|x1))
    mean_back: Tensor  # E2 of that translation, the middle of q2(z2|x1->2)
    cycled: Picture  # G1(z2 ~ q2(z2|x1->2))


class UNITStep(PairStep):
    """Encoders, generators and discriminators of all domains, and Eq. (2) for the pair that a step trains."""

    net: UNIT
    options: UNITOptions

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
            # A generator's two inputs go through it as one batch; instance norm keeps samples apart.
            xx, yx = self._decode_both(zx, zy, xd)
            yy, xy = self._decode_both(zy, zx, yd)
            mxy, myx = net.encode(self._sent_back(xy, yd), yd.name), net.encode(self._sent_back(yx, xd), xd.name)
            xyx = self._decode(sample(mxy, "xy", draws), xd)
            yxy = self._decode(sample(myx, "yx", draws), yd)
        return Stream(xd, yd, x, mx, xx, xy, mxy, xyx), Stream(yd, xd, y, my, yy, yx, myx, yxy)

    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]:
        """VAE1 + VAE2, Eqs. (3), (4), alone."""
        terms = {}
        rows = zip(self._letters(batch), batch.domains, (batch.x, batch.y), ("x", "y"), strict=True)
        for letter, domain, x, purpose in rows:
            with self.autocast():
                mean = self.net.encode(x, domain.name)
                own = self._decode(sample(mean, purpose, batch.draws), domain)
            terms |= self._vae(own, x, mean, domain, letter)
        return terms

    def discriminator_loss(self, batch: Batch, streams: tuple[Stream, Stream]) -> dict[str, Tensor]:
        """The ascent on GAN1 + GAN2, Eqs. (5), (6)."""
        terms = {}
        with self.autocast():
            for letter, stream, other in zip(self._letters(batch), streams, streams[::-1], strict=True):
                made = [(1.0, other.translated.colours)]
                ascent = self._data(stream.domain).ascent(stream.x, made, batch.draws)
                if ascent is not None:
                    terms[f"d{letter}"] = self.options.lambda_0 * ascent
        return terms

    def generator_loss(self, batch: Batch, streams: tuple[Stream, Stream]) -> dict[str, Tensor]:
        """The descent on Eq. (2)."""
        terms = {}
        for letter, stream, other in zip(self._letters(batch), streams, streams[::-1], strict=True):
            terms |= self._vae(stream.own, stream.x, stream.mean, stream.domain, letter)
            terms |= self._gan(stream, other, batch.draws, letter)
            terms |= self._cycle(stream, letter)
        return terms

    def _vae(self, own: Picture, x: Tensor, mean: Tensor, domain: Domain, letter: str) -> dict[str, Tensor]:
        """VAE1, Eq. (3), and VAE2, Eq. (4): lambda_1 KL(q1(z1|x1) || p) - lambda_2 E log p_G1(x1|z1)."""
        o = self.options
        return {
            f"k{letter}": o.lambda_1 * latent_divergence(mean),
            f"r{letter}": o.lambda_2 * self._cost(own, x, domain),
        }

    def _gan(self, stream: Stream, other: Stream, draws: Draws, letter: str) -> dict[str, Tensor]:
        """GAN1, Eq. (5), and GAN2, Eq. (6), as the generators see them: translations only (section 3)."""
        with self.autocast():
            made = self._data(stream.domain).descent(stream.x, [(1.0, other.translated.colours)], draws)
        return {f"g{letter}": self.options.lambda_0 * made}

    def _cycle(self, stream: Stream, letter: str) -> dict[str, Tensor]:
        """CC1, Eq. (7), and CC2, Eq. (8): lambda_3 (KL(q1(z1|x1) || p) + KL(q2(z2|x1->2) || p)) and
        - lambda_4 E log p_G1(x1|z2). The first divergence is in Eq. (3) too, and counts twice, as printed (U14).
        """
        o = self.options
        divergences = latent_divergence(stream.mean) + latent_divergence(stream.mean_back)
        return {
            f"q{letter}": o.lambda_3 * divergences,
            f"c{letter}": o.lambda_4 * self._cycle_cost(stream.cycled, stream.x, stream.domain),
        }


def sample(mean: Tensor, purpose: str, draws: Draws) -> Tensor:
    """z ~ q(z|x) = N(mean, I): z = E_mu(x) + eta, eta ~ N(0, I) (section 3, VAE)."""
    return mean + draws.normal(f"noise {purpose}", mean)


def latent_divergence(mean: Tensor) -> Tensor:
    """KL(N(mean, I) || N(0, I)) = 1/2 |mean|^2, as a mean over all numbers of the latent (U7)."""
    return 0.5 * losses.full(mean).square().mean()
