"""Facts of Matroska's header that PyAV neither gives nor takes: where chroma sits, and the shape of pixels.

The header is a tree of elements (RFC 8794): an id, a size and that many bytes, which may be elements again. Names and
ids are those of RFC 9559.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av

_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _COLOUR = 0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x55B0
_CLUSTER = 0x1F43B675
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xB0, 0xBA
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_CHROMA_ACROSS, _CHROMA_DOWN = 0x55B7, 0x55B8
_VOID, _CRC32 = 0xEC, 0xBF
# FFmpeg's number of a chroma location by Matroska's two: across 1 left, 2 between; down 1 top, 2 between, 3 below.
_LOCATIONS = {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4, (1, 3): 5, (2, 3): 6}
# By the standard of codecs that Matroska does not hold: centre in H.263, top left in DV of 4:2:0.
_LOCATION_OF_CODEC = {"h263": 2, "dvvideo": 3}
_LARGEST_SIDE = 0xFFFF
# Bytes that state a size, at most; the largest size that one byte states.
_LONGEST_SIZE, _SHORT_SIZE = 8, 126


class _Element(NamedTuple):
    """An element's id, and where it begins, its content begins, and it ends."""

    id: int
    begin: int
    content: int
    end: int


def chroma_location(stream: av.VideoStream) -> int:
    """FFmpeg's number of where a stream's chroma sits, by its codec or its container; 0: not stated.

    PyAV does not hand it out. A Matroska header that is made for the stream, in memory, does.
    """
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return _LOCATION_OF_CODEC.get(stream.codec_context.name, 0)
    data = buffer.getvalue()
    colour = _found(data, 0, len(data), (_SEGMENT, _TRACKS, _TRACK_ENTRY, _VIDEO, _COLOUR))
    if colour is None:
        return 0
    numbers = {
        element.id: int.from_bytes(data[element.content : element.end], "big")
        for element in _elements(data, colour.content, colour.end)
    }
    return _LOCATIONS.get((numbers.get(_CHROMA_ACROSS, 0), numbers.get(_CHROMA_DOWN, 0)), 0)


def write_pixel_shape(path: Path, ratio: Fraction, videos: int = 1) -> bool:
    """Declares the shape of pixels in a finished Matroska file that FFmpeg made; nothing else in it moves.

    PyAV cannot tell FFmpeg of it: the muxer asks the stream, of which only the encoder's side can be set.

    Args:
        path: the file.
        ratio: width over height of a pixel.
        videos: of so many tracks, the first ones with pictures.

    Returns:
        Whether it was possible; if not, the file is as it was.
    """
    with path.open("r+b") as file:
        changed = with_pixel_shape(file.read(1 << 20), ratio, videos)
        if changed is None:
            return False
        file.seek(0)
        file.write(changed)
    return True


def with_pixel_shape(head: bytes, ratio: Fraction, videos: int = 1) -> bytes | None:
    """The same of a file's or a stream's first bytes, as long as before; None where it is not possible."""
    tracks = _found(head, 0, len(head), (_SEGMENT, _TRACKS))
    if tracks is None or tracks.end > len(head):
        return None
    for entry in _elements(head, tracks.content, tracks.end):
        video = _found(head, entry.content, entry.end, (_VIDEO,)) if entry.id == _TRACK_ENTRY else None
        if video is None:
            continue
        made = _fitted(_TRACK_ENTRY, _entry_with_shape(head, entry, video, ratio), entry.end - entry.begin)
        if made is None:
            return None
        head = head[: entry.begin] + made + head[entry.end :]  # so that the rest stays in place
        videos -= 1
        if not videos:
            return _with_checksum(head, tracks)
    return None


