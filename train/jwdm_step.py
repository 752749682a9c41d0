"""One step of JWDM's Algorithm 1: forward, ascend Dx, Dy, Dz, descend F = {E1, E2, G1, G2}, for any pair of domains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses
from vidtrans.train.discriminators import LatentDiscriminator, picture_discriminator
from vidtrans.train.jwdm_options import LossOptions
from vidtrans.train.step import Batch, Step


@dataclass
class Picture:
    """A decoded batch: its colours (B, 3, H, W) in [-1, 1] and, for a palette head, its class scores (B, K, H, W)."""

    colours: Tensor
    scores: Tensor | None


@dataclass
class Streams:
    """Everything one forward pass makes from unpaired batches x and y."""

    zx: Tensor  # E1(x)
    zy: Tensor  # E2(y)
    xx: Picture  # G1(E1(x))
    yy: Picture  # G2(E2(y))
    xy: Picture  # G2(E1(x)), x translated
    yx: Picture  # G1(E2(y)), y translated
    xyx: Picture  # G1(E2(G2(E1(x)))), the cycle of x
    yxy: Picture  # G2(E1(G1(E2(y)))), the cycle of y


class JWDMStep(Step):
    """Encoders, decoders and discriminators of all domains, and the paper's losses for the pair that a step trains.

    Every domain has its own data discriminator, all latents share one Dz. With two domains every step is the paper's;
    with more, a step is the paper's for one pair of them, so that each ordered pair is translated equally often.
    """

    net: JWDM
    options: LossOptions

    def __init__(self, net: JWDM, options: LossOptions, device: torch.device, precision: str) -> None:
        super().__init__(net, options, device, precision)
        self.data_discriminators = nn.ModuleDict(
            {
                domain.name: picture_discriminator(options.discriminator, options.discriminator_width)
                for domain in net.domains
            }
        )
        self.dz = LatentDiscriminator(net.config.latent_channels, options.latent_discriminator_width)

    def discriminators(self) -> list[nn.Parameter]:
        return [*self.data_discriminators.parameters(), *self.dz.parameters()]

    def forward(self, batch: Batch) -> Streams:
        net, (xd, yd) = self.net, batch.domains
        with self.autocast():
            zx, zy = net.encode(batch.x, xd.name), net.encode(batch.y, yd.name)
            # A decoder's two inputs go through it as one batch; instance norm keeps samples apart.
            xx, yx = self._decode_both(zx, zy, xd)
            yy, xy = self._decode_both(zy, zx, yd)
            xyx = self._decode(net.encode(self._sent_back(xy, yd), yd.name), xd)
            yxy = self._decode(net.encode(self._sent_back(yx, xd), xd.name), yd)
        return Streams(zx, zy, xx, yy, xy, yx, xyx, yxy)

    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Rx + Ry of Eq. (7) alone, without translations or cycles."""
        net, (xd, yd) = self.net, batch.domains
        with self.autocast():
            xx = self._decode(net.encode(batch.x, xd.name), xd)
            yy = self._decode(net.encode(batch.y, yd.name), yd)
        x, y = self._letters(batch)
        return {f"r{x}": self._cost(xx, batch.x, xd), f"r{y}": self._cost(yy, batch.y, yd)}

    def discriminator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the ascent on the three divergences, Eqs. (8), (19), (20), weighted as in Eq. (6)."""
        o, s, (xd, yd) = self.options, streams, batch.domains
        dx, dy = self.data_discriminators[xd.name], self.data_discriminators[yd.name]
        with self.autocast():
            x_real, *x_fakes = self._judge(dx, batch.x, *(fake.detach() for fake in self._fakes(s.yx, s.xyx)))
            y_real, *y_fakes = self._judge(dy, batch.y, *(fake.detach() for fake in self._fakes(s.xy, s.yxy)))
            zx, zy = s.zx.detach(), s.zy.detach()
            prior, first, second = self._judge(self.dz, losses.prior_draw(zx, o.prior, batch.draws), zx, zy)
        x, y = self._letters(batch)
        return {
            f"d{x}": self._weight(xd) * losses.data_divergence(x_real, *x_fakes, cycle_share=o.cycle_share),
            f"d{y}": self._weight(yd) * losses.data_divergence(y_real, *y_fakes, cycle_share=o.cycle_share),
            "dz": o.lambda_z * losses.latent_divergence(prior, first, second),
        }

    def generator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the descent of F on Eq. (6): Rx + Ry (Eq. 7) and the adversarial terms."""
        o, s, (xd, yd) = self.options, streams, batch.domains
        with self.autocast():
            x_fakes = self._judge(self.data_discriminators[xd.name], *self._fakes(s.yx, s.xyx))
            y_fakes = self._judge(self.data_discriminators[yd.name], *self._fakes(s.xy, s.yxy))
            first, second = self._judge(self.dz, s.zx, s.zy)
        x, y = self._letters(batch)
        return {
            f"r{x}": self._cost(s.xx, batch.x, xd),
            f"r{y}": self._cost(s.yy, batch.y, yd),
            f"c{x}": self._cycle_cost(s.xyx, batch.x, xd),
            f"c{y}": self._cycle_cost(s.yxy, batch.y, yd),
            f"g{x}": self._weight(xd) * losses.data_adversary(*x_fakes, cycle_share=o.cycle_share),
            f"g{y}": self._weight(yd) * losses.data_adversary(*y_fakes, cycle_share=o.cycle_share),
            "gz": o.lambda_z * losses.latent_adversary(first, second),
        }

    def _weight(self, domain: Domain) -> float:
        return self.options.lambda_x if domain == self.net.domains[0] else self.options.lambda_y

    def _letters(self, batch: Batch) -> tuple[str, str]:
        """How the log tells the pair's domains apart: the paper's x and y where there are two, else by name."""
        if len(self.net.domains) == 2:
            return "x", "y"
        return f"_{batch.domains[0].name}", f"_{batch.domains[1].name}"

    def _decode(self, z: Tensor, domain: Domain) -> Picture:
        out = self.net.finish(self.net.lift(z, domain.name), domain.name)
        return Picture(self.net.colour(out, domain.name), out if self.net.has_scores(domain.name) else None)

    def _decode_both(self, first: Tensor, second: Tensor, domain: Domain) -> tuple[Picture, Picture]:
        both = self._decode(torch.cat([first, second]), domain)
        colours = both.colours.chunk(2)
        scores = both.scores.chunk(2) if both.scores is not None else (None, None)
        return Picture(colours[0], scores[0]), Picture(colours[1], scores[1])

    def _sent_back(self, picture: Picture, domain: Domain) -> Tensor:
        """What a cycle encodes again. With hard_cycle, labels go as the best class's colour, gradient as if soft.

        Soft mixtures let the generators hide the picture's windows in the labels to please the cycle; a class number
        cannot.
        """
        if picture.scores is None or not self.options.hard_cycle:
            return picture.colours
        best = picture.scores.argmax(1, keepdim=True)
        hard = self.net.colour(torch.zeros_like(picture.scores).scatter_(1, best, 100.0), domain.name)
        return picture.colours + (hard - picture.colours).detach()

    def _cost(self, picture: Picture, target: Tensor, domain: Domain) -> Tensor:
        if picture.scores is not None and self.options.label_cost == "cross_entropy":
            cost = losses.class_reconstruction(picture.scores, self._classes(target, domain))
        else:
            cost = losses.reconstruction(picture.colours, target)
        return self.options.label_weight * cost if domain.is_label else cost

    def _cycle_cost(self, picture: Picture, target: Tensor, domain: Domain) -> Tensor:
        if domain.is_label:
            return self._cost(picture, target, domain)
        pool = self.options.photo_cycle_pool
        colours = losses.full(picture.colours)
        if pool > 1:
            colours, target = F.avg_pool2d(colours, pool), F.avg_pool2d(target, pool)
        return self.options.photo_cycle_weight * losses.reconstruction(colours, target)

    def _classes(self, target: Tensor, domain: Domain) -> Tensor:
        palette: Tensor = getattr(self.net, f"palette_{domain.name}")
        return (target.unsqueeze(1) - palette.view(1, -1, 3, 1, 1)).abs().sum(2).argmin(1)

    def _fakes(self, translated: Picture, cycled: Picture) -> list[Tensor]:
        """Eqs. (19), (20): which fakes a discriminator sees."""
        return [translated.colours, cycled.colours] if self.options.cycle_share > 0.0 else [translated.colours]

    @staticmethod
    def _judge(discriminator: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
        """Logits of several batches of one size from one pass (no discriminator norms across samples)."""
        return discriminator(torch.cat(batches)).split(len(batches[0]))
