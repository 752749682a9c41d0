"""The one place that opens outputs, each by its kind, after all of them have been tried."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av

from vidtrans.errors import OutputError
from vidtrans.options import UpsampleOptions
from vidtrans.palettes import Palette
from vidtrans.remarks import Warn
from vidtrans.video.clock import exact_time_base
from vidtrans.video.contract import Output
from vidtrans.video.frame import Matrix
from vidtrans.video.kept import lost_facts
from vidtrans.video.local_file import open_container
from vidtrans.video.mux_out import Multiplexer, Track, TrackPlan
from vidtrans.video.names import FORMAT_OF_SUFFIX, IMAGE_CODECS, STDOUT, is_pipe
from vidtrans.video.output_plan import OutputPlan
from vidtrans.video.pipe_out import NewFile, Pipe, PlanesWriter, Steady, uneven, y4m_header
from vidtrans.video.sequence_out import ImageWriter, check_sequence
from vidtrans.video.trial import try_encoder
from vidtrans.video.video_info import VideoInfo
from vidtrans.video.video_stream import StreamShape
from vidtrans.video.writer import VideoWriter, check_output_path, check_replaceable

# Packets of the input that are looked at to see whether its rate varies.
_LOOKED_AT = 500
_FFMPEG_MATRIX: dict[Matrix, str] = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}
_SLOWMO_SOUND = "audio is left out: --slowmo changes how long the pictures take"


def classes_tag(palette: Palette) -> str:
    """What a video of class numbers says of them in its tag `comment`: JSON, class k is the k-th name."""
    return json.dumps({"palette": palette.name, "classes": palette.classes})


def open_outputs(
    info: VideoInfo, plans: Sequence[OutputPlan], options: UpsampleOptions, identity: dict[str, Any] | None = None
) -> Iterator[Output]:
    """Opens the outputs, all of which have been tried before the first is.

    identity: what must be equal for a later run to continue this one; only where all are files.

    Raises:
        OutputError: one of them cannot be made; says what would work.
    """
    for plan in plans:
        check_output(plan, info, options)
    if options.mux == "both":
        yield from _open_container(plans, info, options)
        return
    for plan in plans:
        yield open_output(plan, info, options, identity)


def check_output(plan: OutputPlan, info: VideoInfo, options: UpsampleOptions) -> None:
    """Refuses what would fail, before anything is opened: name, folder, encoder, container, varying rate.

    Raises:
        OutputError: says what would work.
    """
    if plan.kind == "images":
        check_sequence(plan.path, overwrite=options.overwrite)
        if isinstance(options.input, Path):
            _check_not_input(plan.path, options.input)
    elif plan.kind == "file":
        check_output_path(plan.path, overwrite=options.overwrite)
    elif not is_pipe(plan.path):
        check_replaceable(plan.path, overwrite=options.overwrite)
    if plan.kind != "images" and not is_pipe(plan.path):
        source = info.carry_from or options.input
        if isinstance(source, Path) and source.exists() and plan.path.exists() and plan.path.samefile(source):
            raise OutputError(f"{plan.name}: is the input itself; choose another name")
    if plan.kind == "planes":
        _check_steady(plan, info, options)
    if plan.kind in ("file", "container"):
        # A container that is opened makes no file before its header is written.
        container = plan.format or av.open(f"file:{plan.path.absolute()}", "w").format.name
        try:
            try_encoder(stream_shape(plan, info, options), plan.encoder, container, exact=plan.index)
        except OutputError as error:
            raise OutputError(f"{plan.name}: {error}") from error


def open_output(
    plan: OutputPlan, info: VideoInfo, options: UpsampleOptions, identity: dict[str, Any] | None = None
) -> Output:
    """The writer of one output, by its kind; the only place that knows the classes.

    Raises:
        OutputError: it cannot be made this way.
    """
    shape = stream_shape(plan, info, options)
    writer: VideoWriter | PlanesWriter | ImageWriter | Track
    if plan.kind == "file":
        writer = VideoWriter(
            plan.path,
            width=shape.width,
            height=shape.height,
            rate=shape.rate,
            time_base=shape.time_base,
            pix_fmt=shape.pix_fmt,
            colour=shape.colour,
            encoder=plan.encoder,
            carry_from=info.carry_from,
            carry_audio=not options.slowmo,
            excerpt=info.excerpt,
            slowdown=options.sampling.factor if options.slowmo else Fraction(1),
            origin=info.start_time,
            identity=identity,
            overwrite=options.overwrite,
            sample_aspect_ratio=shape.sample_aspect_ratio,
            display_matrix=shape.display_matrix,
            metadata={"comment": classes_tag(plan.domain.colours)} if plan.index else None,
        )
        writer.notes += [
            *_rounding(writer.time_base, plan.path.suffix, info, options),
            *_unheld(plan, plan.path.suffix, info),
        ]
    elif plan.kind == "planes":
        writer = _open_planes(plan, shape, info, options)
    elif plan.kind == "images":
        writer = ImageWriter(
            plan.path,
            width=shape.width,
            height=shape.height,
            pix_fmt=shape.pix_fmt,
            encoder=plan.encoder,
            steady=Steady(shape.rate, _tolerance(info, options)),
            overwrite=options.overwrite,
        )
        writer.notes += _left_out(info, "images hold")
    else:
        (writer,) = _open_container([plan], info, options)
    if options.slowmo and info.audio_codecs and plan.kind == "file":
        writer.notes.append(_SLOWMO_SOUND)
    if plan.kind != "container":
        writer.notes += plan.notes
    return writer


def _open_planes(plan: OutputPlan, shape: StreamShape, info: VideoInfo, options: UpsampleOptions) -> PlanesWriter:
    rate = shape.rate.limit_denominator(1_000_000)
    header = b""
    if plan.format == "y4m":
        header = y4m_header(shape.width, shape.height, rate, shape.pix_fmt, shape.colour, shape.sample_aspect_ratio)
    writer = PlanesWriter(
        Pipe(plan.path) if is_pipe(plan.path) else NewFile(plan.path),
        width=shape.width,
        height=shape.height,
        pix_fmt=shape.pix_fmt,
        colour=shape.colour,
        stored=plan.stored,
        steady=Steady(shape.rate, _tolerance(info, options)),
        header=header,
        before_each=b"FRAME\n" if plan.format == "y4m" else b"",
    )
    writer.notes += _left_out(info, f"{plan.format} holds")
    if plan.format == "rawvideo":
        writer.notes.append(
            f"{plan.name}: read it with -f rawvideo -pix_fmt {plan.stored} -s {shape.width}x{shape.height} -r {rate}"
        )
    elif plan.pix_fmt.kind == "yuv" and shape.colour.matrix != "bt601":
        matrix = _FFMPEG_MATRIX[shape.colour.matrix]
        writer.notes.append(
            Warn(
                f"{plan.name}: y4m does not say that its colours are {shape.colour.matrix}; "
                f"have ffmpeg read it with -vf setparams=colorspace={matrix}"
            )
        )
    return writer


def _open_container(plans: Sequence[OutputPlan], info: VideoInfo, options: UpsampleOptions) -> list[Track]:
    path, container = plans[0].path, plans[0].format
    tracks, whole = [], {}
    for plan in plans:
        tags = {"comment": classes_tag(plan.domain.colours)} if plan.index else {}
        if len(plans) > 1:
            tags["title"] = plan.domain.name
        else:
            tags, whole = {}, tags
        tracks.append(TrackPlan(stream_shape(plan, info, options), plan.encoder, tags))
    multiplexer = Multiplexer(
        Pipe(path) if is_pipe(path) else path,
        container,
        tracks,
        carry_from=info.carry_from,
        carry_audio=not options.slowmo,
        excerpt=info.excerpt,
        slowdown=options.sampling.factor if options.slowmo else Fraction(1),
        origin=info.start_time,
        metadata=whole,
    )
    suffix = next(suffix for suffix, name in FORMAT_OF_SUFFIX.items() if name == container)
    for plan, track in zip(plans, multiplexer.tracks, strict=True):
        track.notes += [*plan.notes, *_unheld(plan, suffix, info)]
    multiplexer.tracks[0].notes += _rounding(multiplexer.time_base, container, info, options)
    if options.slowmo and info.audio_codecs:
        multiplexer.tracks[0].notes.append(_SLOWMO_SOUND)
    return multiplexer.tracks


def stream_shape(plan: OutputPlan, info: VideoInfo, options: UpsampleOptions) -> StreamShape:
    """What an output's encoder is told of its pictures."""
    sampling = options.sampling
    return StreamShape(
        info.width,
        info.height,
        sampling.output_rate(info.average_rate),
        exact_time_base(*sampling.steps(info.time_base)),
        plan.pix_fmt,
        plan.colour,
        info.sample_aspect_ratio,
        info.display_matrix,
    )


