"""A clip of the rendered street as a video file: the example, test material, and footage to train on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import torch

from vidtrans.errors import OutputError, UsageError
from vidtrans.train.domains import StreetView
from vidtrans.train.workers import in_order
from vidtrans.video.clock import exact_time_base
from vidtrans.video.colour import rgb_to_planes, round_planes
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, TAG_RANGE_FULL, TAG_RGB_MATRIX, Colour, Frame
from vidtrans.video.writer import VideoWriter, check_output_path

SOUND_RATE = 48_000  # samples per second

# H.273: primaries of BT.709 and the curve of sRGB, which is what Street.render gives.
_SRGB = Colour(
    matrix="bt709", full_range=True, matrix_tag=TAG_RGB_MATRIX, range_tag=TAG_RANGE_FULL, primaries=1, transfer=13
)
_HANN = np.hanning(66)[1:-1]
_HUSH = _HANN / _HANN.sum()  # a low-pass with its first zero near 1.5 kHz


def render_clip(
    path: str | Path,
    seed: int,
    seconds: Fraction,
    fps: Fraction,
    size: tuple[int, int],
    domain: str = "scene",
    sound: bool = False,
    overwrite: bool = False,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Writes the street of a seed as a video: H.264, 8 bits, frame k at k / fps.

    Chroma is 4:2:0, and 4:4:4 where width or height is odd, because H.264 crops 4:2:0 in steps of two.

    Every domain of one seed shows the same drive, so frame k of one clip fits frame k of another.

    Args:
        path: the video to write; its extension chooses the container.
        seed: which street.
        seconds: length; only whole frames are made, so the clip may be up to one frame shorter.
        fps: frames per second, exact.
        size: (width, height) in pixels.
        domain: one of domains.STREET_DOMAINS; segmentation is in the colours of palettes.STREET.
        sound: add the street's sound (AAC, mono), as long as the video. AAC comes in packets of 21 ms: MP4 and MOV
            state where the last one ends, elsewhere it may reach that much past the video.
        overwrite: whether a file of that name may be replaced.
        progress: called with (frames done, frames in all), first with 0 done.

    Returns:
        Things a user should be told, one line each.

    Raises:
        UsageError: an unknown domain, less than one frame, or a size the street cannot be rendered in.
        OutputError: the file cannot be written; nothing is left behind.
    """
    view = StreetView(domain, seed)
    if seconds <= 0 or fps <= 0 or seconds * fps < 1:
        raise UsageError(f"{seconds} s at {fps} frames per second is less than one frame; give more of either")
    path = Path(path)
    check_output_path(path, overwrite=overwrite)
    width, height = size
    count = math.floor(seconds * fps)
    pix_fmt = PIXEL_FORMATS["yuv444p" if width % 2 or height % 2 else "yuv420p"]
    colour = _SRGB.stored_as(PIXEL_FORMATS["gbrp"], pix_fmt, width, height)

    def frame(k: int) -> Frame:
        rgb = torch.from_numpy(view.picture(float(k / fps), width, height))
        floats = rgb.permute(2, 0, 1)[None].to(torch.float32) / 255.0
        planes = round_planes(rgb_to_planes(floats, pix_fmt, colour), pix_fmt)
        return Frame(tuple(plane[0].numpy() for plane in planes), k / fps, 1 / fps, pix_fmt, colour)

    if progress is not None:
        progress(0, count)
    first = frame(0)  # before any file is made: a size the street refuses shows here
    with TemporaryDirectory() as folder:
        sound_path = None
        if sound:
            sound_path = Path(folder) / "sound.m4a"
            write_sound(sound_path, seed, round(count / fps * SOUND_RATE))
        with VideoWriter(
            path,
            width=width,
            height=height,
            rate=fps,
            time_base=exact_time_base(1 / fps),
            pix_fmt=pix_fmt,
            colour=colour,
            encoder=EncoderOptions(),
            carry_from=sound_path,
            overwrite=overwrite,
        ) as writer:
            for k, made in enumerate(chain([first], in_order(frame, range(1, count)))):
                writer.write(made)
                if progress is not None:
                    progress(k + 1, count)
        return writer.notes


def street_sound(seed: int, samples: int) -> Iterator[np.ndarray]:
    """A quiet engine and the hush of the road, in blocks of at most one second; the same seed is the same sound.

    Args:
        seed: which street.
        samples: length, at SOUND_RATE.

    Yields:
        (n,) float32 within -1 ... 1, mono; `samples` in all.
    """
    rng = np.random.default_rng((seed % 2**64, 1))
    hum, sway = rng.uniform(44.0, 56.0), rng.uniform(0.1, 0.3)  # Hz: of the engine, and of its going up and down
    white = rng.standard_normal(len(_HUSH) - 1)
    for start in range(0, samples, SOUND_RATE):
        n = min(SOUND_RATE, samples - start)
        seconds = np.arange(start, start + n) / SOUND_RATE
        # The filter's reach is kept from block to block, so that no seam is heard.
        white = np.concatenate((white[-(len(_HUSH) - 1) :], rng.standard_normal(n)))
        hush = np.convolve(white, _HUSH, mode="valid")
        phase = 2 * math.pi * (hum * seconds + 0.8 * np.sin(2 * math.pi * sway * seconds))
        engine = np.sum([np.sin(k * phase) / k for k in range(1, 7)], axis=0)
        yield (0.035 * engine + 0.1 * hush).astype(np.float32)


def write_sound(path: Path, seed: int, samples: int) -> None:
    """Writes `street_sound` as AAC, mono, 64 kbit/s; the extension chooses the container.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
            stream.codec_context.bit_rate = 64_000
            position = 0
            for block in street_sound(seed, samples):
                sound = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
                sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, position, Fraction(1, SOUND_RATE)
                position += len(block)
                container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
    except (av.FFmpegError, OSError) as error:
        raise OutputError(f"{path}: the sound cannot be written ({error})") from error
