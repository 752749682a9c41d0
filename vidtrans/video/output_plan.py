"""What each of a run's outputs becomes: its kind, encoder, pixel format and colour, decided before any is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.options import UpsampleOptions
from vidtrans.palettes import Palette
from vidtrans.remarks import Warn
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
    PixelFormat,
    nearest_planar,
)
from vidtrans.video.names import FORMAT_OF_SUFFIX, IMAGE_CODECS, PLANE_FORMATS, is_pipe, is_sequence, spoken_output
from vidtrans.video.pipe_out import Y4M_PIX_FMTS
from vidtrans.video.sequence_out import IMAGE_PIX_FMTS
from vidtrans.video.video_info import VideoInfo

Kind = Literal["file", "container", "planes", "images"]
MAX_CLASSES = 256
# Encoders that put pictures out of order unless they are told not to.
_REORDERING = ("libx264", "libx264rgb", "libx265")
GRAY = PIXEL_FORMATS["gray"]


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

    @property
    def name(self) -> str:
        """For messages."""
        return spoken_output(self.path)


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