def _rounding(time_base: Fraction, what: str, info: VideoInfo, options: UpsampleOptions) -> list[str]:
    """A line where a container's clock is too coarse for the times of the frames."""
    steps = options.sampling.steps(info.time_base)
    if all((step / time_base).denominator == 1 for step in steps):
        return []
    asked = exact_time_base(*steps)
    exact = all((step / asked).denominator == 1 for step in steps)
    hint = "; .mp4, .mov and .nut are exact" if exact else ""
    return [f"{what} counts time in steps of {time_base} s: each time stamp is rounded once{hint}"]


def _unheld(plan: OutputPlan, suffix: str, info: VideoInfo) -> list[str]:
    """A line where an output of that kind does not say all that is known of the pictures."""
    lost = lost_facts(suffix, plan.encoder, plan.pix_fmt, plan.colour, info.sample_aspect_ratio)
    if not lost:
        return []
    return [Warn(f"{plan.encoder.codec} in {suffix} does not hold: {', '.join(lost)}; libx265 in .mp4 does")]


def _left_out(info: VideoInfo, who: str) -> list[str]:
    """A line where pictures alone lose something of the input."""
    lost: list[str] = []
    if info.audio_codecs:
        lost.append(Warn(f"{who} no sound, {len(info.audio_codecs)} audio streams are left out"))
    if info.display_matrix is not None:
        lost.append(Warn(f"{who} no rotation, the pictures are as the input stores them"))
    return lost


