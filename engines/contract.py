"""What every engine does, however it does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from torch import Tensor

from vidtrans.latents import Fields

Samples = Callable[[], Tensor]
"""Frames of the footage at hand, (B, H, W, 3) uint8, for engines that calibrate or check themselves on real ones."""

Report = Callable[[str], None]
"""Hears lines for the user while an engine takes long to make ready."""


@dataclass(frozen=True)
class Features:
    """What is kept of one keyframe, on the engine's device; it serves both gaps the keyframe borders on.

    Attributes:
        lifted: per domain the decoder's first layer applied to the latent, (C, h, w).
        decoded: per domain the keyframe's own decoding (3 or K, H, W) at the working size: the output at t = 0.
    """

    lifted: dict[str, Tensor]
    decoded: dict[str, Tensor]


@dataclass(frozen=True)
class Gap:
    """Two consecutive keyframes and the instants wanted between them.

    Attributes:
        times: ascending, in [0, 1); 0 is the left keyframe itself.
        motion: where the pixels of each of these times come from; None is the papers' blend in place.
    """

    left: Features
    right: Features
    times: tuple[Fraction, ...]
    motion: Fields | None = None

    def __post_init__(self) -> None:
        if any(not 0 <= t < 1 for t in self.times) or list(self.times) != sorted(set(self.times)):
            raise ValueError("a gap's times must be ascending and in [0, 1)")


class Engine(Protocol):
    """One model on one device, for one source domain and any number of target domains.

    Made by `open_engine(name, net, source, targets, working_size, device=..., precision=...)`.

    Attributes:
        name, device, precision: in words, for the user; the precision is what really runs, never "auto".
        notes: fallbacks and refusals the user should hear of, complete once the engine is made.
        domains: the domains every gap is decoded in, the source first, unless the engine was made with
            `decode_source=False`: a translation alone needs no picture of its own input.
        working_size: (width, height) in pixels of what `between` gives.
        gaps_at_once: how many gaps the engine likes to get in one call of `between`.
    """

    name: str
    device: str
    precision: str
    notes: list[str]
    domains: tuple[str, ...]
    working_size: tuple[int, int]
    gaps_at_once: int

    def encode(self, frames: Tensor) -> list[Features]:
        """frames (B, H, W, 3) uint8 or uint16, of any size -> one Features for each."""
        ...

    def between(self, gaps: Sequence[Gap]) -> list[dict[str, Tensor]]:
        """For each gap {domain: (n, C, H, W)} at the working size: [-1, 1], or class scores of a palette head."""
        ...


def working_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """(width, height) for a network height, with the aspect of a picture of (width, height) `size`."""
    return max(1, round(size[0] * height / size[1])), height
