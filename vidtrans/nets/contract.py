"""What every net tells its callers, whatever its paper: its domains and its sizes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vidtrans.errors import UsageError, nearest_names
from vidtrans.palettes import Palette, palette_named


@dataclass(frozen=True)
class Domain:
    """One visual domain of a net.

    Attributes:
        name: what the user types after --to and --from.
        kind: "photo" (any colour) or "label" (only the palette's colours mean something).
        palette: of a label domain: a bundled palette's name, or a palette of the user's own. None for a photo domain.
    """

    name: str
    kind: str = "photo"
    palette: str | Palette | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            # The name becomes part of output file names and of parameter names.
            raise UsageError(f"domain name {self.name!r}: use letters, digits, - and _ only")
        if self.kind not in ("photo", "label"):
            raise UsageError(f"domain {self.name!r}: kind must be photo or label, not {self.kind!r}")
        if (self.kind == "label") != (self.palette is not None):
            raise UsageError(f"domain {self.name!r}: a label domain needs a palette, a photo domain has none")

    @property
    def is_label(self) -> bool:
        return self.kind == "label"

    @property
    def colours(self) -> Palette:
        """The palette of a label domain."""
        assert self.palette is not None, f"{self.name} is a photo domain"
        return self.palette if isinstance(self.palette, Palette) else palette_named(self.palette)


@dataclass(frozen=True)
class SizeFacts:
    """Which working sizes a net takes, in pixels.

    Attributes:
        multiple: height and width must be divisible by it.
        minimum: smallest height and width.
        trained: (width, height) the weights were trained at.
    """

    multiple: int
    minimum: int
    trained: tuple[int, int]


class Net(Protocol):
    """The contract of design: two verbs, and the split of the second.

    x: (B, 3, H, W) floats in [-1, 1]. z, a: whatever the family defines. `finish` gives (B, 3, H, W) in [-1, 1] for a
    photo domain and (B, K, H, W) class scores for a label domain with a palette head; `colour` turns either into x.
    """

    family: str
    domains: tuple[Domain, ...]
    sizes: SizeFacts
    shares_latent: bool
    lift_norm: str  # "instance_relu": finish starts with instance norm and ReLU (the fused blend applies); else "none"

    def encode(self, x: Tensor, domain: str) -> Tensor: ...

    def decode(self, z: Tensor, domain: str) -> Tensor: ...

    def lift(self, z: Tensor, domain: str) -> Tensor: ...

    def finish(self, a: Tensor, domain: str) -> Tensor: ...

    def finish_normed(self, a: Tensor, domain: str) -> Tensor:
        """What `finish` does after its first instance norm and ReLU; only where lift_norm says that it has them."""
        ...

    def colour(self, out: Tensor, domain: str) -> Tensor: ...


class Translator(Protocol):
    """The contract of families that share no latent space: one verb, from one domain straight into another.

    There is nothing to blend and no reconstruction: footage is interpolated before it is translated, in its own domain.

    Attributes:
        clip: frames that `translate` is made for at once; 1 for single pictures.
        clip_multiple: the number of frames must be divisible by it, as height and width by `sizes.multiple`; 1 for
            single pictures.
    """

    family: str
    domains: tuple[Domain, ...]
    sizes: SizeFacts
    shares_latent: bool  # False
    clip: int
    clip_multiple: int

    def translate(self, x: Tensor, source: str, target: str) -> Tensor:
        """Frames of domain `source` in [-1, 1] as frames of `target`, or as its class scores (see `has_scores`).

        clip 1: x (B, 3, H, W) -> the same, or (B, K, H, W). More: x (B, T, 3, H, W), consecutive frames, T a multiple
        of `clip_multiple` -> the same, or (B, T, K, H, W).
        """
        ...

    def has_scores(self, domain: str) -> bool:
        """Whether `translate` gives class scores for this target: a label domain with a palette head."""
        ...

    def colour(self, out: Tensor, domain: str) -> Tensor:
        """What `translate` gave -> colours in [-1, 1], (B, 3, H, W) or (B, T, 3, H, W)."""
        ...


def domain_named(domains: tuple[Domain, ...], name: str) -> Domain:
    """The domain of that name.

    Raises:
        UsageError: the model has no such domain.
    """
    for domain in domains:
        if domain.name == name:
            return domain
    raise UsageError(f"the model has no domain {name!r}; {nearest_names(name, [domain.name for domain in domains])}")


def direction(domains: tuple[Domain, ...], to: str | None, from_: str | None) -> tuple[str, str]:
    """(source, target) of a translation: by default into the second domain, from the first other one.

    Raises:
        UsageError: a domain that is not there, or the same one twice.
    """
    target = domain_named(domains, to or domains[1].name).name
    source = domain_named(domains, from_ or next(d.name for d in domains if d.name != target)).name
    if source == target:
        raise UsageError(f"--from and --to are both {target}; translate into another domain")
    return source, target


def domains_to_json(domains: tuple[Domain, ...]) -> list[dict[str, Any]]:
    return [asdict(domain) for domain in domains]


def domains_from_json(rows: list[dict[str, Any]]) -> tuple[Domain, ...]:
    def palette(row: dict[str, Any]) -> str | Palette | None:
        found = row.get("palette")
        return Palette.from_json(found) if isinstance(found, dict) else found

    return tuple(Domain(**{**row, "palette": palette(row)}) for row in rows)


def padded_size(height: int, width: int, sizes: SizeFacts) -> tuple[int, int]:
    """The smallest (height, width) the net takes that holds this one."""

    def up(length: int) -> int:
        length = max(length, sizes.minimum)
        return -(-length // sizes.multiple) * sizes.multiple

    return up(height), up(width)


def pad(x: Tensor, sizes: SizeFacts) -> Tensor:
    """(B, C, H, W) grown to the net's sizes at the right and bottom by repeating the border; crop with [..., :H, :W].

    Replicated, not reflected: a reflection cannot be wider than the picture, and small inputs may need that.
    """
    height, width = padded_size(x.shape[-2], x.shape[-1], sizes)
    if (height, width) == tuple(x.shape[-2:]):
        return x
    return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), mode="replicate")


def to_unit(rgb: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to the nets' floats (B, 3, H, W) in [-1, 1]."""
    return rgb.movedim(-1, 1).to(torch.float32) / 127.5 - 1.0
