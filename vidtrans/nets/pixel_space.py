"""A family that shares no latent space as a net that can be interpolated: its latent is the input's picture itself."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidtrans.errors import UsageError
from vidtrans.nets.contract import Translator, domain_named


class PixelSpace(nn.Module):
    """A Translator for footage of one domain, by the contract of Net (both in nets/contract.py).

    Encoding and lifting change nothing, so what is blended, in place or along the motion, are pictures of the source,
    and every blend is then translated: interpolate first, then translate (3D CycleGAN has no interpolation of its own,
    method V15). Of a label source the latent is one plane for each class, 1 where the nearest colour is its own: blends
    are shares of classes, of which the largest wins, so no blend of two colours passes for a third class, and what is
    translated is as pure as what the net was trained on.

    Args:
        net: a Translator of single pictures, or of clips; the latter decodes in its source domain only, since a clip
            needs its neighbours (vidtrans/clips.py).
        source: the domain of everything that is encoded.

    Raises:
        UsageError: the net has no such domain.
    """

    shares_latent = True
    lift_norm = "none"

    def __init__(self, net: Translator, source: str) -> None:
        super().__init__()
        self.net = cast("Any", net)  # a module
        self.source = source
        self.family, self.config, self.domains = net.family, self.net.config, net.domains
        self.sizes, self.clip = net.sizes, net.clip
        domain = domain_named(net.domains, source)
        self._labels_in = domain.is_label
        if domain.is_label:
            # Whole numbers, which no change of precision touches.
            self.register_buffer("colours", torch.from_numpy(domain.colours.array.copy()).int(), persistent=False)

    def has_scores(self, domain: str) -> bool:
        """Whether `finish` gives class scores for this domain."""
        return self._labels_in if domain == self.source else bool(self.net.has_scores(domain))

    def encode(self, x: Tensor, domain: str) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> the same; of a label source (B, K, H, W), 1 for the nearest class, else 0."""
        if domain != self.source:
            raise ValueError(f"made for footage of {self.source}, not of {domain}")
        if not self._labels_in:
            return x
        table = self._table()
        # The nearest colour c has the largest x c - c c / 2.
        nearness = F.conv2d(x.float(), table[:, :, None, None], -table.square().sum(1) / 2.0)
        # Not one_hot, which OpenVINO takes for something of a changing size.
        numbers = torch.arange(len(table), device=x.device).view(1, -1, 1, 1)
        return (nearness.argmax(1, keepdim=True) == numbers).to(x.dtype)

    def lift(self, z: Tensor, domain: str) -> Tensor:
        """z itself."""
        return z

    def finish(self, a: Tensor, domain: str) -> Tensor:
        """z, or a blend of several -> (B, 3 or K, H, W): a itself in the source domain, its translation elsewhere."""
        if domain == self.source:
            return a
        if self.clip > 1:
            raise ValueError(f"{self.family} translates clips of {self.clip} frames, no single ones")
        translated: Tensor = self.net.translate(self.pictures(a), self.source, domain)
        return translated

    def pictures(self, a: Tensor) -> Tensor:
        """What `finish` gives for the source domain -> (B, 3, H, W) in [-1, 1], labels in their palette's colours."""
        if not self._labels_in:
            return a
        return F.embedding(a.argmax(1), self._table()).movedim(-1, 1).to(a.dtype)

    def colour(self, out: Tensor, domain: str) -> Tensor:
        """What `finish` gave -> (B, 3, H, W) in [-1, 1]."""
        if domain == self.source:
            return self.pictures(out)
        coloured: Tensor = self.net.colour(out, domain)
        return coloured

    def decode(self, z: Tensor, domain: str) -> Tensor:
        """z -> (B, 3, H, W) in [-1, 1]."""
        return self.colour(self.finish(self.lift(z, domain), domain), domain)

    def _table(self) -> Tensor:
        """(K, 3) in [-1, 1]."""
        colours: Tensor = self.colours  # type: ignore[assignment]  # a buffer
        return colours.float() / 127.5 - 1.0


def in_one_space(net: Any, source: str) -> Any:
    """The net, or if it shares no latent space the PixelSpace of that source: either can be interpolated."""
    return net if net.shares_latent else PixelSpace(net, source)


def for_any_engine(net: Any, source: str) -> Any:
    """The same of a net that every engine can run.

    Raises:
        UsageError: it translates clips.
    """
    if not net.shares_latent and net.clip > 1:
        raise UsageError(f"{net.family} translates clips of {net.clip} frames, which the torch engine alone runs")
    return in_one_space(net, source)
