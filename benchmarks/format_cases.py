"""The cases of benchmarks/formats.py: clips that the ffmpeg program makes, what vidtrans is told, what differs by design."""

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
_VIEWED = {"pix_fmt": "stored as 4:2:0, which plays everywhere"}
_RGB = dict.fromkeys(("pix_fmt", "range", "matrix"), "RGB is stored as tagged 4:2:0, which plays everywhere")
_BEHIND = "no decoding time lies below zero there, so all begins later, in step"
_AVI = {
    "length": "AVI counts in steps of its rate, and shows the last picture for one",
    "rate": "AVI counts in steps of its rate, and shows the last picture for one",
}
# What containers other than MP4 and MOV do with the first decoding times of H.264 and H.265, and with hidden sound.
_PRIMING = {"start": "sound that MP4 hides, which decoders need to start, shows there, so all begins later, in step"}
_START: dict[str, dict[str, str]] = {
    **dict.fromkeys(("nut", "ts", "flv"), {"start": _BEHIND}),
    "mkv": _PRIMING,
    "avi": _AVI,
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
_kind("MOV, ProRes 4:2:2 of 10 bits", "in.mov", "-c:v prores_ks", sound="-c:a pcm_s16le", differs=_VIEWED)
_kind("MOV, Motion JPEG", "in.mov", "-c:v mjpeg -pix_fmt yuvj420p -q:v 2", sound="-c:a pcm_s16le")
_kind("MOV, DNxHR", "in.mov", "-c:v dnxhd -profile:v dnxhr_sq -s 256x128 -pix_fmt yuv422p", sound=None, differs=_VIEWED)
_kind("MOV, QuickTime Animation", "in.mov", "-c:v qtrle -pix_fmt rgb24", sound=None, differs=_RGB)
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
_kind("WebM into WebM", "in.webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8", sound="-c:a libopus",
      outputs=("out.webm", "to.webm"))  # fmt: skip
_kind("MPEG-TS, H.264, AAC", "in.ts", "-c:v libx264 -pix_fmt yuv420p")
_kind("MPEG-TS, MPEG-2, MP2", "in.ts", "-c:v mpeg2video -bf 2 -q:v 2", sound="-c:a mp2", differs=_MP2)
_kind("MPEG-PS, MPEG-2, MP2", "in.mpg", "-c:v mpeg2video -bf 2 -q:v 2", sound="-c:a mp2", differs=_MP2)
_kind("AVI, MPEG-4, MP3", "in.avi", "-c:v mpeg4 -q:v 2", sound="-c:a mp3")
_kind("AVI, H.264 with B-frames", "in.avi", "-c:v libx264 -pix_fmt yuv420p", sound=None,
      differs={"start": "AVI does not say when pictures are shown: from the first one on"})  # fmt: skip
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
_kind("MXF, MPEG-2 4:2:2", "in.mxf", "-c:v mpeg2video -pix_fmt yuv422p -q:v 2", sound="-c:a pcm_s16le",
      differs={**_VIEWED, "chroma": "at the left, where chroma that is made smaller is put"})  # fmt: skip
_kind("NUT, FFV1, PCM", "in.nut", "-c:v ffv1 -pix_fmt yuv420p", sound="-c:a pcm_s16le")
_kind("y4m", "in.y4m", "-pix_fmt yuv420p", sound=None)
_kind("DV", "in.dv", "-c:v dvvideo -s 720x576 -pix_fmt yuv420p", sound=None)
_kind("GIF", "in.gif", "-c:v gif", sound=None, differs=_RGB)
_kind("APNG", "in.apng", "-c:v apng -f apng", sound=None, differs=_RGB)
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
    {"factor": 1}, {"factor": 3}, {"factor": "5/2"}, {"factor": 8}, {"fps": 60}, {"fps": 10}, {"slowmo": True},
    {"tail": "drop"}, {"fps": 60, "tail": "drop"}, {"start": "0.12"}, {"end": "0.3"}, {"start": "0.1", "end": "0.33"},
):  # fmt: skip
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
_time("sound begins 0.2 s later", "in.mkv",
      (f"{PICTURES} -itsoffset 0.2 {SOUND} {X264} -pix_fmt yuv420p -c:a aac -t 0.48 in.mkv",))  # fmt: skip
_time("pictures begin 0.2 s later", "in.mkv",
      (f"-itsoffset 0.2 {PICTURES} {SOUND} {X264} -pix_fmt yuv420p -c:a aac -t 0.68 -fps_mode passthrough in.mkv",),
      outputs=("out.mkv", "to.mkv"))  # fmt: skip
