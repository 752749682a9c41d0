"""Everything that can be known, and refused, before the first frame: one plan of a run."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from vidtrans.errors import OutputError
from vidtrans.options import UpsampleOptions
from vidtrans.video.carriage import Carriage, CarriagePlan, plan_carriage
from vidtrans.video.clock import exact_time_base
from vidtrans.video.encoder import EncoderOptions, choose_pix_fmt, encoder_settings, find_encoder, stored_pix_fmt
from vidtrans.video.frame import PixelFormat
from vidtrans.video.local_file import Source
from vidtrans.video.reader import VideoInfo
from vidtrans.video.size import SizeEstimate, estimate_size
from vidtrans.video.writer import check_output_path

_CLOCK_OPTIONS = ("mp4", "mov", "ipod")
_USUAL_AUDIO_BITS_PER_SECOND = 192_000


@dataclass(frozen=True)
class PlannedOutput:
    """One file that a run will write.

    Attributes:
        path: its name.
        container: FFmpeg's name of its format.
        codec: of its pictures; pix_fmt: how they are stored.
        rate: frames per second, nominal.
        tick: seconds of its clock; exact: whether every time stamp is a whole number of them, else each is rounded.
        streams: what becomes of everything beside the pictures.
        pictures: bytes of its pictures, 0 where their number is not known.
        carried_bytes: of everything else.
        notes: what is not carried unchanged, and what the encoder does not know; a line each.
    """

    path: Path
    container: str
    codec: str
    pix_fmt: str
    rate: Fraction
    tick: Fraction
    exact: bool
    streams: tuple[Carriage, ...]
    pictures: SizeEstimate
    carried_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """How much there is to do; at most, since cuts and repeats, which skip the network, show only on the way.

    Attributes:
        frames_in: input frames.
        frames_out: frames of each output.
        encodings: frames through the network's encoder; decodings: through its decoders, all domains together.
        size: (width, height) in pixels at which the network works.
        counted: whether the input's frames were counted, not taken from what the container says.
    """

    frames_in: int
    frames_out: int
    encodings: int
    decodings: int
    size: tuple[int, int]
    counted: bool

    @property
    def megapixels(self) -> float:
        """Of all decodings."""
        return self.decodings * self.size[0] * self.size[1] / 1e6


@dataclass(frozen=True)
class Measured:
    """What the first frames took, with the run's own engine and encoders.

    Attributes:
        frames: of each output that were made.
        seconds: that the whole run will take, from them.
        engine: its name, device and precision.
    """

    frames: int
    seconds: float
    engine: str


@dataclass(frozen=True)
class Plan:
    """A run before its first frame.

    Attributes:
        input: the file; info: the facts of it.
        outputs: the files to write.
        frames: expected of each output; None where the container does not say.
        temporary_bytes: that the run takes beside its outputs until they are finished.
        notes: things a user should be told, one line each.
        work, measured: with `vidtrans.plan` only.
    """

    input: Source
    info: VideoInfo
    outputs: tuple[PlannedOutput, ...]
    frames: int | None
    notes: tuple[str, ...] = ()
    work: Work | None = None
    measured: Measured | None = field(default=None, compare=False)

    @property
    def output_bytes(self) -> int:
        """Of all finished files, likely."""
        return sum(output.pictures.likely + output.carried_bytes for output in self.outputs)

    @property
    def temporary_bytes(self) -> int:
        """Likely: the pictures are kept in segments until they are joined, so they are there twice at the end."""
        return sum(output.pictures.likely for output in self.outputs)

    def lines(self) -> list[str]:
        """The plan for a person to read."""
        info = self.info
        length = "" if info.duration is None else f", {float(info.duration):.2f} s"
        lines = [
            f"input {self.input}: {info.codec} {info.width}x{info.height} {info.source_pix_fmt}, "
            f"{float(info.average_rate):.6g} frames/s{length}"
        ]
        for output in self.outputs:
            stamps = "exact" if output.exact else f"rounded to {output.tick} s"
            count = "an unknown number of" if self.frames is None else str(self.frames)
            lines.append(
                f"output {output.path}: {output.container}, {output.codec} {output.pix_fmt}, {count} frames, "
                f"{float(output.rate):.6g} frames/s, time stamps {stamps}"
            )
            lines += [
                f"  {stream.name} ({', '.join(filter(None, (stream.codec, stream.language)))}): {stream.fate}"
                for stream in output.streams
            ]
        lines += self.notes
        if (work := self.work) is not None:
            lines.append(
                f"work: {work.frames_in} input frames{'' if work.counted else ' (as the container says)'}, "
                f"{work.frames_out * len(self.outputs)} frames to encode, {work.encodings} network encodings, "
                f"at most {work.decodings} decodings of {work.size[0]}x{work.size[1]} "
                f"({work.megapixels:.4g} megapixels)"
            )
        if self.frames is not None:
            free = min(_free_bytes(output.path) for output in self.outputs)
            lines.append(
                f"disk: about {byte_words(self.output_bytes)}, and until it is finished about "
                f"{byte_words(self.temporary_bytes)} of temporary space; {byte_words(free)} are free"
            )
        if self.measured is not None:
            lines.append(
                f"time: about {_time_words(self.measured.seconds)}, an estimate from the first {self.measured.frames} "
                f"frames with engine {self.measured.engine}"
            )
        return lines


def prepare(info: VideoInfo, options: UpsampleOptions, frames: int | None = None) -> Plan:
    """The plan of a run whose input is open; refuses what cannot work. Nothing is written.

    frames: expected of each output, if known better than by what the container says.

    Raises:
        OutputError: a file, folder, codec, pixel format or container that cannot be, or a disk that is clearly too
        small.
        InputError: the input cannot be opened again.
    """
    sampling = options.sampling
    if frames is None and info.frame_count is not None:
        frames = sampling.count(info.frame_count, info.duration or info.frame_count / info.average_rate)
    outputs = tuple(_planned(path, info, options, frames) for path in options.output_paths)
    plan = Plan(options.input, info, outputs, frames)
    return Plan(options.input, info, outputs, frames, tuple(_check_space(plan)))


def trial_stream(
    path: Path, info: VideoInfo, pix_fmt: PixelFormat, options: UpsampleOptions
) -> tuple[av.container.OutputContainer, av.VideoStream]:
    """The output's container and its open encoder, in memory.

    Raises:
        OutputError: there is none.
    """
    encoder: EncoderOptions = options.encoder
    codec = find_encoder(encoder.codec)
    settings, _ = encoder_settings(encoder, codec)
    sampling = options.sampling
    time_base = exact_time_base(*sampling.steps(info.time_base))
    rate = sampling.output_rate(info.average_rate)
    name = _format_name(path)
    clock = {"video_track_timescale": str(time_base.denominator)} if name in _CLOCK_OPTIONS else {}
    try:
        container = av.open(io.BytesIO(), "w", format=name, container_options=clock)
        stream = container.add_stream(
            encoder.codec,
            rate=rate.limit_denominator(1_000_000),
            options=settings,
            width=info.width,
            height=info.height,
        )
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.pix_fmt = stored_pix_fmt(codec, pix_fmt)
        stream.codec_context.time_base = time_base
        stream.codec_context.thread_count = encoder.threads
        container.start_encoding()
    except (av.FFmpegError, ValueError, OSError) as error:
        raise OutputError(
            f"{path}: {codec.name} {info.width}x{info.height} {pix_fmt.name} cannot be written ({error})"
        ) from error
    return container, stream


def close_trial(container: av.container.OutputContainer) -> None:
    """Lets a trial go, which need not be a whole file."""
    with contextlib.suppress(av.FFmpegError, ValueError, OSError):
        container.close()


def byte_words(count: int) -> str:
    """A number of bytes as people say it."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def _planned(path: Path, info: VideoInfo, options: UpsampleOptions, frames: int | None) -> PlannedOutput:
    check_output_path(path, overwrite=options.overwrite)
    if isinstance(info.carry_from, Path) and path.exists() and path.samefile(info.carry_from):
        raise OutputError(f"{path}: is the input itself; choose another name")
    encoder, sampling = options.encoder, options.sampling
    pix_fmt = choose_pix_fmt(encoder, info.pix_fmt)
    container, stream = trial_stream(path, info, pix_fmt, options)
    tick, stored = Fraction(stream.time_base or 1), stream.codec_context.pix_fmt
    format_name = container.format.name
    close_trial(container)
    rate = sampling.output_rate(info.average_rate)
    if rate * tick > 1:
        raise OutputError(
            f"{path}: {float(rate):g} frames per second would share time stamps, of which {path.suffix} has "
            f"{1 / tick} per second; use .mp4"
        )
    carriage = CarriagePlan((), ())
    if info.carry_from is not None:
        carriage = plan_carriage(info.carry_from, format_name, audio=not options.slowmo)
    _, notes = encoder_settings(encoder, find_encoder(encoder.codec))
    size = (info.width, info.height)
    seconds = info.duration if info.duration is not None else (frames or 0) / rate
    carried = sum(s.bits_per_second or _USUAL_AUDIO_BITS_PER_SECOND for s in carriage.streams if s.sounds) / 8
    return PlannedOutput(
        path=path,
        container=format_name,
        codec=encoder.codec,
        pix_fmt=stored or pix_fmt.name,
        rate=rate,
        tick=tick,
        exact=all((step / tick).denominator == 1 for step in sampling.steps(info.time_base)),
        streams=carriage.streams,
        pictures=estimate_size(encoder, pix_fmt, size, frames or 0),
        carried_bytes=int(carried * float(seconds)),
        notes=(*notes, *carriage.notes),
    )


def _format_name(path: Path) -> str:
    # No file is made before a header is written.
    return av.open(f"file:{path.absolute()}", "w").format.name


def _check_space(plan: Plan) -> list[str]:
    """Lines to tell where space may run out.

    Raises:
        OutputError: it will.
    """
    lines = []
    disks: dict[int, list[PlannedOutput]] = {}
    for output in plan.outputs:
        disks.setdefault(os.stat(output.path.absolute().parent).st_dev, []).append(output)
    for outputs in disks.values():
        folder = outputs[0].path.absolute().parent
        free = _free_bytes(outputs[0].path)
        least = sum(output.pictures.least + output.carried_bytes for output in outputs)
        likely = sum(2 * output.pictures.likely + output.carried_bytes for output in outputs)
        if least > free:
            raise OutputError(
                f"{folder}: has {byte_words(free)} free, and the outputs take {byte_words(least)} at the very least; "
                "make room or choose another folder"
            )
        if likely > free:
            lines.append(
                f"{folder} has {byte_words(free)} free, and the run may take {byte_words(likely)}: it may not suffice"
            )
    return lines


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(path.absolute().parent).free


def _time_words(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
