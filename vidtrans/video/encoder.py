"""Which encoder, with which settings, in which pixel format: chosen and checked before the first frame is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av
import cv2

from vidtrans.errors import OutputError, nearest_names
from vidtrans.video.frame import FULL_RANGE_NAMES, PIXEL_FORMATS, PixelFormat, nearest_planar

# Named in error messages where this FFmpeg has them; every other video encoder it has works as well.
_COMMON_CODECS = (
    "libx264",
    "libx264rgb",
    "libx265",
    "libsvtav1",
    "libvpx-vp9",
    "ffv1",
    "prores_ks",
    "png",
    "h264_nvenc",
    "hevc_nvenc",
)
_AVX512_SKX = 256  # OpenCV's number of AVX-512 with the extensions that x264 uses; Python has no name for it
# Good to the eye at twice the size or so of FFmpeg's own defaults: what is made here is often processed further.
_DEFAULT_CRF = {"libx264": 17, "libx264rgb": 17, "libx265": 18, "libvpx-vp9": 24, "libsvtav1": 24}


@dataclass(frozen=True)
class EncoderOptions:
    """How to encode a video; None leaves a choice to us or to the encoder.

    Attributes:
        codec: an encoder's name as in FFmpeg.
        crf: constant quality, lower is better; 0 is lossless with libx264, libx264rgb and libx265.
        preset: the encoder's own word for its trade of speed and size.
        pix_fmt: pixel format of the output; None: the input's own, or the nearest the encoder takes.
        threads: number of encoder threads; 0: the encoder decides.
    """

    codec: str = "libx264"
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    threads: int = 0


def encoders_here() -> tuple[str, ...]:
    """The common video encoders that the FFmpeg inside PyAV has."""
    return tuple(codec for codec in _COMMON_CODECS if codec in av.codecs_available)


def find_encoder(name: str) -> av.Codec:
    """The video encoder of that name.

    Raises:
        OutputError: there is none in the FFmpeg that PyAV brings.
    """
    known = encoders_here()
    try:
        codec = av.Codec(name, "w")
    except ValueError as error:
        raise OutputError(f"no video encoder {name!r} here; {nearest_names(name, known)}") from error
    if codec.type != "video":
        raise OutputError(f"{name!r} is an encoder of {codec.type}, not of video; known: {', '.join(known)}")
    return codec


def choose_pix_fmt(options: EncoderOptions, source: PixelFormat) -> PixelFormat:
    """The format in which the writer takes frames: as asked, else the source's own, else the nearest the encoder takes.

    Grey becomes 4:2:0, with the same luma: a translation has colours, and few players show grey H.264.

    Raises:
        OutputError: no such encoder, or it does not take the format asked for.
    """
    carriers = _carriers(find_encoder(options.codec))
    if options.pix_fmt is None:
        if source.kind == "gray":
            source = replace(source, chroma_shift_x=1, chroma_shift_y=1, kind="yuv")
        return min((PIXEL_FORMATS[name] for name in carriers), key=lambda target: _distance(source, target))
    try:
        asked, _ = nearest_planar(options.pix_fmt)
    except ValueError as error:
        raise OutputError(
            f"no pixel format {options.pix_fmt!r}; {nearest_names(options.pix_fmt, tuple(carriers))}"
        ) from error
    if asked.name not in carriers:
        raise OutputError(
            f"{options.codec} does not take pixel format {options.pix_fmt}; it takes: {', '.join(carriers)}"
        )
    return asked


def format_remarks(options: EncoderOptions, source: PixelFormat, target: PixelFormat) -> list[str]:
    """What a user should be told of the format chosen for an output, one line for each loss that was not asked for."""
    coarser = target.chroma_shift_x > source.chroma_shift_x or target.chroma_shift_y > source.chroma_shift_y
    loses_colour = source.kind != "gray" and (target.kind == "gray" or (target.kind == "yuv" and coarser))
    if options.pix_fmt is not None or (target.bits >= source.bits and not loses_colour):
        return []
    hint = "; libx265 and ffv1 keep 12 bits" if target.bits < source.bits == 12 else ""
    return [f"{source.name} is written as {target.name}, the nearest that {options.codec} takes{hint}"]


def stored_pix_fmt(codec: av.Codec, pix_fmt: PixelFormat) -> str:
    """FFmpeg's name of the format in which the encoder takes these code values: the same, or one that packs them.

    Raises:
        OutputError: the encoder takes neither.
    """
    carriers = _carriers(codec)
    if pix_fmt.name not in carriers:
        raise OutputError(f"{codec.name} does not take pixel format {pix_fmt.name}; it takes: {', '.join(carriers)}")
    return carriers[pix_fmt.name]


def encoder_settings(options: EncoderOptions, codec: av.Codec) -> tuple[dict[str, str], list[str]]:
    """The encoder's private options, and a line for each wish it does not know."""
    known = {option.name for option in av.CodecContext.create(codec, "w").supported_options.private}
    settings: dict[str, str] = {}
    notes: list[str] = []
    if options.preset is not None:
        if "preset" in known:
            settings["preset"] = options.preset
        else:
            notes.append(f"encoder {codec.name} has no presets, {options.preset!r} is not used")
    if codec.name == "libx265":
        # It writes its own report to stderr, past FFmpeg's log.
        settings["x265-params"] = "log-level=error:lossless=1" if options.crf == 0 else "log-level=error"
    if codec.name in ("libx264", "libx264rgb") and cv2.checkHardwareSupport(_AVX512_SKX):
        # With AVX-512 its macroblock tree reads past the end of rows whose number of macroblocks is no multiple of 8:
        # the same frames give other packets from run to run. With AVX2 they do not.
        settings["x264-params"] = "asm=avx2"
    if "forced-idr" in known:
        settings["forced-idr"] = "1"  # a keyframe that the writer asks for is one that nothing before it leans on
    crf = _DEFAULT_CRF.get(codec.name) if options.crf is None else options.crf
    if crf == 0 and codec.name in ("libx264", "libx264rgb"):
        settings["qp"] = "0"  # the same as crf 0 at 8 bits, and lossless at 10 bits too
    elif crf is not None and "crf" in known:
        settings["crf"] = str(crf)
    elif crf is not None:
        notes.append(f"encoder {codec.name} has no crf, {crf} is not used")
    return settings, notes


