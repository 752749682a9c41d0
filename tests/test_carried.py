"""What goes along with the pictures: another program finds it in the output, or a line said why not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vidtrans.video.carriage import plan_carriage
from vidtrans.video.carried import CarriedStreams
from vidtrans.video.clock import exact_time_base
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.excerpt import Excerpt
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.subtitles import without_drawings
from vidtrans.video.writer import VideoWriter

FFmpeg = Callable[..., bytes]
Probe = Callable[..., dict[str, Any]]
Shown = list[tuple[Fraction, Fraction, str]]

SECONDS = 2
FONT = bytes(range(256)) * 20

SUBRIP = """1
00:00:00,200 --> 00:00:00,800
<i>Hello</i> world

2
00:00:01,000 --> 00:00:01,900
Second
line

3
00:00:01,500 --> 00:00:01,700
<b>Overlap</b>
"""
ASS = r"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Sans,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.10,0:00:00.50,Default,,0,0,0,,{\pos(10,10)}A sign
Dialogue: 0,0:00:00.60,0:00:01.50,Default,,0,0,0,,{\p1}m 0 0 l 100 0 100 100{\p0}
Dialogue: 0,0:00:01.60,0:00:01.90,Default,,0,0,0,,Bye, all
"""  # noqa: E501
CHAPTERS = """;FFMETADATA1
title=A street
artist=Somebody
[CHAPTER]
TIMEBASE=1/1000
START=0
END=707
title=One
[CHAPTER]
TIMEBASE=1/1000
START=707
END=2000
title=Two
"""


