"""One step of JWDM's Algorithm 1: forward, ascend Dx, Dy, Dz, descend F = {E1, E2, G1, G2}."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses
from vidtrans.train.discriminators import LatentDiscriminator, picture_discriminator
from vidtrans.train.recipe import LossOptions


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


class JWDMStep(nn.Module):
    """The networks of a run and their losses. Owns no optimiser, so that the loop reads as the algorithm."""

    def __init__(self, net: JWDM, options: LossOptions, device: torch.device, bf16: bool) -> None:
        super().__init__()
        self.net = net
        self.options = options
        self.x_domain, self.y_domain = net.domains
        self.dx = picture_discriminator(options.discriminator, options.discriminator_width)
        self.dy = picture_discriminator(options.discriminator, options.discriminator_width)
        self.dz = LatentDiscriminator(net.config.latent_channels, options.latent_discriminator_width)
        self._device = device
        self._bf16 = bf16

    def discriminators(self) -> list[nn.Parameter]:
        return [*self.dx.parameters(), *self.dy.parameters(), *self.dz.parameters()]

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext()

    def forward(self, x: Tensor, y: Tensor) -> Streams:
        """x, y: unpaired (B, 3, H, W) in [-1, 1]."""
        net, xn, yn = self.net, self.x_domain.name, self.y_domain.name
        with self.autocast():
            zx, zy = net.encode(x, xn), net.encode(y, yn)
            # A decoder's two inputs go through it as one batch; instance norm keeps samples apart.
            xx, yx = self._decode_both(zx, zy, self.x_domain)
            yy, xy = self._decode_both(zy, zx, self.y_domain)
            xyx = self._decode(net.encode(self._sent_back(xy, self.y_domain), yn), self.x_domain)
            yxy = self._decode(net.encode(self._sent_back(yx, self.x_domain), xn), self.y_domain)
        return Streams(zx, zy, xx, yy, xy, yx, xyx, yxy)

    def reconstruction_loss(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Rx + Ry of Eq. (7) alone, without translations or cycles: what a warm-up descends on."""
        net, xn, yn = self.net, self.x_domain.name, self.y_domain.name
        with self.autocast():
            xx = self._decode(net.encode(x, xn), self.x_domain)
            yy = self._decode(net.encode(y, yn), self.y_domain)
        return {"rx": self._cost(xx, x, self.x_domain), "ry": self._cost(yy, y, self.y_domain)}

    def discriminator_loss(self, x: Tensor, y: Tensor, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the ascent on the three divergences, Eqs. (8), (19), (20), weighted as in Eq. (6)."""
        o, s = self.options, streams
        with self.autocast():
            x_real, *x_fakes = self._judge(self.dx, x, *(fake.detach() for fake in self._fakes(s.yx, s.xyx)))
            y_real, *y_fakes = self._judge(self.dy, y, *(fake.detach() for fake in self._fakes(s.xy, s.yxy)))
            zx, zy = s.zx.detach(), s.zy.detach()
            prior, first, second = self._judge(self.dz, losses.prior_draw(zx, o.prior), zx, zy)
        return {
            "dx": o.lambda_x * losses.data_divergence(x_real, *x_fakes, cycle_share=o.cycle_share),
            "dy": o.lambda_y * losses.data_divergence(y_real, *y_fakes, cycle_share=o.cycle_share),
            "dz": o.lambda_z * losses.latent_divergence(prior, first, second),
        }

    def generator_loss(self, x: Tensor, y: Tensor, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the descent of F on Eq. (6): Rx + Ry (Eq. 7) and the adversarial terms."""
        o, s = self.options, streams
        with self.autocast():
            x_fakes = self._judge(self.dx, *self._fakes(s.yx, s.xyx))
            y_fakes = self._judge(self.dy, *self._fakes(s.xy, s.yxy))
            first, second = self._judge(self.dz, s.zx, s.zy)
        return {
            "rx": self._cost(s.xx, x, self.x_domain),
            "ry": self._cost(s.yy, y, self.y_domain),
            "cx": self._cycle_cost(s.xyx, x, self.x_domain),
            "cy": self._cycle_cost(s.yxy, y, self.y_domain),
            "gx": o.lambda_x * losses.data_adversary(*x_fakes, cycle_share=o.cycle_share),
            "gy": o.lambda_y * losses.data_adversary(*y_fakes, cycle_share=o.cycle_share),
            "gz": o.lambda_z * losses.latent_adversary(first, second),
        }

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
        colours = picture.colours.float()
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
