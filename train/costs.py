"""What a made picture costs against the one it should be, in photo and in label domains, for every method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.errors import UsageError, one_of
from vidtrans.nets.contract import Domain
from vidtrans.nets.heads import Heads
from vidtrans.train import losses
from vidtrans.train.void import Classes, has_class

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


class Costs(nn.Module):
    """The costs of pictures that `net` makes, as `options` want them. Label pixels without a class cost nothing.

    Attributes:
        kinds: what names the pixels of each label domain's frames; it is on the step's device and saved with nothing.
    """

    _net: Heads

    def __init__(self, net: Heads, options: CostOptions) -> None:
        super().__init__()
        object.__setattr__(self, "_net", net)  # not a part of the costs: it would be trained and saved twice
        self._options = options
        self.kinds = nn.ModuleDict({each.name: Classes(each.colours) for each in net.domains if each.is_label})

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
        if not domain.is_label:
            return losses.reconstruction(picture.colours, target)
        classes = self.classes(target, domain)
        if picture.scores is not None and self._options.label_cost == "cross_entropy":
            cost = losses.class_reconstruction(_frames(picture.scores), classes.flatten(0, -3))
        else:
            cost = losses.reconstruction(picture.colours, target, has_class(classes))
        return self._options.label_weight * cost

    def cycle(self, picture: Picture, target: Tensor, domain: Domain) -> Tensor:
        """The same of a picture that went to another domain and back; photos have a weight and a pool of their own."""
        if domain.is_label:
            return self.reconstruction(picture, target, domain)
        pool = self._options.photo_cycle_pool
        colours = losses.full(picture.colours)
        if pool > 1:
            colours, target = F.avg_pool2d(_frames(colours), pool), F.avg_pool2d(_frames(target), pool)
        return self._options.photo_cycle_weight * losses.reconstruction(colours, target)

    def classes(self, frames: Tensor, domain: Domain) -> Tensor:
        """Of a label domain's frames (..., 3, H, W) every pixel's class (..., H, W), or void.NO_CLASS."""
        return self._kinds(domain)(frames)

    def shown(
        self, real: Tensor, fakes: list[tuple[float, Tensor]], domain: Domain
    ) -> tuple[Tensor, list[tuple[float, Tensor]]]:
        """What a data discriminator is shown: real labels lack a class in places, which are covered in fakes alike."""
        if not domain.is_label:
            return real, fakes
        classes, cover = self.classes(real, domain), self._kinds(domain).covered
        return cover(real, classes), [(share, cover(fake, classes)) for share, fake in fakes]

    def _kinds(self, domain: Domain) -> Classes:
        found = self.kinds[domain.name]
        assert isinstance(found, Classes)
        return found


def _frames(x: Tensor) -> Tensor:
    """Clips as the frames that they are made of: (..., C, H, W) -> (n, C, H, W)."""
    return x.flatten(0, -4)
