"""How the code values of a picture follow each other in bytes, as FFmpeg's rawvideo has them: rows without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from vidtrans.errors import UsageError, nearest_names
from vidtrans.video.frame import FULL_RANGE_NAMES, PIXEL_FORMATS, PixelFormat

Planes = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Layout:
    """A pixel format as bytes, and what it is unpacked to.

    Attributes:
        name: FFmpeg's name of the format.
        pix_fmt: the planar format with the same code values.
        shapes: of the arrays of which a picture of (width, height) is made up, one after the other; above 8 bits of
            uint16, the lower byte first.
        unpack: those arrays to planes of at least the picture's size.
        alpha: whether there is one, which is left out.
        full_range: what the name says of the range; None: nothing.
    """

    name: str
    pix_fmt: PixelFormat
    shapes: Callable[[int, int], Sequence[tuple[int, ...]]]
    unpack: Callable[[Sequence[np.ndarray]], Planes]
    alpha: bool = False
    full_range: bool | None = None

    def byte_count(self, width: int, height: int) -> int:
        """Bytes of one picture."""
        return sum(map(prod, self.shapes(width, height))) * np.dtype(self.pix_fmt.dtype).itemsize

    def planes(self, data: np.ndarray, width: int, height: int) -> Planes:
        """The planes of one picture: `data`, uint8, as `byte_count` says; views of it where that is possible."""
        values = data.view(np.dtype(self.pix_fmt.dtype).newbyteorder("<"))
        arrays, begin = [], 0
        for shape in self.shapes(width, height):
            arrays.append(values[begin : begin + prod(shape)].reshape(shape))
            begin += prod(shape)
        wanted = self.pix_fmt.plane_shapes(width, height)
        return tuple(
            np.ascontiguousarray(plane[:rows, :columns], dtype=self.pix_fmt.dtype)
            for plane, (rows, columns) in zip(self.unpack(arrays), wanted, strict=True)
        )


def _planar(pix_fmt: PixelFormat) -> Layout:
    return Layout(pix_fmt.name, pix_fmt, pix_fmt.plane_shapes, tuple)


def _planar_with_alpha(name: str, pix_fmt: PixelFormat) -> Layout:
    return Layout(
        name,
        pix_fmt,
        lambda width, height: (*pix_fmt.plane_shapes(width, height), (height, width)),
        lambda arrays: tuple(arrays[:-1]),
        alpha=True,
    )


def _packed_rgb(name: str, order: str) -> Layout:
    """order: of the bytes of a pixel, x for one that means nothing."""
    green, blue, red = (order.index(channel) for channel in "gbr")
    return Layout(
        name,
        PIXEL_FORMATS["gbrp"],
        lambda width, height: ((height, width, len(order)),),
        lambda arrays: tuple(arrays[0][..., channel] for channel in (green, blue, red)),
        alpha="a" in order,
    )


def _packed_422(name: str, order: str) -> Layout:
    """order: of the bytes of two pixels."""
    u, v, luma = order.index("u"), order.index("v"), order.index("y")
    return Layout(
        name,
        PIXEL_FORMATS["yuv422p"],
        lambda width, height: ((height, -(-width // 2), 4),),
        lambda arrays: (
            arrays[0][..., luma::2].reshape(len(arrays[0]), -1),
            arrays[0][..., u],
            arrays[0][..., v],
        ),
    )


def _two_planes(name: str, pix_fmt: PixelFormat, *, v_first: bool = False, unused_bits: int = 0) -> Layout:
    """Luma, then pairs of chroma; code values stand in the upper bits."""

    def shapes(width: int, height: int) -> Sequence[tuple[int, ...]]:
        luma, chroma, _ = pix_fmt.plane_shapes(width, height)
        return luma, (*chroma, 2)

    def unpack(arrays: Sequence[np.ndarray]) -> Planes:
        luma, chroma = (array >> unused_bits for array in arrays) if unused_bits else arrays
        return luma, chroma[..., int(v_first)], chroma[..., int(not v_first)]

    return Layout(name, pix_fmt, shapes, unpack)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        *map(_planar, PIXEL_FORMATS.values()),
        _planar_with_alpha("yuva420p", PIXEL_FORMATS["yuv420p"]),
        _planar_with_alpha("yuva422p", PIXEL_FORMATS["yuv422p"]),
        _planar_with_alpha("yuva444p", PIXEL_FORMATS["yuv444p"]),
        _planar_with_alpha("gbrap", PIXEL_FORMATS["gbrp"]),
        _packed_rgb("rgb24", "rgb"),
        _packed_rgb("bgr24", "bgr"),
        _packed_rgb("rgb0", "rgbx"),
        _packed_rgb("bgr0", "bgrx"),
        _packed_rgb("rgba", "rgba"),
        _packed_rgb("bgra", "bgra"),
        _packed_rgb("argb", "argb"),
        _two_planes("nv12", PIXEL_FORMATS["yuv420p"]),
        _two_planes("nv21", PIXEL_FORMATS["yuv420p"], v_first=True),
        _two_planes("p010le", PIXEL_FORMATS["yuv420p10le"], unused_bits=6),
        _packed_422("yuyv422", "yuyv"),
        _packed_422("uyvy422", "uyvy"),
    )
}
# The same bytes; the j says that the range is full.
LAYOUTS |= {
    name: Layout(name, layout.pix_fmt, layout.shapes, layout.unpack, full_range=True)
    for name, layout in ((name, LAYOUTS[same]) for name, same in FULL_RANGE_NAMES.items())
}


def layout_named(name: str) -> Layout:
    """The layout of FFmpeg's name; `yuv420p10` and the like mean the byte order of this machine's kind, as there.

    Raises:
        UsageError: none that is read here.
    """
    found = LAYOUTS.get(name) or LAYOUTS.get(f"{name}le")
    if found is None:
        raise UsageError(f"--pix-fmt-in {name!r} is not read here; {nearest_names(name, tuple(LAYOUTS))}")
    return found
