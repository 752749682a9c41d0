"""One step of CycleGAN: translate both ways and back, ascend both discriminators, descend both generators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidtrans.nets.contract import Domain
from vidtrans.nets.heads import Heads
from vidtrans.train import losses
from vidtrans.train.costs import Costs, Picture
from vidtrans.train.cyclegan_options import CycleGANOptions, GeneratorsOptions
from vidtrans.train.discriminators import picture_discriminator
from vidtrans.train.divergences import Played
from vidtrans.train.draws import Draws
from vidtrans.train.image_pool import ImagePool
from vidtrans.train.recipe import Recipe
from vidtrans.train.step import Batch, Step


@dataclass
class Streams:
    """Everything one forward pass makes from unpaired batches x and y, G: X -> Y and F: Y -> X."""

    x: Tensor  # (B, 3, H, W), or clips (B, T, 3, H, W)
    y: Tensor
    xy: Picture  # G(x)
    yx: Picture  # F(y)
    xyx: Picture  # F(G(x))
    yxy: Picture  # G(F(y))


class GeneratorsStep(Step):
    """What CycleGAN is on single frames and on clips: a generator for each direction, a discriminator for each domain.

    With two domains every step is the paper's; with more, it is the paper's for one pair of them.
    """

    options: GeneratorsOptions

    def __init__(self, net: Heads, recipe: Recipe, device: torch.device) -> None:
        super().__init__(net, recipe, device)
        o = self.options
        self.costs = Costs(net, o)
        self._clip, self._distance = recipe.data.clip, recipe.data.clip_distance
        self.data = nn.ModuleDict({domain.name: Played(o.divergence, self.critic(), 0.0) for domain in net.domains})
        width, height = recipe.data.trained_size
        self.pools = nn.ModuleDict(
            {
                domain.name: ImagePool(o.image_pool, self.sample_shape(height, width))
                for domain in (net.domains if o.image_pool else ())
            }
        )

    def critic(self) -> nn.Module:
        """A fresh one; it judges what `taken` gives."""
        raise NotImplementedError

    def taken(self, clips: Tensor) -> Tensor:
        """What the generators get of a domain's clips (B, T, 3, H, W)."""
        raise NotImplementedError

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Of one of the samples that `taken` gives."""
        raise NotImplementedError

    def discriminators(self) -> list[nn.Parameter]:
        return list(self.data.parameters())

    def parts(self) -> list[nn.Module]:
        return list(self.net.generators.values())

    def forward(self, batch: Batch) -> Streams:
        xd, yd = batch.domains
        x, y = (self.taken(clips) for clips in batch.clips)
        with self.autocast():
            xy, yx = self._translated(x, xd, yd), self._translated(y, yd, xd)
            xyx = self._translated(self.costs.sent_back(xy, yd), yd, xd)
            yxy = self._translated(self.costs.sent_back(yx, xd), xd, yd)
        return Streams(x, y, xy, yx, xyx, yxy)

    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]:
        """The terms without adversaries."""
        return self._faithful(batch, self(batch))

    def discriminator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """The ascent of D_X and D_Y on the adversarial terms, each on translations alone."""
        factor, s, (xd, yd), (x, y) = self.options.discriminator_factor, streams, batch.domains, self.letters(batch)
        x_fakes, y_fakes = self._pooled(xd, s.yx, batch), self._pooled(yd, s.xy, batch)
        with self.autocast():
            return {
                f"d{x}": factor * self._data(xd).ascent(s.x, [(1.0, x_fakes)], batch.draws),
                f"d{y}": factor * self._data(yd).ascent(s.y, [(1.0, y_fakes)], batch.draws),
            }

    def generator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """The descent of G and F: adversarial terms, cycles and what else keeps translations faithful."""
        s, (xd, yd), (x, y) = streams, batch.domains, self.letters(batch)
        with self.autocast():
            adversarial = {
                f"g{x}": self._data(xd).descent(s.x, [(1.0, s.yx.colours)], batch.draws),
                f"g{y}": self._data(yd).descent(s.y, [(1.0, s.xy.colours)], batch.draws),
            }
        return adversarial | self._faithful(batch, streams)

    def _faithful(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """lambda_cycle times the L1 distances of F(G(x)) from x and of G(F(y)) from y."""
        weight, s, (xd, yd), (x, y) = self.options.lambda_cycle, streams, batch.domains, self.letters(batch)
        return {
            f"c{x}": weight * self.costs.cycle(s.xyx, s.x, xd),
            f"c{y}": weight * self.costs.cycle(s.yxy, s.y, yd),
        }

    def _translated(self, x: Tensor, source: Domain, target: Domain) -> Picture:
        return self.costs.picture(self.net.translate(x, source.name, target.name), target)

    def _data(self, domain: Domain) -> Played:
        found = self.data[domain.name]
        assert isinstance(found, Played)
        return found

    def _pooled(self, domain: Domain, fake: Picture, batch: Batch) -> Tensor:
        if not self.options.image_pool:
            return fake.colours
        pool = self.pools[domain.name]
        assert isinstance(pool, ImagePool)
        return pool.exchange(fake.colours, batch.draws, self.ranks)


class CycleGANStep(GeneratorsStep):
    """CycleGAN on frames, and the video-to-video paper's baselines: random, sequential and const-loss batches."""

    options: CycleGANOptions

    def critic(self) -> nn.Module:
        return picture_discriminator(self.options.discriminator, self.options.discriminator_width)

    def sample_shape(self, height: int, width: int) -> tuple[int, ...]:
        return 3, height, width

    def offsets(self, draws: Draws) -> tuple[int, ...]:
        frames = range(self._clip if self.options.is_sequential else 1)
        return tuple(self._distance * frame for frame in frames)

    def taken(self, clips: Tensor) -> Tensor:
        return clips.flatten(0, 1)

    def generator_loss(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        terms = super().generator_loss(batch, streams)
        if self.options.batches == "const":
            for letter, made in zip(self.letters(batch), (streams.yx, streams.xy), strict=True):
                clips = made.colours.reshape(-1, self._clip, *made.colours.shape[1:])
                terms[f"t{letter}"] = self.options.variation_weight * losses.variation(clips)
        return terms

    def _faithful(self, batch: Batch, streams: Streams) -> dict[str, Tensor]:
        """Cycles and, between photos, identities: the distances of F(x) from x and of G(y) from y."""
        terms = super()._faithful(batch, streams)
        weight = self.options.lambda_cycle * self.options.identity_weight
        xd, yd = batch.domains
        if weight > 0.0 and not (xd.is_label or yd.is_label):
            x, y = self.letters(batch)
            with self.autocast():
                xx, yy = self._translated(streams.x, yd, xd), self._translated(streams.y, xd, yd)
            terms[f"r{x}"] = weight * losses.reconstruction(xx.colours, streams.x)
            terms[f"r{y}"] = weight * losses.reconstruction(yy.colours, streams.y)
        return terms
