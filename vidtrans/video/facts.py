"""What a container and its first picture say of a video: shape, rate, length, pixel format and colours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import SideData

from vidtrans.errors import InputError
from vidtrans.remarks import Warn
from vidtrans.video.colour_names import Told
from vidtrans.video.decoding import MICROSECONDS, Decoding
from vidtrans.video.excerpt import WHOLE
from vidtrans.video.frame import (
    TAG_LOCATION_LEFT,
    TAG_LOCATION_UNSPECIFIED,
    Colour,
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.hdr import read_hdr
from vidtrans.video.local_file import Source, is_untimed
from vidtrans.video.matroska import chroma_location
from vidtrans.video.shape import Turn
from vidtrans.video.video_info import VideoInfo


@dataclass(frozen=True)
class Facts:
    """A video before its second picture.

    Attributes:
        info: of the whole video.
        stored: the format in which its pictures are taken from the decoder; turn: what makes them upright then.
        notes: what a user should be told, one line each.
    """

    info: VideoInfo
    stored: PixelFormat
    turn: Turn
    notes: tuple[str, ...]


def read_facts(path: Source, decoding: Decoding, first: av.VideoFrame, told: Told, rate: Fraction | None) -> Facts:
    """The facts of a file or pipe.

    Args:
        path: its name.
        first: its first picture.
        told: what the user says of its colours.
        rate: pictures per second, where the user says so.

    Raises:
        InputError: its pixel format or colour matrix is not handled.
    """
    stream, notes = decoding.stream, list[str]()
    stored = _stored(path, stream, first, notes)
    turn, matrix = _turn(first)
    width, height = turn.size(first.width, first.height)
    if turn:
        notes.append(
            f"{path.name}: is stored turned or mirrored; its pictures are set upright ({width}x{height}), and the "
            "outputs need no display matrix"
        )
    elif matrix is not None:
        notes.append(
            f"{path.name}: its display matrix is no quarter turn; the pictures stay as they are stored, and the "
            "outputs carry it where they can"
        )
    pix_fmt = turn.pix_fmt(stored)
    ratio = stream.sample_aspect_ratio or None
    ticks_per_frame = 1 / (decoding.average_rate * decoding.time_base)
    info = VideoInfo(
        width=width,
        height=height,
        average_rate=decoding.average_rate,
        time_base=decoding.time_base,
        stamp_error=Fraction(0) if ticks_per_frame.denominator == 1 else decoding.time_base / 2,
        start_time=Fraction(first.pts or 0) * decoding.time_base,
        frame_count=(stream.frames or None) if decoding.states_length else None,
        duration=_duration(decoding) if decoding.states_length else None,
        excerpt=WHOLE,
        pix_fmt=pix_fmt,
        source_pix_fmt=first.format.name,
        colour=_colour(path, stream, first, pix_fmt, told, notes),
        container=decoding.container.format.name,
        codec=stream.codec_context.name,
        audio_codecs=tuple(
            audio.codec_context.name if audio.codec_context else "unknown" for audio in decoding.container.streams.audio
        ),
        sample_aspect_ratio=1 / ratio if ratio is not None and turn.transposed else ratio,
        display_matrix=matrix,
        carry_from=None if decoding.is_pipe else path,
    )
    if decoding.is_pipe:
        notes += _of_pipe(path, decoding, rate)
    return Facts(info, stored, turn, tuple(notes))


def colour_tags(picture: av.VideoFrame) -> tuple[int, int, int, int]:
    """Matrix, range, primaries and transfer, by FFmpeg's numbers."""
    return picture.colorspace, picture.color_range, picture.color_primaries, picture.color_trc


def _stored(path: Source, stream: av.VideoStream, first: av.VideoFrame, notes: list[str]) -> PixelFormat:
    name = first.format.name
    try:
        pix_fmt, exact = nearest_planar(name)
    except ValueError as error:
        raise InputError(f"{path}: pixel format {name} is not handled; convert it to yuv420p first") from error
    if not exact:
        alpha = any(component.is_alpha for component in first.format.components)
        lost = "its alpha (transparency) is left out" if alpha else "not all of it is kept"
        notes.append(Warn(f"{path.name}: pixel format {name} is read as {pix_fmt.name}, {lost}"))
    if stream.metadata.get("alpha_mode") == "1":
        notes.append(Warn(f"{path.name}: its alpha (transparency) is left out"))
    return pix_fmt


def _turn(first: av.VideoFrame) -> tuple[Turn, tuple[int, ...] | None]:
    """What makes pictures upright, and the display matrix that remains then."""
    matrix = _display_matrix(first)
    turn = None if matrix is None else Turn.by_matrix(matrix)
    return (Turn(False, False, False), matrix) if turn is None else (turn, None)


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    try:
        matrix = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:
        return None  # PyAV gives no side data at all where a kind is among them that it does not know, such as EXIF
    if not isinstance(matrix, SideData):
        return None
    return tuple(int(number) for number in np.frombuffer(memoryview(matrix), dtype=np.int32))


def _duration(decoding: Decoding) -> Fraction | None:
    """Seconds, as the container declares them."""
    if decoding.stream.duration:
        return decoding.stream.duration * decoding.time_base
    whole = decoding.container.duration
    return Fraction(whole, MICROSECONDS) if whole else None


def _colour(
    path: Source, stream: av.VideoStream, first: av.VideoFrame, pix_fmt: PixelFormat, told: Told, notes: list[str]
) -> Colour:
    """What all frames' code values mean, by the tags and by what the user says."""
    tagged = Colour.read(first, first.format.name, first.width, first.height)
    try:
        mastering, light, left_out = read_hdr(first.side_data)
    except ValueError:  # as in _display_matrix
        mastering, light, left_out = None, None, []
    if left_out:
        notes.append(Warn(f"{path.name}: {' and '.join(left_out)} cannot be carried, left out"))
    location = chroma_location(stream) if pix_fmt.chroma_shift_x else TAG_LOCATION_UNSPECIFIED
    # Left is what untagged means.
    location = TAG_LOCATION_UNSPECIFIED if location == TAG_LOCATION_LEFT else location
    colour = replace(tagged, chroma_location=location, mastering=mastering, light=light).told(told, pix_fmt)
    colour.check(str(path), pix_fmt)
    return colour


def _of_pipe(path: Source, decoding: Decoding, rate: Fraction | None) -> list[str]:
    """What a user should know where nothing can be read a second time, and perhaps no rate is stated."""
    notes: list[str] = []
    left_out = sorted({stream.type for stream in decoding.container.streams if stream.type in ("audio", "subtitle")})
    if left_out:
        notes.append(
            Warn(
                f"{path}: {' and '.join(left_out)} left out, a pipe cannot be read a second time for them; name the "
                "file instead, or add them to the outputs afterwards"
            )
        )
    if is_untimed(decoding.container) and rate is None:
        notes.append(f"{path}: pictures at {decoding.average_rate} per second; --rate-in tells another rate")
    return notes
