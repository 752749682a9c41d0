"""The data sets' folders: where the pictures of one domain are, and which of them follow each other in time."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidtrans.errors import InputError, UsageError, nearest_names
from vidtrans.train.data.footage import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Footage,
    Images,
    Shot,
    Stretch,
    files_below,
    shots_of,
)
from vidtrans.train.data.lists import read_list
from vidtrans.train.data.videos import open_video


@dataclass(frozen=True)
class Source:
    """What a recipe's `data` says: READER:PATH?option=value&option=value, or just PATH.

    Attributes:
        reader: one of READERS.
        path: a folder, or the file of a list.
        options: of the reader.
    """

    reader: str
    path: Path
    options: dict[str, str] = field(default_factory=dict)

    def get(self, key: str, default: str, allowed: tuple[str, ...] = ()) -> str:
        """An option's value.

        Raises:
            UsageError: it is not one of those allowed.
        """
        value = self.options.get(key, default)
        if allowed and value not in allowed:
            raise UsageError(f"{self.reader}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def several(self, key: str, default: str = "") -> list[str]:
        """An option's values, which commas divide."""
        return [part for part in self.options.get(key, default).split(",") if part]

    @property
    def limit(self) -> int | None:
        """How many frames are used at most."""
        if "limit" not in self.options:
            return None
        if not self.options["limit"].isdecimal() or not int(self.options["limit"]):
            raise UsageError(f"{self.reader}: limit must be a whole number from 1 on, not {self.options['limit']!r}")
        return int(self.options["limit"])


def cityscapes(source: Source, is_label: bool) -> Footage:
    """ROOT/TYPE/PART/CITY/CITY_SEQ_FRAME_TYPE.png, TYPE leftImg8bit, leftImg8bit_sequence, gtFine or gtCoarse."""
    if is_label:
        kind = source.get("gt", "gtFine", ("gtFine", "gtCoarse"))
        labels = source.get("labels", "color", ("color", "ids", "trainids"))
        ending = {"color": "color", "ids": "labelIds", "trainids": "labelTrainIds"}[labels]
        folder, ending = kind, f"_{kind}_{ending}.png"
        numbers = "cityscapes-trainids" if labels == "trainids" else "cityscapes-ids"
    else:
        folder = "leftImg8bit_sequence" if source.get("sequence", "no", ("yes", "no")) == "yes" else "leftImg8bit"
        ending, numbers = "_leftImg8bit.png", "palette"
    number = re.compile(rf"_([0-9]+){re.escape(ending)}$")
    shots: list[Shot] = []
    for below in _parts(source, source.path / folder):
        cities = source.several("city")
        names = [city for city in below.iterdir() if city.is_dir() and (not cities or city.name in cities)]
        paths = [path for city in names for path in city.iterdir() if number.search(path.name)]
        shots += shots_of(paths, number, step=1)
    return Footage("cityscapes", tuple(shots), numbers)


def synthia(source: Source, is_label: bool) -> Footage:
    """ROOT/SYNTHIA-SEQS-NN-SEASON/RGB|GT/COLOR|GT/LABELS/Stereo_Left|Stereo_Right/Omni_F|B|L|R/NNNNNN.png.

    Seasons of one sequence differ in length and are no pairs; each folder of a view is one sequence of frames.
    """
    folder, numbers = "RGB", "palette"
    if is_label and source.get("labels", "ids", ("color", "ids")) == "color":
        folder = "GT/COLOR"
    elif is_label:
        folder, numbers = "GT/LABELS", "synthia"
    sequences, seasons = source.several("sequence"), [season.upper() for season in source.several("season")]
    roots = [source.path] if _SYNTHIA.fullmatch(source.path.name) else sorted(_folder(source, source.path).iterdir())
    shots: list[Shot] = []
    for root in roots:
        match = _SYNTHIA.fullmatch(root.name)
        if match is None or (sequences and match[1] not in sequences) or (seasons and match[2] not in seasons):
            continue
        root = root / root.name if (root / root.name).is_dir() else root  # as some programs unpack them
        for view in source.several("views", "Omni_F"):
            view = view if "/" in view else f"Stereo_Left/{view}"
            shots += shots_of(files_below(_folder(source, root / folder / view), IMAGE_SUFFIXES), step=1)
    return Footage("synthia", tuple(shots), numbers)


def viper(source: Source, is_label: bool) -> Footage:
    """ROOT/PART/img|cls/SEQ/SEQ_FRAME.jpg|png (Playing for Benchmarks)."""
    sequences = source.several("sequence")
    shots: list[Shot] = []
    for part in _parts(source, source.path, "cls" if is_label else "img"):
        for folder in sorted(part.iterdir()):
            if folder.is_dir() and (not sequences or folder.name in sequences):
                shots += shots_of(files_below(folder, IMAGE_SUFFIXES))
    return Footage("viper", tuple(shots), "viper")


def gta(source: Source, is_label: bool) -> Footage:
    """ROOT/images|labels/NNNNN.png (Playing for Data): pictures too far apart in time to follow each other."""
    paths = files_below(_folder(source, source.path / ("labels" if is_label else "images")), IMAGE_SUFFIXES)
    return Footage("gta", tuple(Images((path,)) for path in paths), "cityscapes-ids")


