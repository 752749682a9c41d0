"""One video's stream in a container, with all that its encoder is told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av
from av.codec.context import Flags

from vidtrans.remarks import Warn
from vidtrans.video.encoder import EncoderOptions, encoder_settings, find_encoder, stored_pix_fmt
from vidtrans.video.frame import TAG_LOCATION_LEFT, Colour, PixelFormat
from vidtrans.video.hdr import with_hdr
from vidtrans.video.shape import coded_size

_RATE_TOLERANCE = 128_000  # bits per second


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
    """A stream that is ready to be opened, and a line for each thing that is not as asked.

    Raises:
        OutputError: no such encoder, or options that it does not take.
        ValueError: the container does not hold this codec.
    """
    codec = find_encoder(encoder.codec)
    settings, notes = _settings(codec, shape, encoder)
    width, height = coded_size(codec, shape.pix_fmt, shape.width, shape.height)
    if (width, height) != (shape.width, shape.height):
        notes.append(
            Warn(
                f"{codec.name} takes even sizes only in {shape.pix_fmt.name}: {shape.width}x{shape.height} is written "
                f"as {width}x{height}, the last column or row repeated; --pix-fmt yuv444p keeps the size"
            )
        )
    rate = _nominal(shape)
    stream = container.add_stream(codec.name, rate=rate, options=settings, width=width, height=height)
    assert isinstance(stream, av.VideoStream)
    _tell(stream.codec_context, codec, shape, encoder)
    if shape.display_matrix is not None:
        stream.set_display_matrix(shape.display_matrix)
    return stream, notes


def encoder_like(stream: av.VideoStream, shape: StreamShape, encoder: EncoderOptions) -> av.VideoCodecContext:
    """Another encoder as that of a stream of `add_video_stream`, which was told the same.

    It belongs to no container, and so goes as soon as it is let go: a container and its streams hold each other, and
    stay, with encoders of some hundred MB, until Python looks for such rings.
    """
    codec = find_encoder(encoder.codec)
    context = av.CodecContext.create(codec.name, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.options = _settings(codec, shape, encoder)[0]
    context.width, context.height = coded_size(codec, shape.pix_fmt, shape.width, shape.height)
    context.framerate = _nominal(shape)
    # As containers set them up.
    context.bit_rate, context.bit_rate_tolerance = 0, _RATE_TOLERANCE
    context.flags |= stream.codec_context.flags & Flags.global_header
    _tell(context, codec, shape, encoder)
    return context


def _settings(codec: av.Codec, shape: StreamShape, encoder: EncoderOptions) -> tuple[dict[str, str], list[str]]:
    """The encoder's options by name, and a line for each that it does not know."""
    settings, notes = encoder_settings(encoder, codec)
    settings = with_hdr(settings, codec.name, shape.colour.mastering, shape.colour.light)
    if shape.pix_fmt.chroma_shift_x:
        settings["chroma_sample_location"] = str(shape.colour.chroma_location or TAG_LOCATION_LEFT)
    return settings, notes


def _nominal(shape: StreamShape) -> Fraction:
    return shape.rate.limit_denominator(1_000_000)  # FFmpeg counts both parts in 32 bits


def _tell(context: av.VideoCodecContext, codec: av.Codec, shape: StreamShape, encoder: EncoderOptions) -> None:
    colour = shape.colour
    context.pix_fmt = stored_pix_fmt(codec, shape.pix_fmt)
    context.time_base = shape.time_base
    context.thread_count = encoder.threads
    context.colorspace, context.color_range = colour.matrix_tag, colour.range_tag
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if shape.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = shape.sample_aspect_ratio
