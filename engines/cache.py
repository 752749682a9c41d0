"""Where engines keep what took them long to make."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of compiled models: $VIDTRANS_CACHE, else vidtrans in $XDG_CACHE_HOME, else in ~/.cache.

    It need not exist, and need not be writable: a cache that cannot be used is no error.
    """
    if own := os.environ.get("VIDTRANS_CACHE"):
        return Path(own)
    # The XDG specification says to ignore relative paths.
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "vidtrans"
