"""Writing: another program finds every frame, time stamp, tag and sound where it belongs, or no file at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidtrans.errors import InputError, OutputError
from vidtrans.video.clock import exact_time_base
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame, PixelFormat
from vidtrans.video.reader import VideoReader
from vidtrans.video.writer import VideoWriter

NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
FAST = EncoderOptions(preset="ultrafast")
COLOUR = Colour("bt601", False)


def pictures(
    count: int,
    pix_fmt: PixelFormat = PIXEL_FORMATS["yuv420p"],
    size: tuple[int, int] = (64, 48),
    times: list[Fraction] | None = None,
) -> Iterator[Frame]:
    """Frames of random code values over the whole range, 1/25 s each unless `times` (one more than frames) is given."""
    generator = np.random.default_rng(7)
    times = times or [Fraction(index, 25) for index in range(count + 1)]
    for begin, end in pairwise(times):
        planes = tuple(
            generator.integers(0, pix_fmt.max_code + 1, shape).astype(pix_fmt.dtype)
            for shape in pix_fmt.plane_shapes(*size)
        )
        yield Frame(planes, begin, end - begin, pix_fmt, COLOUR)


def writer(path: Path, **changes: Any) -> VideoWriter:
    """A writer of 64x48 yuv420p at 25 per second unless told otherwise."""
    arguments: dict[str, Any] = {
        "width": 64,
        "height": 48,
        "rate": Fraction(25),
        "time_base": exact_time_base(Fraction(1, 25)),
        "pix_fmt": PIXEL_FORMATS["yuv420p"],
        "colour": COLOUR,
        "encoder": FAST,
    }
    return VideoWriter(path, **{**arguments, **changes})


def write_all(path: Path, frames: Iterable[Frame], then: Exception | None = None, **changes: Any) -> None:
    """Writes a file and then, before it is closed, raises."""
    with writer(path, **changes) as output:
        assert (path.parent / f".{path.stem}.partial{path.suffix}").exists()
        for frame in frames:
            output.write(frame)
        if then is not None:
            raise then


def upsampled_by_holding(source: Path, target: Path, factor: int, encoder: EncoderOptions = FAST) -> None:
    """The shape of the real job: every frame shown `factor` times within its own time."""
    with VideoReader(source) as reader:
        info = reader.info
        output = writer(
            target,
            width=info.width,
            height=info.height,
            rate=info.average_rate * factor,
            time_base=exact_time_base(info.time_base / factor),
            pix_fmt=info.pix_fmt,
            colour=info.colour,
            encoder=encoder,
            carry_from=source,
        )
        with output:
            for frame in reader:
                part = frame.duration / factor
                for index in range(factor):
                    output.write(Frame(frame.planes, frame.time + index * part, part, frame.pix_fmt, frame.colour))


def streams(facts: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [stream for stream in facts["streams"] if stream["codec_type"] == kind]


@pytest.mark.parametrize("rate", [NTSC_FILM, NTSC, Fraction(25)])
def test_eightfold_rate_is_exact_to_the_last_tick(
    rate: Fraction, make_clip: Callable[..., Path], ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=30, rate=rate, audio=["aac"])
    upsampled_by_holding(clip, tmp_path / "out.mp4", 8, EncoderOptions(preset="medium"))
    facts = ffprobe(tmp_path / "out.mp4", "-count_frames", "-show_frames", "-select_streams", "v")
    (video,) = streams(facts, "video")
    time_base = Fraction(video["time_base"])
    assert int(video["nb_read_frames"]) == int(video["nb_frames"]) == 240
    assert Fraction(video["r_frame_rate"]) == Fraction(video["avg_frame_rate"]) == rate * 8
    assert video["duration_ts"] * time_base == 30 / rate
    times = [frame["pts"] * time_base for frame in facts["frames"]]
    assert times == [index / (rate * 8) for index in range(240)]
    with VideoReader(tmp_path / "out.mp4") as reader:
        last = list(reader)[-1]
    assert last.time + last.duration == 30 / rate


def test_every_eighth_picture_of_a_lossless_output_is_the_input(
    make_clip: Callable[..., Path], framemd5: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=10, rate=NTSC)
    upsampled_by_holding(clip, tmp_path / "out.mkv", 8, EncoderOptions(codec="ffv1"))
    assert framemd5(tmp_path / "out.mkv")[::8] == framemd5(clip)


@pytest.mark.parametrize(
    "encoder",
    [EncoderOptions(), FAST, EncoderOptions(codec="libx265", preset="fast")],
    ids=lambda e: f"{e.codec}-{e.preset}",
)
def test_variable_rate_survives_with_its_last_frame(
    encoder: EncoderOptions, ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    gaps = [Fraction(n, 90000) for n in [3000, 3001, 9000, 1500] * 5 + [3000, 180000]]
    times = [sum(gaps[:index], Fraction(1, 3)) for index in range(len(gaps) + 1)]
    with writer(tmp_path / "out.mp4", time_base=exact_time_base(Fraction(1, 90000)), encoder=encoder) as output:
        for frame in pictures(0, times=times):
            output.write(frame)
    (video,) = streams(ffprobe(tmp_path / "out.mp4"), "video")
    assert video["duration_ts"] * Fraction(video["time_base"]) == times[-1] - times[0]
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = list(reader)
    assert [frame.time for frame in frames] == times[:-1]
    assert frames[-1].time + frames[-1].duration == times[-1]


LOSSLESS_CASES = [
    *(("ffv1", name, (35, 27)) for name in PIXEL_FORMATS),
    *(("libx264", name, (64, 48)) for name in ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p10le")),
    ("libx264", "yuv444p", (35, 27)),
    ("libx264rgb", "gbrp", (35, 27)),
    ("libx265", "yuv420p12le", (64, 48)),
    ("libx265", "gbrp", (64, 48)),
]


@pytest.mark.parametrize(("codec", "name", "size"), LOSSLESS_CASES)
def test_lossless_codecs_hold_every_code_value(
    codec: str, name: str, size: tuple[int, int], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    pix_fmt = PIXEL_FORMATS[name]
    frames = list(pictures(3, pix_fmt, size))
    path = tmp_path / "out.mkv"
    options = EncoderOptions(codec=codec, crf=0 if codec != "ffv1" else None)
    with writer(path, width=size[0], height=size[1], pix_fmt=pix_fmt, encoder=options) as output:
        for frame in frames:
            output.write(frame)
    assert output.notes == []
    expected = b"".join(plane.tobytes() for frame in frames for plane in frame.planes)
    assert ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", name, "-") == expected
    with VideoReader(path) as reader:
        assert b"".join(plane.tobytes() for frame in reader for plane in frame.planes) == expected
        assert reader.info.pix_fmt is pix_fmt


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9", "ffv1"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_frames_fit_as_well(codec: str, count: int, tmp_path: Path) -> None:
    """Shorter than an encoder's look-ahead, where some leave decoding times undefined."""
    write_all(tmp_path / "out.mkv", pictures(count), encoder=EncoderOptions(codec=codec))
    write_all(tmp_path / "out.mp4", pictures(count), encoder=EncoderOptions(codec=codec))
    for extension in ("mkv", "mp4"):
        with VideoReader(tmp_path / f"out.{extension}") as reader:
            frames = list(reader)
        assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(count)]
        assert frames[-1].time + frames[-1].duration == Fraction(count, 25)


