"""The [loss] of a JWDM recipe. Its defaults are the paper's, with the decisions of docs/method.md (J4-J10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidtrans.errors import UsageError, one_of

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True)
class LossOptions:
    """Weights and choices of the objective; the defaults are the paper's with the decisions J4-J10 of docs/method.md.

    Attributes:
        lambda_x, lambda_y, lambda_z: weights of the divergences in Eq. (6): of the first domain's pictures, of the
            other domains' and of the latents.
        cycle_share: lambda of Eqs. (19), (20), the share of cycle reconstructions among a discriminator's fakes.
        prior: "relu", "gaussian" or "uniform" (J4).
        discriminator: "table5", "patch70" or "coordinates"; discriminator_width: channels of its first layer.
        latent_discriminator_width: channels of Dz's hidden layers.
        label_cost: "l1" on colours (the paper) or "cross_entropy" on a palette head's class scores.
        label_weight: factor of a label domain's terms in Eq. (7); 1 in the paper. Cross-entropy in nats is several
            times larger than an L1 distance, and would leave the photo domain little of the optimiser's steps.
        hard_cycle: a cycle through labels encodes pure class colours (straight-through gradient).
        photo_cycle_weight: factor of the photo domain's cycle term in Eq. (7); 1 in the paper.
        photo_cycle_pool: the photo's cycle term compares means of squares this many pixels wide; 1 in the paper.
    """

    lambda_x: float = 0.1
    lambda_y: float = 0.1
    lambda_z: float = 0.1
    cycle_share: float = 0.5
    prior: str = "relu"
    discriminator: str = "table5"
    discriminator_width: int = 64
    latent_discriminator_width: int = 512
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.cycle_share < 1.0:
            raise UsageError(f"loss.cycle_share must be in [0, 1), not {self.cycle_share}")
        if min(self.lambda_x, self.lambda_y, self.lambda_z, self.photo_cycle_weight, self.label_weight) < 0.0:
            raise UsageError("weights of the loss must not be negative")
        if min(self.discriminator_width, self.latent_discriminator_width, self.photo_cycle_pool) < 1:
            raise UsageError("widths and photo_cycle_pool of the loss must be at least 1")
        one_of("loss.prior", self.prior, ("relu", "gaussian", "uniform"))
        one_of("loss.discriminator", self.discriminator, ("table5", "patch70", "coordinates"))
        one_of("loss.label_cost", self.label_cost, ("l1", "cross_entropy"))

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        config = recipe.net_config()
        width, height = recipe.data.trained_size
        if self.discriminator == "table5" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if self.prior == "relu" and config.embedding == "linear":
            raise UsageError("a linear embedding needs loss.prior gaussian or uniform")
        scores = any(row.kind == "label" for row in recipe.domains) and config.label_head == "palette"
        if not scores and (self.label_cost == "cross_entropy" or self.hard_cycle):
            raise UsageError("cross_entropy and hard_cycle need a label domain and net.label_head palette")