_time("decoding times begin below zero", "in.mp4",
      clip("-c:v libx264 -bf 3 -pix_fmt yuv420p -movflags +negative_cts_offsets", "in.mp4", sound="-c:a aac"))  # fmt: skip
_time("edit list that hides pictures", "in.mp4",
      (f"{PICTURES} {SOUND} -c:v libx264 -g 30 -pix_fmt yuv420p -c:a aac -t 1 whole.mp4",
       "-ss 0.22 -i whole.mp4 -c copy -t 0.6 in.mp4"), compared="")  # fmt: skip
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
            (*clip(f"{X264} -pix_fmt yuv420p", "whole.mp4", sound=None),
             f"-i whole.mp4 -c copy -metadata:s:v:0 rotate={_turn} turned.mp4", f"-i turned.mp4 -c copy in.{_suffix}"),
            transposed=_turn != 180,
            outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        )  # fmt: skip
for _suffix in ("mp4", "mov", "mkv", "webm", "avi", "nut"):
    _codec = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8" if _suffix == "webm" else f"{X264} -pix_fmt yuv420p"
    _shape(
        f"pixels of 16:11, {_suffix}",
        f"in.{_suffix}",
        clip(f"-vf setsar=16/11 {_codec}", f"in.{_suffix}", sound=None),
        outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        differs=({"start": _BEHIND} if _suffix == "nut" else {})
        | ({"shape": "VP9 in WebM does not hold it; a line says so"} if _suffix == "webm" else {}),
    )
