"""How many bytes an encoded video will take, roughly, before a frame of it is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions
from vidtrans.video.frame import PixelFormat

_RAW = {"rawvideo"}
_LOSSLESS = {"ffv1", "ffvhuff", "huffyuv", "utvideo", "png", "apng", "magicyuv", "tiff"}
_LOSSLESS_AT_ZERO = {"libx264", "libx264rgb", "libx265"}
_INTRA_ONLY = {"prores", "prores_ks", "prores_aw", "dnxhd", "mjpeg", "cfhd"}
# Bits per pixel of footage at a crf of 17, where most frames differ little from the one before; six steps of crf are
# about twice the size.
_LOSSY_BITS = 0.08
_LOSSY_CRF = 17
# Calm footage takes this part of what lively footage takes, or more.
_CALM = Fraction(1, 50)


@dataclass(frozen=True)
class SizeEstimate:
    """Bytes: `likely` of ordinary footage, `least` of the calmest."""

    least: int
    likely: int


def estimate_size(encoder: EncoderOptions, pix_fmt: PixelFormat, size: tuple[int, int], frames: int) -> SizeEstimate:
    """The size of so many frames of `size` (width, height) in pixels. Rules of thumb, see the figures above."""
    shapes = pix_fmt.plane_shapes(*size)
    codec = encoder.codec or DEFAULT_CODEC
    raw = sum(rows * columns for rows, columns in shapes) * pix_fmt.bits
    if codec in _RAW:
        whole = (raw + 7) // 8 * frames
        return SizeEstimate(whole, whole)
    if codec in _LOSSLESS or (encoder.crf == 0 and codec in _LOSSLESS_AT_ZERO):
        bits = raw * 0.5
    elif codec in _INTRA_ONLY:
        bits = raw * 0.25
    else:
        crf = _LOSSY_CRF if encoder.crf is None or codec not in _LOSSLESS_AT_ZERO else encoder.crf
        bits = size[0] * size[1] * _LOSSY_BITS * 2 ** ((_LOSSY_CRF - crf) / 6)
    likely = int(min(bits, raw) / 8 * frames)
    return SizeEstimate(int(likely * _CALM), likely)