@pytest.fixture(scope="module")
def rich(ffmpeg: FFmpeg, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matroska with three languages of sound, two of subtitles, chapters, a font, a cover, tags and marks."""
    folder = tmp_path_factory.mktemp("rich")
    for name, content in (("a.srt", SUBRIP), ("b.ass", ASS), ("chapters.txt", CHAPTERS)):
        (folder / name).write_text(content)
    (folder / "font.ttf").write_bytes(FONT)
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1", folder / "cover.jpg")
    sounds = [word for hertz in (440, 550, 660) for word in ("-f", "lavfi", "-i", f"sine={hertz}:d={SECONDS}:r=48000")]
    path = folder / "rich.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", f"testsrc=s=64x48:r=25:d={SECONDS}", *sounds,
        "-i", folder / "a.srt", "-i", folder / "b.ass", "-i", folder / "chapters.txt",
        *(word for number in range(6) for word in ("-map", str(number))), "-map_metadata", "6", "-map_chapters", "6",
        "-c:v", "mpeg4", "-c:a:0", "ac3", "-c:a:1", "libopus", "-c:a:2", "mp3", "-c:s:0", "srt", "-c:s:1", "ass",
        "-metadata:s:v", "title=Pictures", "-metadata:s:a:0", "language=eng", "-metadata:s:a:0", "title=English",
        "-metadata:s:a:1", "language=deu", "-metadata:s:a:2", "language=fra",
        "-metadata:s:s:0", "language=eng", "-metadata:s:s:1", "language=jpn",
        "-disposition:a:1", "default+hearing_impaired", "-disposition:s:0", "forced",
        "-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=font/ttf",
        "-attach", folder / "cover.jpg", "-metadata:s:t:1", "mimetype=image/jpeg", path,
    )  # fmt: skip
    return path


def carried(source: Path, target: Path, frames: int = 25 * SECONDS, **changes: Any) -> list[str]:
    """Writes small pictures at 25 per second beside what the source has; the lines said."""
    codec = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(target.suffix, "libx264")
    pix_fmt, colour = PIXEL_FORMATS["yuv420p"], Colour("bt601", False)
    arguments: dict[str, Any] = {
        "width": 32,
        "height": 32,
        "rate": Fraction(25),
        "time_base": exact_time_base(Fraction(1, 25)),
        "pix_fmt": pix_fmt,
        "colour": colour,
        "encoder": EncoderOptions(codec=codec, preset="ultrafast" if codec == "libx264" else None),
        "carry_from": source,
        "overwrite": True,
    }
    with VideoWriter(target, **{**arguments, **changes}) as output:
        for index in range(frames):
            planes = tuple(np.full(shape, 3 * index % 256, np.uint8) for shape in pix_fmt.plane_shapes(32, 32))
            output.write(Frame(planes, Fraction(index, 25), Fraction(1, 25), pix_fmt, colour))
    return output.notes


def shown(ffmpeg: FFmpeg, path: Path, number: int) -> Shown:
    """(begin, end, text without tags) of every cue of a subtitle stream."""

    def seconds(text: str) -> Fraction:
        hours, minutes, rest = text.strip().split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(rest.replace(",", "."))

    cues = []
    for block in ffmpeg("-i", path, "-map", f"0:s:{number}", "-f", "webvtt", "-").decode().split("\n\n")[1:]:
        if block.strip():
            times, *text = block.strip().split("\n")
            begin, end = (("00:" + time if time.count(":") == 1 else time) for time in times.split("-->"))
            plain = "\n".join(text).replace("<i>", "").replace("</i>", "").replace("<b>", "").replace("</b>", "")
            cues.append((seconds(begin), seconds(end), plain))
    return cues


def ms(*cues: tuple[int, int, str]) -> Shown:
    return [(Fraction(begin, 1000), Fraction(end, 1000), text) for begin, end, text in cues]


def of_kind(facts: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [stream for stream in facts["streams"] if stream["codec_type"] == kind]


def packet_md5(ffmpeg: FFmpeg, path: Path, number: int) -> bytes:
    return ffmpeg("-i", path, "-map", f"0:a:{number}", "-c", "copy", "-f", "md5", "-")


HELD = {
    "mkv": (["eng", "deu", "fra"], ["subrip", "ass"], {"font", "cover"}),
    "mp4": (["eng", "deu", "fra"], ["mov_text", "mov_text"], {"cover"}),
    "mov": (["eng", "fra"], ["mov_text", "mov_text"], set()),
    "webm": (["deu"], ["webvtt", "webvtt"], set()),
}


@pytest.mark.parametrize("extension", HELD)
def test_what_a_container_can_hold_is_there_and_the_rest_is_said(
    rich: Path, ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path, extension: str
) -> None:
    sounds, texts, files = HELD[extension]
    path = tmp_path / f"out.{extension}"
    notes = carried(rich, path)
    facts, source = ffprobe(path, "-show_chapters"), ffprobe(rich)

    before = {stream["tags"]["language"]: stream for stream in of_kind(source, "audio")}
    after = of_kind(facts, "audio")
    assert [stream["tags"]["language"] for stream in after] == sounds
    for number, stream in enumerate(after):
        original = before[stream["tags"]["language"]]
        assert stream["codec_name"] == original["codec_name"]
        place = list(before).index(stream["tags"]["language"])
        assert packet_md5(ffmpeg, path, number) == packet_md5(ffmpeg, rich, place)
    if extension == "mkv":
        assert [s["disposition"] for s in after] == [s["disposition"] for s in before.values()]
        assert after[0]["tags"]["title"] == "English"
        assert of_kind(facts, "video")[0]["tags"]["title"] == "Pictures"
    if extension in ("mkv", "mp4"):
        assert [stream["disposition"]["hearing_impaired"] for stream in after] == [0, 1, 0]

    subtitles = of_kind(facts, "subtitle")
    assert [stream["codec_name"] for stream in subtitles] == texts
    assert [stream["tags"]["language"] for stream in subtitles] == ["eng", "jpn"]
    assert [stream["disposition"]["forced"] for stream in subtitles] == [int(extension != "mov"), 0]
    # FFmpeg moved the whole input by the little that the sound begins earlier.
    ((begin, _, _), *_) = shown(ffmpeg, rich, 0)
    late = round((begin - Fraction("0.2")) * 1000)
    overlapping = [(1000, 1900, "Second\nline"), (1500, 1700, "Overlap")]
    pieces = [(1000, 1500, "Second\nline"), (1500, 1700, "Second\nline\nOverlap"), (1700, 1900, "Second\nline")]
    cues = [(200, 800, "Hello world"), *(pieces if "mov_text" in texts else overlapping)]
    assert shown(ffmpeg, path, 0) == ms(*((b + late, e + late, text) for b, e, text in cues))
    signs = [(b, e) for b, e, text in shown(ffmpeg, path, 1) if not text.startswith("m 0 0")]
    assert signs == [(b, e) for b, e, _ in ms((100 + late, 500 + late, ""), (1600 + late, 1900 + late, ""))]

    assert [(c["start_time"], c["end_time"], c["tags"]["title"]) for c in facts["chapters"]] == [
        ("0.000000", "0.707000", "One"),
        ("0.707000", "2.000000", "Two"),
    ]
    covers = [stream for stream in of_kind(facts, "video") if stream["disposition"]["attached_pic"]]
    assert len(covers) == ("cover" in files)
    if covers:
        found = ffmpeg("-i", path, "-map", f"0:{covers[0]['index']}", "-c", "copy", "-f", "image2pipe", "-")
        assert found == (rich.parent / "cover.jpg").read_bytes()
    if "font" in files:
        with av.open(path) as container:
            assert [stream.data for stream in container.streams.attachments] == [FONT]
    tags = {key.lower(): value for key, value in facts["format"]["tags"].items()}
    assert (tags["title"], tags["artist"]) == ("A street", "Somebody")

    said = "\n".join(notes)
    left_out = [language for language in before if language not in sounds]
    assert said.count("audio stream") >= len(left_out)
    assert said.count("converted to") == sum(codec not in ("subrip", "ass") for codec in texts)
    assert ("attachment" in said) == ("font" not in files)
    assert ("cover" in said) == ("cover" not in files)
    assert all(note.endswith(".mkv can") for note in notes if "is left out" in note)
    if extension == "mkv":
        assert notes == []


def test_chapters_and_subtitles_of_an_excerpt(rich: Path, ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path) -> None:
    """A text that is still shown is shown from the start on, and one that would go on is cut."""
    whole = [(begin, end, text) for begin, end, text in shown(ffmpeg, rich, 0)]
    since, until = Fraction(1, 2), Fraction("1.6")
    path = tmp_path / "out.mkv"
    carried(rich, path, 28, excerpt=Excerpt(since, until, since))
    assert shown(ffmpeg, path, 0) == [
        (max(begin, since) - since, min(end, until) - since, text) for begin, end, text in whole if begin < until
    ]
    facts = ffprobe(path, "-show_chapters")
    assert [(float(c["start_time"]), float(c["end_time"])) for c in facts["chapters"]] == [(0, 0.207), (0.207, 1.1)]
    ends = [float(s["tags"]["DURATION"].split(":")[-1]) for s in of_kind(facts, "audio")]
    assert ends == pytest.approx([1.12] * 3, abs=0.05)


def test_slow_motion_slows_texts_and_chapters(rich: Path, ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    slower, origin = Fraction(5, 2), Fraction(1, 50)
    notes = carried(rich, path, 125, carry_audio=False, slowdown=slower, origin=origin)
    facts = ffprobe(path, "-show_chapters")
    assert of_kind(facts, "audio") == []
    assert notes == []  # who asks for no sound knows
    moved = [(origin + (b - origin) * slower, origin + (e - origin) * slower) for b, e, _ in shown(ffmpeg, rich, 0)]
    for (begin, end, _), expected in zip(shown(ffmpeg, path, 0), moved, strict=True):
        assert (begin, end) == pytest.approx(expected, abs=0.0011)
    assert float(facts["chapters"][1]["start_time"]) == pytest.approx(float(origin + (0.707 - origin) * slower))


@pytest.mark.parametrize(("first", "second", "codec"), [("mp4", "mkv", "subrip"), ("webm", "mp4", "mov_text")])
def test_texts_survive_two_conversions(
    rich: Path, ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path, first: str, second: str, codec: str
) -> None:
    one, two, three = tmp_path / f"1.{first}", tmp_path / f"2.{second}", tmp_path / f"3.{second}"
    carried(rich, one)
    carried(one, two)
    carried(two, three)  # a copy, and the track that states MP4's chapters is not carried twice
    for path in (two, three):
        facts = ffprobe(path, "-show_chapters")
        assert {stream["codec_name"] for stream in of_kind(facts, "subtitle")} == {codec}
        assert shown(ffmpeg, path, 0)[0][2] == "Hello world"
        assert [cue[0] for cue in shown(ffmpeg, path, 0)] == [cue[0] for cue in shown(ffmpeg, two, 0)]
        assert len(facts["chapters"]) == 2
        assert len(of_kind(facts, "data")) == (second == "mp4")


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov", "avi"])
def test_sound_of_a_transport_stream_loses_only_its_headers(
    ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path, extension: str
) -> None:
    source, path = tmp_path / "in.ts", tmp_path / f"out.{extension}"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=2", "-f", "lavfi", "-i", "sine=440:d=2:r=48000",
        "-c:v", "mpeg2video", "-c:a", "aac", "-metadata:s:a", "language=deu", source,
    )  # fmt: skip
    assert [note for note in carried(source, path) if "language" not in note] == []
    (audio,) = of_kind(ffprobe(path), "audio")
    assert (audio["codec_name"], audio["sample_rate"], audio["channels"]) == ("aac", "48000", 1)
    decoded = [ffmpeg("-i", name, "-map", "0:a", "-f", "md5", "-c:a", "pcm_s16le", "-") for name in (source, path)]
    assert decoded[0] == decoded[1]
    headers = ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "adts", "-")
    assert headers == ffmpeg("-i", source, "-map", "0:a", "-c", "copy", "-f", "adts", "-")


def test_a_stream_that_nobody_knows_is_left_out(rich: Path, ffprobe: Probe, tmp_path: Path) -> None:
    source, path = tmp_path / "odd.mkv", tmp_path / "out.mkv"
    source.write_bytes(rich.read_bytes().replace(b"A_MPEG/L3", b"A_STRANGE"))
    notes = carried(source, path)
    assert [stream["tags"]["language"] for stream in of_kind(ffprobe(path), "audio")] == ["eng", "deu"]
    assert len(notes) == 1
    assert "audio stream 3 (unknown) is left out" in notes[0]


def test_damaged_sound_ends_no_run(rich: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    data = bytearray(rich.read_bytes())
    random = np.random.default_rng(3)
    for position in random.integers(len(data) // 2, len(data) * 3 // 4, 40):
        data[position] ^= int(random.integers(1, 256))
    source.write_bytes(data)
    for extension in ("mp4", "mkv", "webm"):
        path = tmp_path / f"out.{extension}"
        carried(source, path)
        assert path.exists()


def test_data_goes_where_it_can(make_clip: Callable[..., Path], ffprobe: Probe, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    with av.open(str(source), "w") as output:
        video = output.add_stream("mpeg4", rate=25, width=32, height=32)
        data = output.add_data_stream("bin_data")
        data.time_base = Fraction(1, 1000)
        output.start_encoding()
        for index in range(50):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), index, np.uint8))
            picture.pts = index
            output.mux(video.encode(picture))
            packet = av.Packet(b"sensor %d" % index)
            packet.stream, packet.time_base = data, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * index
            packet.duration = 40
            output.mux(packet)
        output.mux(video.encode(None))
    assert carried(source, tmp_path / "out.mp4") == []
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [(p.pts * p.time_base, bytes(p)) for p in container.demux(container.streams.data[0]) if p.size]
    assert found == [(Fraction(index, 25), b"sensor %d" % index) for index in range(50)]
    (note,) = carried(source, tmp_path / "out.mkv")
    assert note.startswith("data stream 1 (bin_data) is left out: mkv cannot hold it")


def test_a_timecode_is_left_out_aloud(ffmpeg: FFmpeg, ffprobe: Probe, tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48:r=24:d=1", "-c:v", "mpeg4", "-timecode", "01:00:00:12", source)
    for extension in ("mov", "mp4", "mkv"):
        (note,) = carried(source, tmp_path / f"out.{extension}", 10)
        assert "timecode" in note
        assert "timecode" not in str(ffprobe(tmp_path / f"out.{extension}")["streams"])


def test_tags_without_a_place_are_named_and_harmless(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=10, metadata={"title": "kept", "camera\x1b[2J": "x"})
    (note,) = carried(source, tmp_path / "out.mp4", 10)
    assert "tags CAMERA?[2J are left out" in note
    assert "\x1b" not in note


@pytest.mark.skipif(sys.platform != "linux", reason="reads the position of an open file")
def test_the_next_subtitle_is_not_searched_ahead(ffmpeg: FFmpeg, tmp_path: Path) -> None:
    """One subtitle, at the end of a film: until then the file is read no further than asked."""
    (tmp_path / "a.srt").write_text("1\n00:00:58,000 --> 00:00:59,000\nThe end\n")
    source = tmp_path / "in.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "nullsrc=s=160x120:r=25:d=60,geq=random(1)*255:128:128", "-i", tmp_path / "a.srt",
        "-c:v", "mpeg4", "-c:s", "srt", source,
    )  # fmt: skip
    output = av.open(str(tmp_path / "out.mkv"), "w")
    output.add_stream("mpeg4", rate=25, width=32, height=32)
    with output:
        carried = CarriedStreams(source, output, [])
        output.start_encoding()
        for seconds in (1, 20, 40):
            carried.copy_until(Fraction(seconds))
            assert position_in(source) < (seconds + 15) / 60 * source.stat().st_size
        carried.copy_until(None)
        carried.close()
    with av.open(str(tmp_path / "out.mkv")) as container:
        (packet,) = [packet for packet in container.demux(subtitles=0) if packet.size]
        assert (packet.pts, packet.duration, bytes(packet)) == (58000, 1000, b"The end")


def position_in(path: Path) -> int:
    """Up to where this process has read a file."""
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.exists() and os.path.samefile(descriptor, path):
            facts = Path(f"/proc/self/fdinfo/{descriptor.name}").read_text().split()
            return int(facts[facts.index("pos:") + 1])
    raise AssertionError("not open")


def test_the_plan_names_a_container_that_can(rich: Path) -> None:
    plans = {name: plan_carriage(rich, name) for name in ("mov", "avi", "nut")}
    for plan in plans.values():
        assert [stream.kind for stream in plan.streams] == [*["audio"] * 3, *["subtitle"] * 2, "attachment", "cover"]
        for stream in plan.streams:
            assert stream.becomes is not None or stream.remark.endswith("; .mkv can")
    assert [stream.becomes for stream in plans["nut"].streams[3:]] == [None] * 4  # it keeps no lengths of subtitles
    assert any("chapters" in note for note in plans["avi"].notes)


def test_drawings_are_no_text() -> None:
    assert without_drawings(rb"a{\p1}m 0 0 l 9 9{\p0}b{\pos(1,1)}c") == rb"a{\p1}{\p0}b{\pos(1,1)}c"
    assert without_drawings(rb"{\an8\p4}m 0 0") == rb"{\an8\p4}"