def _tolerance(info: VideoInfo, options: UpsampleOptions) -> Fraction:
    """Seconds by which a frame may miss its place in an even row: half a frame, and what the input's clock rounded."""
    sampling = options.sampling
    stretched = sampling.factor if sampling.slowmo else 1
    return 1 / (2 * sampling.output_rate(info.average_rate)) + 2 * info.stamp_error * stretched


def _check_steady(plan: OutputPlan, info: VideoInfo, options: UpsampleOptions) -> None:
    """Refuses an input whose rate varies, as far as its first packets show it; the writer watches the rest.

    Raises:
        OutputError: what holds no times would drift.
    """
    if options.fps is not None or options.span[0] or info.carry_from is None:
        return
    with open_container(info.carry_from) as container:
        cover = av.stream.Disposition.attached_pic
        stream = next(one for one in container.streams.video if not one.disposition & cover)
        assert stream.time_base is not None  # every demuxer gives its streams a clock
        time_base = stream.time_base
        packets = (one for one in container.demux(stream) if not one.is_discard)
        ticks = sorted(one.pts for one in islice(packets, _LOOKED_AT) if one.pts is not None)
    if len(ticks) == _LOOKED_AT:  # shown before these, some may be stored behind them
        del ticks[-_LOOKED_AT // 10 :]
    sampling = options.sampling
    steady = Steady(info.average_rate, _tolerance(info, options) / (sampling.factor if sampling.slowmo else 1))
    for tick in ticks:
        off = steady.off(tick * time_base)
        if off is not None:
            rate = sampling.output_rate(info.average_rate)
            raise uneven(f"{plan.name}: {plan.format}", info.average_rate, steady.count, off, rate)


def _check_not_input(path: Path, source: Path) -> None:
    """Refuses to write images among those that are read."""
    if source == STDOUT or (source.is_file() and source.suffix.lower() not in IMAGE_CODECS):
        return
    read_from = source if source.is_dir() else source.parent
    if path.parent.is_dir() and read_from.is_dir() and path.parent.samefile(read_from):
        raise OutputError(f"{path}: is where the input's own images are; choose another folder")
