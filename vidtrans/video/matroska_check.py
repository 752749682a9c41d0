"""Damage in Matroska that its demuxer passes over in silence: parts whose checksum or structure is wrong.

A file is a tree of elements (RFC 8794); pictures and sound lie in clusters (RFC 9559, section 5.1.3), one after the
other. FFmpeg, where it writes into a file, begins each with a checksum, which its own reader does not look at; a block
whose head is damaged it leaves out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _INFO, _TRACKS, _CLUSTER = 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_TIMESTAMP_SCALE, _TRACK_ENTRY, _TRACK_NUMBER, _TIMESTAMP = 0x2AD7B1, 0xAE, 0xD7, 0xE7
_CRC32, _VOID, _BLOCK_GROUP, _BLOCK, _SIMPLE_BLOCK = 0xBF, 0xEC, 0xA0, 0xA1, 0xA3
_IN_CLUSTER = {_TIMESTAMP, _CRC32, _VOID, _BLOCK_GROUP, _SIMPLE_BLOCK, 0xAB, 0xA7, 0xAF, 0x5854}
_NANOSECONDS = 1_000_000_000
_PIECE = 1 << 20


def damaged_parts(path: Path, since: Fraction = Fraction(0)) -> list[Fraction]:
    """Where clusters begin that are not as they were written, seconds; those of a live stream are not looked at.

    Reads clusters with a checksum whole, and of others the heads of their blocks.

    Args:
        path: the file.
        since: clusters that end before this are not wanted.
    """
    found: list[Fraction] = []
    was_whole = True
    with path.open("rb") as file:
        for begin, is_whole in _clusters(file, path.stat().st_size):
            if not was_whole and begin <= since:
                del found[-1]
            if not is_whole:
                found.append(begin)
            was_whole = is_whole
    return found


def _clusters(file: BinaryIO, size: int) -> Iterator[tuple[Fraction, bool]]:
    """When every cluster begins, as far as that can be told, and whether it is whole."""
    scale, tracks, last = Fraction(1_000_000), set[int](), Fraction(0)
    place = 0
    while place < size:
        head = _head(file, place, size)
        if head is None:
            return  # of unknown size, or damage between clusters, which FFmpeg tells
        id, content, end = head
        if id == _SEGMENT:
            place = content
            continue
        if id == _INFO:
            scale = Fraction(_first(file, content, end, _TIMESTAMP_SCALE) or scale)
        elif id == _TRACKS:
            entries = [entry for entry in _children(file, content, end) if entry[0] == _TRACK_ENTRY]
            tracks = {_first(file, begin, stop, _TRACK_NUMBER) or 0 for _, begin, stop in entries}
        elif id == _CLUSTER:
            stamp = _first(file, content, end, _TIMESTAMP)
            whole = _is_whole(file, content, end, tracks)
            # The time of a damaged one may be damaged itself.
            last = last if stamp is None or not whole else stamp * scale / _NANOSECONDS
            yield last, whole
        place = end


def _is_whole(file: BinaryIO, content: int, end: int, tracks: set[int]) -> bool:
    first = _head(file, content, end)
    if first is not None and first[0] == _CRC32 and first[2] - first[1] == 4:
        return _value(file, first[1], first[2], "little") == _checksum(file, first[2], end)
    place = content
    while place < end:
        head = _head(file, place, end)
        if head is None or head[0] not in _IN_CLUSTER:
            return False
        id, begin, place = head
        if id == _BLOCK_GROUP:
            begin = next((inside for i, inside, _ in _children(file, begin, place) if i == _BLOCK), -1)
        if id in (_SIMPLE_BLOCK, _BLOCK_GROUP) and tracks and (begin < 0 or _number(file, begin)[0] not in tracks):
            return False
    return True


def _first(file: BinaryIO, begin: int, end: int, id: int) -> int | None:
    """The number that the first child of that id holds."""
    found = next(((content, stop) for i, content, stop in _children(file, begin, end) if i == id), None)
    return None if found is None else _value(file, *found)


def _checksum(file: BinaryIO, begin: int, end: int) -> int:
    checksum = 0
    file.seek(begin)
    while begin < end and (piece := file.read(min(_PIECE, end - begin))):
        checksum, begin = zlib.crc32(piece, checksum), begin + len(piece)
    return checksum


def _children(file: BinaryIO, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    while place < end and (head := _head(file, place, end)) is not None:
        yield head
        place = head[2]


def _head(file: BinaryIO, place: int, limit: int) -> tuple[int, int, int] | None:
    """An element's id, where its content begins and where it ends; None where there is none up to `limit`."""
    id, place = _number(file, place, marked=True)
    size, place = _number(file, place)
    return None if id < 0 or size < 0 or place + size > limit else (id, place, place + size)


def _number(file: BinaryIO, place: int, *, marked: bool = False) -> tuple[int, int]:
    """A number of variable length, with or without the bit that marks its length, and where it ends; -1: none."""
    file.seek(place)
    first = file.read(1)
    if not first or not first[0]:
        return -1, place
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    bare = value & ((1 << (7 * length)) - 1)
    if not marked and bare == (1 << (7 * length)) - 1:  # unknown
        return -1, place
    return value if marked else bare, place + length


def _value(file: BinaryIO, begin: int, end: int, order: str = "big") -> int:
    file.seek(begin)
    return int.from_bytes(file.read(min(8, end - begin)), "little" if order == "little" else "big")
