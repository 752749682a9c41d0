"""YUV4MPEG2 (y4m): the line with which a stream begins, and a reader.

Sources: the mjpegtools manual page yuv4mpeg(5), https://wiki.multimedia.cx/index.php/YUV4MPEG2 and, for depths above 8
bits and the range, FFmpeg's libavformat/yuv4mpegenc.c and yuv4mpegdec.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from vidtrans.errors import InputError
from vidtrans.remarks import Warn
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.colour_names import NOTHING_TOLD, Told
from vidtrans.video.frame import TAG_LOCATION_LEFT, TAG_LOCATION_UNSPECIFIED
from vidtrans.video.layout import LAYOUTS, Layout
from vidtrans.video.local_file import DEFAULT_MAX_PIXELS, check_frame_size
from vidtrans.video.raw import PlanesReader, cut_off
from vidtrans.video.steady import DEFAULT_RATE, Span, steady_info, untagged_colour

MAGIC = b"YUV4MPEG2"
FRAME_MAGIC = b"FRAME"
# Words of chroma, each with FFmpeg's name of the pixel format. Those of 8-bit 4:2:0 differ in where the samples sit.
PIX_FMT_OF_CHROMA = {
    "420": "yuv420p",
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "422": "yuv422p",
    "444": "yuv444p",
    "444alpha": "yuva444p",
    "mono": "gray",
    **{f"{sampling}p{bits}": f"yuv{sampling}p{bits}le" for sampling in (420, 422, 444) for bits in (10, 12)},
    **{f"mono{bits}": f"gray{bits}le" for bits in (10, 12)},
}
# Where the samples of 4:2:0 sit, FFmpeg's numbers: left, centre, top left. Deeper pictures have no word for it.
LOCATION_OF_CHROMA = {"420jpeg": 2, "420mpeg2": TAG_LOCATION_LEFT, "420paldv": 3, "420": 2}
# What streams without the word are.
DEFAULT_CHROMA = "420jpeg"
INTERLACING = {"t": "top field first", "b": "bottom field first", "m": "in parts"}

_LONGEST_LINE = 1024
_LARGEST = 65535  # columns or rows
_NUMBER = re.compile(r"[0-9]{1,5}")
_RATIO = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")


@dataclass(frozen=True)
class Y4mHeader:
    """The first line of a y4m stream.

    Attributes:
        width, height: pixels.
        rate: frames per second; None: not known.
        chroma: a key of PIX_FMT_OF_CHROMA, or another word.
        interlacing: 'p' progressive, '?' not known, or a key of INTERLACING.
        aspect: width over height of a pixel; None: not known.
        full_range: of the code values, an extension of FFmpeg's; None: not told.
        comments: other extensions, each without its X.
    """

    width: int
    height: int
    rate: Fraction | None = None
    chroma: str = DEFAULT_CHROMA
    interlacing: str = "?"
    aspect: Fraction | None = None
    full_range: bool | None = None
    comments: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: bytes) -> Y4mHeader:
        """The header that a line, with or without its line feed, is; letters that are not known are passed over.

        Raises:
            ValueError: none; says which part is wrong.
        """
        magic, *words = line.decode("ascii", errors="replace").removesuffix("\n").split(" ")
        if magic != MAGIC.decode():
            raise ValueError(f"it does not begin with {MAGIC.decode()}")
        found = {word[0]: word[1:] for word in words if word and word[0] != "X"}
        comments = [word[1:] for word in words if word.startswith("X")]
        told = {key: value for key, _, value in (comment.partition("=") for comment in comments)}
        span = told.get("COLORRANGE")
        # mjpegtools' older word of chroma is gone by where the newer one is missing.
        chroma = found.get("C") or told.get("YSCSS", "").lower() or DEFAULT_CHROMA
        return cls(
            width=_positive(found, "W", "width"),
            height=_positive(found, "H", "height"),
            rate=_ratio(found, "F", "frame rate"),
            chroma=chroma,
            interlacing=found.get("I") or "?",
            aspect=_ratio(found, "A", "pixel aspect"),
            full_range=None if span not in ("FULL", "LIMITED") else span == "FULL",
            comments=tuple(comment for comment in comments if comment.partition("=")[0] != "COLORRANGE"),
        )

    def format(self) -> bytes:
        """The line, with its line feed."""
        words = [
            MAGIC.decode(),
            f"W{self.width}",
            f"H{self.height}",
            f"F{_ratio_text(self.rate)}",
            f"I{self.interlacing}",
            f"A{_ratio_text(self.aspect)}",
            f"C{self.chroma}",
            *(f"X{comment}" for comment in self.comments),
        ]
        if self.full_range is not None:
            words.append(f"XCOLORRANGE={'FULL' if self.full_range else 'LIMITED'}")
        return f"{' '.join(words)}\n".encode("ascii")


def open_y4m(
    stream: ByteStream,
    start: Fraction,
    end: Fraction | None,
    rate: Fraction | None = None,
    *,
    told: Told = NOTHING_TOLD,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> PlanesReader:
    """A reader of a y4m stream.

    Args:
        stream: at its beginning.
        start, end: seconds; the frames that begin in [start, end) are used.
        rate: frames per second, in place of what the stream says.
        told: what the user says of the colours.
        max_pixels: larger frames are refused.

    Raises:
        InputError: the header or a frame is damaged or cut off, its frames are too large, or of a kind that is not
            read here.
        UsageError: no frame begins in [start, end).
    """
    header, layout = _read_header(stream)
    taken = rate or header.rate or DEFAULT_RATE
    span = Span.between(start, end, taken, stream.name)
    width, height = header.width, header.height
    check_frame_size(stream.name, width, height, max_pixels)
    frames = None
    if stream.byte_count is not None:  # nearly: words after FRAME are possible, and rare
        each = len(FRAME_MAGIC) + 1 + layout.byte_count(width, height)
        frames = (stream.byte_count - len(header.format())) // each
    info = steady_info(
        width=width,
        height=height,
        rate=taken,
        span=span,
        frames=frames or None,
        pix_fmt=layout.pix_fmt,
        source_pix_fmt=layout.name,
        colour=replace(
            untagged_colour(layout.pix_fmt, width, height, full_range=header.full_range, told=told),
            chroma_location=LOCATION_OF_CHROMA.get(header.chroma, TAG_LOCATION_UNSPECIFIED),
        ),
        container="yuv4mpegpipe",
        codec="rawvideo",
        sample_aspect_ratio=header.aspect,
    )
    reader = PlanesReader(stream, info, layout, span, begin=lambda number: _begins(stream, number))
    if rate is None and header.rate is None:
        reader.notes.append(
            Warn(f"{stream.name}: states no frame rate, {taken} per second is used; --rate-in tells another")
        )
    return reader


def _read_header(stream: ByteStream) -> tuple[Y4mHeader, Layout]:
    line = stream.line(_LONGEST_LINE)
    if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        raise InputError(
            f"{stream.name}: is cut off inside its y4m header; look for an error of the program that wrote it"
        )
    try:
        header = Y4mHeader.parse(line if line.endswith(b"\n") else b"")
    except ValueError as error:
        raise InputError(f"{stream.name}: is not y4m, or its header is damaged: {error}") from error
    if header.interlacing in INTERLACING:
        raise InputError(
            f"{stream.name}: is interlaced ({INTERLACING[header.interlacing]}), which y4m is not read as; deinterlace "
            "it first, with ffmpeg's -vf bwdif, or if it is not really so, say that with -vf setfield=prog"
        )
    name = PIX_FMT_OF_CHROMA.get(header.chroma)
    if name is None:
        raise InputError(
            f"{stream.name}: y4m chroma {header.chroma!r} is not read here; let the program that writes it convert it, "
            "in ffmpeg with -pix_fmt yuv420p, or yuv444p12le with -strict -1"
        )
    return header, LAYOUTS[name]


def _begins(stream: ByteStream, number: int) -> bool:
    """Reads the line before frame `number`, counted from 1; its words, if any, say nothing about progressive frames."""
    line = stream.line(_LONGEST_LINE)
    if not line:
        return False
    if not line.endswith(b"\n") and len(line) < _LONGEST_LINE:
        raise cut_off(stream.name, number, "all of its pixels are missing")
    if line.rstrip(b"\n").split(b" ")[0] != FRAME_MAGIC or not line.endswith(b"\n"):
        raise InputError(
            f"{stream.name}: is damaged, frame {number} does not begin where it should; something other than frames "
            "was written into it"
        )
    return True


def _positive(found: dict[str, str], letter: str, what: str) -> int:
    text = found.get(letter, "")
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= _LARGEST:
        raise ValueError(f"its {what} is {letter + text!r}" if text else f"it states no {what}")
    return int(text)


def _ratio(found: dict[str, str], letter: str, what: str) -> Fraction | None:
    if letter not in found:
        return None
    match = _RATIO.fullmatch(found[letter])
    if match is None:
        raise ValueError(f"its {what} is {letter + found[letter]!r}")
    return Fraction(int(match[1]), int(match[2])) or None if int(match[2]) else None


def _ratio_text(ratio: Fraction | None) -> str:
    return "0:0" if ratio is None else f"{ratio.numerator}:{ratio.denominator}"
