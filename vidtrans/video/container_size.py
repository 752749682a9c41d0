"""How long a file says it is: where a container states its size, a cut-off copy shows before a frame is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

# Top-level boxes of MP4 and MOV that may run past the end of a cut file. Others there are rubbish behind the last box,
# which players ignore.
_MP4_BOXES = {
    b"ftyp",
    b"moov",
    b"mdat",
    b"moof",
    b"mfra",
    b"sidx",
    b"styp",
    b"free",
    b"skip",
    b"wide",
    b"uuid",
    b"meta",
    b"pnot",
    b"udta",
}
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = b"\x18\x53\x80\x67"


def declared_size(path: Path) -> int | None:
    """The bytes that an MP4, MOV, Matroska, WebM or AVI file says it has, at least; None where it does not say.

    More than there are: the file is cut off. A fragmented MP4 says nothing unless it is cut inside a fragment, since
    whole fragments can be missing; nor does a live recording that was never closed.
    """
    with path.open("rb") as file:
        head = file.read(12)
        actual = os.fstat(file.fileno()).st_size
        if head[4:8] in _MP4_BOXES:
            return _mp4_size(file, actual)
        if head[:4] == _EBML_MAGIC:
            return _matroska_size(file)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            size = int.from_bytes(head[4:8], "little")
            # Longer AVI files go on in further RIFF lists; recorders that died leave 0 or all ones.
            return size + 8 if 0 < size < 0xFFFFFFFF else None
    return None


def _mp4_size(file: BinaryIO, actual: int) -> int | None:
    """Walks the chain of top-level boxes (ISO/IEC 14496-12, 4.2)."""
    position, fragmented = 0, False
    while position < actual:
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if kind not in _MP4_BOXES or 0 < size < 8:
            break
        fragmented |= kind == b"moof"
        if size == 0:  # to the end of the file, wherever that is
            return None
        position += size
    return None if fragmented and position <= actual else position


def _matroska_size(file: BinaryIO) -> int | None:
    """The end of the one top-level segment (RFC 8794: an id, then a size of 1 ... 8 bytes, all ones if unknown)."""
    file.seek(4)
    header_size = _ebml_number(file)
    if header_size is None:
        return None
    file.seek(header_size, os.SEEK_CUR)
    if file.read(4) != _MATROSKA_SEGMENT:
        return None
    segment_size = _ebml_number(file)
    return None if segment_size is None else file.tell() + segment_size


def _ebml_number(file: BinaryIO) -> int | None:
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    mask = (1 << (7 * length)) - 1
    value = int.from_bytes(first + file.read(length - 1), "big") & mask
    return None if value == mask else value
