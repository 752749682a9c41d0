"""The torch engine: in float32 it is the reference every other engine is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from vidtrans.engines.base import BaseEngine
from vidtrans.engines.contract import Report, Samples
from vidtrans.engines.modules import EncodeLifts, Finish
from vidtrans.errors import DeviceError, UsageError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: str, precision: str) -> AbstractContextManager[object]:
    """Convolutions inside compute in this precision, "fp32", "bf16" or "fp16"."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, AUTOCAST[precision])


def unusable(device: str) -> str | None:
    """Why this engine cannot run on the device; None: it can."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        return f"device {device!r} cannot be used ({str(error).splitlines()[0]})"
    return None


class TorchEngine(BaseEngine):
    """See contract.Engine; the net is moved to the device.

    Args:
        device: "cpu", "cuda", "cuda:1" ...
        precision: "auto" is fp32, the reference; "bf16" and "fp16" run under autocast, channels last.

    Raises:
        DeviceError: the device is not there. UsageError: a precision this engine does not have.
    """

    name = "torch"

    def __init__(
        self,
        net: Any,
        source: str,
        targets: Sequence[str],
        working_size: tuple[int, int],
        device: str = "cpu",
        precision: str = "auto",
        samples: Samples | None = None,
        report: Report | None = None,
        *,
        decode_source: bool = True,
    ) -> None:
        precision = "fp32" if precision == "auto" else precision
        if precision not in ("fp32", *AUTOCAST):
            raise UsageError(f"the {self.name} engine has no --precision {precision}; it has fp32, bf16 and fp16")
        super().__init__(net, source, targets, working_size, device, precision, decode_source)
        reason = unusable(device)
        if reason is not None:
            raise DeviceError(f"{reason}; try --device cpu")
        net = net.to(device)
        self._layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
        net = net.to(memory_format=self._layout)
        self._encoder = self._made_ready(EncodeLifts(net, self.domains, source))
        self._decoder = self._made_ready(Finish(net, self.domains))

    def _made_ready(self, module: torch.nn.Module) -> Any:
        return module

    def _encode_lifts(self, x: Tensor) -> dict[str, Tensor]:
        with autocast(self.device, self.precision):
            lifted = self._encoder(x.contiguous(memory_format=self._layout))
        # Moving and blending are float32 arithmetic whatever the convolutions are.
        return dict(zip(self.domains, (a.float() for a in lifted), strict=True))

    def _finish(self, lifted: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = [lifted[domain].contiguous(memory_format=self._layout) for domain in self.domains]
        with autocast(self.device, self.precision):
            outputs = self._decoder(*inputs)
        return dict(zip(self.domains, (out.float() for out in outputs), strict=True))
