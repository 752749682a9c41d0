"""Engines run a net: a literal table, imported when one is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vidtrans.errors import UsageError, nearest_names

if TYPE_CHECKING:
    from vidtrans.engines.contract import Engine

# name -> (module, class); each module also has `unusable`
ENGINES: dict[str, tuple[str, str]] = {
    "torch": ("vidtrans.engines.torch_engine", "TorchEngine"),
    "torch-compile": ("vidtrans.engines.torch_compile_engine", "CompiledTorchEngine"),
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
        reason = unusable("tensorrt", device)
        if reason is None:
            return Choice("tensorrt", device, "fastest on this GPU")
        return Choice("cuda", device, f"a GPU; {reason}")
    why = "" if device == "cpu" else "no CUDA device; "
    reason = unusable("openvino", "cpu")
    if reason is None:
        return Choice("openvino", "cpu", f"{why}fastest on a CPU")
    return Choice("torch", "cpu", f"{why}{reason}")


def unusable(name: str, device: str) -> str | None:
    """Why the engine of that name cannot run on the device, and what to install; None: it can.

    Every engine's module has such a function, and can be imported where the engine's own packages are missing.
    """
    reason: str | None = importlib.import_module(_entry(name)[0]).unusable(device)
    return reason


def _entry(name: str) -> tuple[str, str]:
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}; {nearest_names(name, ('auto', *ENGINES))}")
    return ENGINES[name]
