"""The [loss] of a UNIT recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidtrans.errors import UsageError
from vidtrans.train.pair_options import PairOptions

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class UNITOptions(PairOptions):
    """Weights and choices of UNIT's objective, Eq. (2); the defaults are the paper's with docs/method.md's decisions.

    Attributes: those of PairOptions (GAN1 and GAN2 of Eqs. 5, 6, likelihoods of Eqs. 3, 4, 7, 8), and
        lambda_0: weight of the divergences of pictures, Eqs. (5), (6).
        lambda_1, lambda_2: of VAE1 and VAE2, Eqs. (3), (4): the latents' divergence from the prior, the likelihood of
            the reconstruction.
        lambda_3, lambda_4: the same of the cycle, Eqs. (7), (8).
    """

    lambda_0: float = 10.0
    lambda_1: float = 0.1
    lambda_2: float = 100.0
    lambda_3: float = 0.1
    lambda_4: float = 100.0
    discriminator: str = "unit"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.lambda_0, self.lambda_1, self.lambda_2, self.lambda_3, self.lambda_4) < 0.0:
            raise UsageError("weights of the loss must not be negative")

    @property
    def needs_start(self) -> bool:
        """A run begins from nothing."""
        return False

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        super().check(recipe)
        if recipe.data.clip > 1:
            raise UsageError("data.clip above 1 is of no use to unit, which trains on single frames")
