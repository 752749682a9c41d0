"""The [loss] of a UNIT recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vidtrans.errors import UsageError, one_of
from vidtrans.train.costs import check_costs, check_costs_fit
from vidtrans.train.discriminators import PICTURE_DISCRIMINATORS

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True)
class UNITOptions:
    """Weights and choices of UNIT's objective, Eq. (2); the defaults are the paper's with docs/method.md's decisions.

    Attributes:
        lambda_0: weight of GAN1 and GAN2, Eqs. (5), (6).
        lambda_1, lambda_2: of VAE1 and VAE2, Eqs. (3), (4): the latents' divergence from the prior, the likelihood of
            the reconstruction.
        lambda_3, lambda_4: the same of the cycles, Eqs. (7), (8).
        divergence: "gan" (Eqs. 5, 6, the generators' term non-saturating), "minimax" (the same to the letter) or
            "lsgan"; see divergences.py.
        discriminator: "unit" (Table 3) or another row of discriminators.PICTURE_DISCRIMINATORS; discriminator_width:
            channels of its first layer.
        label_cost, label_weight, hard_cycle, photo_cycle_weight, photo_cycle_pool: what likelihoods are in each kind of
            domain, as in LossOptions of jwdm_options.py; the paper's by default.
    """

    lambda_0: float = 10.0
    lambda_1: float = 0.1
    lambda_2: float = 100.0
    lambda_3: float = 0.1
    lambda_4: float = 100.0
    divergence: str = "gan"
    discriminator: str = "unit"
    discriminator_width: int = 64
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1

    needs_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_costs(self)
        if min(self.lambda_0, self.lambda_1, self.lambda_2, self.lambda_3, self.lambda_4) < 0.0:
            raise UsageError("weights of the loss must not be negative")
        if self.discriminator_width < 1:
            raise UsageError(f"loss.discriminator_width must be at least 1, not {self.discriminator_width}")
        one_of("loss.divergence", self.divergence, ("gan", "minimax", "lsgan"))
        one_of("loss.discriminator", self.discriminator, tuple(PICTURE_DISCRIMINATORS))

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        check_costs_fit(self, recipe)
        width, height = recipe.data.trained_size
        if self.discriminator == "table5" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if recipe.data.clip > 1:
            raise UsageError("data.clip above 1 is of no use to unit, which trains on single frames")
