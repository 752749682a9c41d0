"""Cases of benchmarks/formats.py, first half: containers and codecs, time, shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

FRAMES = 12
SECONDS = Fraction(FRAMES, 25)
PICTURES = "-f lavfi -i testsrc2=s=64x48:r=25"
SOUND = "-f lavfi -i sine=r=48000"
NOISE = "-vf noise=alls=30:allf=t"
X264 = "-c:v libx264 -preset veryfast -bf 0"


@dataclass(frozen=True)
class Case:
    """One clip and one run.

    Attributes:
        part: of the table; name: what the clip is, in the table.
        file: its name; make: ffmpeg's arguments, a run each, in the clip's folder.
        options: of vidtrans.upsample.
        outputs: names of both, or of the one for both.
        differs: facts that differ from the input's in the outputs, and why; differs_to: in the second one, where it is
            not the same.
        piped: the first output goes through a FIFO; pipe_in: so does the input.
        read_input, read_output: what ffprobe and ffmpeg must be told to read them.
        compared: the filter through which the input's pictures go before they are compared; "": they are not.
        decibels: how like they must be.
        transposed: a display matrix exchanges width and height.
        change: what is done to the clip in Python; beside: files that its making needs.
        sound_slack: seconds by which containers cannot tell where sound begins and ends.
    """

    part: str
    name: str
    file: str
    make: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("out.mp4", "to.mp4")
    differs: Mapping[str, str] = field(default_factory=dict)
    differs_to: Mapping[str, str] | None = None
    piped: bool = False
    pipe_in: bool = False
    read_input: tuple[str, ...] = ()
    read_output: tuple[tuple[str, ...], ...] = ()
    compared: str = "null"
    decibels: float = 28.0
    transposed: bool = False
    change: Callable[[Path], None] | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)
    sound_slack: Fraction = Fraction(0)

    @property
    def told(self) -> tuple[str, ...]:
        """The options as on the command line."""
        words = []
        for name, value in self.options.items():
            flag = f"--{name.replace('_', '-')}"
            shown = f"{value[0]}x{value[1]}" if isinstance(value, tuple) else value
            if isinstance(value, dict):
                shown = " ".join(f"{key}={word}" for key, word in value.items())
            words.append(flag if value is True else f"{flag} {shown}")
        return tuple(words)


def clip(
    encoder: str,
    file: str,
    *,
    pictures: str = PICTURES,
    sound: str | None = "",
    frames: int = FRAMES,
    before: str = "",
    after: str = "",
) -> tuple[str, ...]:
    """One ffmpeg run: pictures and sound (None: no sound) through an encoder into a file."""
    seconds = float(Fraction(frames, 25))
    inputs = f"{before} {pictures}" + ("" if sound is None else f" {SOUND}")
    # Sound would end where ffmpeg has counted enough frames.
    ends = f"-frames:v {frames}" if sound is None else f"-t {seconds}"
    return (f"{inputs} {encoder} {sound or ''} {ends} {after} {file}",)


CASES: list[Case] = []
VIEWED = {"pix_fmt": "stored as 4:2:0, which plays everywhere"}
RGB = dict.fromkeys(("pix_fmt", "range", "matrix"), "RGB is stored as tagged 4:2:0, which plays everywhere")
BEHIND = "no decoding time lies below zero there, so all begins later, in step"
AVI = {
    "length": "AVI counts in steps of its rate, and shows the last picture for one",
    "rate": "AVI counts in steps of its rate, and shows the last picture for one",
}
# What containers other than MP4 and MOV do with the first decoding times of H.264 and H.265, and with hidden sound.
PRIMING = {"start": "sound that MP4 hides, which decoders need to start, shows there, so all begins later, in step"}
START: dict[str, dict[str, str]] = {
    **{suffix: {"start": BEHIND} for suffix in ("nut", "ts", "flv")},
    "mkv": PRIMING,
    "avi": AVI,
}
_MP2 = {"sound": "copied; MP4 has one name for MP2 and MP3"}


def _kind(name: str, file: str, encoder: str, *, sound: str | None = "-c:a aac", **more: Any) -> None:
    make = more.pop("make", None) or clip(encoder, file, sound=sound)
    CASES.append(Case("Containers and codecs", name, file, make, **more))


_kind("MP4, H.264, AAC", "in.mp4", "-c:v libx264 -pix_fmt yuv420p")
_kind("MP4 in fragments", "in.mp4", f"{X264} -pix_fmt yuv420p -movflags frag_keyframe+empty_moov")
_kind("MP4, H.265, AC-3", "in.mp4", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p", sound="-c:a ac3")
_kind("MP4, AV1", "in.mp4", "-c:v libsvtav1 -preset 12 -s 64x64 -pix_fmt yuv420p", sound=None)
_kind("MP4, MPEG-4", "in.mp4", "-c:v mpeg4 -bf 2 -q:v 2", sound="-c:a mp3")
_kind("3GP, H.263", "in.3gp", "-c:v h263 -s 176x144 -q:v 2", sound="-c:a aac")
_kind("MOV, ProRes 4:2:2 of 10 bits", "in.mov", "-c:v prores_ks", sound="-c:a pcm_s16le", differs=VIEWED)
_kind("MOV, Motion JPEG", "in.mov", "-c:v mjpeg -pix_fmt yuvj420p -q:v 2", sound="-c:a pcm_s16le")
_kind("MOV, DNxHR", "in.mov", "-c:v dnxhd -profile:v dnxhr_sq -s 256x128 -pix_fmt yuv422p", sound=None, differs=VIEWED)
_kind("MOV, QuickTime Animation", "in.mov", "-c:v qtrle -pix_fmt rgb24", sound=None, differs=RGB)
_kind("MKV, H.264, AAC", "in.mkv", "-c:v libx264 -pix_fmt yuv420p", outputs=("out.mkv", "to.mkv"))
_kind("MKV, FFV1, FLAC", "in.mkv", "-c:v ffv1 -pix_fmt yuv420p", sound="-c:a flac", outputs=("out.mkv", "to.mkv"))
_kind(
    "MKV, Theora, Vorbis",
    "in.mkv",
    f"{NOISE} -c:v libtheora -q:v 9",
    sound="-c:a libvorbis",
    outputs=("out.mkv", "to.mkv"),
)
_kind("WebM, VP9, Opus", "in.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", sound="-c:a libopus")
_kind("WebM, VP8, Vorbis", "in.webm", "-c:v libvpx -deadline realtime -cpu-used 8", sound="-c:a libvorbis")
_kind(
    "WebM into WebM",
    "in.webm",
    "-c:v libvpx-vp9 -deadline realtime -cpu-used 8",
    sound="-c:a libopus",
    outputs=("out.webm", "to.webm"),
)
_kind("MPEG-TS, H.264, AAC", "in.ts", "-c:v libx264 -pix_fmt yuv420p")
_kind("MPEG-TS, MPEG-2, MP2", "in.ts", "-c:v mpeg2video -bf 2 -q:v 2", sound="-c:a mp2", differs=_MP2)
_kind("MPEG-PS, MPEG-2, MP2", "in.mpg", "-c:v mpeg2video -bf 2 -q:v 2", sound="-c:a mp2", differs=_MP2)
_kind("AVI, MPEG-4, MP3", "in.avi", "-c:v mpeg4 -q:v 2", sound="-c:a mp3")
_kind(
    "AVI, H.264 with B-frames",
    "in.avi",
    "-c:v libx264 -pix_fmt yuv420p",
    sound=None,
    differs={"start": "AVI does not say when pictures are shown: from the first one on"},
)
_kind("AVI, Ut Video, PCM", "in.avi", "-c:v utvideo -pix_fmt yuv420p", sound="-c:a pcm_s16le")
_kind("AVI, raw", "in.avi", "-c:v rawvideo -pix_fmt yuv420p", sound="-c:a pcm_s16le")
_kind("FLV, H.264, AAC", "in.flv", "-c:v libx264 -pix_fmt yuv420p")
_kind("FLV, Sorenson", "in.flv", "-c:v flv1 -q:v 2", sound="-c:a mp3 -ar 44100")
_kind(
    "ASF, WMV2, WMA",
    "in.wmv",
    "-c:v wmv2 -q:v 2",
    sound="-c:a wmav2",
    differs={"sound": "WMA is left out, MP4 cannot hold it"},
)
_kind("Ogg, Theora, Vorbis", "in.ogv", f"{NOISE} -c:v libtheora -q:v 9", sound="-c:a libvorbis")
_kind(
    "MXF, MPEG-2 4:2:2",
    "in.mxf",
    "-c:v mpeg2video -pix_fmt yuv422p -q:v 2",
    sound="-c:a pcm_s16le",
    differs={**VIEWED, "chroma": "at the left, where chroma that is made smaller is put"},
)
_kind("NUT, FFV1, PCM", "in.nut", "-c:v ffv1 -pix_fmt yuv420p", sound="-c:a pcm_s16le")
_kind("y4m", "in.y4m", "-pix_fmt yuv420p", sound=None)
_kind("DV", "in.dv", "-c:v dvvideo -s 720x576 -pix_fmt yuv420p", sound=None)
_kind("GIF", "in.gif", "-c:v gif", sound=None, differs=RGB)
_kind("APNG", "in.apng", "-c:v apng -f apng", sound=None, differs=RGB)
_kind("IVF, VP9", "in.ivf", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", sound=None)
_kind("bare H.264", "in.h264", "-c:v libx264 -pix_fmt yuv420p", sound=None)
_kind("bare H.265", "in.hevc", "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p", sound=None)
_kind("bare MPEG-2", "in.m2v", "-c:v mpeg2video -q:v 2", sound=None)


def _time(name: str, file: str, make: tuple[str, ...], options: Mapping[str, Any] | None = None, **more: Any) -> None:
    CASES.append(Case("Time", name, file, make, options or {}, **more))


_rate = "-f lavfi -i testsrc2=s=64x48:r={}"
for _r in ("24000/1001", "30000/1001", "24", "60", "12.5"):
    for _suffix in ("mp4", "mkv"):
        _time(
            f"{_r} per second, {_suffix}",
            f"in.{_suffix}",
            clip(f"{X264} -pix_fmt yuv420p", f"in.{_suffix}", pictures=_rate.format(_r), sound="-c:a aac"),
            outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        )
_vfr = "-vf setpts='(N+mod(N*N,3)*0.3)/25/TB' -fps_mode vfr -enc_time_base 1/90000"
for _suffix in ("mp4", "mkv"):
    for _options in ({}, {"factor": "5/2"}, {"factor": 8}, {"fps": "60000/1001"}, {"slowmo": True}):
        _time(
            f"variable rate, {_suffix}",
            f"in.{_suffix}",
            clip(f"{X264} -pix_fmt yuv420p {_vfr}", f"in.{_suffix}", sound="-c:a aac"),
            _options,
            outputs=(f"out.{_suffix}", f"to.{_suffix}"),
            compared="" if "fps" in _options or _options.get("factor") == "5/2" else "null",
        )
_plain = clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound="-c:a aac")
for _options in (
    {"factor": 1},
    {"factor": 3},
    {"factor": "5/2"},
    {"factor": 8},
    {"fps": 60},
    {"fps": 10},
    {"slowmo": True},
    {"tail": "drop"},
    {"fps": 60, "tail": "drop"},
    {"start": "0.12"},
    {"end": "0.3"},
    {"start": "0.1", "end": "0.33"},
):
    _is_cut = "start" in _options or "end" in _options
    _time(
        "25 per second",
        "in.mp4",
        _plain,
        _options,
        compared="null" if set(_options) <= {"factor", "slowmo"} and _options.get("factor") != "5/2" else "",
        sound_slack=Fraction(1, 20) if _is_cut else Fraction(0),
    )
_time("starts at 3 s", "in.mkv", clip(f"{X264} -pix_fmt yuv420p -output_ts_offset 3", "in.mkv", sound="-c:a aac"))
_time("starts at 1.4 s, MPEG-TS", "in.ts", clip(f"{X264} -pix_fmt yuv420p", "in.ts", sound="-c:a aac"))
_time(
    "sound begins 0.2 s later",
    "in.mkv",
    (f"{PICTURES} -itsoffset 0.2 {SOUND} {X264} -pix_fmt yuv420p -c:a aac -t 0.48 in.mkv",),
)
_time(
    "pictures begin 0.2 s later",
    "in.mkv",
    (f"-itsoffset 0.2 {PICTURES} {SOUND} {X264} -pix_fmt yuv420p -c:a aac -t 0.68 -fps_mode passthrough in.mkv",),
    outputs=("out.mkv", "to.mkv"),
)
_time(
    "decoding times begin below zero",
    "in.mp4",
    clip("-c:v libx264 -bf 3 -pix_fmt yuv420p -movflags +negative_cts_offsets", "in.mp4", sound="-c:a aac"),
)
_time(
    "edit list that hides pictures",
    "in.mp4",
    (
        f"{PICTURES} {SOUND} -c:v libx264 -g 30 -pix_fmt yuv420p -c:a aac -t 1 whole.mp4",
        "-ss 0.22 -i whole.mp4 -c copy -t 0.6 in.mp4",
    ),
    compared="",
)
_time(
    "B-frames in a pyramid",
    "in.mp4",
    clip("-c:v libx264 -bf 5 -b_strategy 0 -x264-params b-pyramid=normal -pix_fmt yuv420p", "in.mp4", sound="-c:a aac"),
)
_time("a single frame", "in.mp4", clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound=None, frames=1))
_time("two frames", "in.mkv", clip(f"{X264} -pix_fmt yuv420p", "in.mkv", sound=None, frames=2))


def _shape(name: str, file: str, make: tuple[str, ...], options: Mapping[str, Any] | None = None, **more: Any) -> None:
    CASES.append(Case("Shape", name, file, make, options or {}, **more))


for _suffix in ("mp4", "mkv"):
    for _turn in (90, 180, 270):
        _shape(
            f"turned by {_turn} degrees, {_suffix}",
            f"in.{_suffix}",
            (
                *clip(f"{X264} -pix_fmt yuv420p", "whole.mp4", sound=None),
                f"-i whole.mp4 -c copy -metadata:s:v:0 rotate={_turn} turned.mp4",
                f"-i turned.mp4 -c copy in.{_suffix}",
            ),
            transposed=_turn != 180,
            outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        )
for _suffix in ("mp4", "mov", "mkv", "webm", "avi", "nut"):
    _codec = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8" if _suffix == "webm" else f"{X264} -pix_fmt yuv420p"
    _shape(
        f"pixels of 16:11, {_suffix}",
        f"in.{_suffix}",
        clip(f"-vf setsar=16/11 {_codec}", f"in.{_suffix}", sound=None),
        outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        differs=({"start": BEHIND} if _suffix == "nut" else {})
        | ({"shape": "VP9 in WebM does not hold it; a line says so"} if _suffix == "webm" else {}),
    )
for _size, _pix_fmt, _options, _differs in (
    ("63x47", "yuv420p", {}, {"pix_fmt": "odd sizes are stored as 4:4:4"}),
    (
        "63x47",
        "yuv420p",
        {"pix_fmt": "yuv420p"},
        {"size": "4:2:0 has even sizes, the last are repeated"},
    ),
    ("63x47", "yuv444p", {}, {}),
    ("63x48", "yuv422p", {"codec": "ffv1"}, {}),
    ("16x16", "yuv420p", {}, {}),
    ("1920x1080", "yuv420p", {}, {}),
):
    _shape(
        f"{_size} {_pix_fmt}",
        "in.mkv",
        clip(
            f"-vf scale={_size.replace('x', ':')} -c:v ffv1 -pix_fmt {_pix_fmt}",
            "in.mkv",
            sound=None,
            frames=4 if "1920" in _size else FRAMES,
        ),
        _options,
        outputs=("out.mkv", "to.mkv"),
        differs=_differs,
        compared="" if "size" in _differs else "null",
    )
for _order, _flags in (("tff", "-top 1"), ("bff", "-top 0")):
    _shape(
        f"interlaced, {_order}",
        "in.ts",
        (
            f"-f lavfi -i testsrc2=s=64x48:r=50 -vf interlace=scan={_order} -c:v mpeg2video -q:v 2 "
            f"-flags +ildct+ilme {_flags} -frames:v 12 in.ts",
        ),
        compared="bwdif=mode=send_frame",
    )
_shape(
    "interlaced",
    "in.mp4",
    (
        "-f lavfi -i testsrc2=s=64x48:r=50 -vf interlace=scan=tff -c:v libx264 -flags +ildct+ilme -x264-params tff=1 "
        "-pix_fmt yuv420p -frames:v 12 in.mp4",
    ),
    {"deinterlace": "off"},
)
