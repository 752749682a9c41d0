"""What a source of frames holds, found by reading all of it once: counts, sizes, classes, and what is wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vidtrans.errors import InputError, UsageError
from vidtrans.palettes import Palette, palette_named
from vidtrans.train.data.files import read_image
from vidtrans.train.data.footage import Footage, Images, Stretch
from vidtrans.train.data.labels import NO_CLASS, NUMBERS, VOID, Colour, meaning_of, read_label
from vidtrans.train.data.layouts import READERS, everything, find_footage, parse_source
from vidtrans.train.data.videos import open_video
from vidtrans.train.workers import in_order

TILES = 48  # pictures of a source on the contact sheet
_TILE_WIDTH, _COLUMNS, _HEAD = 160, 8, 16
_CHUNK = 8  # frames of a video decoded at once


@dataclass
class Finding:
    """One kind of pictures of one source.

    Attributes:
        source: as it was given.
        footage: its files.
        palette: of labels; None for photos.
        frames: how many could be read.
        sizes: (width, height) -> frames.
        pixels: of each class of the palette, (K,) int64.
        unclassed: colour that the data set has but the palette has not -> pixels.
        problems: (file, what is wrong with it), in order.
        tiles: small pictures, evenly from all frames.
    """

    source: str
    footage: Footage
    palette: Palette | None = None
    frames: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    unclassed: Counter[Colour] = field(default_factory=Counter)
    problems: list[tuple[Path, str]] = field(default_factory=list)
    tiles: list[Image.Image] = field(default_factory=list)

    @property
    def title(self) -> str:
        kind = "pictures" if self.palette is None else f"labels, palette {self.palette.name}"
        return f"{self.source}: {self.footage.layout}, {kind}"

    def lines(self) -> list[str]:
        """The finding for people."""
        lengths = [len(shot) for shot in self.footage.sequences]
        span = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
        sizes = ", ".join(f"{width}x{height} ({count})" for (width, height), count in self.sizes.most_common())
        lines = [
            self.title,
            f"  {_count(len(self.footage), 'frame')} in {_count(len(lengths), 'sequence')} of {span} and "
            f"{_count(len(self.footage.files()), 'file')}; {self.frames} could be read",
            f"  sizes: {sizes or 'none'}",
        ]
        if self.palette is not None:
            total = max(1, int(self.pixels.sum()) + self.unclassed.total())
            shares = sorted(zip(self.pixels.tolist(), self.palette.classes, strict=True), reverse=True)
            lines.append("  classes: " + ", ".join(f"{name} {count / total:.2%}" for count, name in shares))
            if self.unclassed:
                colours = ", ".join(f"{colour} {count / total:.2%}" for colour, count in self.unclassed.most_common())
                lines.append(f"  no class in the palette: {colours}")
        return lines + [f"  WRONG {path}: {text}" for path, text in self.problems]


@dataclass
class _Seen:
    """What is kept of one frame."""

    size: tuple[int, int]
    pixels: np.ndarray
    unclassed: Counter[Colour]
    problem: str | None
    tile: Image.Image | None


def check_source(
    text: str, palette: Palette | None = None, show: Callable[[int, int], None] = lambda done, total: None
) -> list[Finding]:
    """Read everything that a source names, pictures and labels where the layout has both.

    Args:
        text: as a recipe's `data`; of a data set in parts, all of them unless it says which.
        palette: the pictures are labels in this palette.
        show: gets (frames read, frames in all) now and then.

    Raises:
        UsageError: the source is nothing that is known.
        InputError: nothing of the kind is there.
    """
    if text.startswith("street:"):
        raise UsageError(f"{text!r} is rendered and has no files to check")
    source = everything(parse_source(text))
    own = READERS[source.reader].palette
    kinds = [palette] if palette is not None else [None] if own is None else [None, palette_named(own)]
    if palette is None and own is not None and source.options.keys() & {"labels", "gt"}:
        kinds = kinds[1:]
    found: list[tuple[Footage, Palette | None]] = []
    missing: list[InputError] = []
    for kind in kinds:
        try:
            found.append((find_footage(source, kind is not None), kind))
        except InputError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    total, done = sum(len(footage) for footage, _ in found), 0
    findings = []
    for footage, kind in found:
        finding = Finding(text, footage, kind)
        for count in _read_all(finding):
            done += count
            show(done, total)
        findings.append(finding)
    return findings


def _read_all(finding: Finding) -> Iterator[int]:
    """Fill in a finding; gives how many frames were looked at, bit by bit."""
    footage, palette = finding.footage, finding.palette
    finding.problems += [(path, "cannot be read as a video, or has no frames") for path in footage.unreadable]
    finding.pixels = np.zeros(len(palette) if palette else 0, dtype=np.int64)
    tiles = {len(footage) * k // TILES for k in range(TILES)}

    def seen(item: tuple[Images | Stretch, int, int]) -> list[_Seen | InputError]:
        shot, frame, index = item
        if isinstance(shot, Images):
            return [_image(shot.paths[frame], footage, palette, index in tiles)]
        return list(_video(shot, palette, [place in tiles for place in range(index, index + len(shot))]))

    usual: tuple[int, int] | None = None  # size of the sequence's frames
    for (shot, frame, _), results in zip(_items(footage), in_order(seen, _items(footage)), strict=True):
        if frame == 0:
            usual = None
        path = shot.paths[frame] if isinstance(shot, Images) else shot.path
        problems: dict[str, list[str]] = defaultdict(list)  # kind -> of each frame that has it
        for result in results:
            if isinstance(result, InputError):
                problems["unreadable"].append(str(result))
                continue
            finding.frames += 1
            finding.sizes[result.size] += 1
            finding.pixels += result.pixels
            finding.unclassed += result.unclassed
            if result.problem is not None:
                problems["labels"].append(result.problem)
            usual = usual or result.size
            if result.size != usual:
                text = f"is {result.size[0]}x{result.size[1]}, its sequence begins as {usual[0]}x{usual[1]}"
                problems["size"].append(text)
            if result.tile is not None:
                finding.tiles.append(result.tile)
        for texts in problems.values():
            more = f"; {len(texts)} frames of it are so" if len(texts) > 1 else ""
            finding.problems.append((path, texts[0] + more))
        yield len(results)


def _items(footage: Footage) -> Iterator[tuple[Images | Stretch, int, int]]:
    """(sequence, frame in it, global index) of each image, and of each video's first frame."""
    index = 0
    for shot in footage.sequences:
        for frame in range(len(shot) if isinstance(shot, Images) else 1):
            yield shot, frame, index + frame
        index += len(shot)