def _carriers(codec: av.Codec) -> dict[str, str]:
    """Our name of every format the encoder takes exactly, to its own name for it."""
    if codec.video_formats is None:
        return {name: name for name in PIXEL_FORMATS}
    carriers: dict[str, str] = {}
    for name in (video_format.name for video_format in codec.video_formats):
        if name in FULL_RANGE_NAMES:  # the range is told by its tag
            continue
        try:
            planar, exact = nearest_planar(name)
        except ValueError:  # surfaces on a device
            continue
        if exact and (name == planar.name or planar.name not in carriers):
            carriers[planar.name] = name
    if not carriers:
        raise OutputError(
            f"encoder {codec.name} takes none of the pixel formats written here: {', '.join(PIXEL_FORMATS)}"
        )
    return carriers


def _distance(source: PixelFormat, target: PixelFormat) -> tuple[int, int, int, int, int]:
    """Smaller is nearer: colour, then depth, then chroma are kept where possible, with as little beyond as possible."""
    kind = 0 if source.kind == target.kind else 2 if target.kind == "gray" else 1
    source_shift = 2 if source.kind == "gray" else source.chroma_shift_x + source.chroma_shift_y
    deeper = target.bits - source.bits
    finer = source_shift - target.chroma_shift_x - target.chroma_shift_y
    return kind, max(0, -deeper), max(0, -finer), max(0, deeper), max(0, finer)
