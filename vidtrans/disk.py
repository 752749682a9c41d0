"""Whether what runs will write fits on the disks that it goes to."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from vidtrans.errors import OutputError
from vidtrans.remarks import Warn


class Written(Protocol):
    """An output that will be written: where, whether to a disk at all, and its bytes."""

    @property
    def path(self) -> Path: ...

    @property
    def on_disk(self) -> bool: ...

    @property
    def least_bytes(self) -> int:
        """Of the finished output, of the calmest footage."""

    @property
    def likely_bytes(self) -> int:
        """Of the finished output."""

    @property
    def temporary_bytes(self) -> int:
        """Likely, beside it until it is finished."""


@dataclass(frozen=True)
class DiskNeed:
    """What runs take on one disk, one after the other; bytes.

    Attributes:
        folder: one of theirs on it.
        free: what is free now.
        least: of all finished outputs, of the calmest footage.
        likely: of all finished outputs.
        peak: likely most at any time: the finished outputs, and what the run under way takes beside its own.
    """

    folder: Path
    free: int
    least: int = 0
    likely: int = 0
    peak: int = 0


def disk_needs(runs: Iterable[Sequence[Written]]) -> list[DiskNeed]:
    """Of every disk, what the outputs of these runs take on it."""
    needs: dict[int, DiskNeed] = {}
    for outputs in runs:
        here: dict[int, list[Written]] = {}
        for output in outputs:
            if output.on_disk:
                here.setdefault(_folder(output.path).stat().st_dev, []).append(output)
        for disk, written in here.items():
            folder = _folder(written[0].path)
            need = needs.get(disk) or DiskNeed(folder, shutil.disk_usage(folder).free)
            likely = need.likely + sum(output.likely_bytes for output in written)
            needs[disk] = replace(
                need,
                least=need.least + sum(output.least_bytes for output in written),
                likely=likely,
                peak=max(need.peak, likely + sum(output.temporary_bytes for output in written)),
            )
    return list(needs.values())


def check_space(needs: Iterable[DiskNeed], what: str = "the run") -> list[Warn]:
    """Lines to tell where space may run out; what: takes it.

    Raises:
        OutputError: it will.
    """
    lines = []
    for need in needs:
        if need.least > need.free:
            raise OutputError(
                f"{need.folder}: has {byte_words(need.free)} free, and the outputs of {what} take "
                f"{byte_words(need.least)} at the very least; make room or choose another folder"
            )
        if need.peak > need.free:
            lines.append(
                Warn(
                    f"{need.folder} has {byte_words(need.free)} free, and {what} may take {byte_words(need.peak)}: it "
                    "may not suffice"
                )
            )
    return lines


def byte_words(count: int) -> str:
    """A number of bytes as people say it."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _folder(path: Path) -> Path:
    """Where an output goes; that of images may not be there yet."""
    folder = path.absolute().parent
    return folder if folder.is_dir() else folder.parent
