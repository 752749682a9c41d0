"""Random numbers that depend on seed, step, purpose and sample alone: not on what was drawn before, nor on who draws.

That is what makes a resumed run exact, and two ranks with half batches equal one with the whole batch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step for one part of its batch.

    Attributes:
        seed: the run's.
        step: counted from 0.
        first: global index of this part's first sample, counted through all parts on all ranks.
        count: samples in this part.
    """

    seed: int
    step: int
    first: int
    count: int

    def key(self, purpose: str, sample: int | None = None) -> int:
        """A seed for one purpose of this step, and of one sample of this part (None: of the whole step)."""
        index = "" if sample is None else self.first + sample
        key = hashlib.blake2b(f"{self.seed}/{self.step}/{purpose}/{index}".encode(), digest_size=8).digest()
        return int.from_bytes(key) >> 1

    def generator(self, purpose: str, sample: int | None = None, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator of that key."""
        return torch.Generator(device).manual_seed(self.key(purpose, sample))

    def integer(self, purpose: str, end: int, sample: int | None = None) -> int:
        """One whole number in [0, end)."""
        return int(torch.randint(end, (), generator=self.generator(purpose, sample)))

    def integers(self, purpose: str, end: int) -> list[int]:
        """One whole number in [0, end) for every sample."""
        return [self.integer(purpose, end, sample) for sample in range(self.count)]

    def normal(self, purpose: str, like: Tensor) -> Tensor:
        """N(0, 1) in the shape, type and place of `like` (count * n, ...): every sample draws its n rows."""
        return self._fill(purpose, like, "normal_")

    def uniform(self, purpose: str, like: Tensor) -> Tensor:
        """U(0, 1), as `normal`."""
        return self._fill(purpose, like, "uniform_")

    def _fill(self, purpose: str, like: Tensor, kind: str) -> Tensor:
        filled = torch.empty_like(like, requires_grad=False)
        for sample, rows in enumerate(filled.chunk(self.count)):
            getattr(rows, kind)(generator=self.generator(purpose, sample, like.device))
        return filled
