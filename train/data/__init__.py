"""Training frames: a domain is a list of sequences of frames, drawn at random and independently of other domains."""

from __future__ import annotations

from pathlib import Path

from vidtrans.errors import InputError, UsageError
from vidtrans.train.data.contract import Frames, Part, Report
from vidtrans.train.data.files import FileFrames
from vidtrans.train.data.footage import Footage
from vidtrans.train.data.layouts import find_footage, parse_source
from vidtrans.train.data.lists import read_list, write_list
from vidtrans.train.data.rendered import Drives, StreetFrames, StreetOnTheFly, street_frames, street_hash
from vidtrans.train.data.splits import clips_of, split_by_time
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
    lists: Path | None = None,
    resumed: bool = False,
    device: str = "cpu",
) -> Frames:
    """The frames of domain `number` of a recipe that training sees.

    Args:
        cache: folder of rendered frames.
        report: gets a line for whatever takes long, and for every file that is skipped.
        lists: a folder for the lists of what training sees (NAME.train.txt), of what is held back (NAME.test.txt) and
            of clips of that (NAME.test-clips.txt); see data/lists.py.
        resumed: the run goes on, so the list in that folder holds, whatever the data's folder looks like by now.
        device: where frames are rendered that nothing keeps (data.street_render = "device").

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
        footage = _training_footage(row, options, lists, resumed)
    except (InputError, UsageError) as error:
        raise type(error)(f"domain {row.name}: {error}") from error
    for text in footage.unreadable.values():
        if options.strict:
            raise InputError(f"domain {row.name}: {text}")
        report(f"{text}; skipped")
    palette = domain.colours if domain.is_label else None
    return FileFrames(footage, options.size, palette, strict=options.strict, report=report)


def _training_footage(row: DomainData, options: DataOptions, lists: Path | None, resumed: bool) -> Footage:
    kept = lists / f"{row.name}.train.txt" if lists is not None else None
    if resumed and kept is not None and kept.is_file():
        return read_list(kept)
    footage = find_footage(parse_source(row.data), row.domain.is_label)
    held_back = None
    if options.test_share:
        footage, held_back = split_by_time(footage, options.test_share, options.test_clip)
    if lists is not None and kept is not None:
        write_list(kept, footage)
        if held_back is not None:
            write_list(lists / f"{row.name}.test.txt", held_back)
            write_list(lists / f"{row.name}.test-clips.txt", clips_of(held_back, options.test_clip))
    return footage