for _size, _pix_fmt, _options, _differs in (
    ("63x47", "yuv420p", {}, {"pix_fmt": "odd sizes are stored as 4:4:4"}),
    (
        "63x47",
        "yuv420p",
        {"pix_fmt": "yuv420p"},
        {"size": "H.264 in 4:2:0 has even sizes: a column and a row are repeated"},
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
        (f"-f lavfi -i testsrc2=s=64x48:r=50 -vf interlace=scan={_order} -c:v mpeg2video -q:v 2 -flags +ildct+ilme {_flags} "
         "-frames:v 12 in.ts",),
        compared="bwdif=mode=send_frame",
    )  # fmt: skip
_shape(
    "interlaced",
    "in.mp4",
    ("-f lavfi -i testsrc2=s=64x48:r=50 -vf interlace=scan=tff -c:v libx264 -flags +ildct+ilme -x264-params tff=1 "
     "-pix_fmt yuv420p -frames:v 12 in.mp4",),
    {"deinterlace": "off"},
)  # fmt: skip


def _colour(name: str, file: str, encoder: str, options: Mapping[str, Any] | None = None, **more: Any) -> None:
    make = clip(encoder, file, sound=None, pictures=more.pop("pictures", PICTURES))
    CASES.append(Case("Depth and colour", name, file, make, options or {}, **more))


_ffv1 = {"codec": "ffv1"}
_mkv = ("out.mkv", "to.mkv")
for _pix_fmt in (
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p10le",
    "yuv420p12le",
    "yuv444p12le",
    "gbrp",
    "gbrp10le",
    "gbrp12le",
):
    _colour(_pix_fmt, "in.mkv", f"-c:v ffv1 -pix_fmt {_pix_fmt}", _ffv1, outputs=_mkv, decibels=999)
_colour("gray", "in.mkv", "-c:v ffv1 -pix_fmt gray", _ffv1, outputs=_mkv,
        differs={"pix_fmt": "grey is stored as 4:2:0 with the same luma"})  # fmt: skip
_colour("gray", "in.mkv", "-c:v ffv1 -pix_fmt gray", {**_ffv1, "pix_fmt": "gray"}, outputs=_mkv, decibels=999)
_colour(
    "yuva420p", "in.mkv", "-c:v ffv1 -pix_fmt yuva420p", _ffv1, outputs=_mkv, differs={"pix_fmt": "alpha is left out"}
)
_colour("rgba", "in.mov", "-c:v png -pix_fmt rgba", _ffv1, outputs=_mkv,
        differs={"pix_fmt": "alpha is left out", "matrix": "RGB, as PNG does not need to say"})  # fmt: skip
_deep = {"yuv420p10le": {}, "yuv422p10le": _VIEWED, "yuv444p": _VIEWED, "gbrp": _RGB,
         "yuv420p12le": {"pix_fmt": "H.264 has no 12 bits, 10 are kept"}}  # fmt: skip
for _pix_fmt, _differs in _deep.items():
    _colour(_pix_fmt, "in.mkv", f"-c:v ffv1 -pix_fmt {_pix_fmt}", differs=_differs)
_colour(
    "yuv420p12le",
    "in.mkv",
    "-c:v ffv1 -pix_fmt yuv420p12le",
    {"codec": "libx265", "encode": {"x265-params": "log-level=none"}},
)
_colour("nv12", "in.avi", "-c:v rawvideo -pix_fmt nv12", _ffv1, outputs=_mkv,
        differs={"pix_fmt": "the same code values, in three planes"})  # fmt: skip
for _word, _matrix, _more in (
    ("BT.601", "smpte170m", "-color_primaries smpte170m -color_trc smpte170m"),
    ("BT.601 625", "bt470bg", "-color_primaries bt470bg -color_trc gamma28"),
    ("BT.709", "bt709", "-color_primaries bt709 -color_trc bt709"),
    ("BT.2020", "bt2020nc", "-color_primaries bt2020 -color_trc bt2020-10"),
    ("PQ", "bt2020nc", "-color_primaries bt2020 -color_trc smpte2084"),
    ("HLG", "bt2020nc", "-color_primaries bt2020 -color_trc arib-std-b67"),
):
    for _range in ("tv", "pc"):
        _hdr = dict.fromkeys(("matrix", "primaries", "transfer"), "the translation is SDR")
        _colour(
            f"{_word}, range {_range}",
            "in.mp4",
            f"{X264} -pix_fmt yuv420p10le -colorspace {_matrix} {_more} -color_range {_range}",
            differs_to=_hdr if _word in ("PQ", "HLG") else None,
        )
for _suffix, _codec in (
    ("webm", "libvpx-vp9"),
    ("mov", "prores_ks"),
    ("mkv", "ffv1"),
    ("mp4", "libx265"),
    ("mp4", "libsvtav1"),
):
    _colour(
        "BT.709, tagged, 4:2:0 of 8 bits",
        "in.mp4",
        f"-vf scale=64:64,setsar=1 {X264} -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
        {"codec": _codec},
        outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        differs={"pix_fmt": "ProRes is 4:2:2 of 10 bits"} if _codec == "prores_ks" else {},
    )
_colour("untagged", "in.mp4", f"{X264} -pix_fmt yuv420p", {"color_matrix": "bt709", "color_primaries": "bt709", "color_trc": "bt709"},
        differs=dict.fromkeys(("matrix", "primaries", "transfer"), "as told"))  # fmt: skip
_colour("chroma at the centre", "in.mp4", f"{X264} -pix_fmt yuv420p -chroma_sample_location center")
_colour("chroma top left", "in.mp4", f"{X264} -pix_fmt yuv420p -chroma_sample_location topleft")

_SUBRIP = b"1\n00:00:00,040 --> 00:00:00,200\nHello\n\n2\n00:00:00,240 --> 00:00:00,440\nworld\n"
_CHAPTERS = (
    b";FFMETADATA1\ntitle=A street\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=One\n"
    b"[CHAPTER]\nTIMEBASE=1/1000\nSTART=200\nEND=480\ntitle=Two\n"
)
_RICH = (
    "-f lavfi -i testsrc2=s=64x64 -frames:v 1 cover.jpg",
    f"{PICTURES} {SOUND} {SOUND} -i a.srt -i c.txt -map 0 -map 1 -map 2 -map 3 -map_metadata 4 -map_chapters 4 {X264} "
    "-pix_fmt yuv420p -c:a:0 aac -c:a:1 ac3 -c:s srt -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu "
    "-metadata:s:s:0 language=fra -t 0.48 -attach font.ttf -metadata:s:t:0 mimetype=font/ttf "
    "-attach cover.jpg -metadata:s:t:1 mimetype=image/jpeg in.mkv",
)
_no = "{} cannot hold them; a line says so"
for _suffix, _lost in (
    ("mkv", {}),
    ("mp4", {"attachments": _no.format("MP4")}),
    (
        "mov",
        {
            **dict.fromkeys(("attachments", "covers"), _no.format("MOV")),
            "sound": "MOV has no code for deu; a line says so",
        },
    ),
    (
        "avi",
        {
            "rate": _AVI["rate"],
            **dict.fromkeys(("start", "times"), "AVI begins at zero, its first picture is shown earlier"),
            **dict.fromkeys(("attachments", "covers", "subtitles", "chapters"), _no.format("AVI")),
            "sound": "AVI has no languages; a line says so",
        },
    ),
    ("nut", {"start": _BEHIND, **dict.fromkeys(("attachments", "covers", "subtitles"), _no.format("NUT"))}),
    ("webm", dict.fromkeys(("attachments", "covers", "sound"), _no.format("WebM"))),
):
    for _options in ({}, {"slowmo": True}) if _suffix in ("mkv", "mp4") else ({},):
        CASES.append(
            Case(
                "Carried along",
                "two sound tracks, subtitles, chapters, font, cover, title",
                "in.mkv",
                _RICH,
                _options,
                outputs=(f"out.{_suffix}", f"to.{_suffix}"),
                differs=_lost,
                beside={"a.srt": _SUBRIP, "c.txt": _CHAPTERS, "font.ttf": bytes(range(256))},
            )
        )
for _sound, _suffix, _encoder in (
    ("ALAC", "mp4", "alac"), ("FLAC", "mp4", "flac -strict -2"), ("Opus", "mp4", "libopus"), ("E-AC-3", "mp4", "eac3"),
    ("MP3", "mp4", "libmp3lame"), ("PCM", "mov", "pcm_s24le"), ("DTS", "mkv", "dca -strict -2"),
    ("TrueHD", "mkv", "truehd -strict -2"), ("ALAC", "mkv", "alac"), ("Vorbis", "mkv", "libvorbis"), ("PCM", "avi", "pcm_s16le"),
):  # fmt: skip
    CASES.append(
        Case("Carried along", f"{_sound}", f"in.{'mkv' if _suffix == 'avi' else _suffix}",
             clip(f"{X264} -pix_fmt yuv420p", f"in.{'mkv' if _suffix == 'avi' else _suffix}", sound=f"-c:a {_encoder}"),
             outputs=(f"out.{_suffix}", f"to.{_suffix}"), differs=_AVI if _suffix == "avi" else {},
             sound_slack=Fraction(1, 20) if _suffix == "avi" else Fraction(0))
    )  # fmt: skip
CASES.append(Case("Carried along", "no sound", "in.mp4", clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound=None)))


