"""The torch engine through torch.compile: worth its half a minute before the first frame for long footage only."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch

from vidtrans.engines.torch_engine import TorchEngine
from vidtrans.engines.torch_engine import unusable as torch_unusable


def unusable(device: str) -> str | None:
    """Why this engine cannot run on the device; None: it can."""
    compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
    if device == "cpu" and not any(map(shutil.which, compilers)):
        return "torch.compile needs a C++ compiler (apt-get install g++)"
    return torch_unusable(device)


class CompiledTorchEngine(TorchEngine):
    """See TorchEngine; compiled at the first call of each shape."""

    name = "torch-compile"

    def _made_ready(self, module: torch.nn.Module) -> Any:
        return torch.compile(module, dynamic=False)
