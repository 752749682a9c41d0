"""What a decoded picture is: code values, pixel format, colour facts and the instants between which it is shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Protocol

import av
import numpy as np

from vidtrans.errors import InputError
from vidtrans.remarks import Warn
from vidtrans.video.colour_names import (
    FOREIGN_MATRICES,
    HDR_TRANSFERS,
    MATRICES,
    PRIMARIES,
    RANGES,
    TRANSFERS,
    Told,
)
from vidtrans.video.hdr import Light, Mastering

Matrix = Literal["bt601", "bt709", "bt2020", "fcc", "smpte240m"]
Kind = Literal["yuv", "gray", "rgb"]

# FFmpeg's numbers (AVColorSpace, AVColorRange, AVColorPrimaries, AVColorTransferCharacteristic).
TAG_RGB_MATRIX = 0
TAG_UNSPECIFIED = 2  # of matrix, primaries and transfer; that of the range is 0
TAG_RANGE_UNSPECIFIED = 0
TAG_RANGE_LIMITED = 1
TAG_RANGE_FULL = 2
TAG_CONSTANT_LUMINANCE = 10
TAG_LOCATION_UNSPECIFIED = 0
TAG_LOCATION_LEFT = 1
TAG_LOCATION_CENTRE = 2

# Which matrix a tag means.
MATRIX_OF_TAG: dict[int, Matrix] = {
    1: "bt709",
    4: "fcc",
    5: "bt601",  # BT.470BG
    6: "bt601",  # SMPTE 170M
    7: "smpte240m",
    9: "bt2020",
    TAG_CONSTANT_LUMINANCE: "bt2020",  # nearly: luma is not a weighted sum there
}
TAG_OF_MATRIX: dict[Matrix, int] = {"bt601": 6, "bt709": 1, "bt2020": 9, "fcc": 4, "smpte240m": 7}


@dataclass(frozen=True)
class PixelFormat:
    """A planar pixel format, all components of one depth.

    Attributes:
        name: FFmpeg's name, e.g. 'yuv420p10le'.
        bits: depth of a code value; above 8 a code value takes two bytes.
        chroma_shift_x: log2 of luma columns per chroma column.
        chroma_shift_y: log2 of luma rows per chroma row.
        kind: 'yuv' (planes Y, U, V), 'gray' (Y) or 'rgb' (planes G, B, R, FFmpeg's order).
    """

    name: str
    bits: int
    chroma_shift_x: int
    chroma_shift_y: int
    kind: Kind

    @property
    def max_code(self) -> int:
        """The largest code value."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The numpy type of a plane."""
        return np.uint8 if self.bits == 8 else np.uint16

    def plane_shapes(self, width: int, height: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of every plane of a width x height picture; chroma of an odd size is rounded up."""
        if self.kind == "gray":
            return ((height, width),)
        if self.kind == "rgb":
            return ((height, width),) * 3
        chroma = (-(-height >> self.chroma_shift_y), -(-width >> self.chroma_shift_x))
        return ((height, width), chroma, chroma)


PIXEL_FORMATS: dict[str, PixelFormat] = {
    pix_fmt.name: pix_fmt
    for pix_fmt in (
        PixelFormat("yuv420p", 8, 1, 1, "yuv"),
        PixelFormat("yuv422p", 8, 1, 0, "yuv"),
        PixelFormat("yuv444p", 8, 0, 0, "yuv"),
        PixelFormat("yuv420p10le", 10, 1, 1, "yuv"),
        PixelFormat("yuv422p10le", 10, 1, 0, "yuv"),
        PixelFormat("yuv444p10le", 10, 0, 0, "yuv"),
        PixelFormat("yuv420p12le", 12, 1, 1, "yuv"),
        PixelFormat("yuv422p12le", 12, 1, 0, "yuv"),
        PixelFormat("yuv444p12le", 12, 0, 0, "yuv"),
        PixelFormat("gray", 8, 0, 0, "gray"),
        PixelFormat("gray10le", 10, 0, 0, "gray"),
        PixelFormat("gray12le", 12, 0, 0, "gray"),
        PixelFormat("gbrp", 8, 0, 0, "rgb"),
        PixelFormat("gbrp10le", 10, 0, 0, "rgb"),
        PixelFormat("gbrp12le", 12, 0, 0, "rgb"),
    )
}

# The same planes as the format without the j; the j says that the range is full.
FULL_RANGE_NAMES: dict[str, str] = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}


def nearest_planar(name: str) -> tuple[PixelFormat, bool]:
    """The planar format nearest to any FFmpeg pixel format, and whether it holds every code value of it exactly.

    Never coarser in chroma; deeper rather than shallower, up to 12 bits. Alpha is not held.

    Raises:
        ValueError: FFmpeg knows no such format, or it is one of hardware surfaces.
    """
    name = FULL_RANGE_NAMES.get(name, name)
    if name in PIXEL_FORMATS:
        return PIXEL_FORMATS[name], True
    facts = av.VideoFormat(name, 16, 16)
    if not facts.components:
        raise ValueError(f"{name!r} holds no pixels in memory")
    depths = {component.bits for component in facts.components if not component.is_alpha}
    alpha = any(component.is_alpha for component in facts.components)
    bits = next((known for known in (8, 10, 12) if known >= max(depths)), 12)
    chroma_width, chroma_height = facts.chroma_width(16), facts.chroma_height(16)
    kind: Kind = "rgb" if facts.is_rgb or facts.has_palette else "yuv"
    if kind == "yuv" and len(facts.components) - alpha == 1:
        kind = "gray"
    if kind == "yuv":
        shift_x, shift_y = (0, 0) if chroma_width == 16 else (1, 1) if chroma_height < 16 else (1, 0)
    else:
        shift_x, shift_y = 0, 0
    found = next(
        pix_fmt
        for pix_fmt in PIXEL_FORMATS.values()
        if (pix_fmt.kind, pix_fmt.bits, pix_fmt.chroma_shift_x, pix_fmt.chroma_shift_y)
        == (kind, bits, shift_x, shift_y)
    )
    same_chroma = kind != "yuv" or (chroma_width, chroma_height) == (16 >> shift_x, 16 >> shift_y)
    return found, depths == {bits} and same_chroma and not alpha


class Tagged(Protocol):
    """An av.VideoFrame or av.VideoCodecContext: whatever carries colour tags."""

    color_range: int
    color_primaries: int
    color_trc: int
    colorspace: int


@dataclass(frozen=True)
class Colour:
    """How code values become light: what the conversion uses, and the tags to carry to the output as they were.

    Attributes:
        matrix: the YUV matrix in force (without meaning for an RGB format).
        full_range: True: code values 0 ... max; False: 16 ... 235 (240 for chroma) at 8 bits, scaled with the depth.
        matrix_tag, range_tag, primaries, transfer: FFmpeg's numbers; unspecified stays unspecified.
        chroma_location: FFmpeg's number (AVChromaLocation) of where subsampled chroma sits; unspecified is left, as in
            MPEG-2 and later.
        mastering, light: static HDR facts; None: not stated.
    """

    matrix: Matrix
    full_range: bool
    matrix_tag: int = TAG_UNSPECIFIED
    range_tag: int = TAG_RANGE_UNSPECIFIED
    primaries: int = TAG_UNSPECIFIED
    transfer: int = TAG_UNSPECIFIED
    chroma_location: int = TAG_LOCATION_UNSPECIFIED
    mastering: Mastering | None = None
    light: Light | None = None

    @property
    def is_hdr(self) -> bool:
        """Whether code values stand for light as in HDR (PQ or HLG)."""
        return self.transfer in HDR_TRANSFERS

    @classmethod
    def read(cls, tagged: Tagged, pix_fmt_name: str, width: int, height: int) -> Colour:
        """The colour facts of a decoded frame or a codec context.

        A matrix that is untagged or unknown follows from the size, as players do it: BT.709 from 1280 columns or 720
        rows on, else BT.601. An untagged range is limited; that of RGB, grey and the yuvj formats is full.
        """
        matrix_tag, range_tag = int(tagged.colorspace), int(tagged.color_range)
        kind = nearest_planar(pix_fmt_name)[0].kind
        full_by_format = pix_fmt_name in FULL_RANGE_NAMES or kind != "yuv"
        if kind == "gray" and matrix_tag == TAG_RGB_MATRIX:
            matrix_tag = TAG_UNSPECIFIED  # PNG says so; stored as YUV it would be false
        if pix_fmt_name in FULL_RANGE_NAMES:
            range_tag = TAG_RANGE_FULL
        return cls(
            matrix=MATRIX_OF_TAG.get(matrix_tag, _matrix_by_size(width, height)),
            full_range=full_by_format if range_tag == TAG_RANGE_UNSPECIFIED else range_tag == TAG_RANGE_FULL,
            matrix_tag=matrix_tag,
            range_tag=range_tag,
            primaries=int(tagged.color_primaries),
            transfer=int(tagged.color_trc),
        )

    def told(self, told: Told, pix_fmt: PixelFormat) -> Colour:
        """The colour facts as the user says they are, over those of the tags; RGB has neither matrix nor range here."""
        known = self
        if told.matrix is not None and pix_fmt.kind == "yuv":
            tag = MATRICES[told.matrix]
            known = replace(known, matrix=MATRIX_OF_TAG[tag], matrix_tag=tag)
        if told.range is not None and pix_fmt.kind != "rgb":
            tag = RANGES[told.range]
            known = replace(known, full_range=tag == TAG_RANGE_FULL, range_tag=tag)
        if told.primaries is not None:
            known = replace(known, primaries=PRIMARIES[told.primaries])
        if told.transfer is not None:
            known = replace(known, transfer=TRANSFERS[told.transfer])
        return known

    def check(self, name: str, pix_fmt: PixelFormat) -> None:
        """Refuses a matrix without which colours would come out wrong.

        Raises:
            InputError: of `name`.
        """
        if pix_fmt.kind == "yuv" and self.matrix_tag in FOREIGN_MATRICES:
            raise InputError(
                f"{name}: its colour matrix {FOREIGN_MATRICES[self.matrix_tag]} is not handled; convert it, with: "
                "ffmpeg -i INPUT -vf zscale=matrix=709 OUTPUT, or if the tag is wrong, say with --color-matrix it"
            )

    def remarks(self, pix_fmt: PixelFormat) -> list[str]:
        """What a user should be told of how frames of this colour are taken, one line each."""
        lines: list[str] = []
        matrix_known = pix_fmt.kind != "yuv" or self.matrix_tag in MATRIX_OF_TAG
        range_known = pix_fmt.kind == "rgb" or self.range_tag != TAG_RANGE_UNSPECIFIED
        why = (
            "by its size" if self.matrix_tag == TAG_UNSPECIFIED else f"by its size, tag {self.matrix_tag} is no matrix"
        )
        assumed = [] if matrix_known else [f"matrix {self.matrix} ({why})"]
        assumed += [] if range_known else [f"{'full' if self.full_range else 'limited'} range"]
        if assumed:
            options = [] if matrix_known else ["--color-matrix"]
            options += [] if range_known else ["--color-range"]
            lines.append(f"the input's colours are untagged, taken as {' and '.join(assumed)}; {', '.join(options)}")
            lines[-1] += " tells otherwise" if len(options) == 1 else " tell otherwise"
        if pix_fmt.kind == "yuv" and self.matrix_tag == TAG_CONSTANT_LUMINANCE:
            seen = "the network sees them as bt2020nc, a little off"
            lines.append(Warn(f"the input's colours are bt2020c (constant luminance), {seen}"))
        if self.is_hdr:
            lines.append(
                Warn(
                    f"the input is HDR ({HDR_TRANSFERS[self.transfer]}): a model trained on SDR translates it poorly, "
                    "and the translation is written as SDR; tone-map the input first for a better one"
                )
            )
        return lines

    def as_sdr(self, pix_fmt: PixelFormat) -> Colour:
        """HDR's colour facts as those of BT.709 pictures without HDR facts; others as they are."""
        if not self.is_hdr:
            return self
        known = replace(self, primaries=1, transfer=1, mastering=None, light=None)
        return known if pix_fmt.kind == "rgb" else replace(known, matrix="bt709", matrix_tag=TAG_OF_MATRIX["bt709"])

    def stored_as(self, source: PixelFormat, target: PixelFormat, width: int, height: int) -> Colour:
        """The colour facts of an output in another pixel format; YUV to YUV and RGB to RGB keep them, tags and all.

        RGB that becomes YUV gets the matrix of its size and limited range, both tagged: nothing is left to a player's
        guess. Chroma that is made smaller than it was sits at the left.
        """
        if source.kind == target.kind != "gray":
            known = self
            untagged = source.kind == "yuv" and self.matrix_tag == TAG_UNSPECIFIED
            if untagged and self.matrix != _matrix_by_size(width, height):
                # As after turning a picture upright, which players would guess otherwise.
                known = replace(known, matrix_tag=TAG_OF_MATRIX[self.matrix])
            if target.chroma_shift_x > source.chroma_shift_x or target.chroma_shift_y > source.chroma_shift_y:
                known = replace(known, chroma_location=TAG_LOCATION_UNSPECIFIED)
            return known
        if target.kind == "rgb":
            return replace(self, full_range=True, matrix_tag=TAG_RGB_MATRIX, range_tag=TAG_RANGE_FULL)
        if source.kind == "rgb":
            matrix = _matrix_by_size(width, height)
            return replace(
                self, matrix=matrix, full_range=False, matrix_tag=TAG_OF_MATRIX[matrix], range_tag=TAG_RANGE_LIMITED
            )
        # Luma stays as it is, but what untagged grey means differs from codec to codec: say it.
        return replace(self, range_tag=TAG_RANGE_FULL if self.full_range else TAG_RANGE_LIMITED)


def _matrix_by_size(width: int, height: int) -> Matrix:
    return "bt709" if width >= 1280 or height >= 720 else "bt601"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as exact code values, shown from `time` until `time + duration` (half-open).

    Attributes:
        planes: arrays (rows, columns), uint8 or (above 8 bits) uint16, shapes as `pix_fmt.plane_shapes`.
        time: seconds, exact.
        duration: seconds, exact.
        pix_fmt: what the planes are.
        colour: what their code values mean.
    """

    planes: tuple[np.ndarray, ...]
    time: Fraction
    duration: Fraction
    pix_fmt: PixelFormat
    colour: Colour

    @property
    def width(self) -> int:
        """Columns of the picture."""
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        """Rows of the picture."""
        return int(self.planes[0].shape[0])
