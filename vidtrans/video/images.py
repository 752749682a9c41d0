"""Reads numbered images as a video: a folder, a glob or a printf pattern; frame k is shown at k / rate."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from vidtrans.errors import InputError
from vidtrans.files import by_number
from vidtrans.remarks import Warn
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.frame import (
    FULL_RANGE_NAMES,
    TAG_LOCATION_CENTRE,
    Colour,
    Frame,
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.input_form import NUMBER, is_glob
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, check_frame_size
from vidtrans.video.picture import planes_of
from vidtrans.video.shape import Turn
from vidtrans.video.steady import DEFAULT_RATE, Span, steady_info

# Ends of names that are one kind of image, by FFmpeg's name of its decoder.
KINDS = {
    ".png": "png",
    ".jpg": "mjpeg",
    ".jpeg": "mjpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".webp": "webp",
}
KIND_NAMES = "PNG, JPEG, TIFF, BMP and WebP"

# First bytes of each kind: names lie.
_MAGICS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "mjpeg"),
    (re.compile(rb"II\*\0|MM\0\*"), "tiff"),
    (re.compile(rb"BM"), "bmp"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
)
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# Pillow's words for images without colour.
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
# Of 16 bits the upper 12 are kept: what was widened from 12 comes back as it was.
_DEEP = {"gray": PixelFormat("gray16le", 16, 0, 0, "gray"), "rgb": PixelFormat("gbrp16le", 16, 0, 0, "rgb")}
_DEEP_SURPLUS_BITS = 4

# EXIF's numbers of how an image is to be turned: where steps (x, y) to the right and down in it lead on the screen.
_ORIENTATION_TAG = 0x0112
_TIFF_WIDTH_TAG, _TIFF_HEIGHT_TAG = 0x0100, 0x0101
_TURNS = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@dataclass(frozen=True)
class _Header:
    """What the first bytes of an image say; turn: EXIF's number, 1 where it is shown as stored."""

    size: tuple[int, int]
    is_grey: bool
    turn: int

    @property
    def display_matrix(self) -> tuple[int, ...] | None:
        """As in VideoInfo."""
        if self.turn not in _TURNS:
            return None
        a, b, c, d = (step << 16 for step in _TURNS[self.turn])
        return a, b, 0, c, d, 0, 0, 0, 1 << 30


