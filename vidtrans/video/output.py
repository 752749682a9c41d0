"""What each of a run's outputs becomes: its kind, encoder, pixel format and colour; and the one place that opens it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import av

from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.options import UpsampleOptions
from vidtrans.palettes import Palette
from vidtrans.remarks import Warn
from vidtrans.video.clock import exact_time_base
from vidtrans.video.contract import Output
from vidtrans.video.encoder import (
    DEFAULT_CODEC,
    EncoderOptions,
    choose_pix_fmt,
    find_encoder,
    format_remarks,
    loses,
    pix_fmt_among,
)
from vidtrans.video.frame import (
    PIXEL_FORMATS,
    TAG_OF_MATRIX,
    TAG_RANGE_FULL,
    Colour,
    Matrix,
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.kept import lost_facts
from vidtrans.video.local_file import open_container
from vidtrans.video.mux_out import Multiplexer, Track, TrackPlan
from vidtrans.video.names import FORMAT_OF_SUFFIX, IMAGE_CODECS, PLANE_FORMATS, STDOUT, is_pipe, is_sequence
from vidtrans.video.pipe_out import Y4M_PIX_FMTS, NewFile, Pipe, PlanesWriter, Steady, uneven, y4m_header
from vidtrans.video.reader import VideoInfo
from vidtrans.video.sequence_out import IMAGE_PIX_FMTS, ImageWriter, check_sequence
from vidtrans.video.trial import try_encoder
from vidtrans.video.video_stream import StreamShape
from vidtrans.video.writer import VideoWriter, check_output_path, check_replaceable

Kind = Literal["file", "container", "planes", "images"]
MAX_CLASSES = 256
# Encoders that put pictures out of order unless they are told not to.
_REORDERING = ("libx264", "libx264rgb", "libx265")
# Packets of the input that are looked at to see whether its rate varies.
_LOOKED_AT = 500
GRAY = PIXEL_FORMATS["gray"]
_FFMPEG_MATRIX: dict[Matrix, str] = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}
_SLOWMO_SOUND = "audio is left out: --slowmo changes how long the pictures take"


@runtime_checkable
class Cancellable(Protocol):
    """An output that may wait for a reader: `cancel`, from another thread, ends a `write` that does."""

    def cancel(self) -> None: ...


@dataclass(frozen=True)
class OutputPlan:
    """One output, decided.

    Attributes:
        domain: whose frames it takes.
        path: where it goes.
        kind: a "file" by VideoWriter; a "container" by Multiplexer; "planes", y4m or rawvideo; or numbered "images".
        format: FFmpeg's name of the container, "y4m", "rawvideo", or the encoder of images.
        encoder: with a codec, unless there is none.
        pix_fmt, colour: of the frames it takes.
        stored: FFmpeg's name of the packing that was asked for; "planes" keep to it.
        index: whether the frames hold class numbers.
        notes: things a user should be told, one line each.
    """

    domain: Domain
    path: Path
    kind: Kind
    format: str
    encoder: EncoderOptions
    pix_fmt: PixelFormat
    colour: Colour
    stored: str
    index: bool
    notes: tuple[str, ...] = ()


def plan_outputs(info: VideoInfo, domains: Sequence[Domain], options: UpsampleOptions) -> list[OutputPlan]:
    """What the source's output and each target's will be; nothing is opened yet.

    Args:
        info: of the input.
        domains: of the outputs; the source first, where the options have it written.
        options: of the run.

    Raises:
        UsageError, OutputError: they cannot be what was asked for.
    """
    if options.labels == "index" and not any(domain.is_label for domain in domains):
        raise UsageError(
            f"--labels index writes class numbers, but of {', '.join(domain.name for domain in domains)} none is a "
            "label domain"
        )
    plans: list[OutputPlan] = []
    for domain, path in zip(domains, options.output_paths, strict=True):
        is_source = options.writes_source and domain is domains[0]
        asked = options.encoder if is_source else options.encoder_of(domain.name)
        named = options.out_format if is_source else options.format_of(domain.name)
        kind, container = _kind(path, named, options)
        index = options.labels == "index" and domain.is_label
        if asked is None:
            follows = not index and plans[0].kind in _alike(kind)
            asked = options.encoder if follows else EncoderOptions(threads=options.encoder.threads)
        plans.append(_plan(info, domain, path, kind, container, asked, is_source=is_source, index=index))
    return plans


def _alike(kind: Kind) -> tuple[Kind, ...]:
    """Kinds that a codec means the same to."""
    return ("file", "container") if kind in ("file", "container") else (kind,)


def _kind(path: Path, named: str | None, options: UpsampleOptions) -> tuple[Kind, str]:
    by_name = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if options.mux == "both":
        container = named or by_name or ("nut" if is_pipe(path) else "")
        if container not in ("nut", "matroska"):
            raise UsageError(f"--mux both needs a container of two videos, not {path}; name it .mkv or .nut")
        return "container", container
    if is_pipe(path):
        container = named or by_name or "y4m"
        return ("planes" if container in PLANE_FORMATS else "container"), container
    if is_sequence(path):
        if named is not None:
            raise UsageError(f"{path}: names images, which --out-format {named} does not go with; leave it out")
        return "images", IMAGE_CODECS[path.suffix.lower()]
    if path.suffix.lower() in IMAGE_CODECS:
        raise OutputError(f"{path}: is one image; number them, such as {path.stem}.%06d{path.suffix}")
    if named in PLANE_FORMATS or (named is None and by_name == "y4m"):
        return "planes", named or "y4m"
    if named is not None and named != by_name:
        suffix = next(suffix for suffix, name in FORMAT_OF_SUFFIX.items() if name == named)
        raise UsageError(f"{path}: a file's name says what it is; name it {suffix} for --out-format {named}")
    return "file", ""


def _plan(
    info: VideoInfo,
    domain: Domain,
    path: Path,
    kind: Kind,
    container: str,
    asked: EncoderOptions,
    *,
    is_source: bool,
    index: bool,
) -> OutputPlan:
    codec = _codec(path, kind, container, asked, index=index)
    encoder = replace(asked, codec=codec)
    if path.suffix.lower() == ".avi" and codec in _REORDERING:
        # It does not hold when pictures are shown: out of order they would come late, after their sound.
        encoder = replace(encoder, encode={"bf": "0", **dict(encoder.encode)})
    notes: list[str] = []
    if index:
        pix_fmt = _gray(path, domain, kind, container, encoder)
        colour = Colour(info.colour.matrix, True, range_tag=TAG_RANGE_FULL)
        notes.append(f"{domain.name}: class numbers, {_classes(domain.colours)}")
    elif kind == "planes" and container == "rawvideo":
        pix_fmt = pix_fmt_among(tuple(PIXEL_FORMATS), asked.pix_fmt, info.pix_fmt, "rawvideo")
        if asked.pix_fmt is not None and not nearest_planar(asked.pix_fmt)[1]:
            raise OutputError(f"rawvideo in {asked.pix_fmt} is not written here; choose one such as {pix_fmt.name}")
        colour = _stored_colour(info, pix_fmt, is_source=is_source)
    elif kind in ("planes", "images"):
        carriers = Y4M_PIX_FMTS if kind == "planes" else IMAGE_PIX_FMTS[container]
        pix_fmt = pix_fmt_among(carriers, asked.pix_fmt, info.pix_fmt, container)
        colour = _stored_colour(info, pix_fmt, is_source=is_source)
    else:
        pix_fmt = _viewing(asked, str(codec), info, notes) or choose_pix_fmt(encoder, info.pix_fmt)
        notes = notes or format_remarks(encoder, info.pix_fmt, pix_fmt)
        colour = _stored_colour(info, pix_fmt, is_source=is_source)
    if kind == "images" and not index:
        colour = _of_images(colour, pix_fmt)
    stored = asked.pix_fmt if container == "rawvideo" and asked.pix_fmt else pix_fmt.name
    return OutputPlan(domain, path, kind, container, encoder, pix_fmt, colour, stored, index, tuple(notes))


def _codec(path: Path, kind: Kind, container: str, asked: EncoderOptions, *, index: bool) -> str | None:
    if kind in ("planes", "images"):
        only = container if kind == "images" else None
        if asked.codec not in (None, only):
            holds = f"images of {only}" if only else f"plain pictures ({container})"
            more = "" if only else ", or choose another --out-format such as nut"
            raise OutputError(f"{path}: holds {holds}, nothing that {asked.codec} makes; leave the codec out{more}")
        return only
    webm = container == "webm" or path.suffix.lower() == ".webm"
    return find_encoder(asked.codec or ("ffv1" if index else "libvpx-vp9" if webm else DEFAULT_CODEC)).name


def _gray(path: Path, domain: Domain, kind: Kind, container: str, encoder: EncoderOptions) -> PixelFormat:
    """The format of class numbers.

    Raises:
        OutputError: the output does not take it.
        UsageError: there are too many classes.
    """
    if len(domain.colours) > MAX_CLASSES:
        raise UsageError(f"{domain.name}: --labels index holds {MAX_CLASSES} classes, not {len(domain.colours)}")
    if encoder.pix_fmt not in (None, GRAY.name):
        raise OutputError(f"{path}: class numbers are grey, not {encoder.pix_fmt}; ask for pixel format gray, or none")
    by_encoder = kind in ("file", "container")
    if container == "mjpeg" or (by_encoder and not _takes(encoder, GRAY)):
        raise OutputError(
            f"{path}: {encoder.codec} does not keep class numbers, which are grey; "
            "ffv1 in .mkv does, and so do PNG images"
        )
    return GRAY


def _takes(encoder: EncoderOptions, pix_fmt: PixelFormat) -> bool:
    try:
        return choose_pix_fmt(replace(encoder, pix_fmt=pix_fmt.name), pix_fmt) is pix_fmt
    except OutputError:
        return False


def _viewing(asked: EncoderOptions, codec: str, info: VideoInfo, notes: list[str]) -> PixelFormat | None:
    """What plays everywhere, at the input's depth as far as the encoder has it; None where the user chose otherwise."""
    if asked.codec is not None or asked.pix_fmt is not None or asked.crf == 0:
        return None
    # H.264 halves whole columns and rows only; other programs than browsers play 4:4:4.
    odd = codec == DEFAULT_CODEC and (info.width % 2 or info.height % 2)
    chroma = "yuv444p" if odd else "yuv420p"
    deep = replace(asked, codec=codec, pix_fmt=f"{chroma}10le")
    found = PIXEL_FORMATS[chroma]
    if info.pix_fmt.bits > 8:
        with contextlib.suppress(OutputError):
            found = choose_pix_fmt(deep, info.pix_fmt)
    if info.pix_fmt.kind != "gray" and found is not info.pix_fmt:
        why = "since its size is odd" if odd else "which plays everywhere"
        line = f"pixel format {info.pix_fmt.name} is stored as {found.name}, {why}; --pix-fmt or -c chooses another"
        notes.append(Warn(line) if loses(info.pix_fmt, found) else line)
    return found


