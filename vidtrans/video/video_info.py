"""What is known of a video before it is read through."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vidtrans.video.excerpt import Excerpt
from vidtrans.video.frame import Colour, PixelFormat
from vidtrans.video.local_file import Source


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video, or of the excerpt of it that is read.

    Attributes:
        width, height: pixels of the upright picture (before `sample_aspect_ratio`).
        average_rate: frames per second, nominal where the frame rate varies.
        time_base: seconds per tick of the container's clock; every frame time is a whole number of ticks.
        stamp_error: seconds by which the clock may have rounded the time of a frame: half a tick where a frame of the
            average rate is no whole number of ticks, else 0.
        start_time: seconds, time of the first frame.
        frame_count: as the container declares it (some count one too many); None where it does not.
        duration: seconds, as the container declares it; None where it does not. Both are estimates of an excerpt.
        excerpt: the part of the file that is read.
        pix_fmt: the format of the frames handed out.
        source_pix_fmt: FFmpeg's name of the format in the file.
        colour: matrix, range and tags.
        container: FFmpeg's name of the container format, e.g. 'mov,mp4,m4a,3gp,3g2,mj2'.
        codec: FFmpeg's name of the video codec.
        audio_codecs: one name for every audio stream.
        sample_aspect_ratio: width over height of a pixel; None where it is not declared.
        display_matrix: nine fixed-point numbers that turn the picture by what is no quarter turn; None: upright.
        carry_from: what sound and all else that is no picture can be read from a second time; None: nothing.
    """

    width: int
    height: int
    average_rate: Fraction
    time_base: Fraction
    stamp_error: Fraction
    start_time: Fraction
    frame_count: int | None
    duration: Fraction | None
    excerpt: Excerpt
    pix_fmt: PixelFormat
    source_pix_fmt: str
    colour: Colour
    container: str
    codec: str
    audio_codecs: tuple[str, ...]
    sample_aspect_ratio: Fraction | None
    display_matrix: tuple[int, ...] | None
    carry_from: Source | None = None
