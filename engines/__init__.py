"""Engines run a net: a literal table, imported when one is asked for."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidtrans.errors import UsageError, nearest_names

if TYPE_CHECKING:
    from vidtrans.engines.contract import Engine

# name -> (module, class)
ENGINES: dict[str, tuple[str, str]] = {
    "torch": ("vidtrans.engines.torch_engine", "TorchEngine"),
    "torch-compile": ("vidtrans.engines.torch_engine", "CompiledTorchEngine"),
    "openvino": ("vidtrans.engines.openvino_engine", "OpenVinoEngine"),
    "cuda": ("vidtrans.engines.cuda_engine", "CudaEngine"),
    "tensorrt": ("vidtrans.engines.tensorrt_engine", "TensorRTEngine"),
}


@dataclass(frozen=True)
class Choice:
    """An engine and a device by name, and why these."""

    engine: str
    device: str
    reason: str


def open_engine(name: str, *args: Any, **options: Any) -> Engine:
    """The engine of that name, made with the given arguments (see TorchEngine).

    Raises:
        UsageError: no such engine; the message lists the known ones.
    """
    module, cls = _entry(name)
    return getattr(importlib.import_module(module), cls)(*args, **options)


def choose(engine: str = "auto", device: str = "auto") -> Choice:
    """What "auto" stands for on this machine; a name that is not "auto" stays.

    On an NVIDIA GPU tensorrt or tensorrt-rtx where it is installed and knows the GPU, else cuda; on a CPU openvino
    where it is installed, else torch.

    Raises:
        UsageError: no such engine.
    """
    if engine != "auto":
        _entry(engine)
        on_gpu = engine in ("cuda", "tensorrt")
        return Choice(engine, ("cuda" if on_gpu else "cpu") if device == "auto" else device, "asked for")
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        device = "cuda" if device == "auto" else device
        from vidtrans.engines.tensorrt_engine import unusable

        reason = unusable(device)
        if reason is None:
            return Choice("tensorrt", device, "fastest on this GPU")
        return Choice("cuda", device, f"a GPU, {reason}")
    why = "" if device == "cpu" else "no CUDA device, "
    if importlib.util.find_spec("openvino") is not None:
        return Choice("openvino", "cpu", f"{why}fastest on a CPU")
    return Choice("torch", "cpu", f"{why}openvino is not installed")


def _entry(name: str) -> tuple[str, str]:
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}; {nearest_names(name, ('auto', *ENGINES))}")
    return ENGINES[name]
