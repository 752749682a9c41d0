"""Code values as FFmpeg holds them."""

from __future__ import annotations

import av
import numpy as np

from vidtrans.video.frame import TAG_RANGE_FULL, TAG_RANGE_LIMITED, PixelFormat


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