def test_tags_are_written(ffprobe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    colour = Colour("bt2020", True, matrix_tag=9, range_tag=2, primaries=9, transfer=16)
    for codec, extension in (("libx264", "mp4"), ("libx265", "mp4"), ("ffv1", "mkv")):
        path = tmp_path / f"{codec}.{extension}"
        rotated = (64540, 11380, 0, -11380, 64540, 0, 0, 0, 1 << 30)  # by 10 degrees
        with writer(
            path,
            colour=colour,
            encoder=EncoderOptions(codec=codec),
            sample_aspect_ratio=Fraction(4, 3),
            display_matrix=rotated,
        ) as output:
            for frame in pictures(2):
                output.write(frame)
        (video,) = streams(ffprobe(path), "video")
        assert (video["color_space"], video["color_primaries"], video["color_transfer"]) == (
            "bt2020nc",
            "bt2020",
            "smpte2084",
        )
        assert video["color_range"] == "pc"
        assert video["sample_aspect_ratio"] == "4:3"
        with VideoReader(path) as reader:
            assert reader.info.colour == colour
            if extension == "mp4":
                assert reader.info.display_matrix == rotated


@pytest.mark.parametrize(("source", "target"), [("mp4", "mp4"), ("mp4", "mkv"), ("mkv", "mkv"), ("mkv", "mp4")])
def test_every_audio_stream_is_copied_as_it_is(
    source: str,
    target: str,
    make_clip: Callable[..., Path],
    ffmpeg: Callable[..., bytes],
    ffprobe: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / f"in.{source}", frames=48, audio=["aac", "libopus"], metadata={"title": "a street"})
    path = tmp_path / f"out.{target}"
    upsampled_by_holding(clip, path, 2)
    for number in range(2):
        copies = [ffmpeg("-i", name, "-map", f"0:a:{number}", "-c", "copy", "-f", "md5", "-") for name in (clip, path)]
        assert copies[0] == copies[1]
        stamps = [ffprobe(name, "-select_streams", f"a:{number}", "-show_packets")["packets"] for name in (clip, path)]
        # Matroska has no times below zero: there the whole file is shifted, pictures and sound alike.
        starts = [float(streams(ffprobe(name), "video")[0]["start_time"]) for name in (clip, path)]
        before, after = (
            [float(packet["pts_time"]) - start for packet in packets]
            for packets, start in zip(stamps, starts, strict=True)
        )
        assert before == pytest.approx(after, abs=1e-9 if source == target else 2e-3)
    facts = ffprobe(path)
    assert facts["format"]["tags"]["title"] == "a street"


def test_audio_lies_between_the_pictures(
    make_clip: Callable[..., Path], ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """And the index before both: a player that reads from front to back never waits long."""
    clip = make_clip(tmp_path / "in.mp4", frames=240, audio=["aac"], size=(32, 32))
    upsampled_by_holding(clip, tmp_path / "out.mp4", 2)
    packets = ffprobe(tmp_path / "out.mp4", "-show_packets")["packets"]
    reached = {"video": 0.0, "audio": 0.0}
    for packet in sorted(packets, key=lambda packet: int(packet["pos"])):
        reached[packet["codec_type"]] = float(packet["dts_time"])
        assert abs(reached["video"] - reached["audio"]) < 1.2
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")


def test_audio_that_does_not_fit_is_named(
    make_clip: Callable[..., Path], ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=5, audio=["aac"])
    with writer(tmp_path / "out.webm", carry_from=clip, encoder=EncoderOptions(codec="libvpx-vp9")) as output:
        assert "audio stream 1 (aac) is left out" in output.notes[0]
        for frame in pictures(5):
            output.write(frame)
    assert [stream["codec_type"] for stream in ffprobe(tmp_path / "out.webm")["streams"]] == ["video"]


def test_nothing_is_left_after_an_exception(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=5, audio=["aac"])
    path = tmp_path / "out" / "out.mp4"
    path.parent.mkdir()
    for frames_before in (0, 1, 5):
        with pytest.raises(RuntimeError, match="stop"):
            write_all(path, pictures(frames_before), RuntimeError("stop"), carry_from=clip)
    with pytest.raises(OutputError, match="no frame"):
        write_all(path, [])
    with pytest.raises(ValueError, match="does not fit"):
        write_all(path, pictures(1, size=(32, 48)))
    with pytest.raises(ValueError, match="before"):
        write_all(path, pictures(0, times=[Fraction(0), Fraction(1), Fraction(1, 2)]))
    assert list(path.parent.iterdir()) == []


def test_existing_files_are_replaced_only_on_success(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        writer(path)
    with pytest.raises(RuntimeError, match="stop"):
        write_all(path, pictures(1), RuntimeError("stop"), overwrite=True)
    assert path.read_text() == "precious"
    write_all(path, pictures(3), overwrite=True)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_what_cannot_be_written_is_refused_at_once(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("none/out.mp4", {}, "no folder"),
        ("out.xyz", {}, r"\.mp4, \.mkv"),
        ("out", {}, r"\.mp4, \.mkv"),
        ("out.mp4", {"encoder": EncoderOptions(codec="libx264x")}, "did you mean 'libx264'"),
        ("out.mp4", {"encoder": EncoderOptions(codec="aac")}, "audio"),
        ("out.mp4", {"pix_fmt": PIXEL_FORMATS["gbrp"]}, "it takes: yuv420p"),
        ("out.webm", {}, "webm"),
        ("out.mp4", {"encoder": EncoderOptions(preset="hasty")}, "hasty"),
        ("in.mp4", {"carry_from": clip, "overwrite": True}, "input itself"),
    ]
    for name, changes, expected in cases:
        with pytest.raises(OutputError, match=expected) as caught:
            writer(tmp_path / name, **changes)
        assert caught.value.exit_code == 5
        assert "\n" not in str(caught.value)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        writer(tmp_path / "folder.mp4", overwrite=True)
    with pytest.raises(InputError, match=r"none\.mp4"):
        writer(tmp_path / "out.mp4", carry_from=tmp_path / "none.mp4")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.mp4", "in.mp4"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not be written"):
        writer(tmp_path / "out.mp4")
    tmp_path.chmod(0o700)


def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_all(tmp_path / "out.mp4", pictures(1))
    assert list(tmp_path.iterdir()) == []


def test_coarse_clock_never_accumulates(ffprobe: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Matroska counts milliseconds: each time is rounded by itself."""
    times = [index / (NTSC_FILM * 8) for index in range(481)]
    with writer(tmp_path / "out.mkv", rate=NTSC_FILM * 8, time_base=exact_time_base(1 / (NTSC_FILM * 8))) as output:
        for frame in pictures(0, times=times):
            output.write(frame)
    packets = ffprobe(tmp_path / "out.mkv", "-show_packets")["packets"]
    assert [packet["pts"] for packet in packets] == [
        pytest.approx(float(time * 1000), abs=0.501) for time in times[:-1]
    ]
    assert float(ffprobe(tmp_path / "out.mkv")["format"]["duration"]) == pytest.approx(float(times[-1]), abs=0.001)