def _output(options: Mapping[str, Any], outputs: tuple[str, ...], **more: Any) -> None:
    make = clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound="-c:a aac")
    CASES.append(Case("Outputs", "MP4, H.264, AAC", "in.mp4", make, options, outputs, **more))


_lacks = {"sound": "it holds pictures only; a line says so"}
for _suffix in ("mov", "m4v", "avi", "nut", "ts", "flv"):
    _output(
        {},
        (f"out.{_suffix}", f"to.{_suffix}"),
        differs=_START.get(_suffix, {}),
        sound_slack=Fraction(1, 20) if _suffix == "avi" else Fraction(0),
    )
for _codec, _suffix, _options, _differs in (
    ("libx264rgb", "mkv", {"crf": 0}, {**dict.fromkeys(("pix_fmt", "range", "matrix"), "RGB, as asked")}),
    ("libx264", "mp4", {"crf": 0}, {}),
    ("libx265", "mp4", {"preset": "ultrafast", "encode": {"x265-params": "log-level=none"}}, {}),
    ("libsvtav1", "mp4", {"preset": "12", "encode": {"crf": "20"}}, {}),
    (
        "libvpx-vp9",
        "webm",
        {"encode": {"deadline": "realtime"}},
        {"sound": "WebM takes Opus and Vorbis only; a line says so"},
    ),
    ("mpeg4", "avi", {"encode": {"b": "2M"}}, {}),
    (
        "mjpeg",
        "mov",
        {"encode": {"strict": "unofficial"}},
        dict.fromkeys(("matrix", "chroma"), "Motion JPEG has no tags, readers take it so"),
    ),
    ("prores_ks", "mov", {}, {"pix_fmt": "ProRes is 4:2:2 of 10 bits"}),
    ("ffv1", "mkv", {}, {}),
    ("png", "mov", {}, dict.fromkeys(("pix_fmt", "range"), "PNG is RGB")),
    ("utvideo", "avi", {}, {"matrix": "Ut Video has no tag for none"}),
    ("huffyuv", "avi", {}, {"pix_fmt": "HuffYUV has no 4:2:0"}),
):
    _output(
        {"codec": _codec, **_options},
        (f"out.{_suffix}", f"to.{_suffix}"),
        differs={**_START.get(_suffix, {}), **_differs},
        decibels=25.0,
        sound_slack=Fraction(1, 20) if _suffix == "avi" else Fraction(0),
    )
