"""Several processes as one training run: started by torchrun, spoken to through Lightning Fabric.

Fabric and not accelerate: it finds torchrun's and SLURM's processes by the same call, leaves the loop, the optimisers
and the networks as they are, and needs no hub client. It is imported only where there is more than one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vidtrans.errors import DeviceError

BUCKET = 8_000_000  # numbers that travel together


class Ranks:
    """This process among those of a run; the default is a process on its own.

    Gradients are averaged here and not by DistributedDataParallel: a step trains one pair of domains, so most networks
    of a model of many have no gradient in it, discriminators and generators descend apart, and WGAN-GP differentiates
    twice.

    Attributes:
        number, count: which process this is, of how many on all machines.
        device: where this process computes, None for what the user named.
    """

    def __init__(self, fabric: Any = None) -> None:
        self._fabric = fabric
        self.number: int = 0 if fabric is None else fabric.global_rank
        self.count: int = 1 if fabric is None else fabric.world_size
        self.device: torch.device | None = None if fabric is None else fabric.device

    @property
    def is_first(self) -> bool:
        """The one that writes and speaks."""
        return self.number == 0

    def average(self, numbers: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all ranks, in place. Every rank gives the same shapes in one order."""
        if self.count == 1:
            return
        waiting: list[Tensor] = []
        for tensor in numbers:
            waiting.append(tensor)
            if sum(each.numel() for each in waiting) >= BUCKET:
                self._average_together(waiting)
                waiting = []
        if waiting:
            self._average_together(waiting)

    def _average_together(self, numbers: list[Tensor]) -> None:
        flat = self._fabric.all_reduce(torch.cat([tensor.flatten() for tensor in numbers]), reduce_op="mean")
        for tensor, mean in zip(numbers, flat.split([tensor.numel() for tensor in numbers]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def everyones(self, part: Tensor) -> Tensor:
        """The parts (n, ...) of all ranks in one, in the order of their samples: (count * n, ...)."""
        return part if self.count == 1 else self._fabric.all_gather(part.contiguous()).flatten(0, 1)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first rank does it, then the first of every other machine, then all others: for what fills a cache."""
        local = 0 if self._fabric is None else self._fabric.local_rank
        turn = 0 if self.is_first else 1 if local == 0 else 2
        for _ in range(turn):
            self.meet()
        yield
        for _ in range(2 - turn):
            self.meet()

    def meet(self) -> None:
        """Wait for all ranks."""
        if self.count > 1:
            self._fabric.barrier()


def join_ranks(device: str) -> Ranks:
    """This process's place in a launch by torchrun; a process on its own where there was none.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl, every process its own GPU).

    Raises:
        DeviceError: Lightning Fabric is not installed, or the device cannot be used by several processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise DeviceError("several processes need Lightning Fabric; pip install 'vidtrans[train]'") from error
    here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
    try:
        fabric = Fabric(accelerator=device, devices=here, num_nodes=count // here, strategy="ddp")
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"{count} processes cannot train together on {device!r}: {reason}") from error
    return Ranks(fabric)
