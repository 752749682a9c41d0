"""What a made picture costs against the one it should be, in photo and in label domains, for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.errors import UsageError, one_of
from vidtrans.nets.contract import Domain
from vidtrans.nets.heads import Heads
from vidtrans.train import losses

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass
class Picture:
    """A made batch: its colours (B, 3, H, W) in [-1, 1] and, for a palette head, its class scores (B, K, H, W).

    Of clips it is (B, T, 3, H, W) and (B, T, K, H, W).
    """

    colours: Tensor
    scores: Tensor | None


class CostOptions(Protocol):
    """The fields of a method's [loss] that say what pictures cost; see LossOptions in jwdm_options.py."""

    @property
    def label_cost(self) -> str: ...
    @property
    def label_weight(self) -> float: ...
    @property
    def hard_cycle(self) -> bool: ...
    @property
    def photo_cycle_weight(self) -> float: ...
    @property
    def photo_cycle_pool(self) -> int: ...


def check_costs(options: CostOptions) -> None:
    """Whether these options can be meant.

    Raises:
        UsageError: they cannot.
    """
    if min(options.label_weight, options.photo_cycle_weight) < 0.0:
        raise UsageError("weights of the loss must not be negative")
    if options.photo_cycle_pool < 1:
        raise UsageError(f"loss.photo_cycle_pool must be at least 1, not {options.photo_cycle_pool}")
    one_of("loss.label_cost", options.label_cost, ("l1", "cross_entropy"))


def check_costs_fit(options: CostOptions, recipe: Recipe) -> None:
    """Whether the rest of the recipe has what these options cost.

    Raises:
        UsageError: it has no class scores.
    """
    if not has_class_scores(recipe) and (options.label_cost == "cross_entropy" or options.hard_cycle):
        raise UsageError("cross_entropy and hard_cycle need a label domain and net.label_head palette")


def has_class_scores(recipe: Recipe) -> bool:
    """Whether the recipe's networks give class scores for a domain."""
    return any(row.kind == "label" for row in recipe.domains) and recipe.net_config().label_head == "palette"


class Costs:
    """The costs of pictures that `net` makes, as `options` want them."""

    def __init__(self, net: Heads, options: CostOptions) -> None:
        self._net = net
        self._options = options

    def picture(self, out: Tensor, domain: Domain) -> Picture:
        """What the domain's last layer gave, as colours and scores."""
        return Picture(self._net.colour(out, domain.name), out if self._net.has_scores(domain.name) else None)

    def sent_back(self, picture: Picture, domain: Domain) -> Tensor:
        """What a cycle goes on with. With hard_cycle, labels go as the best class's colour, gradient as if soft.

        Soft mixtures let the generators hide the picture's windows in the labels to please the cycle; a class number
        cannot.
        """
        if picture.scores is None or not self._options.hard_cycle:
            return picture.colours
        best = picture.scores.argmax(-3, keepdim=True)
        hard = self._net.colour(torch.zeros_like(picture.scores).scatter_(-3, best, 100.0), domain.name)
        return picture.colours + (hard - picture.colours).detach()

    def reconstruction(self, picture: Picture, target: Tensor, domain: Domain) -> Tensor:
        """Of a picture that should be `target`: L1, or cross-entropy of class scores; labels times label_weight."""
        if picture.scores is not None and self._options.label_cost == "cross_entropy":
            classes = self.classes(target, domain)
            cost = losses.class_reconstruction(_frames(picture.scores), classes.flatten(0, -3))
        else:
            cost = losses.reconstruction(picture.colours, target)
        return self._options.label_weight * cost if domain.is_label else cost

    def cycle(self, picture: Picture, target: Tensor, domain: Domain) -> Tensor:
        """The same of a picture that went to another domain and back; photos have a weight and a pool of their own."""
        if domain.is_label:
            return self.reconstruction(picture, target, domain)
        pool = self._options.photo_cycle_pool
        colours = losses.full(picture.colours)
        if pool > 1:
            colours, target = F.avg_pool2d(_frames(colours), pool), F.avg_pool2d(_frames(target), pool)
        return self._options.photo_cycle_weight * losses.reconstruction(colours, target)

    def classes(self, target: Tensor, domain: Domain) -> Tensor:
        """The nearest class of every pixel: (..., 3, H, W) -> (..., H, W)."""
        palette: Tensor = getattr(self._net, f"palette_{domain.name}")
        return (target.unsqueeze(-4) - palette.view(-1, 3, 1, 1)).abs().sum(-3).argmin(-3)


def _frames(x: Tensor) -> Tensor:
    """Clips as the frames that they are made of: (..., C, H, W) -> (n, C, H, W)."""
    return x.flatten(0, -4)
