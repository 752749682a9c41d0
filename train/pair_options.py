"""The keys of [loss] that all methods have whose step trains one pair of domains: of adversaries, labels and cycles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidtrans.errors import UsageError, one_of
from vidtrans.train.discriminators import PICTURE_DISCRIMINATORS
from vidtrans.train.divergences import KINDS

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """How pictures are compared; the defaults are JWDM's.

    Attributes:
        data_divergence: of pictures. "gan" (the papers' game with sigmoids, the generators' term non-saturating),
            "minimax" (the same to the letter), "lsgan", "wgan-gp" or "mmd", which needs no discriminator (see
            divergences.py; J10).
        penalty_weight: of the gradient penalty of wgan-gp.
        discriminator: a row of discriminators.PICTURE_DISCRIMINATORS (J6); discriminator_width: channels of its first
            layer; discriminator_slope: of its leaky ReLUs, the kind's own by default (J7).
        label_cost: "l1" on colours (the papers) or "cross_entropy" on a palette head's class scores.
        label_weight: factor of a label domain's distances; 1 in the papers. Cross-entropy in nats is several times
            larger than an L1 distance, and would leave the photo domain little of the optimiser's steps.
        hard_cycle: a cycle through labels encodes pure class colours (straight-through gradient).
        photo_cycle_weight: factor of the photo domain's cycle distance; 1 in the papers.
        photo_cycle_pool: that distance compares means of squares this many pixels wide; 1 in the papers.
    """

    data_divergence: str = "gan"
    penalty_weight: float = 10.0
    discriminator: str = "table5"
    discriminator_width: int = 64
    discriminator_slope: float | None = None
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1

    def __post_init__(self) -> None:
        if min(self.label_weight, self.photo_cycle_weight, self.penalty_weight) < 0.0:
            raise UsageError("weights of the loss must not be negative")
        if min(self.discriminator_width, self.photo_cycle_pool) < 1:
            raise UsageError("widths and photo_cycle_pool of the loss must be at least 1")
        one_of("loss.data_divergence", self.data_divergence, KINDS)
        one_of("loss.discriminator", self.discriminator, tuple(PICTURE_DISCRIMINATORS))
        one_of("loss.label_cost", self.label_cost, ("l1", "cross_entropy"))

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        width, height = recipe.data.trained_size
        if self.discriminator == "table5" and self.data_divergence != "mmd" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if not has_scores(recipe) and (self.label_cost == "cross_entropy" or self.hard_cycle):
            raise UsageError("cross_entropy and hard_cycle need a label domain and net.label_head palette")


def has_scores(recipe: Recipe) -> bool:
    """Whether the recipe's networks give class scores for a label domain."""
    labels = any(row.kind == "label" for row in recipe.domains)
    return labels and recipe.net_config().label_head == "palette"
