"""The optimisers of a run: Adam, the papers' choice, or Muon, with which our own recipe learns several times faster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class KernelMuon(torch.optim.Muon):
    """Muon (Jordan 2024) for convolution kernels: each counts as one matrix, its first dimension by all others.

    Muon makes every update orthogonal, so that faint directions of a kernel (fine detail) are learned as fast as the
    strong ones. Its step is scaled to Adam's root mean square, so that one learning rate serves both.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        self._kernels = list(kernels)
        # torch's Muon takes matrices only; these share their kernels' memory.
        self._matrices = [nn.Parameter(kernel.detach().flatten(1)) for kernel in self._kernels]
        super().__init__(self._matrices, lr=lr, weight_decay=0.0, momentum=momentum, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Any = None) -> Any:
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        return super().step(closure)  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for kernel in self._kernels:
            kernel.grad = None
        super().zero_grad(set_to_none)


class Optimisers:
    """One network's optimisers, driven as one: Adam for all, or Muon for its kernels and Adam for the rest."""

    def __init__(self, parameters: Iterable[nn.Parameter], kind: str, lr: float, betas: tuple[float, float]) -> None:
        rest = list(parameters)
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if kind == "muon":
            self.parts["kernels"] = KernelMuon([p for p in rest if p.ndim > 1], lr, MOMENTUM)
            rest = [p for p in rest if p.ndim <= 1]
        if rest:
            self.parts["rest"] = torch.optim.Adam(rest, lr, betas)

    def set_rate(self, lr: float) -> None:
        for part in self.parts.values():
            part.param_groups[0]["lr"] = lr

    def descend(self, losses: Iterable[Tensor]) -> None:
        """One step down the sum of the losses."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(losses)).sum())
        for part in self.parts.values():
            part.step()


MOMENTUM = 0.9  # Muon's own 0.95 remembers longer than suits a game whose other side moves too
