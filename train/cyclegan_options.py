"""The [loss] of a CycleGAN recipe, on single frames and on clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vidtrans.errors import UsageError, one_of
from vidtrans.train.costs import check_costs, check_costs_fit

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True)
class GeneratorsOptions:
    """What both methods have; weights beside those of the adversaries, which are 1.

    Attributes:
        divergence: "lsgan" (what the papers' code runs), "gan" (the log-likelihood of the papers' text, the generators'
            term non-saturating) or "minimax" (the same to the letter); see divergences.py.
        discriminator_width: channels of a discriminator's first layer.
        discriminator_factor: of the discriminators' loss, which slows them down.
        lambda_cycle: of the cycles.
        image_pool: earlier translations that a discriminator may be shown again; 0 for none.
        label_cost, label_weight, hard_cycle, photo_cycle_weight, photo_cycle_pool: what a cycle costs in each kind of
            domain, as in LossOptions of jwdm_options.py; the papers' by default.
    """

    divergence: str = "lsgan"
    discriminator_width: int = 64
    discriminator_factor: float = 0.5
    lambda_cycle: float = 10.0
    image_pool: int = 50
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1

    needs_start: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_costs(self)
        one_of("loss.divergence", self.divergence, ("lsgan", "gan", "minimax"))
        if self.lambda_cycle < 0.0 or self.discriminator_factor <= 0.0:
            raise UsageError("loss.lambda_cycle must not be negative, and loss.discriminator_factor above 0")
        if self.discriminator_width < 1 or self.image_pool < 0:
            raise UsageError("loss.discriminator_width must be at least 1, and loss.image_pool not negative")

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        check_costs_fit(self, recipe)
        if recipe.keep.best == "reconstruction":
            raise UsageError(f"{recipe.method} has no reconstruction, only translations; use keep.best cycle or none")


@dataclass(frozen=True)
class CycleGANOptions(GeneratorsOptions):
    """CycleGAN on frames; the defaults are the paper's.

    Attributes:
        discriminator: "patch70" (the paper), "table5" or "coordinates".
        identity_weight: share of lambda_cycle with which a generator has to leave a frame of its target as it is. Not
            where a domain of the pair is a label domain: its channels mean something else than a photo's.
        batches: what a batch holds, the baselines of the video-to-video paper: "random" unrelated frames; "sequential"
            consecutive frames, all of a sample's clip (data.clip); "const" the same, with L_const on the translations.
        variation_weight: of L_const, where batches is "const".
    """

    discriminator: str = "patch70"
    identity_weight: float = 0.5
    batches: str = "random"
    variation_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("loss.discriminator", self.discriminator, ("patch70", "table5", "coordinates"))
        one_of("loss.batches", self.batches, ("random", "sequential", "const"))
        if min(self.identity_weight, self.variation_weight) < 0.0:
            raise UsageError("weights of the loss must not be negative")

    def check(self, recipe: Recipe) -> None:
        super().check(recipe)
        width, height = recipe.data.trained_size
        if self.discriminator == "table5" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if self.is_sequential and recipe.data.clip < 2:
            raise UsageError(f"loss.batches {self.batches} needs data.clip of 2 or more, not {recipe.data.clip}")
        if recipe.data.clip > 1 and not self.is_sequential:
            raise UsageError("data.clip above 1 needs loss.batches sequential or const, or nothing looks at it")

    @property
    def is_sequential(self) -> bool:
        return self.batches != "random"


@dataclass(frozen=True)
class ClipOptions(GeneratorsOptions):
    """3D CycleGAN; the defaults are those of the paper's code, which has no pool.

    Attributes:
        places: whether discriminators also see where in the frame they look, as the "coordinates" of single frames.
    """

    image_pool: int = 0
    places: bool = False

    def check(self, recipe: Recipe) -> None:
        super().check(recipe)
        if recipe.train.channels_last:
            raise UsageError("train.channels_last is a layout of single frames, and cyclegan3d trains on clips")
