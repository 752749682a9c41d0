"""Self-training, beyond the papers: a small network that names the photos, from what the model itself makes of them.

What a model of unpaired footage gets wrong is of two kinds: whole things called by another name, and ragged, swimming
borders. The second kind is noise to a network that sees the picture at full resolution. It learns the rule before the
exceptions, so that its names are better than those it learned from, and the translator learns from them in turn. No
true label of a photo is used anywhere: the names come from the averaged model, shapes from the photo's own edges and
shares of classes from the label domain's unpaired footage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.train.draws import Draws
from vidtrans.train.losses import edges, full
from vidtrans.train.ranks import Ranks
from vidtrans.train.void import has_class

WIDTH = 24  # channels at full resolution
GROUPS = 4
LESSONS = 150  # batches that only the labeller learns from: its first names are worse than the model's own
MEMORY = 0.01  # share of a new batch in the shares of classes
SMALLEST_SHARE = 2e-3  # a class that is never seen somewhere may still be there
MOST_FAVOUR = 5.0  # how much more or less likely its place alone may make a class


class Block(nn.Sequential):
    """3x3 convolution, group norm, ReLU. Group norm, because colours are to stay comparable within a picture."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(GROUPS, outputs), nn.ReLU())


class Labeller(nn.Module):
    """A small U-Net (Ronneberger 2015): (B, 3, H, W) in [-1, 1] -> class scores (B, K, H, W). H, W: multiples of 8."""

    def __init__(self, classes: int, width: int = WIDTH) -> None:
        super().__init__()
        w = width
        self.whole = nn.Sequential(Block(3, w), Block(w, w))
        self.half_size = nn.Sequential(Block(w, 2 * w, 2), Block(2 * w, 2 * w))
        self.quarter = nn.Sequential(Block(2 * w, 4 * w, 2), Block(4 * w, 4 * w))
        self.eighth = nn.Sequential(Block(4 * w, 6 * w, 2), Block(6 * w, 6 * w), Block(6 * w, 4 * w))
        self.to_quarter, self.to_half, self.to_whole = Block(8 * w, 2 * w), Block(4 * w, w), Block(2 * w, w)
        self.head = nn.Conv2d(w, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.whole(x)
        half = self.half_size(whole)
        quarter = self.quarter(half)
        deep = self.to_quarter(self._beside(quarter, self.eighth(quarter)))
        deep = self.to_half(self._beside(half, deep))
        return self.head(self.to_whole(self._beside(whole, deep)))

    @staticmethod
    def _beside(fine: Tensor, coarse: Tensor) -> Tensor:
        return torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")], 1)


@dataclass(frozen=True)
class Names:
    """What self-training made of one batch of photos.

    Attributes:
        classes: (B, K, H, W) probabilities to learn from, without gradient.
        loss: what the labeller descends on.
    """

    classes: Tensor
    loss: Tensor


class SelfTraining(nn.Module):
    """The labeller of one photo domain, and how often each class is seen at each place.

    Attributes:
        labeller: learns beside the generators; it is no part of the model.
        steps: batches named so far.
        seen, wanted: (1, K, H, W) shares of classes by place, named in photos and found in the label domain.
    """

    steps: Tensor
    seen: Tensor
    wanted: Tensor

    def __init__(self, classes: int, size: tuple[int, int], edge_weight: float) -> None:
        """size: (width, height) of training frames."""
        super().__init__()
        self.labeller = Labeller(classes)
        self._edge_weight = edge_weight
        width, height = size
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        for name in ("seen", "wanted"):
            self.register_buffer(name, torch.full((1, classes, height, width), 1.0 / classes))

    @property
    def is_ready(self) -> bool:
        """Whether its names are worth learning from."""
        return int(self.steps) >= LESSONS

    def forward(
        self, x: Tensor, labels: Tensor, teacher: Callable[[Tensor], Tensor], draws: Draws, ranks: Ranks
    ) -> Names:
        """Name the photos x (B, 3, H, W) in [-1, 1]; learn from the teacher on the way.

        labels: (B, H, W) classes of unpaired frames of the label domain, void.NO_CLASS where they have none. teacher:
        x -> class scores (B, K, H, W).
        """
        with torch.no_grad():
            taught = both_ways(teacher, x)
        log_named = full(self.labeller(in_other_light(x, draws))).log_softmax(1)
        loss = soft_cross_entropy(log_named, taught) + self._edge_weight * edges(x, log_named.exp())
        with torch.no_grad():
            named = full(self.labeller(x)).softmax(1)
            self._count(named, shares_of(labels, named), ranks)
            named = named * self._favour()
        return Names(named / named.sum(1, keepdim=True), loss)

    def _count(self, named: Tensor, labels: Tensor, ranks: Ranks) -> None:
        self.steps += 1
        found = [mirrored_mean(named), mirrored_mean(labels)]
        ranks.average(found)
        # The first batches have more than their share, or the flat start would be remembered.
        share = max(MEMORY, 1.0 / int(self.steps))
        for shares, new in zip((self.seen, self.wanted), found, strict=True):
            shares.lerp_(new.to(shares.dtype), share)

    def _favour(self) -> Tensor:
        """(1, K, H, W): how much more often the label domain has a class at a place than the photos are said to."""
        wanted, seen = (blurred(shares) + SMALLEST_SHARE for shares in (self.wanted, self.seen))
        return (wanted / seen).clamp(1.0 / MOST_FAVOUR, MOST_FAVOUR)


def shares_of(labels: Tensor, named: Tensor) -> Tensor:
    """Classes (B, H, W) as shares (B, K, H, W), 0 or 1. A pixel without a class says what is named there already."""
    whole = F.one_hot(labels.clamp_min(0), named.shape[1]).movedim(-1, 1)
    return torch.where(has_class(labels), whole.to(named.dtype), named)


def both_ways(teacher: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Probabilities (B, K, H, W), the mean of a teacher's for the picture and for its mirror image."""
    plain, mirrored = full(teacher(torch.cat([x, x.flip(-1)]))).softmax(1).chunk(2)
    return (plain + mirrored.flip(-1)) / 2


def in_other_light(x: Tensor, draws: Draws) -> Tensor:
    """Contrast of each picture times 0.8 to 1.2, brightness of each channel up to 0.125 (of 2) up or down."""
    contrast = draws.uniform("labeller's contrast", x[:, :1, :1, :1]) * 0.4 + 0.8
    shift = draws.uniform("labeller's brightness", x[:, :, :1, :1]) * 0.25 - 0.125
    return x * contrast + shift


def soft_cross_entropy(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Mean over pixels of -sum_k target_k log p_k, nats; both (B, K, H, W)."""
    return -(target * log_probabilities).sum(1).mean()


def mirrored_mean(shares: Tensor) -> Tensor:
    """(B, K, H, W) -> (1, K, H, W), the mean over the batch and its mirror images: a street has no left and right."""
    mean = shares.mean(0, keepdim=True)
    return (mean + mean.flip(-1)) / 2


def blurred(shares: Tensor) -> Tensor:
    """Shares of classes as means over 13 x 5 pixels (width x height), the border repeated."""
    return F.avg_pool2d(F.pad(shares, (6, 6, 2, 2), mode="replicate"), (5, 13), 1)
