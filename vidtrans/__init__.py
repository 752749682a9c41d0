"""vidtrans: one low-frame-rate video in, two synchronised high-frame-rate videos out (input and translation)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from vidtrans.dry_run import plan as plan
    from vidtrans.runs import translate as translate
    from vidtrans.runs import upsample as upsample

__all__ = ["__version__", "plan", "translate", "upsample"]


def __getattr__(name: str) -> Any:
    # Exported on first use: `vidtrans --help` and `import vidtrans` must not import torch.
    if name in ("translate", "upsample"):
        from vidtrans import runs

        return getattr(runs, name)
    if name == "plan":
        from vidtrans.dry_run import plan

        return plan
    raise AttributeError(f"module 'vidtrans' has no attribute {name!r}")
