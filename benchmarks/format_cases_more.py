"""Cases of benchmarks/formats.py, second half: colours, what is carried along, outputs and inputs of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from format_cases import AVI, BEHIND, CASES, PICTURES, PRIMING, RGB, SOUND, START, VIEWED, X264, Case, clip


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
_colour(
    "gray",
    "in.mkv",
    "-c:v ffv1 -pix_fmt gray",
    _ffv1,
    outputs=_mkv,
    differs={"pix_fmt": "grey is stored as 4:2:0 with the same luma"},
)
_colour("gray", "in.mkv", "-c:v ffv1 -pix_fmt gray", {**_ffv1, "pix_fmt": "gray"}, outputs=_mkv, decibels=999)
_colour(
    "yuva420p", "in.mkv", "-c:v ffv1 -pix_fmt yuva420p", _ffv1, outputs=_mkv, differs={"pix_fmt": "alpha is left out"}
)
_colour(
    "rgba",
    "in.mov",
    "-c:v png -pix_fmt rgba",
    _ffv1,
    outputs=_mkv,
    differs={"pix_fmt": "alpha is left out", "matrix": "RGB, as PNG does not need to say"},
)
_deep = {
    "yuv420p10le": {},
    "yuv422p10le": VIEWED,
    "yuv444p": VIEWED,
    "gbrp": RGB,
    "yuv420p12le": {"pix_fmt": "H.264 has no 12 bits, 10 are kept"},
}
for _pix_fmt, _differs in _deep.items():
    _colour(_pix_fmt, "in.mkv", f"-c:v ffv1 -pix_fmt {_pix_fmt}", differs=_differs)
_colour(
    "yuv420p12le",
    "in.mkv",
    "-c:v ffv1 -pix_fmt yuv420p12le",
    {"codec": "libx265", "encode": {"x265-params": "log-level=none"}},
)
_colour(
    "nv12",
    "in.avi",
    "-c:v rawvideo -pix_fmt nv12",
    _ffv1,
    outputs=_mkv,
    differs={"pix_fmt": "the same code values, in three planes"},
)
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
        f"-vf scale=64:64,setsar=1 {X264} -pix_fmt yuv420p "
        "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv",
        {"codec": _codec},
        outputs=(f"out.{_suffix}", f"to.{_suffix}"),
        differs={"pix_fmt": "ProRes is 4:2:2 of 10 bits"} if _codec == "prores_ks" else {},
    )
_colour(
    "untagged",
    "in.mp4",
    f"{X264} -pix_fmt yuv420p",
    {"color_matrix": "bt709", "color_primaries": "bt709", "color_trc": "bt709"},
    differs=dict.fromkeys(("matrix", "primaries", "transfer"), "as told"),
)
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
            "rate": AVI["rate"],
            **dict.fromkeys(("start", "times"), "AVI begins at zero, its first picture is shown earlier"),
            **dict.fromkeys(("attachments", "covers", "subtitles", "chapters"), _no.format("AVI")),
            "sound": "AVI has no languages; a line says so",
        },
    ),
    ("nut", {"start": BEHIND, **dict.fromkeys(("attachments", "covers", "subtitles"), _no.format("NUT"))}),
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
    ("ALAC", "mp4", "alac"),
    ("FLAC", "mp4", "flac -strict -2"),
    ("Opus", "mp4", "libopus"),
    ("E-AC-3", "mp4", "eac3"),
    ("MP3", "mp4", "libmp3lame"),
    ("PCM", "mov", "pcm_s24le"),
    ("DTS", "mkv", "dca -strict -2"),
    ("TrueHD", "mkv", "truehd -strict -2"),
    ("ALAC", "mkv", "alac"),
    ("Vorbis", "mkv", "libvorbis"),
    ("PCM", "avi", "pcm_s16le"),
):
    CASES.append(
        Case(
            "Carried along",
            f"{_sound}",
            f"in.{'mkv' if _suffix == 'avi' else _suffix}",
            clip(f"{X264} -pix_fmt yuv420p", f"in.{'mkv' if _suffix == 'avi' else _suffix}", sound=f"-c:a {_encoder}"),
            outputs=(f"out.{_suffix}", f"to.{_suffix}"),
            differs=AVI if _suffix == "avi" else {},
            sound_slack=Fraction(1, 20) if _suffix == "avi" else Fraction(0),
        )
    )
CASES.append(Case("Carried along", "no sound", "in.mp4", clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound=None)))


def _output(options: Mapping[str, Any], outputs: tuple[str, ...], **more: Any) -> None:
    make = clip(f"{X264} -pix_fmt yuv420p", "in.mp4", sound="-c:a aac")
    CASES.append(Case("Outputs", "MP4, H.264, AAC", "in.mp4", make, options, outputs, **more))


_lacks = {"sound": "it holds pictures only; a line says so"}
for _suffix in ("mov", "m4v", "avi", "nut", "ts", "flv"):
    _output(
        {},
        (f"out.{_suffix}", f"to.{_suffix}"),
        differs=START.get(_suffix, {}),
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
        differs={**START.get(_suffix, {}), **_differs},
        decibels=25.0,
        sound_slack=Fraction(1, 20) if _suffix == "avi" else Fraction(0),
    )
_output({"codec_to": "ffv1"}, ("out.mp4", "to.mkv"), differs_to=PRIMING)
_output({"mux": "both"}, ("both.mkv",), differs=PRIMING)
_output({"mux": "both"}, ("both.nut",), differs={"start": BEHIND})
_output({"out_format": "y4m"}, ("out.y4m", "to.mp4"), piped=True, differs=_lacks, differs_to={})
_output(
    {"out_format": "nut", "codec": "ffv1", "codec_to": "libx264"},
    ("out.nut", "to.mp4"),
    piped=True,
    differs=PRIMING,
    differs_to={},
)
_output({"out_format": "matroska"}, ("out.mkv", "to.mp4"), piped=True, differs=PRIMING, differs_to={})
_output({"out_format": "mpegts"}, ("out.ts", "to.mp4"), piped=True, differs={"start": BEHIND}, differs_to={})
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
_input(
    "y4m of 10 bits through a pipe",
    "in.y4m",
    clip("-pix_fmt yuv422p10le -strict -1", "in.y4m", sound=None),
    _ffv1,
    pipe_in=True,
    outputs=_mkv,
    decibels=999,
)
_form = ("-f", "rawvideo", "-pixel_format", "nv12", "-video_size", "64x48", "-framerate", "30000/1001")
_input(
    "rawvideo through a pipe",
    "in.raw",
    clip("-pix_fmt nv12 -f rawvideo", "in.raw", sound=None),
    {"in_format": "rawvideo", "size_in": (64, 48), "pix_fmt_in": "nv12", "rate_in": "30000/1001"},
    pipe_in=True,
    read_input=_form,
    differs={"pix_fmt": "the same code values, in three planes"},
)
for _suffix, _encoder in (
    ("nut", "-c:v ffv1 -pix_fmt yuv420p"),
    ("mkv", f"{X264} -pix_fmt yuv420p"),
    ("ts", f"{X264} -pix_fmt yuv420p"),
    ("flv", f"{X264} -pix_fmt yuv420p"),
):
    _input(
        f"{_suffix} through a pipe",
        f"in.{_suffix}",
        clip(_encoder, f"in.{_suffix}", sound="-c:a aac"),
        pipe_in=True,
        differs={"sound": "a pipe cannot be read twice; a line says so"},
    )
for _suffix, _pix_fmt in (("png", "rgb24"), ("tiff", "rgb24"), ("bmp", "bgr24"), ("png", "gray")):
    _input(
        f"images, {_suffix} {_pix_fmt}",
        f"frames/%03d.{_suffix}",
        clip(f"-pix_fmt {_pix_fmt}", f"frames/%03d.{_suffix}", sound=None),
        {"rate_in": "25"},
        read_input=("-framerate", "25"),
        differs={"pix_fmt": "grey is stored as 4:2:0 with the same luma"} if _pix_fmt == "gray" else RGB,
    )
_input(
    "images, jpg",
    "frames/%03d.jpg",
    clip("-q:v 2 -pix_fmt yuvj420p", "frames/%03d.jpg", sound=None),
    {"rate_in": "24000/1001"},
    read_input=("-framerate", "24000/1001"),
)
