"""What a training method is to the loop: its networks, what one step makes of a batch, and two lists of losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vidtrans.nets.contract import Domain
from vidtrans.train.draws import Draws
from vidtrans.train.ranks import Ranks
from vidtrans.train.recipe import Recipe, TrainOptions


@dataclass(frozen=True)
class Batch:
    """What one step learns from: unpaired footage of two domains, x and y.

    Attributes:
        domains: (x's, y's). A model of more than two domains sees another pair in every step.
        clips: (x's, y's), each (B, T, 3, H, W) in [-1, 1]: T frames of each sample, which `Step.offsets` asked for.
        draws: the only source of random numbers that keeps resumed and shared runs exact.
    """

    domains: tuple[Domain, Domain]
    clips: tuple[Tensor, Tensor]
    draws: Draws

    @property
    def x(self) -> Tensor:
        """(B, 3, H, W), the first frame of every sample."""
        return self.clips[0][:, 0]

    @property
    def y(self) -> Tensor:
        return self.clips[1][:, 0]


class Step(nn.Module, ABC):
    """One method: its networks and losses, but no optimiser, so that the loop reads as the algorithm.

    For every part of a batch the loop calls

        streams = step(batch)                                forward, everything both losses need
        step.discriminator_loss(batch, streams)              what the discriminators descend on, streams detached
        step.generator_loss(batch, streams)                  what `net` descends on, discriminators frozen

    and in a warm-up `step.warmup_loss(batch)` instead. Losses are dicts of scalars, name -> weighted term; the loop
    descends on their sum and logs each. The first letter of a name is its kind: r reconstruction, c cycle, g a
    divergence as the generators see it, d as a discriminator does, t variation over time, b in-betweens. A loss is a
    mean over samples, so that parts and ranks can be averaged.

    A method is this class in one file, one row of methods.METHODS, an options class for the recipe's [loss] and, unless
    it uses one that is there, a family of networks.

    Attributes:
        net: what is trained, averaged over time and saved as the model (nets.contract.Net, or Translator).
        average: the loop's moving average of `net`, for methods that learn from it.
        options: the recipe's [loss].
    """

    net: Any
    average: Any

    def __init__(self, net: nn.Module, recipe: Recipe, device: torch.device) -> None:
        super().__init__()
        self.net = net
        self.options = recipe.loss
        self.ranks = Ranks()  # the loop puts its own here
        self._device = device
        self._precision = recipe.train.precision

    @abstractmethod
    def discriminators(self) -> list[nn.Parameter]:
        """Parameters of everything that ascends."""

    def helpers(self) -> list[nn.Parameter]:
        """Parameters that descend beside those of `net` and are no part of the model."""
        return []

    def parts(self) -> list[nn.Module]:
        """Modules of `net` that `forward` calls, each of which may be compiled, and recomputed in the descent."""
        return []

    def offsets(self, draws: Draws) -> tuple[int, ...]:
        """Which T frames of each sample this step's batch shall hold, counted from its first: 0 and ascending."""
        return (0,)

    @abstractmethod
    def forward(self, batch: Batch) -> Any: ...

    @abstractmethod
    def discriminator_loss(self, batch: Batch, streams: Any) -> dict[str, Tensor]: ...

    @abstractmethod
    def generator_loss(self, batch: Batch, streams: Any) -> dict[str, Tensor]: ...

    @abstractmethod
    def warmup_loss(self, batch: Batch) -> dict[str, Tensor]: ...

    def letters(self, batch: Batch) -> tuple[str, str]:
        """How names of losses tell the pair's domains apart: the papers' x and y of two, else the domains' names."""
        if len(self.net.domains) == 2:
            return "x", "y"
        return f"_{batch.domains[0].name}", f"_{batch.domains[1].name}"

    def autocast(self) -> AbstractContextManager[object]:
        """Around every pass through a network; losses are computed outside of it, from float32 numbers."""
        if self._precision in ("fp32", "fp64"):
            return nullcontext()
        return torch.autocast(self._device.type, torch.bfloat16 if self._precision == "bf16" else torch.float16)


def hasten(parts: list[nn.Module], options: TrainOptions) -> None:
    """torch.compile and recomputation in the descent, in place: names of parameters stay what they are."""
    for part in parts:
        if options.checkpointing:
            part.forward = partial(checkpoint, part.forward, use_reentrant=False)
        if options.compile:
            part.compile()
