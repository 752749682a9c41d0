"""Code values to RGB and back, in float, with nothing rounded on the way.

The scaler of FFmpeg is kept out of the path: its default YUV -> RGB -> YUV shifts mean luma by a whole code value, and
made frames would pulse against the keyframes. Both directions here are affine. Chroma sits as in MPEG-2 and later:
level with the left one of two luma columns, midway between two luma rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vidtrans.video.frame import Colour, Frame, Matrix, PixelFormat

# Weights of red and blue in luma (ITU-R BT.601-7, BT.709-6, BT.2020-2 non-constant luminance).
_LUMA_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


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
    u, v = (_chroma_up((plane - chroma_offset) / chroma_scale, pix_fmt, rows, columns) for plane in batched[1:])
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
            difference = _chroma_down(primary - luma, pix_fmt)
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
    """A frame as (H, W, 3) uint8, red first: what a network is given. Rounded half to even and clipped."""
    rgb = planes_to_rgb([torch.from_numpy(plane) for plane in frame.planes], frame.pix_fmt, frame.colour)
    whole = rgb[0].mul_(255.0).round_().clamp_(0, 255).to(torch.uint8)
    return whole.permute(1, 2, 0).contiguous().numpy()


def _batched(plane: Tensor) -> Tensor:
    return plane[None] if plane.dim() == 2 else plane


def _scales(pix_fmt: PixelFormat, colour: Colour) -> tuple[float, float, float, float]:
    """Offset and scale of luma (or of R, G and B), then of chroma: code value = value * scale + offset."""
    if pix_fmt.kind == "rgb" or colour.full_range:
        return 0.0, float(pix_fmt.max_code), float(1 << (pix_fmt.bits - 1)), float(pix_fmt.max_code)
    unit = float(1 << (pix_fmt.bits - 8))
    return 16.0 * unit, 219.0 * unit, 128.0 * unit, 224.0 * unit


def _chroma_up(chroma: Tensor, pix_fmt: PixelFormat, rows: int, columns: int) -> Tensor:
    """Chroma (B, h, w) linearly interpolated to (B, rows, columns), edges repeated."""
    if pix_fmt.chroma_shift_y:
        above = torch.cat((chroma[:, :1], chroma[:, :-1]), dim=1)
        below = torch.cat((chroma[:, 1:], chroma[:, -1:]), dim=1)
        # Luma rows lie a quarter of a chroma row above and below the chroma sample.
        chroma = torch.stack((torch.lerp(chroma, above, 0.25), torch.lerp(chroma, below, 0.25)), dim=2).flatten(1, 2)[
            :, :rows
        ]
    if pix_fmt.chroma_shift_x:
        right = torch.cat((chroma[:, :, 1:], chroma[:, :, -1:]), dim=2)
        chroma = torch.stack((chroma, torch.lerp(chroma, right, 0.5)), dim=3).flatten(2, 3)[:, :, :columns]
    return chroma


def _chroma_down(chroma: Tensor, pix_fmt: PixelFormat) -> Tensor:
    """Full-size chroma (B, H, W) to the plane's size, odd sizes rounded up, edges repeated.

    Columns: 1 2 1 about the left one of each pair, which is where the sample sits. Rows: the mean of each pair.
    """
    if pix_fmt.chroma_shift_y:
        if chroma.shape[1] % 2:
            chroma = torch.cat((chroma, chroma[:, -1:]), dim=1)
        chroma = torch.lerp(chroma[:, 0::2], chroma[:, 1::2], 0.5)
    if pix_fmt.chroma_shift_x:
        centre, odd = chroma[:, :, 0::2], chroma[:, :, 1::2]
        if chroma.shape[2] % 2:
            odd = torch.cat((odd, chroma[:, :, -1:]), dim=2)
        left = torch.cat((chroma[:, :, :1], odd[:, :, :-1]), dim=2)
        chroma = torch.lerp(torch.lerp(left, odd, 0.5), centre, 0.5)
    return chroma
