"""One encoded video in an open container, and the trial of it before a run begins."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import av.logging
import numpy as np

from vidtrans.errors import OutputError
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions, encoder_settings, find_encoder, stored_pix_fmt
from vidtrans.video.frame import Colour, Frame, PixelFormat
from vidtrans.video.writer import Segment

# How names of encoders end that run on a device.
_DEVICES = ("_nvenc", "_qsv", "_amf", "_vaapi", "_videotoolbox", "_v4l2m2m", "_mf", "_vulkan", "_omx", "_rkmpp")


@dataclass(frozen=True)
class StreamShape:
    """What an encoder is told of the pictures.

    Attributes:
        width, height: pixels; sample_aspect_ratio: width over height of one of them, None: not declared.
        rate: frames per second, nominal.
        time_base: seconds per tick.
        pix_fmt, colour: of the frames it is given.
        display_matrix: nine fixed-point numbers that turn the picture for display; None: shown as stored.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    pix_fmt: PixelFormat
    colour: Colour
    sample_aspect_ratio: Fraction | None = None
    display_matrix: tuple[int, ...] | None = None


def add_video_stream(
    container: av.container.OutputContainer, shape: StreamShape, encoder: EncoderOptions
) -> tuple[av.VideoStream, list[str]]:
    """A stream that is ready to be opened, and a line for each wish that the encoder does not know.

    Raises:
        OutputError: no such encoder, or options that it does not take.
        ValueError: the container does not hold this codec.
    """
    codec = find_encoder(encoder.codec)
    settings, notes = encoder_settings(encoder, codec)
    nominal = shape.rate.limit_denominator(1_000_000)  # FFmpeg counts both parts in 32 bits
    stream = container.add_stream(codec.name, rate=nominal, options=settings, width=shape.width, height=shape.height)
    assert isinstance(stream, av.VideoStream)
    context, colour = stream.codec_context, shape.colour
    context.pix_fmt = stored_pix_fmt(codec, shape.pix_fmt)
    context.time_base = shape.time_base
    context.thread_count = encoder.threads
    context.colorspace, context.color_range = colour.matrix_tag, colour.range_tag
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if shape.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = shape.sample_aspect_ratio
    if shape.display_matrix is not None:
        stream.set_display_matrix(shape.display_matrix)
    return stream, notes


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
        segment = Segment(stream, shape.pix_fmt, shape.colour, shape.time_base)
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
