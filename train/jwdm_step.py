"""One step of JWDM's Algorithm 1: forward, ascend Dx, Dy, Dz, descend F = {E1, E2, G1, G2}, for any pair of domains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor, nn

from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM
from vidtrans.train import losses
from vidtrans.train.costs import Costs, Picture
from vidtrans.train.discriminators import LatentDiscriminator, picture_discriminator
from vidtrans.train.divergences import Divergence, Kernels, Played, latent_rows, patch_rows
from vidtrans.train.draws import Draws
from vidtrans.train.image_pool import ImagePool
from vidtrans.train.jwdm_options import LossOptions
from vidtrans.train.recipe import Recipe
from vidtrans.train.self_training import Names, SelfTraining, soft_cross_entropy
from vidtrans.train.step import Batch, Step
from vidtrans.train.temporal import between, between_place

LABELLER_EDGE_WEIGHT = 1.0  # of edges beside cross-entropy in nats, in what the labeller learns


@dataclass
class Cycles:
    """What becomes of translations that are sent back."""

    zxy: Tensor  # E2(G2(E1(x)))
    zyx: Tensor  # E1(G1(E2(y)))
    xyx: Picture  # G1(E2(G2(E1(x)))), the cycle of x
    yxy: Picture  # G2(E1(G1(E2(y)))), the cycle of y


@dataclass
class Streams:
    """Everything one forward pass makes from unpaired batches x and y."""

    x: Tensor  # (B, 3, H, W)
    y: Tensor
    prior: Tensor  # a draw of PZ, as many latents as x has frames
    zx: Tensor  # E1(x)
    zy: Tensor  # E2(y)
    xx: Picture  # G1(E1(x))
    yy: Picture  # G2(E2(y))
    xy: Picture  # G2(E1(x)), x translated
    yx: Picture  # G1(E2(y)), y translated
    cycles: Cycles | None  # None where the options look at none of them


class JWDMStep(Step):
    """Encoders, decoders and discriminators of all domains, and the paper's losses for the pair that a step trains.

    Every domain has its own data discriminator, all latents share one Dz. With two domains every step is the paper's;
    with more, a step is the paper's for one pair of them, so that each ordered pair is translated equally often.
    """

    net: JWDM
    options: LossOptions

    def __init__(self, net: JWDM, recipe: Recipe, device: torch.device) -> None:
        super().__init__(net, recipe, device)
        o = self.options
        self.costs = Costs(net, o)
        self.data = nn.ModuleDict({domain.name: data_divergence(o) for domain in net.domains})
        self.latent = latent_divergence(o, net.config.latent_channels)
        self._clip, self._distance = recipe.data.clip, recipe.data.clip_distance
        width, height = recipe.data.trained_size
        self.pools = nn.ModuleDict(
            {
                f"{domain.name}-{fake}": ImagePool(o.image_pool, (3, height, width))
                for domain in (net.domains if o.image_pool else ())
                for fake in ("translated", "cycled")
            }
        )

        self.self_training: SelfTraining | None = None
        if o.self_weight > 0.0:
            label = self._label_domain()
            self.self_training = SelfTraining(len(label.colours), recipe.data.trained_size, LABELLER_EDGE_WEIGHT)

    def discriminators(self) -> list[nn.Parameter]:
        return [*self.data.parameters(), *self.latent.parameters()]

    def helpers(self) -> list[nn.Parameter]:
        return list(self.self_training.parameters()) if self.self_training is not None else []

    def parts(self) -> list[nn.Module]:
        return self.net.parts()

    def offsets(self, draws: Draws) -> tuple[int, ...]:
        """A whole clip where all of it is trained on; its ends and one frame between, or only its first frame."""
        o, last = self.options, self._clip - 1
        if o.sequential:
            frames: Sequence[int] = range(self._clip)
        elif o.between_weight > 0.0:
            frames = (0, between_place(draws, self._clip), last)
        else:
            frames = (0,)
        return tuple(self._distance * frame for frame in frames)

    def forward(self, batch: Batch) -> Streams:
        if self.options.frozen_trunk:
            self.net.freeze_trunk()  # here and not before: it learns in a warm-up
        xd, yd = batch.domains
        x, y = (clips.flatten(0, 1) if self.options.sequential else clips[:, 0] for clips in batch.clips)
        with self.autocast():
            if self.net.config.shared_trunk:
                (zx, zy), (xx, yx), (xy, yy) = self._through_one_trunk(x, y, batch.domains)
            else:
                zx, zy = self.net.encode(x, xd.name), self.net.encode(y, yd.name)
                # A decoder's two inputs go through it as one batch; instance norm keeps samples apart.
                xx, yx = halves(self._decode(torch.cat([zx, zy]), xd))
                yy, xy = halves(self._decode(torch.cat([zy, zx]), yd))
            cycles = self._cycles(xy, yx, batch.domains) if self._looks_at_cycles else None
        prior = losses.prior_draw(zx, self.options.prior, batch.draws)
        return Streams(x, y, prior, zx, zy, xx, yy, xy, yx, cycles)

    def _through_one_trunk(
        self, x: Tensor, y: Tensor, domains: tuple[Domain, Domain]
    ) -> tuple[Sequence[Tensor], tuple[Picture, Picture], tuple[Picture, Picture]]:
        """(zx, zy), (xx, yx), (xy, yy): what has passed the trunk once is decoded by both domains' ends."""
        z = self.net.encode(torch.cat([x, y]), domains[0].name)
        features = self.net.trunk(z)
        first, second = (self.costs.picture(self.net.end(features, domain.name), domain) for domain in domains)
        return z.chunk(2), halves(first), halves(second)

    def _cycles(self, xy: Picture, yx: Picture, domains: tuple[Domain, Domain]) -> Cycles:
        xd, yd = domains
        zxy = self.net.encode(self.costs.sent_back(xy, yd), yd.name)
        zyx = self.net.encode(self.costs.sent_back(yx, xd), xd.name)
        return Cycles(zxy, zyx, self._decode(zxy, xd), self._decode(zyx, yd))

    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Rx + Ry of Eq. (7) alone, without cycles; translations only where self-training judges them."""
        if self.self_training is not None and not self.self_training.is_ready:
            return self._lesson(batch)
        terms, latents = {}, {}
        for letter, domain, x in zip(self.letters(batch), batch.domains, (batch.x, batch.y), strict=True):
            with self.autocast():
                latents[domain.name] = self.net.encode(x, domain.name)
                picture = self._decode(latents[domain.name], domain)
            terms[f"r{letter}"] = self.costs.reconstruction(picture, x, domain)
        if self._judges_labels():
            photo, label = self._photo_and_label(batch.domains)
            with self.autocast():
                translated = self._decode(latents[photo.name], label)
            frames = dict(zip(batch.domains, (batch.x, batch.y), strict=True))
            terms |= self._label_terms(batch, frames[photo], frames[label], translated)
        return terms

    def discriminator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the ascent on the three divergences, weighted as in Eq. (6)."""
        o, s, (xd, yd), (x, y) = self.options, streams, batch.domains, self.letters(batch)
        x_fakes, y_fakes = self._all_fakes(batch, s)
        x_shown = self.costs.shown(s.x, self._pooled(xd, x_fakes, batch), xd)
        y_shown = self.costs.shown(s.y, self._pooled(yd, y_fakes, batch), yd)
        with self.autocast():
            terms = {
                f"d{x}": (self._weight(xd), self._data(xd).ascent(*x_shown, batch.draws)),
                f"d{y}": (self._weight(yd), self._data(yd).ascent(*y_shown, batch.draws)),
                "dz": (o.lambda_z, self.latent.ascent(s.prior, self._latents(s), batch.draws)),
            }
        return {name: weight * value for name, (weight, value) in terms.items() if value is not None}

    def generator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """Algorithm 1, the descent of F on Eq. (6): Rx + Ry (Eq. 7) and the divergences."""
        if self.self_training is not None and not self.self_training.is_ready:
            return self._lesson(batch)
        o, s, (xd, yd), (x, y) = self.options, streams, batch.domains, self.letters(batch)
        x_fakes, y_fakes = self._all_fakes(batch, s)
        x_shown = self.costs.shown(s.x, x_fakes, xd)
        y_shown = self.costs.shown(s.y, y_fakes, yd)
        with self.autocast():
            gx = self._data(xd).descent(*x_shown, batch.draws)
            gy = self._data(yd).descent(*y_shown, batch.draws)
            gz = self.latent.descent(s.prior, self._latents(s), batch.draws)
        terms = {
            f"r{x}": self.costs.reconstruction(s.xx, s.x, xd),
            f"r{y}": self.costs.reconstruction(s.yy, s.y, yd),
        }
        if s.cycles is not None:
            terms[f"c{x}"] = self.costs.cycle(s.cycles.xyx, s.x, xd)
            terms[f"c{y}"] = self.costs.cycle(s.cycles.yxy, s.y, yd)
        terms |= {f"g{x}": self._weight(xd) * gx, f"g{y}": self._weight(yd) * gy, "gz": o.lambda_z * gz}
        if self._judges_labels():
            terms |= self._label_terms(batch, *((s.x, s.y, s.xy) if yd.is_label else (s.y, s.x, s.yx)))
        if o.likeness_weight > 0.0 and not (xd.is_label or yd.is_label):
            for letter, translated, own in ((x, s.xy, s.xx), (y, s.yx, s.yy)):
                terms[f"l{letter}"] = o.likeness_weight * losses.likeness(translated.colours, own.colours)
        if o.variation_weight > 0.0:
            for letter, made in ((x, s.yx), (y, s.xy)):
                terms[f"t{letter}"] = o.variation_weight * losses.variation(rows_of(made.colours, self._clip))
        if o.between_weight > 0.0:
            for letter, z, clips, domain in ((x, s.zx, batch.clips[0], xd), (y, s.zy, batch.clips[1], yd)):
                terms[f"b{letter}"] = o.between_weight * self._between_cost(z, clips, domain, batch.draws)
        return terms

    def _data(self, domain: Domain) -> Divergence:
        found = self.data[domain.name]
        assert isinstance(found, Divergence)
        return found

    def _weight(self, domain: Domain) -> float:
        return self.options.lambda_x if domain == self.net.domains[0] else self.options.lambda_y

    @property
    def _looks_at_cycles(self) -> bool:
        o = self.options
        has_labels = any(domain.is_label for domain in self.net.domains)
        return has_labels or o.photo_cycle_weight > 0.0 or o.cycle_share > 0.0 or o.cycled_latents

    def _judges_labels(self) -> bool:
        return self.options.self_weight > 0.0 or self.options.edge_weight > 0.0

    def _label_domain(self) -> Domain:
        return next(domain for domain in self.net.domains if domain.is_label)

    @staticmethod
    def _photo_and_label(pair: tuple[Domain, Domain]) -> tuple[Domain, Domain]:
        return (pair[1], pair[0]) if pair[0].is_label else pair

    def _label_terms(self, batch: Batch, x: Tensor, labels: Tensor, translated: Picture) -> dict[str, Tensor]:
        """Self-training and edges: what photos x say of their own translation. labels: unpaired frames."""
        assert translated.scores is not None
        log_made = losses.full(translated.scores).log_softmax(1)
        terms = {}
        if self.options.edge_weight > 0.0:
            terms["edges"] = self.options.edge_weight * losses.edges(x, log_made.exp())
        if self.self_training is not None:
            names = self._names(batch, x, labels)
            terms["self"] = self.options.self_weight * soft_cross_entropy(log_made, names.classes)
            terms["labeller"] = names.loss
        return terms

    def _names(self, batch: Batch, x: Tensor, labels: Tensor) -> Names:
        """What the labeller calls the photos x. labels: unpaired frames."""
        assert self.self_training is not None
        photo, label = self._photo_and_label(batch.domains)
        classes, teacher = self.costs.classes(labels, label), partial(self._averaged_scores, photo, label)
        with self.autocast():
            names: Names = self.self_training(x, classes, teacher, batch.draws, self.ranks)
        return names

    def _lesson(self, batch: Batch) -> dict[str, Tensor]:
        """The labeller's beginning, in which nothing else learns."""
        photo, label = self._photo_and_label(batch.domains)
        frames = dict(zip(batch.domains, (batch.x, batch.y), strict=True))
        return {"labeller": self._names(batch, frames[photo], frames[label]).loss}

    def _averaged_scores(self, photo: Domain, label: Domain, x: Tensor) -> Tensor:
        net = self.average
        return net.finish(net.lift(net.encode(x, photo.name), label.name), label.name)

    def _between_cost(self, z: Tensor, clips: Tensor, domain: Domain, draws: Draws) -> Tensor:
        """Algorithm 2 while training: the decoded blend of a clip's ends against the frame that was really there."""
        place = between_place(draws, self._clip)
        with self.autocast():
            if self.options.sequential:
                ends, real = rows_of(z, self._clip)[:, [0, -1]], clips[:, place]
            else:
                last = self.net.encode(clips[:, 2], domain.name)
                ends, real = torch.stack([z, last], 1), clips[:, 1]
            lifted = rows_of(losses.full(self.net.lift(ends.flatten(0, 1), domain.name)), 2)
            keyframes = clips[:, [0, -1]] if self.options.between_motion == "flow" else None
            picture = self._finish(between(lifted, Fraction(place, self._clip - 1), keyframes), domain)
        return self.costs.reconstruction(picture, real, domain)

    def _decode(self, z: Tensor, domain: Domain) -> Picture:
        return self._finish(self.net.lift(z, domain.name), domain)

    def _finish(self, a: Tensor, domain: Domain) -> Picture:
        return self.costs.picture(self.net.finish(a, domain.name), domain)

    def _judged(self, batch: Batch, streams: Streams) -> tuple[Tensor, Tensor]:
        """The translations xy and yx as Dy and Dx see them."""
        s = streams
        if not self.options.carried_detail or any(domain.is_label for domain in batch.domains):
            return s.xy.colours, s.yx.colours
        return losses.carried(s.xy.colours, s.xx.colours, s.x), losses.carried(s.yx.colours, s.yy.colours, s.y)

    def _all_fakes(
        self, batch: Batch, streams: Streams
    ) -> tuple[list[tuple[float, Tensor]], list[tuple[float, Tensor]]]:
        """What Dx and Dy see beside x and y."""
        (xy, yx), cycles = self._judged(batch, streams), streams.cycles
        xyx, yxy = (cycles.xyx, cycles.yxy) if cycles is not None else (None, None)
        return self._fakes(yx, xyx), self._fakes(xy, yxy)

    def _fakes(self, translated: Tensor, cycled: Picture | None) -> list[tuple[float, Tensor]]:
        """Eqs. (19), (20): the mixture of fakes that a data divergence sees. At a cycle share of 0 it is CycleGAN's."""
        share = self.options.cycle_share
        return [(1.0 - share, translated), *([(share, cycled.colours)] if share > 0.0 and cycled else [])]

    def _latents(self, streams: Streams) -> list[tuple[float, Tensor]]:
        """d(PZ, QZ1) + d(PZ, QZ2) of Eq. (6); with cycled_latents each QZ is half encoded translations (J18)."""
        s = streams
        if not self.options.cycled_latents or s.cycles is None:
            return [(1.0, s.zx), (1.0, s.zy)]
        return [(0.5, s.zx), (0.5, s.cycles.zxy), (0.5, s.zy), (0.5, s.cycles.zyx)]

    def _pooled(self, domain: Domain, fakes: list[tuple[float, Tensor]], batch: Batch) -> list[tuple[float, Tensor]]:
        if not self.options.image_pool:
            return fakes
        shown = []
        for name, (share, fake) in zip(("translated", "cycled"), fakes, strict=False):
            pool = self.pools[f"{domain.name}-{name}"]
            assert isinstance(pool, ImagePool)
            shown.append((share, pool.exchange(fake, batch.draws, self.ranks)))
        return shown


