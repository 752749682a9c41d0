"""Where engines keep what took them long to make, and the entries of those that keep it as plain bytes."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from vidtrans.files import write_atomically


def cache_folder() -> Path:
    """The folder of compiled models: $VIDTRANS_CACHE, else vidtrans in $XDG_CACHE_HOME, else in ~/.cache.

    It need not exist, and need not be writable: a cache that cannot be used is no error.
    """
    if own := os.environ.get("VIDTRANS_CACHE"):
        return Path(own)
    # The XDG specification says to ignore relative paths.
    shared = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(shared) if os.path.isabs(shared) else Path.home() / ".cache") / "vidtrans"


def load_entry(path: Path) -> tuple[dict[str, bytes], dict[str, str]] | None:
    """What `save_entry` wrote there: (blobs, facts); None: nothing, or nothing whole."""
    try:
        with safe_open(path, framework="np") as file:
            facts = dict(file.metadata() or {})
            blobs = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError, ValueError):
        return None
    # Compilers trust what they are given; a flipped bit must not reach them.
    if facts.pop("sha256", None) != _digest(blobs, facts):
        return None
    with suppress(OSError):
        os.utime(path)  # `save_entry` removes what was not used for longest
    return blobs, facts


def save_entry(path: Path, blobs: dict[str, bytes], facts: dict[str, str], *, keep: int) -> None:
    """Write an entry whole or not at all; of the folder's entries the `keep` last used stay.

    Whoever reads meanwhile gets the old entry or the new one, and who has one open keeps it.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.frombuffer(blob, np.uint8) for name, blob in blobs.items()}
    write_atomically(path, save(arrays, {**facts, "sha256": _digest(blobs, facts)}))
    with suppress(OSError):
        for old in sorted(path.parent.iterdir(), key=lambda entry: entry.stat().st_mtime, reverse=True)[keep:]:
            old.unlink(missing_ok=True)


def _digest(blobs: dict[str, bytes], facts: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, blob in sorted(blobs.items()):
        digest.update(f"{name} {len(blob)} ".encode())
        digest.update(blob)
    return digest.hexdigest()
