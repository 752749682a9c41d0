"""Reading: exact times and code values of whole files, one clear sentence for every other kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from vidtrans.errors import InputError
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame, nearest_planar
from vidtrans.video.reader import VideoReader

NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def plane_md5(frame: Frame) -> str:
    return hashlib.md5(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest()


def assert_tiled(frames: list[Frame]) -> None:
    """Each frame ends where the next begins."""
    for frame, following in pairwise(frames):
        assert frame.time + frame.duration == following.time


@pytest.mark.parametrize("rate", [NTSC_FILM, NTSC, Fraction(25)])
@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_constant_rate_times_are_exact(
    rate: Fraction, extension: str, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """With B-frames (libx264's default), whose packets are not in the order of time."""
    path = make_clip(tmp_path / f"clip.{extension}", frames=20, rate=rate, audio=["aac"])
    with VideoReader(path) as reader:
        info = reader.info
        frames = list(reader)
    assert [frame.time for frame in frames] == [index / rate for index in range(20)]
    assert {frame.duration for frame in frames} == {1 / rate}
    assert (info.width, info.height, info.average_rate, info.frame_count) == (64, 48, rate, 20)
    assert (info.duration, info.start_time) == (20 / rate, 0)
    assert (info.codec, info.audio_codecs, info.pix_fmt) == ("h264", ("aac",), PIXEL_FORMATS["yuv420p"])
    assert reader.notes == []
    assert reader.frames_read == 20


def test_variable_rate_times_survive(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    times = [Fraction(n, 90000) for n in (0, 3003, 3004, 12000, 12500, 50000, 50001, 90000)]
    path = make_clip(tmp_path / "clip.mp4", times=times, options={"bf": "0"})
    frames = read(path)
    assert [frame.time for frame in frames] == times[:-1]
    assert_tiled(frames)
    assert frames[-1].time + frames[-1].duration == times[-1]


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p10le", "yuv420p12le", "gray", "gray10le", "gbrp10le"]
)
def test_code_values_are_those_of_another_decoder(
    pix_fmt: str, make_clip: Callable[..., Path], framemd5: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "clip.mkv", frames=3, codec="ffv1", pix_fmt=pix_fmt, size=(35, 27))
    frames = read(path)
    assert [plane_md5(frame) for frame in frames] == framemd5(path)
    assert (frames[0].width, frames[0].height) == (35, 27)
    assert frames[0].pix_fmt is PIXEL_FORMATS[pix_fmt]
    assert tuple(plane.shape for plane in frames[0].planes) == frames[0].pix_fmt.plane_shapes(35, 27)


@pytest.mark.parametrize(
    ("source", "planar"),
    [("nv12", "yuv420p"), ("yuyv422", "yuv422p"), ("rgb24", "gbrp"), ("bgr0", "gbrp"), ("yuv420p10be", "yuv420p10le")],
)
@pytest.mark.parametrize("full_range", [False, True])
def test_packed_formats_are_unpacked_without_loss(
    source: str, planar: str, full_range: bool, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Random code values of the planar format, packed by another program, come back as they were."""
    pix_fmt = PIXEL_FORMATS[planar]
    generator = np.random.default_rng(3)
    planes = [
        generator.integers(0, pix_fmt.max_code + 1, shape).astype(pix_fmt.dtype)
        for shape in pix_fmt.plane_shapes(32, 16)
    ]
    (tmp_path / "in.raw").write_bytes(b"".join(plane.tobytes() for plane in planes))
    span = "pc" if full_range else "tv"
    ffmpeg(
        *(
            "-f",
            "rawvideo",
            "-pix_fmt",
            planar,
            "-s",
            "32x16",
            "-i",
            tmp_path / "in.raw",
            "-vf",
            f"scale=in_range={span}:out_range={span}",
        ),
        *("-c:v", "rawvideo", "-pix_fmt", source, "-color_range", span, tmp_path / "clip.nut"),
    )
    with VideoReader(tmp_path / "clip.nut") as reader:
        (frame,) = list(reader)
        assert reader.info.source_pix_fmt == source
    for got, expected in zip(frame.planes, planes, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_alpha_and_too_many_bits_are_named(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    for pix_fmt, planar in (("yuva420p", "yuv420p"), ("gray16le", "gray12le")):
        with VideoReader(make_clip(tmp_path / "clip.mkv", frames=2, codec="ffv1", pix_fmt=pix_fmt)) as reader:
            assert next(iter(reader)).pix_fmt.name == planar
        assert pix_fmt in reader.notes[0]
    with pytest.raises(ValueError, match="cuda"):
        nearest_planar("cuda")


def test_colour_facts(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 2}
    tagged = VideoReader(make_clip(tmp_path / "tagged.mp4", frames=2, tags=tags)).info.colour
    assert tagged == Colour("bt2020", True, matrix_tag=9, range_tag=2, primaries=9, transfer=16)
    small = VideoReader(make_clip(tmp_path / "small.mp4", frames=2)).info.colour
    assert small == Colour("bt601", False)
    large = VideoReader(
        make_clip(tmp_path / "large.mp4", frames=1, size=(1280, 32), options={"preset": "ultrafast"})
    ).info.colour
    assert large == Colour("bt709", False)
    jpeg = VideoReader(
        make_clip(tmp_path / "jpeg.mkv", frames=2, codec="mjpeg", pix_fmt="yuvj420p", tags={"color_range": 2})
    ).info
    assert (jpeg.colour.full_range, jpeg.colour.range_tag, jpeg.pix_fmt.name) == (True, 2, "yuv420p")
    rgb = VideoReader(make_clip(tmp_path / "rgb.mkv", frames=2, codec="ffv1", pix_fmt="gbrp10le")).info.colour
    assert rgb.full_range


def test_one_frame_lasts_one_nominal_frame(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    (frame,) = read(make_clip(tmp_path / "clip.mp4", frames=1, rate=10))
    assert (frame.time, frame.duration) == (0, Fraction(1, 10))


def test_frames_without_time_stamps_follow_each_other(
    make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=10, rate=NTSC_FILM)
    ffmpeg("-i", clip, "-c", "copy", tmp_path / "clip.h264")
    frames = read(tmp_path / "clip.h264")
    assert [frame.time for frame in frames] == [index / NTSC_FILM for index in range(10)]


def test_container_clock_in_milliseconds_and_audio_offset_are_kept(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    frames = read(make_clip(tmp_path / "clip.mkv", frames=10, rate=30))
    assert [frame.time for frame in frames] == [Fraction(round(index * 1000 / 30), 1000) for index in range(10)]
    assert_tiled(frames)


def test_shape_of_pixels_and_rotation_are_facts(
    make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2, tags={"sample_aspect_ratio": Fraction(4, 3)})
    ffmpeg("-i", clip, "-c", "copy", "-metadata:s:v:0", "rotate=90", tmp_path / "turned.mp4")
    assert VideoReader(clip).info.display_matrix is None
    info = VideoReader(tmp_path / "turned.mp4").info
    assert (info.width, info.height, info.sample_aspect_ratio) == (48, 64, Fraction(3, 4))
    assert info.display_matrix is None


class Replay:
    """Stands for the decoder: pictures with chosen times, of one size unless given."""

    def __init__(
        self, reader: VideoReader, ticks: list[int | None], sizes: list[tuple[int, int]] | None = None
    ) -> None:
        pictures = []
        for index, pts in enumerate(ticks):
            width, height = sizes[index] if sizes else (reader.info.width, reader.info.height)
            picture = av.VideoFrame(width, height, "yuv420p")
            picture.pts = pts
            pictures.append(picture)
        reader._pictures = reader._decoding._stamps.ascending(pictures)


def test_stray_time_stamps_are_left_out_and_counted(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    with VideoReader(make_clip(tmp_path / "clip.mp4", frames=2, rate=10)) as reader:
        tick = int(Fraction(1, 10) / reader.info.time_base)
        Replay(reader, [0, tick, tick, 2 * tick, tick, None, 5 * tick])
        frames = list(reader)
    assert [frame.time * 10 for frame in frames] == [0, 1, 2, 3, 5]
    assert_tiled(frames)
    assert frames[-1].duration == Fraction(2, 10)
    assert "2 frames left out" in reader.notes[0]


def test_clock_that_starts_again_and_size_that_changes_are_errors(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2, rate=10)
    with VideoReader(clip) as reader:
        tick = int(Fraction(1, 10) / reader.info.time_base)
        Replay(reader, [index * tick for index in (0, 10, 20, 0, 10)])
        with pytest.raises(InputError, match=r"jumps back by 2\.00 s"):
            list(reader)
    with VideoReader(clip) as reader:
        Replay(reader, [0, tick], [(64, 48), (32, 48)])
        with pytest.raises(InputError, match="from 64x48 to 32x48"):
            list(reader)


def test_recording_that_begins_between_two_keyframes(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=40, codec="ffv1", options={"g": "10", "context": "1"})
    with av.open(str(clip)) as source, av.open(str(tmp_path / "late.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.dts is not None][4:]:
            packet.stream = stream
            target.mux(packet)
    with VideoReader(tmp_path / "late.mkv") as reader:
        frames = list(reader)
    assert len(frames) == 30
    assert plane_md5(frames[0]) == plane_md5(read(clip)[10])
    assert_tiled(frames)
    assert "begins between two keyframes" in reader.notes[0]


def test_cut_by_an_edit_list_is_not_cut_off(
    make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Trimmed without re-encoding: packets that are in the file but not shown are no loss."""
    clip = make_clip(tmp_path / "clip.mp4", frames=60)
    ffmpeg("-ss", "1.1", "-i", clip, "-t", "1", "-c", "copy", tmp_path / "trimmed.mp4")
    frames = read(tmp_path / "trimmed.mp4")
    assert 20 <= len(frames) <= 30
    assert_tiled(frames)


OPEN_GOPS = {"g": "12", "bf": "3", "preset": "medium", "x264-params": "open-gop=1:scenecut=0"}
REFRESHED = {"preset": "medium", "x264-params": "intra-refresh=1:keyint=20"}


@pytest.mark.parametrize(
    ("name", "codec", "options", "remuxed"),
    [
        ("open.mp4", "libx264", OPEN_GOPS, None),
        ("open.ts", "libx264", OPEN_GOPS, ".ts"),
        ("refreshed.mp4", "libx264", REFRESHED, None),
        ("untimed.h264", "libx264", {"g": "12"}, ".h264"),
        ("edited.mp4", "libx264", {"g": "12"}, "cut"),
        ("clip.mkv", "mpeg2video", {"g": "12", "bf": "2"}, None),
        ("clip.avi", "mpeg4", {"g": "12", "bf": "2"}, None),
    ],
)
def test_an_excerpt_is_exactly_that_part_of_the_whole(
    name: str,
    codec: str,
    options: dict[str, str],
    remuxed: str | None,
    make_clip: Callable[..., Path],
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    path = make_clip(tmp_path / ("in.mp4" if remuxed else name), frames=60, rate=25, codec=codec, options=options)
    if remuxed:
        cut = ("-ss", "0.7") if remuxed == "cut" else ()
        ffmpeg(*cut, "-i", path, "-c", "copy", tmp_path / name)
        path = tmp_path / name
    whole = [(frame.time, frame.duration, plane_md5(frame)) for frame in read(path)]
    origin = whole[0][0]
    for index in range(1, len(whole), 7):
        for early in (Fraction(0), Fraction(1, 1000)):
            start, end = whole[index][0] - origin - early, whole[min(index + 3, len(whole) - 1)][0] - origin + early
            with VideoReader(path, start, end) as reader:
                frames = list(reader)
                shift = reader.info.excerpt.shift
                assert frames[0].time == reader.info.start_time == origin
            got = [(frame.time + shift, frame.duration, plane_md5(frame)) for frame in frames]
            assert got == [frame for frame in whole[index:] if frame[0] - origin < end]


def test_an_excerpt_says_how_long_it_is(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=50, rate=25, options={"g": "10"})
    with VideoReader(clip, Fraction(1, 2), Fraction(3, 2)) as reader:
        assert (reader.info.frame_count, len(list(reader))) == (25, 25)  # at 13/25 s ... 37/25 s
        assert reader.info.duration == 1
    with VideoReader(clip, Fraction(45, 25)) as reader:
        assert len(list(reader)) == 5
        assert reader.frames_read <= 10 + 4  # not from the front
    with VideoReader(clip, end=Fraction(100)) as reader:
        assert (reader.info.frame_count, reader.info.duration, len(list(reader))) == (50, 2, 50)


def test_closing_early_and_twice(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    with VideoReader(make_clip(tmp_path / "clip.mp4")) as reader:
        assert next(iter(reader)).time == 0
    reader.close()
