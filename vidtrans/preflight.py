"""Everything that can be known, and refused, before the first frame: one plan of a run."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av

from vidtrans.disk import byte_words, check_space, disk_needs
from vidtrans.errors import OutputError
from vidtrans.options import UpsampleOptions
from vidtrans.video.carriage import Carriage, CarriagePlan, plan_carriage
from vidtrans.video.encoder import DEFAULT_CODEC, EncoderOptions, encoder_settings, find_encoder
from vidtrans.video.local_file import Source
from vidtrans.video.names import is_pipe
from vidtrans.video.output import check_output, stream_shape
from vidtrans.video.output_plan import OutputPlan
from vidtrans.video.size import SizeEstimate, estimate_size
from vidtrans.video.video_info import VideoInfo
from vidtrans.video.video_stream import add_video_stream

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
        in_segments: whether its pictures are kept in segments until it is complete.
        on_disk: whether it is no pipe.
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
    in_segments: bool
    on_disk: bool
    notes: tuple[str, ...]

    @property
    def likely_bytes(self) -> int:
        """On the disk, when it is finished."""
        return self.pictures.likely + self.carried_bytes if self.on_disk else 0

    @property
    def least_bytes(self) -> int:
        """The same of the calmest footage."""
        return self.pictures.least + self.carried_bytes if self.on_disk else 0

    @property
    def temporary_bytes(self) -> int:
        """Likely: the pictures are kept in segments until they are joined, so they are there twice at the end."""
        return self.pictures.likely if self.in_segments else 0


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
        return sum(output.likely_bytes for output in self.outputs)

    @property
    def temporary_bytes(self) -> int:
        """Likely, of all outputs."""
        return sum(output.temporary_bytes for output in self.outputs)

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
        if self.frames is not None and self.output_bytes:
            free = min(need.free for need in disk_needs([self.outputs]))
            lines.append(
                f"disk: about {byte_words(self.output_bytes)}, and until it is finished about "
                f"{byte_words(self.temporary_bytes)} of temporary space; {byte_words(free)} are free"
            )
        if self.measured is not None:
            lines.append(
                f"time: about {time_words(self.measured.seconds)}, an estimate from the first {self.measured.frames} "
                f"frames with engine {self.measured.engine}"
            )
        return lines


def prepare(info: VideoInfo, plans: Sequence[OutputPlan], options: UpsampleOptions, frames: int | None = None) -> Plan:
    """The plan of a run whose input is open; refuses what cannot work. Nothing is written.

    plans: of its outputs. frames: expected of each output, if known better than by what the container says.

    Raises:
        OutputError: a file, folder, codec, pixel format or container that cannot be, or a disk that is clearly too
        small.
        InputError: the input cannot be opened again.
    """
    sampling = options.sampling
    if frames is None and info.frame_count is not None:
        frames = sampling.count(info.frame_count, info.duration or info.frame_count / info.average_rate)
    for plan in plans:
        check_output(plan, info, options)
    outputs = tuple(_planned(plan, info, options, frames) for plan in plans)
    whole = Plan(options.input, info, outputs, frames)
    return replace(whole, notes=tuple(check_space(disk_needs([outputs]))))


def trial_stream(
    plan: OutputPlan, info: VideoInfo, options: UpsampleOptions
) -> tuple[av.container.OutputContainer, av.VideoStream]:
    """The container of an encoded output and its open encoder, in memory.

    Raises:
        OutputError: there is none.
    """
    shape = stream_shape(plan, info, options)
    name = plan.format or _format_name(plan.path)
    clock = {"video_track_timescale": str(shape.time_base.denominator)} if name in _CLOCK_OPTIONS else {}
    try:
        container = av.open(io.BytesIO(), "w", format=name, container_options=clock)
        stream, _ = add_video_stream(container, shape, plan.encoder)
        container.start_encoding()
    except (av.FFmpegError, ValueError, OSError) as error:
        raise OutputError(
            f"{plan.name}: {plan.encoder.codec} {info.width}x{info.height} {plan.pix_fmt.name} cannot be written "
            f"({error})"
        ) from error
    return container, stream


def close_trial(container: av.container.OutputContainer) -> None:
    """Lets a trial go, which need not be a whole file."""
    with contextlib.suppress(av.FFmpegError, ValueError, OSError):
        container.close()


def _planned(plan: OutputPlan, info: VideoInfo, options: UpsampleOptions, frames: int | None) -> PlannedOutput:
    encoder, sampling = plan.encoder, options.sampling
    rate = sampling.output_rate(info.average_rate)
    carriage = CarriagePlan((), ())
    notes: list[str] = []
    if is_encoded(plan):
        container, stream = trial_stream(plan, info, options)
        tick, stored = Fraction(stream.time_base or 1), stream.codec_context.pix_fmt or plan.stored
        format_name = container.format.name
        close_trial(container)
        if rate * tick > 1:
            raise OutputError(
                f"{plan.name}: {float(rate):g} frames per second would share time stamps, of which "
                f"{plan.path.suffix or format_name} has {1 / tick} per second; use .mp4, or --out-format nut"
            )
        if info.carry_from is not None:
            carriage = plan_carriage(info.carry_from, format_name, audio=not options.slowmo)
        _, notes = encoder_settings(encoder, find_encoder(encoder.codec))
    else:
        tick, stored, format_name = 1 / rate, plan.stored, plan.format
        encoder = EncoderOptions("rawvideo") if plan.kind == "planes" else encoder
    size = (info.width, info.height)
    seconds = info.duration if info.duration is not None else (frames or 0) / rate
    carried = sum(s.bits_per_second or _USUAL_AUDIO_BITS_PER_SECOND for s in carriage.streams if s.sounds) / 8
    return PlannedOutput(
        path=plan.path,
        container=format_name,
        codec=encoder.codec or DEFAULT_CODEC,
        pix_fmt=stored,
        rate=rate,
        tick=tick,
        exact=not is_encoded(plan) or all((step / tick).denominator == 1 for step in sampling.steps(info.time_base)),
        streams=carriage.streams,
        pictures=estimate_size(encoder, plan.pix_fmt, size, frames or 0),
        carried_bytes=int(carried * float(seconds)),
        in_segments=plan.kind == "file",
        on_disk=not is_pipe(plan.path),
        notes=(*notes, *carriage.notes),
    )


def is_encoded(plan: OutputPlan) -> bool:
    """Whether it is an encoded video in a container."""
    return plan.kind in ("file", "container")


def _format_name(path: Path) -> str:
    # No file is made before a header is written.
    return av.open(f"file:{path.absolute()}", "w").format.name


def time_words(seconds: float) -> str:
    """A length of time as people say it."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