def halves(both: Picture) -> tuple[Picture, Picture]:
    """A picture of twice as many samples, as two."""
    colours = both.colours.chunk(2)
    scores = both.scores.chunk(2) if both.scores is not None else (None, None)
    return Picture(colours[0], scores[0]), Picture(colours[1], scores[1])


def rows_of(x: Tensor, length: int) -> Tensor:
    """(B * length, ...) as (B, length, ...)."""
    return x.view(-1, length, *x.shape[1:])


def data_divergence(options: LossOptions) -> Divergence:
    """d(PX, QX) of one domain's pictures, with a critic of its own."""
    o = options
    if o.data_divergence == "mmd":
        return Kernels(patch_rows, variance=1 / 3)  # of a number spread evenly over [-1, 1]
    critic = picture_discriminator(o.discriminator, o.discriminator_width, o.discriminator_slope)
    return Played(o.data_divergence, critic, o.penalty_weight, o.r1_weight)


def latent_divergence(options: LossOptions, channels: int) -> Divergence:
    """d(PZ, .) for the latents of all encoders: one critic, Dz (J17)."""
    o = options
    if o.latent_divergence == "mmd":
        return Kernels(latent_rows, losses.PRIOR_VARIANCE[o.prior])
    width, kernel, slope = o.latent_discriminator_width, o.latent_discriminator_kernel, o.latent_discriminator_slope
    return Played(o.latent_divergence, LatentDiscriminator(channels, width, kernel, slope), o.penalty_weight)
