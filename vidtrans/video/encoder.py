"""Which encoder, with which settings, in which pixel format: chosen and checked before the first frame is read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import av
import cv2

from vidtrans.errors import OutputError, nearest_names
from vidtrans.remarks import Warn
from vidtrans.video.frame import FULL_RANGE_NAMES, PIXEL_FORMATS, PixelFormat, nearest_planar

DEFAULT_CODEC = "libx264"
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
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "h264_amf",
    "h264_videotoolbox",
    "hevc_videotoolbox",
)
_AVX512_SKX = 256  # OpenCV's number of AVX-512 with the extensions that x264 uses; Python has no name for it
# Good to the eye at twice the size or so of FFmpeg's own defaults: what is made here is often processed further.
_DEFAULT_CRF = {"libx264": 17, "libx264rgb": 17, "libx265": 18, "libvpx-vp9": 24, "libsvtav1": 24}
# Encoders' own ways to say how good or how large: with one of them no crf is chosen here, which would override it.
_QUALITY_OPTIONS = {"b", "crf", "qp", "cqp", "q", "global_quality", "quality", "lossless", "rc", "x264opts"}
_QUALITY_PARAMS = ("crf=", "qp=", "bitrate=", "lossless=")
# Facts of the pictures, which are written as they are read.
_OWN_OPTIONS = {
    *("color_range", "color_primaries", "color_trc", "colorspace", "chroma_sample_location"),
    *("aspect", "sar", "field_order"),
}
_ENCODING, _VIDEO = 1, 16  # FFmpeg's AV_OPT_FLAG_ENCODING_PARAM and AV_OPT_FLAG_VIDEO_PARAM


@dataclass(frozen=True)
class EncoderOptions:
    """How to encode a video; None leaves a choice to us or to the encoder.

    Attributes:
        codec: an encoder's name as in FFmpeg; None: what the kind of output asks for, DEFAULT_CODEC in most.
        crf: constant quality, lower is better; 0 is lossless with libx264, libx264rgb and libx265.
        preset: the encoder's own word for its trade of speed and size.
        pix_fmt: pixel format of the output; None: the input's own, or the nearest the encoder takes.
        threads: number of encoder threads; 0: the encoder decides.
        encode: further options of the encoder by FFmpeg's names, its own and those that all encoders have; a mapping
            or pairs, kept as pairs.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    threads: int = 0
    encode: Mapping[str, object] | tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        pairs = {str(key): str(value) for key, value in dict(self.encode).items()}
        object.__setattr__(self, "encode", tuple(pairs.items()))

    def changed(self, **given: object) -> EncoderOptions | None:
        """Options of a second output that follow these, save what is given (None and () are not); None: the same.

        Another codec takes over only what means the same to every codec; crf, preset and encode were meant for this.
        """
        given = {name: value for name, value in given.items() if value is not None and value != ()}
        if not given:
            return None
        codec, other = self.codec or DEFAULT_CODEC, EncoderOptions(pix_fmt=self.pix_fmt, threads=self.threads)
        kept = self if given.get("codec", codec) == codec else other
        return replace(kept, **given)  # type: ignore[arg-type]  # fields of this class


def encoders_here() -> tuple[str, ...]:
    """The common video encoders that the FFmpeg inside PyAV has."""
    return tuple(codec for codec in _COMMON_CODECS if codec in av.codecs_available)


def find_encoder(name: str | None) -> av.Codec:
    """The video encoder of that name; None: DEFAULT_CODEC.

    Raises:
        OutputError: there is none in the FFmpeg that PyAV brings.
    """
    known = encoders_here()
    name = DEFAULT_CODEC if name is None else name
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
    codec = find_encoder(options.codec)
    if options.pix_fmt is None and source.kind == "gray":
        source = replace(source, chroma_shift_x=1, chroma_shift_y=1, kind="yuv")
    return pix_fmt_among(tuple(_carriers(codec)), options.pix_fmt, source, codec.name)


def pix_fmt_among(carriers: tuple[str, ...], asked: str | None, source: PixelFormat, what: str) -> PixelFormat:
    """The one asked for, else the one nearest to the source; `what` takes them.

    Raises:
        OutputError: no such format, or not among them.
    """
    if asked is None:
        return min((PIXEL_FORMATS[name] for name in carriers), key=lambda target: _distance(source, target))
    try:
        pix_fmt, _ = nearest_planar(asked)
    except ValueError as error:
        raise OutputError(f"no pixel format {asked!r}; {nearest_names(asked, carriers)}") from error
    if pix_fmt.name not in carriers:
        raise OutputError(f"{what} does not take pixel format {asked}; it takes: {', '.join(carriers)}")
    return pix_fmt