def _stored_colour(info: VideoInfo, pix_fmt: PixelFormat, *, is_source: bool) -> Colour:
    colour = info.colour.stored_as(info.pix_fmt, pix_fmt, info.width, info.height)
    return colour if is_source else colour.as_sdr(pix_fmt)  # what a network makes is SDR


def _of_images(colour: Colour, pix_fmt: PixelFormat) -> Colour:
    """Images are of the full range, and those of YUV in one matrix: files of them do not say so, readers know it."""
    if pix_fmt.kind != "yuv":
        return replace(colour, full_range=True, range_tag=TAG_RANGE_FULL)
    tag = TAG_OF_MATRIX["bt601"]
    return replace(colour, matrix="bt601", full_range=True, matrix_tag=tag, range_tag=TAG_RANGE_FULL)


def _classes(palette: Palette) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(palette.classes))


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
            raise OutputError(f"{plan.path}: is the input itself; choose another name")
    if plan.kind == "planes":
        _check_steady(plan, info, options)
    if plan.kind in ("file", "container"):
        # A container that is opened makes no file before its header is written.
        container = plan.format or av.open(f"file:{plan.path.absolute()}", "w").format.name
        try:
            try_encoder(stream_shape(plan, info, options), plan.encoder, container, exact=plan.index)
        except OutputError as error:
            raise OutputError(f"{plan.path}: {error}") from error


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
            f"{plan.path}: read it with -f rawvideo -pix_fmt {plan.stored} -s {shape.width}x{shape.height} -r {rate}"
        )
    elif plan.pix_fmt.kind == "yuv" and shape.colour.matrix != "bt601":
        matrix = _FFMPEG_MATRIX[shape.colour.matrix]
        writer.notes.append(
            Warn(
                f"{plan.path}: y4m does not say that its colours are {shape.colour.matrix}; "
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
            raise uneven(f"{plan.path}: {plan.format}", info.average_rate, steady.count, off, rate)


def _check_not_input(path: Path, source: Path) -> None:
    """Refuses to write images among those that are read."""
    if source == STDOUT or (source.is_file() and source.suffix.lower() not in IMAGE_CODECS):
        return
    read_from = source if source.is_dir() else source.parent
    if path.parent.is_dir() and read_from.is_dir() and path.parent.samefile(read_from):
        raise OutputError(f"{path}: is where the input's own images are; choose another folder")
