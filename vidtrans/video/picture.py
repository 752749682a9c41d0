"""Code values as FFmpeg holds them."""

from __future__ import annotations

import av
import numpy as np

from vidtrans.video.frame import FULL_RANGE_NAMES, TAG_RANGE_FULL, TAG_RANGE_LIMITED, PixelFormat


def picture_of(planes: tuple[np.ndarray, ...], pix_fmt: PixelFormat) -> av.VideoFrame:
    """An FFmpeg frame that holds exactly these code values, shapes as `pix_fmt.plane_shapes`."""
    height, width = planes[0].shape
    picture = av.VideoFrame(width, height, pix_fmt.name)
    for source, target in zip(planes, picture.planes, strict=True):
        padded = np.frombuffer(memoryview(target), dtype=pix_fmt.dtype).reshape(-1, target.line_size // source.itemsize)
        padded[: source.shape[0], : source.shape[1]] = source
    return picture


def repacked(picture: av.VideoFrame, name: str, *, full_range: bool) -> av.VideoFrame:
    """The same code values in another packing, such as yuv420p in nv12."""
    # The range is named on both sides so that the scaler leaves the code values alone.
    span = TAG_RANGE_FULL if full_range else TAG_RANGE_LIMITED
    return picture.reformat(format=name, src_color_range=span, dst_color_range=span)


def planes_of(picture: av.VideoFrame, pix_fmt: PixelFormat, *, full_range: bool) -> tuple[np.ndarray, ...]:
    """The code values of a picture, in shapes as `pix_fmt.plane_shapes`; repacked where it has another format."""
    if FULL_RANGE_NAMES.get(picture.format.name, picture.format.name) != pix_fmt.name:
        picture = repacked(picture, pix_fmt.name, full_range=full_range)
    shapes = pix_fmt.plane_shapes(picture.width, picture.height)
    return tuple(_plane(plane, shape, pix_fmt) for plane, shape in zip(picture.planes, shapes, strict=True))


def _plane(plane: av.video.plane.VideoPlane, shape: tuple[int, int], pix_fmt: PixelFormat) -> np.ndarray:
    """A copy of one plane without the padding of its rows."""
    rows, columns = shape
    padded = np.frombuffer(memoryview(plane), dtype=pix_fmt.dtype).reshape(
        -1, plane.line_size // np.dtype(pix_fmt.dtype).itemsize
    )
    return padded[:rows, :columns].copy()