def _entry_with_shape(head: bytes, entry: _Element, video: _Element, ratio: Fraction) -> bytes:
    """The content of a track's entry, with a display size in it."""
    kept = {element.id: element for element in _elements(head, video.content, video.end)}
    sides = [int.from_bytes(head[kept[id].content : kept[id].end], "big") for id in (_PIXEL_WIDTH, _PIXEL_HEIGHT)]
    size = _display_size(sides[0], sides[1], ratio)
    replaced = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
    parts = [head[element.begin : element.end] for id, element in kept.items() if id not in replaced]
    parts += [_element(id, side.to_bytes(2, "big")) for id, side in zip(replaced[:2], size, strict=True)]
    others = (e for e in _elements(head, entry.content, entry.end) if e.id not in (_VIDEO, _VOID))
    return b"".join([*(head[element.begin : element.end] for element in others), _element(_VIDEO, b"".join(parts))])


def _fitted(id: int, content: bytes, total: int) -> bytes | None:
    """An element of so many bytes, id and size included; None where it does not fit.

    FFmpeg states sizes in eight bytes where fewer do, which is the room for more content. What remains is stated in
    more bytes than it takes, too, or goes into an empty element.
    """
    name = id.to_bytes((id.bit_length() + 7) // 8, "big")
    room = total - len(name) - len(content)
    length = min(room, _LONGEST_SIZE)
    if room - length == 1:  # an empty element takes two bytes at least
        length -= 1
    spare = room - length
    if spare:
        content += _element(_VOID, bytes(spare - 2 if spare <= _SHORT_SIZE + 2 else spare - 3))
    if length < 1 or len(content) >= (1 << 7 * length) - 1:
        return None
    return name + ((1 << 7 * length) | len(content)).to_bytes(length, "big") + content


def _display_size(width: int, height: int, ratio: Fraction) -> tuple[int, int]:
    """What (width, height) pixels of a shape are shown as; exact where numbers of 16 bits can say it."""
    shape = Fraction(width, height) * ratio
    times = -(-height // shape.denominator)
    exact = shape.numerator * times, shape.denominator * times
    if max(exact) <= _LARGEST_SIDE:
        return exact
    if shape >= 1:
        return _LARGEST_SIDE, max(1, round(_LARGEST_SIDE / shape))
    return max(1, round(_LARGEST_SIDE * shape)), _LARGEST_SIDE


def _with_checksum(head: bytes, tracks: _Element) -> bytes:
    first = next(_elements(head, tracks.content, tracks.end))
    if first.id != _CRC32:
        return head
    checksum = zlib.crc32(head[first.end : tracks.end])
    return head[: first.content] + checksum.to_bytes(4, "little") + head[first.end :]


def _found(data: bytes, begin: int, end: int, path: tuple[int, ...]) -> _Element | None:
    """The first element at the end of a path of ids."""
    element = next((element for element in _elements(data, begin, end) if element.id == path[0]), None)
    if element is None or len(path) == 1:
        return element
    return _found(data, element.content, min(element.end, len(data)), path[1:])


def _elements(data: bytes, begin: int, end: int) -> Iterator[_Element]:
    """The elements that lie side by side from begin on, up to the first cluster of packets."""
    place = begin
    with suppress(IndexError):  # the data ends in the middle of one
        while place < end:
            id, content = _number(data, place, marked=True)
            size, content = _number(data, content, marked=False)
            if id == _CLUSTER:
                return
            yield _Element(id, place, content, content + size)
            place = content + size


def _number(data: bytes, place: int, *, marked: bool) -> tuple[int, int]:
    """A number of variable length, with or without the bit that marks its length, and where it ends."""
    length = 9 - data[place].bit_length()
    value = int.from_bytes(data[place : place + length], "big")
    return value if marked else value & ((1 << (7 * length)) - 1), place + length


def _element(id: int, content: bytes) -> bytes:
    """An element; its size takes one byte up to 126, else two."""
    size = len(content)
    length = bytes([0x80 | size]) if size <= _SHORT_SIZE else (0x4000 | size).to_bytes(2, "big")
    return id.to_bytes((id.bit_length() + 7) // 8, "big") + length + content