def images(source: Source, is_label: bool) -> Footage:
    """All images below a folder; numbered ones of one folder follow each other."""
    paths = files_below(_folder(source, source.path), IMAGE_SUFFIXES)
    if source.get("sequences", "numbered", ("numbered", "none")) == "none":
        return Footage("images", tuple(Images((path,)) for path in paths))
    return Footage("images", shots_of(paths))


def videos(source: Source, is_label: bool) -> Footage:
    """All videos below a folder, each a sequence."""
    shots: list[Shot] = []
    unreadable: dict[Path, str] = {}
    for path in files_below(_folder(source, source.path), VIDEO_SUFFIXES):
        try:
            shots.append(Stretch(path, 0, len(open_video(path))))
        except InputError as error:
            unreadable[path] = str(error)
    return Footage("videos", tuple(shots), unreadable=unreadable)


def listed(source: Source, is_label: bool) -> Footage:
    """What a list names that a run wrote, or anybody else in the same form."""
    return read_list(source.path)


_SYNTHIA = re.compile(r"SYNTHIA-SEQS-([0-9]+)-([A-Z]+)")


@dataclass(frozen=True)
class Reader:
    """How a data set's folder is read.

    Attributes:
        find: the files of one domain, photo or label.
        options: those it takes besides `limit`.
        palette: the name of the palette that its own labels are in; None where it has none of its own.
    """

    find: Callable[[Source, bool], Footage]
    options: tuple[str, ...] = ()
    palette: str | None = None


# The name before the colon in a recipe's `data`.
READERS: dict[str, Reader] = {
    "images": Reader(images, ("sequences",)),
    "videos": Reader(videos),
    "cityscapes": Reader(cityscapes, ("part", "city", "sequence", "labels", "gt"), "cityscapes-void"),
    "synthia": Reader(synthia, ("sequence", "season", "views", "labels"), "synthia"),
    "viper": Reader(viper, ("part", "sequence"), "viper"),
    "gta": Reader(gta, palette="cityscapes-void"),
    "list": Reader(listed),
}


def recognise(folder: Path) -> str:
    """The reader for a folder, by what lies in it.

    Raises:
        InputError: it holds nothing that is known, or both images and videos.
    """
    names = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    if names & {"leftImg8bit", "leftImg8bit_sequence", "gtFine", "gtCoarse"}:
        return "cityscapes"
    if _SYNTHIA.fullmatch(folder.name) or any(map(_SYNTHIA.fullmatch, names)):
        return "synthia"
    if any((folder / part / kind).is_dir() for part in names for kind in ("img", "cls")):
        return "viper"
    if {"images", "labels"} <= names:
        return "gta"
    found = [
        reader
        for reader, suffixes in (("images", IMAGE_SUFFIXES), ("videos", VIDEO_SUFFIXES))
        if files_below(folder, suffixes)
    ]
    if len(found) == 2:
        raise InputError(f"{folder} holds both images and videos; keep one kind, or say which: images:{folder}")
    if not found:
        raise InputError(f"no images ({', '.join(IMAGE_SUFFIXES)}) or videos below {folder}")
    return found[0]


def parse_source(text: str) -> Source:
    """What a recipe's `data` or a command's argument means, without looking at more than the folder's first level.

    Raises:
        UsageError: no such reader or option, or nothing is there.
        InputError: a folder without anything that is known.
    """
    reader, colon, rest = text.partition(":")
    if not colon or reader not in READERS:
        path = Path(text)
        if path.is_dir():
            return Source(recognise(path), path)
        known = ", ".join(f"{name}:PATH" for name in READERS)
        raise UsageError(f"{text!r} is neither a folder nor one of {known} or street:NAME")
    path_text, _, query = rest.partition("?")
    options = {}
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        known_options = [*READERS[reader].options, "limit"]
        if key not in known_options:
            raise UsageError(f"{reader} has no option {key!r}; {nearest_names(key, known_options)}")
        options[key] = value
    return Source(reader, Path(path_text), options)


def everything(source: Source) -> Source:
    """With all parts of a data set, where the source does not choose."""
    if "part" in READERS[source.reader].options and "part" not in source.options:
        return replace(source, options={**source.options, "part": "all"})
    return source


def find_footage(source: Source, is_label: bool) -> Footage:
    """The files of a source, up to its limit.

    Raises:
        UsageError: an option's value does not fit.
        InputError: the folder is not laid out like that, or holds nothing of the kind.
    """
    footage = READERS[source.reader].find(source, is_label).first(source.limit)
    if not len(footage):
        reason = next(iter(footage.unreadable.values()), None)
        what = "labels" if is_label else "pictures"
        raise InputError(reason or f"{source.path}: no {what} found that {source.reader} and its options ask for")
    return footage


def _parts(source: Source, below: Path, kind: str = "") -> list[Path]:
    """The folders BELOW/PART/KIND of the parts asked for: those of the option `part`, "all" for every one."""
    names = source.several("part", "train")
    if names == ["all"]:
        found = sorted(part / kind for part in _folder(source, below).iterdir() if (part / kind).is_dir())
        if not found:
            raise InputError(f"{below} has no parts with {kind or 'files'}; {source.reader} expects them there")
        return found
    return [_folder(source, below / name / kind) for name in names]


def _folder(source: Source, folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is not there; {source.reader} expects it below {source.path}")
    return folder
