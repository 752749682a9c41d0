"""y4m: the header both ways, code values as another program has them, and every place where a stream can end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtrans.errors import InputError, UsageError
from vidtrans.video.frame import PIXEL_FORMATS, Frame
from vidtrans.video.input_form import InputForm
from vidtrans.video.pipe_out import y4m_header
from vidtrans.video.source import open_source
from vidtrans.video.y4m import PIX_FMT_OF_CHROMA, Y4mHeader

NTSC = Fraction(30000, 1001)
SMALL = b"YUV4MPEG2 W3 H2 F25:1 Ip A1:1 C420mpeg2\n"
PICTURE = bytes(range(6 + 2 + 2))


def read(path: Path) -> list[Frame]:
    with open_source(path) as source:
        return list(source)


def refused(path: Path, kind: type[Exception] = InputError) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "in.y4m"
    path.write_bytes(data)
    return path


# The header.


def random_headers(count: int) -> Iterator[Y4mHeader]:
    draw = np.random.default_rng(7)

    def ratio() -> Fraction | None:
        return None if draw.random() < 0.2 else Fraction(int(draw.integers(1, 10**9)), int(draw.integers(1, 10**6)))

    for _ in range(count):
        comments = [f"NOTE={draw.integers(0, 99)}", "YSCSS=420P10", "anything"]
        yield Y4mHeader(
            width=int(draw.integers(1, 65536)),
            height=int(draw.integers(1, 65536)),
            rate=ratio(),
            chroma=str(draw.choice([*PIX_FMT_OF_CHROMA, "411"])),
            interlacing=str(draw.choice(["p", "t", "b", "m", "?"])),
            aspect=ratio(),
            full_range=[None, False, True][draw.integers(0, 3)],
            comments=tuple(comments[: draw.integers(0, 4)]),
        )


def test_headers_come_back_as_they_were_written() -> None:
    for header in random_headers(500):
        line = header.format()
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert Y4mHeader.parse(line) == header


def test_words_stand_in_any_order_and_most_may_be_missing() -> None:
    assert Y4mHeader.parse(b"YUV4MPEG2 H48 XCOLORRANGE=FULL  Z9 C444 F30:1 W64\n") == Y4mHeader(
        64, 48, Fraction(30), "444", full_range=True
    )
    assert Y4mHeader.parse(b"YUV4MPEG2 W2 H2 F0:0 A0:0 XYSCSS=420P10") == Y4mHeader(
        2, 2, chroma="420p10", comments=("YSCSS=420P10",)
    )
    assert Y4mHeader.parse(b"YUV4MPEG2 W2 H2").chroma == "420jpeg"


@pytest.mark.parametrize(
    "words",
    ["", "W3", "W0 H2", "W-3 H2", "Wx H2", "W99999999999 H2", "W3 H2 F25", "W3 H2 F25:x", "W3 H2 F-25:1", "W3 H2 A1"],
)
def test_damaged_headers_are_refused(words: str, tmp_path: Path) -> None:
    line = f"YUV4MPEG2 {words}\n".encode()
    with pytest.raises(ValueError, match=r"its|states no"):
        Y4mHeader.parse(line)
    assert "header" in refused(written(tmp_path, line + b"FRAME\n" + PICTURE))


def test_what_is_not_handled_is_named(tmp_path: Path) -> None:
    body = b"FRAME\n" + bytes(100)
    assert "'411'" in refused(written(tmp_path, b"YUV4MPEG2 W4 H4 C411\n" + body))
    assert "'420p16'" in refused(written(tmp_path, b"YUV4MPEG2 W4 H4 C420p16\n" + body))
    for letter, word in (("t", "top"), ("b", "bottom"), ("m", "parts")):
        message = refused(written(tmp_path, f"YUV4MPEG2 W3 H2 I{letter}\n".encode() + body))
        assert "interlaced" in message
        assert word in message


# Pictures.


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuv420p", "yuv422p", "yuv444p", "gray", "yuv420p10le", "yuv422p10le", "yuv444p12le", "gray10le"],
)
def test_pictures_are_those_that_another_program_wrote(
    pix_fmt: str, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    # Debian's ffmpeg writes too short chroma rows of odd widths above 8 bits.
    width = 36 if "10" in pix_fmt else 35
    clip = make_clip(tmp_path / "in.mkv", frames=4, rate=NTSC, codec="ffv1", pix_fmt=pix_fmt, size=(width, 27))
    exact = ("-i", clip, "-vf", "setsar=4/3", "-pix_fmt", pix_fmt, "-strict", "-1")
    ffmpeg(*exact, "-f", "yuv4mpegpipe", tmp_path / "in.y4m")
    with open_source(tmp_path / "in.y4m") as source:
        info, frames = source.info, list(source)
    assert b"".join(plane.tobytes() for frame in frames for plane in frame.planes) == ffmpeg(
        *exact, "-f", "rawvideo", "-"
    )
    assert [frame.time for frame in frames] == [k / NTSC for k in range(4)]
    assert {frame.duration for frame in frames} == {1 / NTSC}
    assert (info.width, info.height, info.average_rate, info.frame_count) == (width, 27, NTSC, 4)
    assert (info.pix_fmt, info.sample_aspect_ratio) == (PIXEL_FORMATS[pix_fmt], Fraction(4, 3))
    assert (info.duration, info.start_time, info.stamp_error) == (4 / NTSC, 0, 0)
    assert source.notes == []


@pytest.mark.parametrize(("span", "full"), [("pc", True), ("tv", False)])
def test_the_range_is_read(
    span: str, full: bool, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    tags = {"color_range": 2 if full else 1}
    clip = make_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", tags=tags)
    ffmpeg("-i", clip, "-color_range", span, "-f", "yuv4mpegpipe", tmp_path / "in.y4m")
    with open_source(tmp_path / "in.y4m") as source:
        assert source.info.colour.full_range is full
        assert source.info.colour.range_tag == tags["color_range"]
    with open_source(written(tmp_path, SMALL + b"FRAME\n" + PICTURE)) as source:
        assert (source.info.colour.full_range, source.info.colour.range_tag) == (False, 0)


def test_alpha_is_left_out_aloud(tmp_path: Path) -> None:
    planes = [bytes([value]) * 6 for value in (10, 20, 30, 40)]
    data = b"YUV4MPEG2 W3 H2 F25:1 C444alpha\n" + 2 * (b"FRAME\n" + b"".join(planes))
    with open_source(written(tmp_path, data)) as source:
        frames = list(source)
    assert [[plane.tobytes() for plane in frame.planes] for frame in frames] == [planes[:3]] * 2
    assert any("alpha" in note for note in source.notes)


def test_a_rate_that_is_not_stated_is_said_and_can_be_told(tmp_path: Path) -> None:
    path = written(tmp_path, b"YUV4MPEG2 W3 H2 F0:0\n" + 3 * (b"FRAME\n" + PICTURE))
    with open_source(path) as source:
        assert source.info.average_rate == 25
        assert any("--rate-in" in note for note in source.notes)
    for header in (b"YUV4MPEG2 W3 H2 F0:0\n", SMALL):
        path = written(tmp_path, header + 3 * (b"FRAME\n" + PICTURE))
        with open_source(path, form=InputForm(rate=NTSC)) as source:
            assert [frame.time for frame in source] == [k / NTSC for k in range(3)]
            assert source.notes == []


def test_words_after_frame_are_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL + b"FRAME Ip Xcomment\n" + PICTURE + b"FRAME\n" + PICTURE)
    assert [frame.time for frame in read(path)] == [0, Fraction(1, 25)]


def test_a_stream_that_ends_inside_a_frame_is_an_error(tmp_path: Path) -> None:
    """At every byte of three frames: between frames it is not to be told from a whole one."""
    frame = b"FRAME\n" + PICTURE
    whole = SMALL + 3 * frame
    for length in range(len(whole) + 1):
        path = written(tmp_path, whole[:length])
        over, rest = divmod(length - len(SMALL), len(frame))
        if length > len(SMALL) and not rest:
            assert len(read(path)) == over
            continue
        message = refused(path)
        if length > len(SMALL):
            assert f"cut off inside frame {over + 1}" in message
        elif length in range(len("YUV4MPEG2"), len(SMALL)):
            assert "cut off inside its y4m header" in message
        elif length == len(SMALL):
            assert "holds no frame" in message


def test_what_does_not_belong_between_frames_is_found(tmp_path: Path) -> None:
    frame = b"FRAME\n" + PICTURE
    for junk in (b"junk", b"FRAMES\n", b"F", bytes(2000), b"FRAME" + b" X" * 2000 + b"\n"):
        message = refused(written(tmp_path, SMALL + 2 * frame + junk + frame))
        assert "frame 3" in message


def test_code_values_beyond_the_depth_are_an_error(tmp_path: Path) -> None:
    values = np.array([1023, 1023, 1024, 0, 0, 0], "<u2").tobytes()
    assert "1024" in refused(written(tmp_path, b"YUV4MPEG2 W3 H2 Cmono10\nFRAME\n" + values))


def test_a_part_of_a_stream(tmp_path: Path) -> None:
    frames = [bytes([k]) * len(PICTURE) for k in range(10)]
    path = written(tmp_path, SMALL + b"".join(b"FRAME\n" + frame for frame in frames))
    with open_source(path, Fraction(3, 30), Fraction(7, 25)) as source:
        found = list(source)
        info = source.info
    assert [int(frame.planes[0][0, 0]) for frame in found] == [3, 4, 5, 6]
    assert [frame.time for frame in found] == [k / Fraction(25) for k in range(4)]
    assert (info.frame_count, info.duration) == (4, Fraction(4, 25))
    assert (info.excerpt.since, info.excerpt.until, info.excerpt.shift) == (
        Fraction(3, 25),
        Fraction(7, 25),
        Fraction(3, 25),
    )
    for start, end in ((Fraction(10, 25), None), (Fraction(1, 100), Fraction(1, 50))):
        with pytest.raises(UsageError, match="no frame begins"):
            open_source(path, start, end)


@pytest.mark.parametrize(
    ("word", "location"), [("420jpeg", "center"), ("420mpeg2", "left"), ("420paldv", "topleft"), ("420", "center")]
)
def test_where_chroma_sits_is_read_and_written(
    word: str, location: str, ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "in.y4m"
    path.write_bytes(f"YUV4MPEG2 W4 H2 F25:1 Ip A1:1 C{word}\nFRAME\n".encode() + bytes(12))
    with open_source(path) as source:
        info = source.info
    header = y4m_header(4, 2, Fraction(25), info.pix_fmt, info.colour)
    (tmp_path / "out.y4m").write_bytes(header + b"FRAME\n" + bytes(12))
    for name in ("in.y4m", "out.y4m"):
        assert ffprobe(tmp_path / name)["streams"][0]["chroma_location"] == location
