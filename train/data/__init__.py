"""Training frames: a domain is a list of sequences of frames, drawn at random and independently of other domains."""

from __future__ import annotations

from pathlib import Path

from vidtrans.errors import InputError, UsageError
from vidtrans.train.data.contract import Frames, Part, Report
from vidtrans.train.data.files import FileFrames
from vidtrans.train.data.layouts import find_footage, parse_source
from vidtrans.train.data.rendered import Drives, StreetFrames, StreetOnTheFly, street_frames, street_hash
from vidtrans.train.recipe import DataOptions, DomainData

__all__ = [
    "FileFrames",
    "Frames",
    "Part",
    "StreetFrames",
    "StreetOnTheFly",
    "open_frames",
    "street_frames",
    "street_hash",
]


def open_frames(
    row: DomainData,
    number: int,
    options: DataOptions,
    cache: Path,
    report: Report,
    *,
    device: str = "cpu",
    strict: bool = False,
) -> Frames:
    """The frames of domain `number` of a recipe.

    Args:
        cache: folder of rendered frames.
        report: gets a line for whatever takes long, and for every file that is skipped.
        device: where frames are rendered that nothing keeps (data.street_render = "device").
        strict: a file that cannot be read is an error, in place of being skipped.

    Raises:
        UsageError: the data is neither a folder nor something a reader is known for.
        InputError: nothing of the kind is there, or a file cannot be read and that is fatal.
    """
    if row.data.startswith("street:"):
        drives = Drives(
            row.data.removeprefix("street:"),
            options.street_seed + number * 1_000_000,
            options.street_frames,
            options.street_frames_per_seed,
            options.size,
            options.street_clip,
            options.street_spacing,
        )
        if options.street_render == "cache":
            return StreetFrames(drives, cache, report)
        return StreetOnTheFly(drives, device if options.street_render == "device" else "cpu")
    domain = row.domain
    try:
        source = parse_source(row.data)
        footage = find_footage(source, domain.is_label)
    except (InputError, UsageError) as error:
        raise type(error)(f"domain {row.name}: {error}") from error
    for text in footage.unreadable.values():
        if strict:
            raise InputError(text)
        report(f"{text}; skipped")
    palette = domain.colours if domain.is_label else None
    return FileFrames(footage, options.size, palette, strict=strict, report=report)
