"""The [loss] of a JWDM recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vidtrans.errors import UsageError, one_of
from vidtrans.train.costs import check_costs, check_costs_fit, has_class_scores
from vidtrans.train.divergences import KINDS

if TYPE_CHECKING:
    from vidtrans.train.recipe import Recipe


@dataclass(frozen=True)
class LossOptions:
    """Weights and choices of the objective; the defaults are the paper's with the decisions of docs/method.md.

    Attributes:
        lambda_x, lambda_y, lambda_z: weights of the divergences in Eq. (6): of the first domain's pictures, of the
            other domains' and of the latents.
        data_divergence, latent_divergence: "gan" (Eq. 8, the generators' term non-saturating), "minimax" (Eq. 8 to the
            letter), "lsgan", "wgan-gp" or "mmd", which needs no discriminator (see divergences.py; J10).
        penalty_weight: of the gradient penalty of wgan-gp.
        r1_weight: of the squared gradient of data discriminators at real pictures (divergences.r1_penalty), which keeps
            what they ask of translations small and smooth. 0 in the paper.
        cycle_share: lambda of Eqs. (19), (20), the share of cycle reconstructions among a discriminator's fakes.
        cycled_latents: whether half of each QZ are the latents of translations, E2(G2(E1(x))) beside E1(x) (J18).
        prior: "relu", "gaussian" or "uniform" (J4).
        discriminator: "table5", "patch70", "coordinates" or "coarse" (J6); discriminator_width: channels of its first
            layer; discriminator_slope: of its leaky ReLUs, the kind's own by default (J7).
        latent_discriminator_width, _kernel, _slope: channels of Dz's hidden layers, 1x1 or 3x3 convolutions, and the
            slope of its leaky ReLUs (J5).
        image_pool: earlier fakes that a data discriminator may be shown again; 0 for none, 50 in CycleGAN (J10).
        label_cost: "l1" on colours (the paper) or "cross_entropy" on a palette head's class scores.
        label_weight: factor of a label domain's terms in Eq. (7); 1 in the paper. Cross-entropy in nats is several
            times larger than an L1 distance, and would leave the photo domain little of the optimiser's steps.
        hard_cycle: a cycle through labels encodes pure class colours (straight-through gradient).
        photo_cycle_weight: factor of the photo domain's cycle term in Eq. (7); 1 in the paper.
        photo_cycle_pool: the photo's cycle term compares means of squares this many pixels wide; 1 in the paper.
        self_weight: of what a labeller, a helper network, says of the photos, learned from the averaged model
            (self_training.py). 0 in the paper; needs one photo and one label domain and a start that is not random.
        edge_weight: of the agreement of translated labels with the edges of the photo (losses.edges). 0 in the paper.
        likeness_weight: of the mean distance between a photo translated into a photo and its own reconstruction, so
            that nothing changes that need not (the self-regularisation of Shrivastava et al. 2017). 0 in the paper.
        carried_detail: discriminators see a photo translated into a photo with the detail that the source's own
            decoding lacks (losses.carried), as `upsample` adds it, so that they judge what differs between the domains
            and not how sharp a decoder is. False in the paper.
        frozen_trunk: after the warm-up only the domains' own ends learn, from whatever teaches them. False in the
            paper; needs net.shared_trunk.
        sequential: every frame of a sample's clip is trained on (data.clip), so that a batch holds consecutive frames;
            otherwise only its first, so that all frames of a batch are unrelated.
        variation_weight: of L_const of the video-to-video paper, which keeps translations of consecutive frames alike.
            0 in the paper; needs sequential.
        between_weight: of the distance between the decoded blend of a clip's first and last frame and the real frame
            at that instant, drawn anew in every step. 0 in the paper; needs data.clip of 3 or more.
        between_motion: "none", or "flow" where that blend shall move along the motion between the two, as `upsample`
            does by default.
    """

    lambda_x: float = 0.1
    lambda_y: float = 0.1
    lambda_z: float = 0.1
    data_divergence: str = "gan"
    latent_divergence: str = "gan"
    penalty_weight: float = 10.0
    r1_weight: float = 0.0
    cycle_share: float = 0.5
    cycled_latents: bool = False
    prior: str = "relu"
    discriminator: str = "table5"
    discriminator_width: int = 64
    discriminator_slope: float | None = None
    latent_discriminator_width: int = 512
    latent_discriminator_kernel: int = 1
    latent_discriminator_slope: float = 0.2
    image_pool: int = 0
    label_cost: str = "l1"
    label_weight: float = 1.0
    hard_cycle: bool = False
    photo_cycle_weight: float = 1.0
    photo_cycle_pool: int = 1
    self_weight: float = 0.0
    edge_weight: float = 0.0
    likeness_weight: float = 0.0
    carried_detail: bool = False
    frozen_trunk: bool = False
    sequential: bool = False
    variation_weight: float = 0.0
    between_weight: float = 0.0
    between_motion: str = "none"

    def __post_init__(self) -> None:
        if not 0.0 <= self.cycle_share < 1.0:
            raise UsageError(f"loss.cycle_share must be in [0, 1), not {self.cycle_share}")
        check_costs(self)
        weights = (self.lambda_x, self.lambda_y, self.lambda_z)
        beyond = (self.self_weight, self.edge_weight, self.likeness_weight, self.variation_weight, self.between_weight)
        if min(*weights, *beyond, self.penalty_weight, self.r1_weight) < 0.0:
            raise UsageError("weights of the loss must not be negative")
        if min(self.discriminator_width, self.latent_discriminator_width) < 1:
            raise UsageError("widths of the loss must be at least 1")
        if self.image_pool < 0:
            raise UsageError(f"loss.image_pool must not be negative, not {self.image_pool}")
        one_of("loss.data_divergence", self.data_divergence, KINDS)
        one_of("loss.latent_divergence", self.latent_divergence, KINDS)
        one_of("loss.latent_discriminator_kernel", self.latent_discriminator_kernel, (1, 3))
        one_of("loss.prior", self.prior, ("relu", "gaussian", "uniform"))
        one_of("loss.discriminator", self.discriminator, ("table5", "patch70", "coordinates", "coarse"))
        one_of("loss.between_motion", self.between_motion, ("none", "flow"))

    @property
    def needs_start(self) -> bool:
        """Whether the run must begin from a finished model: untrained networks have no names to teach."""
        return self.self_weight > 0.0

    def check(self, recipe: Recipe) -> None:
        """Whether the rest of the recipe fits.

        Raises:
            UsageError: it does not.
        """
        config = recipe.net_config()
        width, height = recipe.data.trained_size
        if self.discriminator == "table5" and self.data_divergence != "mmd" and min(width, height) < 64:
            raise UsageError(f"the table5 discriminator needs 64x64 pixels at least, not {width}x{height}")
        if self.prior == "relu" and config.embedding == "linear":
            raise UsageError("a linear embedding needs loss.prior gaussian or uniform")
        check_costs_fit(self, recipe)
        if self.self_weight > 0.0 or self.edge_weight > 0.0:
            kinds = sorted(row.kind for row in recipe.domains)
            if kinds != ["label", "photo"] or not has_class_scores(recipe):
                raise UsageError(
                    "loss.self_weight and edge_weight need one photo and one label domain and net.label_head palette"
                )
            if width % 8 or height % 8:
                raise UsageError(f"loss.self_weight needs a training size divisible by 8, not {width}x{height}")
        photos = [row.kind for row in recipe.domains].count("photo")
        for used, key in ((self.likeness_weight > 0.0, "likeness_weight"), (self.carried_detail, "carried_detail")):
            if used and photos < 2:
                raise UsageError(f"loss.{key} needs two photo domains or more")
        if self.frozen_trunk and not config.shared_trunk:
            raise UsageError(
                "loss.frozen_trunk needs net.shared_trunk, or there is nothing but a domain's own networks"
            )
        if self.variation_weight > 0.0 and not self.sequential:
            raise UsageError("loss.variation_weight needs loss.sequential, which puts consecutive frames into a batch")
        for used, key, least in ((self.sequential, "sequential", 2), (self.between_weight > 0.0, "between_weight", 3)):
            if used and recipe.data.clip < least:
                raise UsageError(f"loss.{key} needs data.clip of {least} or more, not {recipe.data.clip}")
        if recipe.data.clip > 1 and not (self.sequential or self.between_weight > 0.0):
            raise UsageError("data.clip above 1 needs loss.sequential or loss.between_weight, or nothing looks at it")
