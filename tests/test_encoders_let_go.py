"""A segment's encoder is one like its container's, and is gone when the segment is done."""

from __future__ import annotations

import gc
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.video_stream import StreamShape, add_video_stream, encoder_like
from vidtrans.video.writer import Segment, VideoWriter

COLOUR, RATE = Colour("bt709", False, matrix_tag=1), Fraction(25)


def frames(name: str, count: int = 6) -> list[Frame]:
    pix_fmt, noise = PIXEL_FORMATS[name], np.random.default_rng(3)
    shapes = pix_fmt.plane_shapes(64, 48)
    return [
        Frame(
            tuple(noise.integers(30, 200, shape).astype(pix_fmt.dtype) for shape in shapes),
            index / RATE,
            1 / RATE,
            pix_fmt,
            COLOUR,
        )
        for index in range(count)
    ]


@pytest.mark.parametrize(
    ("container", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx265", "yuv420p"),
        ("matroska", "ffv1", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("webm", "libvpx-vp9", "yuv420p"),
    ],
)
def test_it_makes_the_same_packets(container: str, codec: str, pix_fmt: str) -> None:
    shape = StreamShape(64, 48, RATE, 1 / RATE, PIXEL_FORMATS[pix_fmt], COLOUR, Fraction(4, 3))
    options = EncoderOptions(codec, threads=1)
    owner = av.open(io.BytesIO(), "w", format=container)
    stream, _ = add_video_stream(owner, shape, options)
    like = encoder_like(stream, shape, options)
    packets = []
    for encoder in (stream, like):
        segment = Segment(encoder, None, shape.pix_fmt, COLOUR, shape.time_base)
        made = [packet for frame in frames(pix_fmt) for packet in segment.encode(frame)] + segment.flush()
        packets.append([(packet.pts, packet.dts, packet.duration, bytes(packet)) for packet in made])
    assert packets[0] == packets[1]
    assert len(packets[0]) == 6
    assert stream.codec_context.extradata == like.extradata


def test_no_encoder_stays_behind(tmp_path: Path) -> None:
    """Until Python looks for rings of objects, which it does rarely, none may be in one: they hold much memory."""

    def encoders() -> int:
        return sum(type(one) is av.VideoCodecContext for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        with VideoWriter(
            tmp_path / "out.mp4",
            width=64,
            height=48,
            rate=RATE,
            time_base=1 / RATE,
            pix_fmt=PIXEL_FORMATS["yuv420p"],
            colour=COLOUR,
            encoder=EncoderOptions(preset="ultrafast", threads=1),
        ) as writer:
            before = encoders()
            for index, frame in enumerate(frames("yuv420p", 12)):
                writer.write(frame)
                if index % 3 == 2:
                    writer.end_segment()
            assert encoders() == before
    finally:
        gc.enable()
