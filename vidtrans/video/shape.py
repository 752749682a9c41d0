"""The shape of pictures: turned upright, grown to sizes that an encoder takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import av
import numpy as np

from vidtrans.video.colour import chroma_place, full_size_chroma
from vidtrans.video.frame import PIXEL_FORMATS, Colour, PixelFormat

Planes = tuple[np.ndarray, ...]

# Codecs that count their size in whole chroma samples.
_WHOLE_CHROMA = {"h264", "hevc"}


@dataclass(frozen=True)
class Turn:
    """How a stored picture becomes upright.

    Attributes:
        transposed: first, rows become columns and columns rows.
        flipped_x: then the order of columns is reversed; flipped_y: that of rows.
    """

    transposed: bool
    flipped_x: bool
    flipped_y: bool

    @classmethod
    def by_matrix(cls, matrix: Sequence[int]) -> Turn | None:
        """What a display matrix does, which shows (x, y) at (a x + c y, b x + d y); its numbers are a b . c d . . . .

        None: it is no turn by quarters, such as one by 10 degrees.
        """
        a, b, _, c, d = matrix[:5]
        if b == c == 0 and abs(a) == abs(d) != 0:
            return cls(False, a < 0, d < 0)
        if a == d == 0 and abs(b) == abs(c) != 0:
            return cls(True, c < 0, b < 0)
        return None

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return self.transposed or self.flipped_x or self.flipped_y

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the turned picture."""
        return (height, width) if self.transposed else (width, height)

    def pix_fmt(self, stored: PixelFormat) -> PixelFormat:
        """The format of turned pictures: that of the stored ones, but chroma of 4:2:2 becomes full size on its side."""
        if not self.transposed or stored.chroma_shift_x == stored.chroma_shift_y:
            return stored
        full = replace(stored, name="", chroma_shift_x=0, chroma_shift_y=0)
        return next(known for known in PIXEL_FORMATS.values() if replace(known, name="") == full)

    def apply(self, planes: Planes, stored: PixelFormat, colour: Colour) -> Planes:
        """Planes of a stored picture to those of the upright one, in the format `pix_fmt(stored)`.

        Luma, and chroma of full size, move as they are. Smaller chroma would come to sit elsewhere between the luma
        samples than its tag says and players take it to, so it is interpolated at its old place.
        """
        if self.pix_fmt(stored) != stored:
            planes, stored = full_size_chroma(planes, stored, colour), self.pix_fmt(stored)
        luma, *chroma = (self._moved(plane) for plane in planes)
        for axis, shift in ((1, stored.chroma_shift_x), (0, stored.chroma_shift_y)):
            if shift:
                offset = self._offset(axis, planes[0].shape, chroma_place(colour))
                chroma = [_interpolated(plane, axis, offset) for plane in chroma]
        return (luma, *(np.ascontiguousarray(plane) for plane in chroma))

    def _moved(self, plane: np.ndarray) -> np.ndarray:
        turned = plane.T if self.transposed else plane
        return np.ascontiguousarray(turned[:: -1 if self.flipped_y else 1, :: -1 if self.flipped_x else 1])

    def _offset(self, axis: int, stored_shape: tuple[int, ...], place: tuple[int, int]) -> float:
        """How far along an axis of the upright picture (0 is down) chroma is to be read, in its own samples."""
        wanted = place[1 - axis] / 2
        source = 1 - axis if self.transposed else axis
        found = place[1 - source] / 2
        if self.flipped_x if axis == 1 else self.flipped_y:
            # Of an odd number of luma samples the last has a chroma sample of its own, which is the first now.
            found = -found if stored_shape[source] % 2 else 1 - found
        return (wanted - found) / 2


def _interpolated(plane: np.ndarray, axis: int, offset: float) -> np.ndarray:
    """The plane read `offset` samples (-1 ... 1) further along an axis, linearly, edges repeated, rounded."""
    if not offset:
        return plane
    count = plane.shape[axis]
    neighbour = np.clip(np.arange(count) + (1 if offset > 0 else -1), 0, count - 1)
    share = np.float32(abs(offset))
    read = (1 - share) * plane + share * np.take(plane, neighbour, axis)
    return np.rint(read).astype(plane.dtype)


def coded_size(codec: av.Codec, pix_fmt: PixelFormat, width: int, height: int) -> tuple[int, int]:
    """The (width, height) in which an encoder takes pictures: theirs, or grown to whole chroma samples."""
    if codec.canonical_name not in _WHOLE_CHROMA:
        return width, height
    across, down = (1 << shift for shift in (pix_fmt.chroma_shift_x, pix_fmt.chroma_shift_y))
    return -(-width // across) * across, -(-height // down) * down


def grown(planes: Planes, pix_fmt: PixelFormat, width: int, height: int) -> Planes:
    """Planes of a picture of at most (width, height), grown to it by repeating the last column and row."""
    shapes = pix_fmt.plane_shapes(width, height)
    return tuple(
        plane
        if plane.shape == (rows, columns)
        else np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="edge")
        for plane, (rows, columns) in zip(planes, shapes, strict=True)
    )
