"""SIGTERM (pre-emption) and the first Ctrl-C as a wish that the loop fulfils when it has saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import distributed


class Stop:
    """Whether someone wants the run to end, and who: `name` is "" or the signal's."""

    def __init__(self) -> None:
        self.name = ""

    def asked(self, meeting: bool) -> bool:
        """Whether to stop now.

        meeting: all ranks of a distributed run call this at the same step. There they stop together or not at all, as
        soon as one was asked; between meetings none does, because the others would wait for it for ever.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return bool(self.name)
        if not meeting:
            return False
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        wish = torch.tensor(int(bool(self.name)), device=device)
        distributed.all_reduce(wish, distributed.ReduceOp.MAX)
        if wish.item() and not self.name:
            self.name = "a signal to another rank"
        return bool(wish.item())


@contextmanager
def stop_signals(report: Callable[[str], None]) -> Iterator[Stop]:
    """Inside, SIGTERM and the first SIGINT only set the Stop; a second SIGINT is the usual KeyboardInterrupt.

    Outside of the main thread, where Python takes no signals, the Stop stays as it is.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if stop.name == "SIGINT":
                raise KeyboardInterrupt
            report("stopping once this step is saved; Ctrl-C again stops at once and loses what is not saved")
        stop.name = signal.Signals(number).name

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
