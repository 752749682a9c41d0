"""The optimisers of a run: Adam, the papers' choice, or Muon, with which our own recipe learns several times faster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vidtrans.train.ranks import Ranks


def as_matrix(numbers: Tensor, kernel: Tensor) -> Tensor:
    """A kernel's numbers (or its gradient's) as a matrix, in the order in which the kernel lies in memory.

    The order of columns means nothing to Muon, and this way a kernel in channels_last shares its memory too.
    """
    if not kernel.is_contiguous():
        numbers = numbers.permute(0, *range(2, numbers.ndim), 1)
    return numbers.flatten(1)


class KernelMuon(torch.optim.Muon):
    """Muon (Jordan 2024) for convolution kernels: each counts as one matrix, its first dimension by all others.

    Muon makes every update orthogonal, so that faint directions of a kernel (fine detail) are learned as fast as the
    strong ones. Its step is scaled to Adam's root mean square, so that one learning rate serves both.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        self._kernels = list(kernels)
        # torch's Muon takes matrices only; these share their kernels' memory.
        self._matrices = [nn.Parameter(as_matrix(kernel.detach(), kernel)) for kernel in self._kernels]
        super().__init__(self._matrices, lr=lr, weight_decay=0.0, momentum=momentum, adjust_lr_fn="match_rms_adamw")

    def take_gradients(self) -> None:
        """Once a step, before anything looks at them."""
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad, kernel)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in self._kernels:
            kernel.grad = None
        super().zero_grad(set_to_none)


class Optimisers:
    """One side's optimisers, driven as one: Adam for all, or Muon for its kernels and Adam for the rest.

    Helpers (step.Step.helpers) play no game: they have Adam to themselves, faster and with its usual memory.

    A step is `add` for every part of the batch, then `step`. Gradients are averaged over the ranks; in float16 losses
    are scaled, and a step whose gradients overflow is left out (torch's GradScaler).
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        kind: str,
        lr: float,
        betas: tuple[float, float],
        *,
        helpers: Iterable[nn.Parameter] = (),
        scaler: torch.amp.GradScaler | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        rest, helping = list(parameters), list(helpers)
        self._parameters = [*rest, *helping]
        self._scaler = scaler or torch.amp.GradScaler(enabled=False)
        self._ranks = ranks or Ranks()
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if kind == "muon":
            self.parts["kernels"] = KernelMuon([p for p in rest if p.ndim > 1], lr, MOMENTUM)
            rest = [p for p in rest if p.ndim <= 1]
        if rest:
            self.parts["rest"] = torch.optim.Adam(rest, lr, betas)
        if helping:
            self.parts["helpers"] = torch.optim.Adam(helping, lr * HELPERS_RATE)

    def set_rate(self, lr: float) -> None:
        for name, part in self.parts.items():
            part.param_groups[0]["lr"] = lr * HELPERS_RATE if name == "helpers" else lr

    def add(self, losses: Iterable[Tensor], share: float = 1.0) -> None:
        """The gradient of the losses' sum, times a part's share of the batch, on top of what was added before."""
        terms = list(losses)
        if terms:
            torch.autograd.backward(self._scaler.scale(torch.stack(terms).sum() * share))

    def step(self) -> None:
        """One step down everything that was added since the last."""
        given = [p.grad for p in self._parameters if p.grad is not None]
        if not given:
            return  # divergences without discriminators
        self._ranks.average(given)
        for part in self.parts.values():
            if isinstance(part, KernelMuon):
                part.take_gradients()
            if any(p.grad is not None for p in part.param_groups[0]["params"]):
                self._scaler.step(part)
            part.zero_grad(set_to_none=True)
        self._scaler.update()

    @property
    def scale(self) -> dict[str, Any]:
        """The state of the loss scale, as JSON; empty but in float16."""
        return self._scaler.state_dict()

    @scale.setter
    def scale(self, state: dict[str, Any]) -> None:
        if state:
            self._scaler.load_state_dict(state)


HELPERS_RATE = 2.0  # of the generators' rate
MOMENTUM = 0.9  # Muon's own 0.95 remembers longer than suits a game whose other side moves too