def _image(path: Path, footage: Footage, palette: Palette | None, tile: bool) -> _Seen | InputError:
    if palette is None:
        try:
            return _look(read_image(path), None, {}, None, tile)
        except InputError:
            return InputError("cannot be read as an image")
    try:
        picture, values = read_label(path, palette, footage.numbers)
    except Exception:  # of whatever kind: damaged bytes lead parsers anywhere
        return InputError("cannot be read as an image")
    known = NUMBERS.get(footage.numbers, {})
    problem = None
    if values is not None:
        meaning = meaning_of(footage.numbers, palette).keys() | {NO_CLASS}
        strange = sorted({int(value) for value in np.unique(values)} - meaning)
        if strange:
            problem = f"class numbers that mean nothing: {', '.join(map(str, strange[:10]))}"
    return _look(picture, palette, known, problem, tile)


def _video(shot: Stretch, palette: Palette | None, tiles: list[bool]) -> Iterator[_Seen | InputError]:
    try:
        video = open_video(shot.path)
    except InputError:
        yield from [InputError("cannot be read as a video")] * len(shot)
        return
    for first in range(shot.first, shot.end, _CHUNK):
        numbers = range(first, min(first + _CHUNK, shot.end))
        try:
            pictures: list[np.ndarray | None] = list(video.frames(numbers))
        except Exception:  # of whatever kind, for whichever frame
            pictures = [_one(video.frames, number) for number in numbers]
        for number, picture in zip(numbers, pictures, strict=True):
            if picture is None:
                yield InputError(f"frame {number} cannot be decoded")
            else:
                yield _look(picture, palette, {}, None, tiles[number - shot.first])


def _one(frames: Callable[[list[int]], np.ndarray], number: int) -> np.ndarray | None:
    try:
        return frames([number])[0]
    except Exception:
        return None


def _look(
    picture: np.ndarray, palette: Palette | None, known: dict[int, Colour], problem: str | None, tile: bool
) -> _Seen:
    height, width = picture.shape[:2]
    pixels, unclassed = np.zeros(len(palette) if palette else 0, dtype=np.int64), Counter[Colour]()
    if palette is not None:
        packed = picture.astype(np.uint32) @ np.asarray([1 << 16, 1 << 8, 1], dtype=np.uint32)
        codes, counts = np.unique(packed, return_counts=True)
        classes = {colour: number for number, colour in enumerate(palette.colours)}
        fine, strays = {palette.void or VOID, *known.values()}, Counter[Colour]()
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            colour = (code >> 16, code >> 8 & 255, code & 255)
            if colour in classes:
                pixels[classes[colour]] += count
            else:
                (unclassed if colour in fine else strays)[colour] += count
        if strays and problem is None:
            most = ", ".join(map(str, (colour for colour, _ in strays.most_common(3))))
            share = strays.total() / (width * height)
            problem = f"{len(strays)} colours outside the palette on {share:.2%} of its pixels, such as {most}"
    small = None
    if tile:
        size = (_TILE_WIDTH, max(1, round(height * _TILE_WIDTH / width)))
        small = Image.fromarray(picture).resize(
            size, Image.Resampling.BILINEAR if palette is None else Image.Resampling.NEAREST
        )
    return _Seen((width, height), pixels, unclassed, problem, small)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def contact_sheet(findings: list[Finding]) -> Image.Image:
    """All tiles of all findings below each other, each finding under its title, RGB."""
    rows: list[tuple[str, list[Image.Image]]] = []
    for finding in findings:
        for first in range(0, len(finding.tiles), _COLUMNS):
            rows.append(("" if first else finding.title, finding.tiles[first : first + _COLUMNS]))
    heights = [(_HEAD if title else 0) + max(tile.height for tile in tiles) for title, tiles in rows]
    sheet = Image.new("RGB", (_TILE_WIDTH * _COLUMNS, max(1, sum(heights))), "black")
    top = 0
    for (title, tiles), height in zip(rows, heights, strict=True):
        if title:
            # The built-in font has Latin letters only.
            ImageDraw.Draw(sheet).text((2, top + 2), title.encode("ascii", "replace").decode(), fill="white")
        for column, tile in enumerate(tiles):
            sheet.paste(tile, (column * _TILE_WIDTH, top + (_HEAD if title else 0)))
        top += height
    return sheet