_output({"codec_to": "ffv1"}, ("out.mp4", "to.mkv"), differs_to=_PRIMING)
_output({"mux": "both"}, ("both.mkv",), differs=_PRIMING)
_output({"mux": "both"}, ("both.nut",), differs={"start": _BEHIND})
_output({"out_format": "y4m"}, ("out.y4m", "to.mp4"), piped=True, differs=_lacks, differs_to={})
_output(
    {"out_format": "nut", "codec": "ffv1", "codec_to": "libx264"},
    ("out.nut", "to.mp4"),
    piped=True,
    differs=_PRIMING,
    differs_to={},
)
_output({"out_format": "matroska"}, ("out.mkv", "to.mp4"), piped=True, differs=_PRIMING, differs_to={})
_output({"out_format": "mpegts"}, ("out.ts", "to.mp4"), piped=True, differs={"start": _BEHIND}, differs_to={})
_raw = ("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", "64x48", "-framerate", "50")
_output(
    {"out_format": "rawvideo"}, ("out.raw", "to.mp4"), piped=True, differs=_lacks, differs_to={}, read_output=(_raw, ())
)
_images = {**_lacks, "pix_fmt": "images of RGB", "range": "images of RGB"}
_output({}, ("frames/%06d.png", "to.mp4"), read_output=(("-framerate", "50"), ()), differs=_images, differs_to={})
_output({}, ("frames/%06d.tiff", "to.mp4"), read_output=(("-framerate", "50"), ()), differs=_images, differs_to={})
_output(
    {},
    ("frames/%06d.jpg", "to.mp4"),
    read_output=(("-framerate", "50"), ()),
    differs={**_lacks, **dict.fromkeys(("pix_fmt", "range", "matrix", "chroma"), "as JPEG images are")},
    differs_to={},
)


def _input(name: str, file: str, make: tuple[str, ...], options: Mapping[str, Any] | None = None, **more: Any) -> None:
    CASES.append(Case("Inputs that are no files", name, file, make, options or {}, **more))


_input("y4m through a pipe", "in.y4m", clip("-pix_fmt yuv420p", "in.y4m", sound=None), pipe_in=True)
_input("y4m of 10 bits through a pipe", "in.y4m", clip("-pix_fmt yuv422p10le -strict -1", "in.y4m", sound=None), _ffv1,
       pipe_in=True, outputs=_mkv, decibels=999)  # fmt: skip
_form = ("-f", "rawvideo", "-pixel_format", "nv12", "-video_size", "64x48", "-framerate", "30000/1001")
_input("rawvideo through a pipe", "in.raw", clip("-pix_fmt nv12 -f rawvideo", "in.raw", sound=None),
       {"in_format": "rawvideo", "size_in": (64, 48), "pix_fmt_in": "nv12", "rate_in": "30000/1001"},
       pipe_in=True, read_input=_form, differs={"pix_fmt": "the same code values, in three planes"})  # fmt: skip
for _suffix, _encoder in (("nut", "-c:v ffv1 -pix_fmt yuv420p"), ("mkv", f"{X264} -pix_fmt yuv420p"),
                          ("ts", f"{X264} -pix_fmt yuv420p"), ("flv", f"{X264} -pix_fmt yuv420p")):  # fmt: skip
    _input(f"{_suffix} through a pipe", f"in.{_suffix}", clip(_encoder, f"in.{_suffix}", sound="-c:a aac"), pipe_in=True,
           differs={"sound": "a pipe cannot be read twice; a line says so"})  # fmt: skip
for _suffix, _pix_fmt in (("png", "rgb24"), ("tiff", "rgb24"), ("bmp", "bgr24"), ("png", "gray")):
    _input(f"images, {_suffix} {_pix_fmt}", f"frames/%03d.{_suffix}", clip(f"-pix_fmt {_pix_fmt}", f"frames/%03d.{_suffix}", sound=None),
           {"rate_in": "25"}, read_input=("-framerate", "25"),
           differs={"pix_fmt": "grey is stored as 4:2:0 with the same luma"} if _pix_fmt == "gray" else _RGB)  # fmt: skip
_input("images, jpg", "frames/%03d.jpg", clip("-q:v 2 -pix_fmt yuvj420p", "frames/%03d.jpg", sound=None), {"rate_in": "24000/1001"},
       read_input=("-framerate", "24000/1001"),
       differs={"chroma": "images do not say; taken as at the left"})  # fmt: skip
