"""The trial of an encoder and its container before a run begins."""

from __future__ import annotations

import contextlib
import io
from fractions import Fraction
from functools import lru_cache

import av
import av.logging
import numpy as np

from vidtrans.errors import OutputError
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions, find_encoder
from vidtrans.video.frame import Frame
from vidtrans.video.video_stream import StreamShape, add_video_stream
from vidtrans.video.writer import Segment

# How names of encoders end that run on a device.
_DEVICES = ("_nvenc", "_qsv", "_amf", "_vaapi", "_videotoolbox", "_v4l2m2m", "_mf", "_vulkan", "_omx", "_rkmpp")


@lru_cache(maxsize=8)  # both outputs of a run are mostly the same
def try_encoder(shape: StreamShape, encoder: EncoderOptions, container: str, *, exact: bool = False) -> None:
    """Encodes and stores a frame or two, in memory, as the run will: what fails then fails here, before it begins.

    Args:
        container: FFmpeg's name of the format.
        exact: whether every code value of grey frames must come back.

    Raises:
        OutputError: the encoder or the container refuses, which says why, or what comes back is not what went in.
    """
    frames = _noise(shape) if exact else [_blank(shape)]
    codec = find_encoder(encoder.codec).name
    what = f"{codec} {shape.width}x{shape.height} {shape.pix_fmt.name} in {container}"
    try:
        stored = _stored(frames, shape, encoder, container)
    except av.FFmpegError as error:
        reason = _reason(frames, shape, encoder, container) or error.strerror
        hint = f"; -c {DEFAULT_CODEC} needs no device" if codec.endswith(_DEVICES) else ""
        raise OutputError(f"{what} cannot be encoded here ({reason}){hint}") from error
    except ValueError as error:
        raise OutputError(f"{what} cannot be written ({error}); choose another container or encoder") from error
    if exact and not _same(stored, frames):
        raise OutputError(
            f"{what} does not come back as the same grey pictures, which class numbers need; ffv1 in .mkv does, and "
            "so do PNG images"
        )


def _stored(frames: list[Frame], shape: StreamShape, encoder: EncoderOptions, container: str) -> bytes:
    """The frames in a file."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream, _ = add_video_stream(output, shape, encoder)
        output.start_encoding()
        segment = Segment(stream, output, shape.pix_fmt, shape.colour, shape.time_base)
        packets = [packet for frame in frames for packet in segment.encode(frame)]
        output.mux(packets + segment.flush())
    return file.getvalue()


def _same(stored: bytes, frames: list[Frame]) -> bool:
    try:
        with av.open(io.BytesIO(stored), "r") as file:
            pictures = list(file.decode(video=0)) if file.streams.video else []
    except av.FFmpegError:
        return False
    return len(pictures) == len(frames) and all(
        picture.format.name == frame.pix_fmt.name and np.array_equal(picture.to_ndarray(), frame.planes[0])
        for picture, frame in zip(pictures, frames, strict=True)
    )


def _reason(frames: list[Frame], shape: StreamShape, encoder: EncoderOptions, container: str) -> str:
    """What FFmpeg's log says when it is tried again; PyAV keeps the log off, where threads of encoders write to it."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as lines:
            with contextlib.suppress(av.FFmpegError, ValueError):
                _stored(frames, shape, encoder, container)
            said = [text.strip().rstrip(".") for level, _, text in lines if level <= av.logging.ERROR]
    finally:
        av.logging.set_level(before)
    return "; ".join(dict.fromkeys(said))


def _blank(shape: StreamShape) -> Frame:
    pix_fmt = shape.pix_fmt
    planes = tuple(np.zeros(rows, pix_fmt.dtype) for rows in pix_fmt.plane_shapes(shape.width, shape.height))
    return Frame(planes, Fraction(0), 1 / shape.rate, shape.pix_fmt, shape.colour)


def _noise(shape: StreamShape) -> list[Frame]:
    """Two frames that no lossy codec keeps, the second of which may lean on the first."""
    codes = np.random.default_rng(0).integers(0, shape.pix_fmt.max_code + 1, (shape.height, shape.width))
    first = codes.astype(shape.pix_fmt.dtype)
    return [
        Frame((np.roll(first, shift, 1),), shift / shape.rate, 1 / shape.rate, shape.pix_fmt, shape.colour)
        for shift in (0, 1)
    ]
