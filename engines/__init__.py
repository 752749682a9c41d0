"""Engines run a net: a literal table, imported when one is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vidtrans.errors import UsageError, nearest_names

if TYPE_CHECKING:
    from vidtrans.engines.contract import Engine

# name -> (module, class)
ENGINES: dict[str, tuple[str, str]] = {
    "torch": ("vidtrans.engines.torch_engine", "TorchEngine"),
}


def open_engine(name: str, *args: Any, **options: Any) -> Engine:
    """The engine of that name, made with the given arguments (see TorchEngine).

    Raises:
        UsageError: no such engine; the message lists the known ones.
    """
    if name not in ENGINES:
        raise UsageError(f"unknown engine {name!r}; {nearest_names(name, tuple(ENGINES))}")
    module, cls = ENGINES[name]
    return getattr(importlib.import_module(module), cls)(*args, **options)
