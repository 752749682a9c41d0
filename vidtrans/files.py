"""Files in the order people expect, and files that are there as a whole or not at all."""

from __future__ import annotations

import os
import re
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """The whole file or nothing: written beside its place, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sorts names as people do: numbers by value, 9 before 10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts], str(path)
