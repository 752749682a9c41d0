"""What an output keeps of a video's colour and shape: tried with one frame, since every codec and container differs."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidtrans.errors import VidtransError
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import TAG_RANGE_UNSPECIFIED, TAG_UNSPECIFIED, Colour, Frame, PixelFormat
from vidtrans.video.reader import VideoReader
from vidtrans.video.writer import VideoWriter

# Every encoder takes this size, also those of hardware.
_SIDE = 256


def lost_facts(
    suffix: str,
    encoder: EncoderOptions,
    pix_fmt: PixelFormat,
    colour: Colour,
    sample_aspect_ratio: Fraction | None = None,
) -> list[str]:
    """What a file of that suffix would not say of itself, in words; one black frame is written and read back.

    Nothing is said where not even that can be written: the writer itself has the better message.
    """
    wanted = {
        "color matrix": None if pix_fmt.kind == "rgb" else _stated(colour.matrix_tag),
        # Limited is the default where it is not spelled out.
        "color range": None if colour.range_tag == TAG_RANGE_UNSPECIFIED else colour.full_range,
        "color primaries": _stated(colour.primaries),
        "color transfer": _stated(colour.transfer),
        "chroma location": colour.chroma_location or None if pix_fmt.chroma_shift_x else None,
        "mastering display": None if colour.mastering is None else True,
        "content light level": colour.light,
        "shape of pixels": sample_aspect_ratio if sample_aspect_ratio != 1 else None,
    }
    if not any(value is not None for value in wanted.values()):
        return []
    planes = tuple(np.zeros(shape, pix_fmt.dtype) for shape in pix_fmt.plane_shapes(_SIDE, _SIDE))
    try:
        with tempfile.TemporaryDirectory(prefix="vidtrans-") as folder:
            trial = Path(folder) / f"trial{suffix}"
            with VideoWriter(
                trial,
                width=_SIDE,
                height=_SIDE,
                rate=Fraction(25),
                time_base=Fraction(1, 25),
                pix_fmt=pix_fmt,
                colour=colour,
                encoder=replace(encoder, threads=1),
                sample_aspect_ratio=sample_aspect_ratio,
            ) as output:
                output.write(Frame(planes, Fraction(0), Fraction(1, 25), pix_fmt, colour))
            with VideoReader(trial) as reader:
                info = reader.info
    except (VidtransError, OSError):
        return []
    found = {
        "color matrix": info.colour.matrix_tag,
        "color range": info.colour.full_range,
        "color primaries": info.colour.primaries,
        "color transfer": info.colour.transfer,
        "chroma location": info.colour.chroma_location,
        "mastering display": info.colour.mastering is not None,
        "content light level": info.colour.light,
        "shape of pixels": info.sample_aspect_ratio,
    }
    return [name for name, value in wanted.items() if value is not None and value != found[name]]


def _stated(tag: int) -> int | None:
    return None if tag == TAG_UNSPECIFIED else tag
