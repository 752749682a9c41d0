"""Code values to RGB and back, in float, with nothing rounded on the way.

The scaler of FFmpeg is kept out of the path: its default YUV -> RGB -> YUV shifts mean luma by a whole code value, and
made frames would pulse against the keyframes. Both directions here are affine. Chroma sits where its tag says, and
untagged as in MPEG-2 and later: level with the left one of two luma columns, midway between two luma rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidtrans.video.frame import Colour, Frame, Matrix, PixelFormat

# Weights of red and blue in luma (ITU-R BT.601-7, BT.709-6, BT.2020-2 non-constant luminance; the rest: ITU-T H.273).
_LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
# How far right and down of the first of two luma samples a chroma sample sits, in halves of their distance, by FFmpeg's
# number of the location: unspecified, left, centre, top left, top, bottom left, bottom.
_CHROMA_PLACES = ((0, 1), (0, 1), (1, 1), (0, 0), (1, 0), (0, 2), (1, 2))


def planes_to_rgb(planes: Sequence[Tensor], pix_fmt: PixelFormat, colour: Colour) -> Tensor:
    """Code values to RGB.

    Args:
        planes: tensors (B, H, W) or (H, W) of any real type, shapes as `pix_fmt.plane_shapes`.
        pix_fmt: what the planes are.
        colour: matrix and range in force.

    Returns:
        (B, 3, H, W) float32 (B = 1 for planes without a batch). Nominally 0 ... 1 and not clipped: code values outside
        the nominal range give values outside it, and `rgb_to_planes` takes them back.
    """
    batched = [_batched(plane).to(torch.float32) for plane in planes]
    luma_offset, luma_scale, chroma_offset, chroma_scale = _scales(pix_fmt, colour)
    if pix_fmt.kind == "rgb":
        green, blue, red = ((plane - luma_offset) / luma_scale for plane in batched)
        return torch.stack((red, green, blue), dim=1)
    luma = (batched[0] - luma_offset) / luma_scale
    if pix_fmt.kind == "gray":
        return luma[:, None].repeat(1, 3, 1, 1)
    rows, columns = luma.shape[-2:]
    u, v = (
        _chroma_up((plane - chroma_offset) / chroma_scale, pix_fmt, chroma_place(colour), rows, columns)
        for plane in batched[1:]
    )
    weight_red, weight_blue = _LUMA_WEIGHTS[colour.matrix]
    weight_green = 1.0 - weight_red - weight_blue
    rgb = torch.empty((luma.shape[0], 3, rows, columns), dtype=torch.float32, device=luma.device)
    torch.add(luma, v, alpha=2.0 * (1.0 - weight_red), out=rgb[:, 0])
    torch.add(luma, u, alpha=2.0 * (1.0 - weight_blue), out=rgb[:, 2])
    torch.add(luma, u, alpha=-2.0 * (1.0 - weight_blue) * weight_blue / weight_green, out=rgb[:, 1])
    rgb[:, 1].add_(v, alpha=-2.0 * (1.0 - weight_red) * weight_red / weight_green)
    return rgb


def rgb_to_planes(rgb: Tensor, pix_fmt: PixelFormat, colour: Colour) -> tuple[Tensor, ...]:
    """RGB to code values, neither rounded nor clipped: an affine map, so weighted sums of frames commute with it.

    Args:
        rgb: (B, 3, H, W) float, nominally 0 ... 1.
        pix_fmt: what to make.
        colour: matrix and range to use.

    Returns:
        Float32 planes (B, rows, columns), shapes as `pix_fmt.plane_shapes`.
    """
    red, green, blue = rgb.to(torch.float32).unbind(dim=1)
    luma_offset, luma_scale, chroma_offset, chroma_scale = _scales(pix_fmt, colour)
    if pix_fmt.kind == "rgb":
        return tuple(plane * luma_scale + luma_offset for plane in (green, blue, red))
    weight_red, weight_blue = _LUMA_WEIGHTS[colour.matrix]
    luma = red * weight_red
    luma.add_(green, alpha=1.0 - weight_red - weight_blue).add_(blue, alpha=weight_blue)
    planes = [luma * luma_scale + luma_offset]
    if pix_fmt.kind == "yuv":
        for primary, weight in ((blue, weight_blue), (red, weight_red)):
            difference = _chroma_down(primary - luma, pix_fmt, chroma_place(colour))
            planes.append(difference * (chroma_scale / (2.0 * (1.0 - weight))) + chroma_offset)
    return tuple(planes)


def round_planes(planes: Sequence[Tensor], pix_fmt: PixelFormat) -> tuple[Tensor, ...]:
    """Float code values to whole ones: rounded half to even and clipped to 0 ... 2^bits - 1, here and nowhere else.

    Returns:
        Planes of the same shapes, uint8 or (above 8 bits) uint16, on the same device.
    """
    if pix_fmt.bits == 8:
        return tuple(plane.round().clamp_(0, pix_fmt.max_code).to(torch.uint8) for plane in planes)
    # Through int16 (12 bits fit): not every device casts a float to uint16.
    return tuple(plane.round().clamp_(0, pix_fmt.max_code).to(torch.int16).view(torch.uint16) for plane in planes)


def to_uint8_rgb(frame: Frame) -> np.ndarray:
    """A frame as (H, W, 3) uint8, red first. Rounded half to even and clipped."""
    return _whole_rgb(frame, 255.0).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def to_network_rgb(frame: Frame) -> np.ndarray:
    """A frame as a network is given it: (H, W, 3), red first, uint8 or (above 8 bits) uint16 with white at 65535.

    Rounded to 8 bits, a deeper frame would come back in bands two or more of its code values wide.
    """
    if frame.pix_fmt.bits == 8:
        return to_uint8_rgb(frame)
    return _whole_rgb(frame, 65535.0).to(torch.int32).permute(1, 2, 0).contiguous().numpy().astype(np.uint16)


def full_size_chroma(planes: tuple[np.ndarray, ...], pix_fmt: PixelFormat, colour: Colour) -> tuple[np.ndarray, ...]:
    """A frame's planes with chroma interpolated to the size of luma and rounded: those of 4:4:4 of the same depth."""
    luma, *chroma = planes
    made = (
        _chroma_up(_batched(torch.from_numpy(plane)).to(torch.float32), pix_fmt, chroma_place(colour), *luma.shape)
        for plane in chroma
    )
    return (luma, *(plane[0].round_().numpy().astype(luma.dtype) for plane in made))


