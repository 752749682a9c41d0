"""Whether a run is still worth its time: losses that are not finite, discriminators that have diverged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from vidtrans.errors import TrainingDiverged
from vidtrans.train.keep_options import KeepOptions


class Health:
    """Watches the logged losses of one run.

    A discriminator's loss is one whose name starts with "d" (train/step.py). Its criterion is that of KeepOptions.
    """

    def __init__(self, options: KeepOptions) -> None:
        self._options = options
        self._well: dict[str, int] = {}  # by loss: the last step at which it was well, or the one before the first

    def check(self, step: int, losses: dict[str, float], good: Callable[..., str]) -> None:
        """Look at one line of the log.

        good: gives the last good checkpoint in words, or the last one from before a step.

        Raises:
            TrainingDiverged: a loss is not finite, or a discriminator has diverged.
        """
        broken = [name for name, value in losses.items() if not math.isfinite(value)]
        if broken:
            raise TrainingDiverged(f"training broke at step {step}: {', '.join(broken)} not finite; {good()}")
        o = self._options
        for name in (name for name in losses if name.startswith("d") and o.diverged_steps):
            size = abs(losses[name])
            if size == 0.0 and name not in self._well:
                continue  # its weight is 0
            since = self._well.setdefault(name, step - 1)
            if o.diverged_below <= size <= o.diverged_above:
                self._well[name] = step
            elif step - since >= o.diverged_steps:
                side = f"below {o.diverged_below:g}" if size < o.diverged_below else f"above {o.diverged_above:g}"
                raise TrainingDiverged(
                    f"the discriminator of {name} has diverged at step {step}: the size of its loss ({losses[name]:g}) "
                    f"is {side}, and was out of bounds in all lines since step {since + 1}; {good(since + 1)}"
                )

    def check_numbers(self, step: int, modules: Iterable[nn.Module], good: Callable[..., str]) -> None:
        """Look at all parameters, before they are written over a good checkpoint.

        Raises:
            TrainingDiverged: some are not finite.
        """
        parameters = [parameter.detach() for module in modules for parameter in module.parameters()]
        largest = torch.stack([norm.float() for norm in torch._foreach_norm(parameters, math.inf)]).max()
        if not math.isfinite(largest.item()):
            raise TrainingDiverged(f"training broke before step {step}: weights are not finite; {good()}")