def format_remarks(options: EncoderOptions, source: PixelFormat, target: PixelFormat) -> list[str]:
    """What a user should be told of the format chosen for an output, one line for each loss that was not asked for."""
    if options.pix_fmt is not None or not loses(source, target):
        return []
    hint = "; libx265 and ffv1 keep 12 bits" if target.bits < source.bits == 12 else ""
    nearest = f"the nearest that {options.codec or DEFAULT_CODEC} takes{hint}"
    return [Warn(f"{source.name} is written as {target.name}, {nearest}")]


def loses(source: PixelFormat, target: PixelFormat) -> bool:
    """Whether the target holds less than the source: fewer bits, coarser colour or none."""
    coarser = target.chroma_shift_x > source.chroma_shift_x or target.chroma_shift_y > source.chroma_shift_y
    loses_colour = source.kind != "gray" and (target.kind == "gray" or (target.kind == "yuv" and coarser))
    return target.bits < source.bits or loses_colour


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
    """The encoder's private options, and a line for each wish it does not know.

    Raises:
        OutputError: `options.encode` has a key that the encoder does not know.
    """
    supported = av.CodecContext.create(codec, "w").supported_options
    known = {option.name for option in supported.private}
    general = {
        option.name for option in supported.generic if int(option.flags) & _ENCODING and int(option.flags) & _VIDEO
    }
    extra = {key: str(value) for key, value in dict(options.encode).items()}
    for key in extra:
        _check_key(key, codec.name, known, general - known)
    settings: dict[str, str] = {}
    notes: list[str] = []
    if options.preset is not None:
        if "preset" in known:
            settings["preset"] = options.preset
        else:
            notes.append(Warn(f"encoder {codec.name} has no presets, {options.preset!r} is not used"))
    if codec.name == "libx265":
        # It writes its own report to stderr, past FFmpeg's log.
        settings["x265-params"] = "log-level=error:lossless=1" if options.crf == 0 else "log-level=error"
    if codec.name in ("libx264", "libx264rgb") and cv2.checkHardwareSupport(_AVX512_SKX):
        # With AVX-512 its macroblock tree reads past the end of rows whose number of macroblocks is no multiple of 8:
        # the same frames give other packets from run to run. With AVX2 they do not.
        settings["x264-params"] = "asm=avx2"
    if "forced-idr" in known:
        settings["forced-idr"] = "1"  # a keyframe that the writer asks for is one that nothing before it leans on
    crf = _DEFAULT_CRF.get(codec.name) if options.crf is None and not _tells_quality(extra) else options.crf
    if crf == 0 and codec.name in ("libx264", "libx264rgb"):
        settings["qp"] = "0"  # the same as crf 0 at 8 bits, and lossless at 10 bits too
    elif crf is not None and "crf" in known:
        settings["crf"] = str(crf)
    elif crf is not None:
        own = "; -e cq=N is its own" if "cq" in known else ""
        notes.append(Warn(f"encoder {codec.name} has no crf, {crf} is not used{own}"))
    for name in ("x264-params", "x265-params"):
        if name in extra and name in settings:
            extra[name] = f"{settings[name]}:{extra[name]}"
    settings.update(extra)
    return settings, notes


def _check_key(key: str, codec: str, known: set[str], general: set[str]) -> None:
    if key in _OWN_OPTIONS:
        raise OutputError(f"-e {key} is not for you to set: it is written as the input has it")
    if key in known or key in general:
        return
    # The encoder's own names first: of two that are as near they are the likelier ones.
    near = difflib.get_close_matches(key, [*sorted(known), *sorted(general)], n=1, cutoff=0.0)
    raise OutputError(
        f"encoder {codec} has no option {key!r}; the nearest is {near[0]!r}, and ffmpeg -h encoder={codec} lists all"
    )


def _tells_quality(extra: Mapping[str, str]) -> bool:
    params = ":".join(value for key, value in extra.items() if key.endswith("-params"))
    return not _QUALITY_OPTIONS.isdisjoint(extra) or any(word in params for word in _QUALITY_PARAMS)


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
    if not carriers and any(not video_format.components for video_format in codec.video_formats):
        raise OutputError(
            f"encoder {codec.name} takes only frames that lie in a device's memory, which are not written here; "
            f"known: {', '.join(encoders_here())}"
        )
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