def chroma_place(colour: Colour) -> tuple[int, int]:
    """How far right and down of the first of two luma samples a chroma sample sits, in halves of their distance."""
    known = 0 <= colour.chroma_location < len(_CHROMA_PLACES)
    return _CHROMA_PLACES[colour.chroma_location if known else 0]


def _whole_rgb(frame: Frame, white: float) -> Tensor:
    """(3, H, W) whole numbers 0 ... white, still float."""
    rgb = planes_to_rgb([torch.from_numpy(plane) for plane in frame.planes], frame.pix_fmt, frame.colour)
    return rgb[0].mul_(white).round_().clamp_(0, white)


def _batched(plane: Tensor) -> Tensor:
    return plane[None] if plane.dim() == 2 else plane


def _scales(pix_fmt: PixelFormat, colour: Colour) -> tuple[float, float, float, float]:
    """Offset and scale of luma (or of R, G and B), then of chroma: code value = value * scale + offset."""
    if pix_fmt.kind == "rgb" or colour.full_range:
        return 0.0, float(pix_fmt.max_code), float(1 << (pix_fmt.bits - 1)), float(pix_fmt.max_code)
    unit = float(1 << (pix_fmt.bits - 8))
    return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit


def _chroma_up(chroma: Tensor, pix_fmt: PixelFormat, place: tuple[int, int], rows: int, columns: int) -> Tensor:
    """Chroma (B, h, w) linearly interpolated to (B, rows, columns), edges repeated."""
    if pix_fmt.chroma_shift_y:
        chroma = _doubled(chroma, 1, place[1])[:, :rows]
    if pix_fmt.chroma_shift_x:
        chroma = _doubled(chroma, 2, place[0])[:, :, :columns]
    return chroma


def _chroma_down(chroma: Tensor, pix_fmt: PixelFormat, place: tuple[int, int]) -> Tensor:
    """Full-size chroma (B, H, W) to the plane's size, odd sizes rounded up, edges repeated.

    Where the sample sits with a column or row: 1 2 1 about that one. Where it sits between two: their mean.
    """
    if pix_fmt.chroma_shift_y:
        chroma = _halved(chroma, 1, place[1])
    if pix_fmt.chroma_shift_x:
        chroma = _halved(chroma, 2, place[0])
    return chroma


def _doubled(chroma: Tensor, dim: int, place: int) -> Tensor:
    """Twice as many samples along dim (1 or 2): two luma samples about each one that sits at `place` (0, 1, 2)."""
    count = chroma.shape[dim]
    before = torch.cat((chroma.narrow(dim, 0, 1), chroma.narrow(dim, 0, count - 1)), dim) if place else chroma
    after = (
        torch.cat((chroma.narrow(dim, 1, count - 1), chroma.narrow(dim, count - 1, 1)), dim) if place < 2 else chroma
    )
    # Luma samples lie `place` quarters of a chroma step before, and what is left of two quarters behind.
    first = torch.lerp(chroma, before, place / 4) if place else chroma
    second = torch.lerp(chroma, after, (2 - place) / 4) if place < 2 else chroma
    return torch.stack((first, second), dim + 1).flatten(dim, dim + 1)


def _halved(chroma: Tensor, dim: int, place: int) -> Tensor:
    """Half as many samples along dim (1 or 2), an odd one rounded up, each at `place` (0, 1, 2) of its two."""
    count = chroma.shape[dim]
    if count % 2:
        chroma = torch.cat((chroma, chroma.narrow(dim, count - 1, 1)), dim)
    first, second = (chroma[:, start::2] if dim == 1 else chroma[:, :, start::2] for start in (0, 1))
    if place == 1:
        return torch.lerp(first, second, 0.5)
    half = first.shape[dim]
    if place == 0:
        before = torch.cat((chroma.narrow(dim, 0, 1), second.narrow(dim, 0, half - 1)), dim)
        return torch.lerp(torch.lerp(before, second, 0.5), first, 0.5)
    after = torch.cat((first.narrow(dim, 1, half - 1), second.narrow(dim, half - 1, 1)), dim)
    return torch.lerp(torch.lerp(first, after, 0.5), second, 0.5)
