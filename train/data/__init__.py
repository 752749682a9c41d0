"""Training frames: a domain is a list of sequences of frames, drawn at random and independently of other domains."""

from __future__ import annotations

from pathlib import Path

from vidtrans.errors import InputError, UsageError
from vidtrans.train.data.contract import Frames, Part, Report
from vidtrans.train.data.files import FileFrames
from vidtrans.train.data.footage import Footage
from vidtrans.train.data.layouts import find_footage, parse_source
from vidtrans.train.data.lists import read_list, write_list
from vidtrans.train.data.rendered import Drives, StreetFrames, StreetOnTheFly, split_streets, street_frames, street_hash
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
) -> tuple[Frames, Frames]:
    """The frames of domain `number` of a recipe: (those that training sees, those held back, none without test_share).

    Args:
        cache: folder of rendered frames.
        report: gets a line for whatever takes long, and for every file that is skipped.
        lists: a folder for the lists of what training sees (NAME.train.txt), of what is held back (NAME.test.txt) and
            of clips of that (NAME.test-clips.txt); see data/lists.py.
        resumed: the run goes on, so the list in that folder holds, whatever the data's folder looks like by now.
        device: where frames are rendered that nothing keeps (data.street_render = "device").

    Raises:
        UsageError: the data is neither a folder nor something a reader is known for, or cannot be divided.
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
        frames: Frames
        if options.street_render == "cache":
            frames = StreetFrames(drives, cache, report)
        else:
            frames = StreetOnTheFly(drives, device if options.street_render == "device" else "cpu")
        return split_streets(frames, drives, options.test_share)
    domain = row.domain
    try:
        footage, held_back = _both_parts(row, options, lists, resumed)
    except (InputError, UsageError) as error:
        raise type(error)(f"domain {row.name}: {error}") from error
    for text in footage.unreadable.values():
        if options.strict:
            raise InputError(f"domain {row.name}: {text}")
        report(f"{text}; skipped")
    palette = domain.colours if domain.is_label else None
    seen, unseen = (
        FileFrames(part, options.size, palette, strict=options.strict, report=report) for part in (footage, held_back)
    )
    return seen, unseen


def _both_parts(row: DomainData, options: DataOptions, lists: Path | None, resumed: bool) -> tuple[Footage, Footage]:
    """(training's, held back); the latter is empty without test_share."""
    names = {part: f"{row.name}.{part}.txt" for part in ("train", "test", "test-clips")}
    if resumed and lists is not None and (lists / names["train"]).is_file():
        footage = read_list(lists / names["train"])
        return footage, read_list(lists / names["test"]) if options.test_share else footage.first(0)
    footage = find_footage(parse_source(row.data), row.domain.is_label)
    held_back = footage.first(0)
    if options.test_share:
        footage, held_back = split_by_time(footage, options.test_share, options.test_clip)
    if lists is not None:
        write_list(lists / names["train"], footage)
        if options.test_share:
            write_list(lists / names["test"], held_back)
            write_list(lists / names["test-clips"], clips_of(held_back, options.test_clip))
    return footage, held_back