class ImageReader:
    """Images of one size as a video, read once from front to back: `for frame in reader`.

    Opening looks at every image's size and decodes the first one used, so that what does not fit shows early. Images
    of several pixel formats are read as that of the first coloured one, where it can hold them.

    Args:
        path: an image; a folder, all whose images are read, numbers in their names by value; a glob; or a pattern such
            as `%06d.png`, whose numbers begin anywhere and have no gaps.
        start, end: seconds; the images that begin in [start, end) are used.
        rate: images per second; None: 25, and said so.
        told: what the user says of the colours, over what the images say.
        max_pixels: larger images are refused before they are decoded.

    Attributes:
        info: facts known without reading them all.
        notes: things a user should be told, one line each.

    Raises:
        InputError: there are no images, or one is missing, damaged or does not fit the first; named.
        UsageError: no image begins in [start, end).
    """

    def __init__(
        self,
        path: Path,
        start: Fraction = Fraction(0),
        end: Fraction | None = None,
        rate: Fraction | None = None,
        *,
        told: Told = NOTHING_TOLD,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self.notes: list[str] = []
        paths = self._listed(path)
        taken = rate or DEFAULT_RATE
        span = Span.between(start, end, taken, str(path))
        self._paths = paths[span.first : span.end]
        if not self._paths:
            raise span.too_late(len(paths), taken, str(path))
        self._decoders: dict[str, av.VideoCodecContext] = {}
        self._max_pixels = max_pixels
        if (header := _header(self._paths[0])) is not None:
            check_frame_size(self._paths[0], *header.size, max_pixels)
        first = self._picture(self._paths[0])
        self._size = first.width, first.height
        matrix, coloured = self._scan()
        model = first if coloured is None else self._picture(coloured)
        pix_fmt, exact = _planar(model, self._paths[0])
        colour = Colour.read(model, model.format.name, first.width, first.height).told(told, pix_fmt)
        colour.check(str(path), pix_fmt)
        if pix_fmt.chroma_shift_x and model.format.name in FULL_RANGE_NAMES:
            colour = replace(colour, chroma_location=TAG_LOCATION_CENTRE)  # by JFIF
        self._turn = (None if matrix is None else Turn.by_matrix(matrix)) or Turn(False, False, False)
        self._stored = pix_fmt
        width, height = self._turn.size(first.width, first.height)
        if self._turn:
            self.notes.append(f"{path}: images are turned or mirrored by EXIF, they are set upright ({width}x{height})")
        if not exact:
            self.notes.append(
                Warn(f"{path}: pixel format {model.format.name} is read as {pix_fmt.name}, not all of it is kept")
            )
        if rate is None:
            self.notes.append(f"{path}: {len(self._paths)} images at {taken} per second; --rate-in tells another rate")
        self.info = steady_info(
            width=width,
            height=height,
            rate=taken,
            span=span,
            frames=len(paths),
            pix_fmt=self._turn.pix_fmt(pix_fmt),
            source_pix_fmt=model.format.name,
            colour=colour,
            container="image2",
            codec=next(iter(self._decoders)),
        )

    def __enter__(self) -> ImageReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No file stays open."""

    def cancel(self) -> None:
        """Nothing is waited for."""

    def __iter__(self) -> Iterator[Frame]:
        length = 1 / self.info.average_rate
        for number, path in enumerate(self._paths):
            planes = self._planes(self._picture(path), path)
            if self._turn:
                planes = self._turn.apply(planes, self._stored, self.info.colour)
            yield Frame(planes, number * length, length, self.info.pix_fmt, self.info.colour)

    def _listed(self, path: Path) -> list[Path]:
        """All images that the name stands for, in order."""
        if path.is_file():
            return [path]
        if path.is_dir():
            found, every = self._entries(path, _names_in(path)), path / "*"
        elif is_glob(path):
            found, every = self._entries(path, [Path(name) for name in glob.glob(str(path), recursive=True)]), path
        else:
            return _numbered(path)
        kinds = sorted({KINDS[image.suffix.lower()] for image in found})
        if len(kinds) > 1:
            ends = sorted({image.suffix.lower() for image in found})
            raise InputError(
                f"{path}: holds images of several kinds, {' and '.join(ends)}; choose one with a quoted glob such as "
                f"'{every}{ends[0]}'"
            )
        return sorted(found, key=by_number)

    def _entries(self, path: Path, entries: Sequence[Path]) -> list[Path]:
        """The images among them; hidden files are passed over in silence, as a shell does."""
        seen = [entry for entry in entries if not entry.name.startswith(".")]
        found = [entry for entry in seen if entry.suffix.lower() in KINDS and entry.is_file()]
        if not found:
            nothing = "there is nothing in it" if path.is_dir() else "no file has such a name"
            what = f"none of {len(seen)} names is that of an image" if seen else nothing
            raise InputError(f"{path}: {what}; {KIND_NAMES} are read")
        if len(seen) > len(found):
            self.notes.append(Warn(f"{path}: {len(seen) - len(found)} names that are no images are left out"))
        return found

    def _scan(self) -> tuple[tuple[int, ...] | None, Path | None]:
        """Refuses images that are unlike the first.

        Returns:
            Its display matrix, and the first image with colours if that is another one: its format holds the grey ones.
        """
        first = _header(self._paths[0])
        coloured = None
        for path in self._paths:
            header = _header(path)
            if header is None:
                continue
            if header.size != self._size:
                raise self._odd(path, f"{header.size[0]}x{header.size[1]}", f"{self._size[0]}x{self._size[1]}")
            if first is not None and header.turn != first.turn:
                raise self._odd(path, f"turned by EXIF's number {header.turn}", f"by {first.turn}")
            if coloured is None and not header.is_grey:
                coloured = path
        matrix = None if first is None else first.display_matrix
        return matrix, None if coloured == self._paths[0] else coloured

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); has it been taken away?") from error

    def _picture(self, path: Path) -> av.VideoFrame:
        data = self._bytes(path)
        kind = _kind_of(path, data)
        packet = av.Packet(data)
        packet.is_keyframe = True  # FFmpeg would add a PNG without the mark to the picture before
        try:
            if kind == "mjpeg" and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
                raise ValueError("lacks its end, the decoder may fill up a few missing bytes in silence")
            (picture,) = self._decoder(kind).decode(packet)
        except (av.FFmpegError, ValueError) as error:  # ValueError: no picture, or several
            raise InputError(f"{path}: is cut off or damaged, it cannot be decoded; make or copy it again") from error
        return picture

    def _decoder(self, kind: str) -> av.VideoCodecContext:
        if kind not in self._decoders:
            decoder = av.CodecContext.create(kind, "r")
            assert isinstance(decoder, av.VideoCodecContext)
            decoder.thread_count = 1  # so that every picture comes out at once
            decoder.options = {"max_pixels": str(self._max_pixels)}
            if kind != "tiff":  # of which each tag that FFmpeg does not know would be an error, too
                # A damaged picture is an error, not mended.
                decoder.options = {**decoder.options, "err_detect": "crccheck+explode"}
            self._decoders[kind] = decoder
        return self._decoders[kind]

    def _planes(self, picture: av.VideoFrame, path: Path) -> tuple[np.ndarray, ...]:
        stored = self._stored
        if (picture.width, picture.height) != self._size:
            size = f"{picture.width}x{picture.height}"
            raise self._odd(path, size, f"{self._size[0]}x{self._size[1]}")
        found, _ = _planar(picture, path)
        if not _holds(stored, found):
            raise self._odd(path, picture.format.name, f"read as {stored.name}")
        deep = _DEEP.get(found.kind) if max(part.bits for part in picture.format.components) > 12 else None
        if deep is None or found != stored:
            return planes_of(picture, stored, full_range=self.info.colour.full_range)
        return tuple(plane >> _DEEP_SURPLUS_BITS for plane in planes_of(picture, deep, full_range=True))

    def _odd(self, path: Path, this: str, others: str) -> InputError:
        return InputError(
            f"{path}: is {this}, but {self._paths[0].name} and those after it are {others}; make all images alike, or "
            "leave this one out"
        )


def _numbered(path: Path) -> list[Path]:
    """The images of a printf pattern."""
    before, digits, after = NUMBER.split(path.name, maxsplit=1)
    number = rf"[0-9]{{{digits}}}|[1-9][0-9]{{{digits},}}" if digits else "0|[1-9][0-9]*"
    name = re.compile(f"{re.escape(before)}({number}){re.escape(after)}")
    matches = [name.fullmatch(entry.name) for entry in _names_in(path.parent)]
    found = sorted(int(match[1]) for match in matches if match is not None)
    if not found:
        raise InputError(
            f"{path}: no file has such a name, with a number in place of %{'0' + digits if digits else ''}d"
        )

    def named(value: int) -> Path:
        return path.with_name(f"{before}{value:0{digits or 1}d}{after}")

    for value, following in enumerate(found, start=found[0]):
        if value != following:
            raise InputError(
                f"{named(value)}: is missing, numbers go from {found[0]} to {found[-1]}; make it, or if gaps are meant "
                f"use the glob '{path.with_name(f'{before}*{after}')}'"
            )
    return [named(value) for value in found]


def _names_in(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); is it the right folder?") from error


def _header(path: Path) -> _Header | None:
    """None where Pillow cannot tell, which leaves the image to the decoder."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                # Not the PNG class's own, which decodes the whole image.
                turn = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
                size = image.size
                if isinstance(image, TiffImageFile):  # which is given as shown, not as stored
                    size = image.tag_v2[_TIFF_WIDTH_TAG], image.tag_v2[_TIFF_HEIGHT_TAG]
                return _Header(size, image.mode in _GREY_MODES, turn if turn in _TURNS else 1)
    except Exception:  # of whatever kind: damaged bytes lead its parsers anywhere
        return None


def _kind_of(path: Path, data: bytes) -> str:
    for magic, kind in _MAGICS:
        if magic.match(data):
            return kind
    what = "is an image of a kind that is not read here, or damaged" if data else "is empty (0 bytes)"
    raise InputError(f"{path}: {what}; {KIND_NAMES} are read")


def _planar(picture: av.VideoFrame, path: Path) -> tuple[PixelFormat, bool]:
    try:
        return nearest_planar(picture.format.name)
    except ValueError as error:
        raise InputError(f"{path}: pixel format {picture.format.name} is not handled; convert it first") from error


def _holds(target: PixelFormat, found: PixelFormat) -> bool:
    """Whether pictures of one format can be read as another, and nothing is lost."""
    if found.bits > target.bits or found.kind not in (target.kind, "gray"):
        return False
    if found.kind == "gray":
        return True
    return found.chroma_shift_x >= target.chroma_shift_x and found.chroma_shift_y >= target.chroma_shift_y
