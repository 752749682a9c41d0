"""One video's stream in a container, with all that its encoder is told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import av

from vidtrans.remarks import Warn
from vidtrans.video.encoder import EncoderOptions, encoder_settings, find_encoder, stored_pix_fmt
from vidtrans.video.frame import TAG_LOCATION_LEFT, Colour, PixelFormat
from vidtrans.video.hdr import with_hdr
from vidtrans.video.shape import coded_size


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
    settings, notes = encoder_settings(encoder, codec)
    colour, pix_fmt = shape.colour, shape.pix_fmt
    settings = with_hdr(settings, codec.name, colour.mastering, colour.light)
    if pix_fmt.chroma_shift_x:
        settings["chroma_sample_location"] = str(colour.chroma_location or TAG_LOCATION_LEFT)
    width, height = coded_size(codec, pix_fmt, shape.width, shape.height)
    if (width, height) != (shape.width, shape.height):
        notes.append(
            Warn(
                f"{codec.name} takes even sizes only in {pix_fmt.name}: {shape.width}x{shape.height} is written as "
                f"{width}x{height}, the last column or row repeated; --pix-fmt yuv444p keeps the size"
            )
        )
    nominal = shape.rate.limit_denominator(1_000_000)  # FFmpeg counts both parts in 32 bits
    stream = container.add_stream(codec.name, rate=nominal, options=settings, width=width, height=height)
    assert isinstance(stream, av.VideoStream)
    context = stream.codec_context
    context.pix_fmt = stored_pix_fmt(codec, pix_fmt)
    context.time_base = shape.time_base
    context.thread_count = encoder.threads
    context.colorspace, context.color_range = colour.matrix_tag, colour.range_tag
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    if shape.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = shape.sample_aspect_ratio
    if shape.display_matrix is not None:
        stream.set_display_matrix(shape.display_matrix)
    return stream, notes
