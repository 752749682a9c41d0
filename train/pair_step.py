"""What the methods share whose step trains one pair of domains: pictures with scores, their costs and adversaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.nets.contract import Domain
from vidtrans.train import losses
from vidtrans.train.discriminators import picture_discriminator
from vidtrans.train.divergences import Divergence, Kernels, Played, patch_rows
from vidtrans.train.pair_options import PairOptions
from vidtrans.train.recipe import Recipe
from vidtrans.train.step import Batch, Step


@dataclass
class Picture:
    """A decoded batch: its colours (B, 3, H, W) in [-1, 1] and, for a palette head, its class scores (B, K, H, W)."""

    colours: Tensor
    scores: Tensor | None


class PairStep(Step):
    """A Step of networks that share a latent space.

    Every domain has its own data discriminator. With two domains every step is the paper's; with more, a step is the
    paper's for one pair of them, so that each ordered pair is translated equally often.

    Attributes:
        data: d(P, Q) of each domain's pictures, by its name.
    """

    options: PairOptions

    def __init__(self, net: Any, recipe: Recipe, device: torch.device) -> None:
        super().__init__(net, recipe, device)
        self.data = nn.ModuleDict({domain.name: data_divergence(self.options) for domain in net.domains})

    def _data(self, domain: Domain) -> Divergence:
        found = self.data[domain.name]
        assert isinstance(found, Divergence)
        return found

    def _letters(self, batch: Batch) -> tuple[str, str]:
        """How the log tells the pair's domains apart: the paper's x and y where there are two, else by name."""
        if len(self.net.domains) == 2:
            return "x", "y"
        return f"_{batch.domains[0].name}", f"_{batch.domains[1].name}"

    def _decode(self, z: Tensor, domain: Domain) -> Picture:
        return self._finish(self.net.lift(z, domain.name), domain)

    def _finish(self, a: Tensor, domain: Domain) -> Picture:
        out = self.net.finish(a, domain.name)
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


def data_divergence(options: PairOptions) -> Divergence:
    """d(PX, QX) of one domain's pictures, with a critic of its own."""
    o = options
    if o.data_divergence == "mmd":
        return Kernels(patch_rows, variance=1 / 3)  # of a number spread evenly over [-1, 1]
    critic = picture_discriminator(o.discriminator, o.discriminator_width, o.discriminator_slope)
    return Played(o.data_divergence, critic, o.penalty_weight)
