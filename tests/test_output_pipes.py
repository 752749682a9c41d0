"""Videos into pipes: another program reads every frame, in step; whoever stops reading ends the run and no more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidtrans
from vidtrans.errors import OutputError, PipeClosed, UsageError
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Summary
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame, PixelFormat
from vidtrans.video.names import STDOUT, is_pipe, output_path
from vidtrans.video.pipe_out import Y4M_PIX_FMTS, NewFile, Pipe, PlanesWriter, Steady, y4m_header

Probe = Callable[..., dict[str, Any]]
COLOUR = Colour("bt601", False, range_tag=1)
RATE = Fraction(24000, 1001)


def pictures(count: int, pix_fmt: PixelFormat, size: tuple[int, int] = (35, 27)) -> list[Frame]:
    """Frames of random code values over the whole range, at RATE."""
    draw = np.random.default_rng(7)
    shapes = pix_fmt.plane_shapes(*size)
    return [
        Frame(
            tuple(draw.integers(0, pix_fmt.max_code + 1, shape).astype(pix_fmt.dtype) for shape in shapes),
            index / RATE,
            1 / RATE,
            pix_fmt,
            COLOUR,
        )
        for index in range(count)
    ]


def planes_writer(out: Pipe | NewFile, pix_fmt: PixelFormat, stored: str = "", *, y4m: bool = True) -> PlanesWriter:
    header = y4m_header(35, 27, RATE, pix_fmt, COLOUR, Fraction(4, 3)) if y4m else b""
    return PlanesWriter(
        out,
        width=35,
        height=27,
        pix_fmt=pix_fmt,
        colour=COLOUR,
        stored=stored or pix_fmt.name,
        steady=Steady(RATE, 1 / (2 * RATE)),
        header=header,
        before_each=b"FRAME\n" if y4m else b"",
    )


def write_all(writer: PlanesWriter, frames: list[Frame], then: Exception | None = None) -> None:
    """Writes frames and then, before it is complete, raises."""
    with writer:
        for frame in frames:
            writer.write(frame)
        if then is not None:
            raise then


def run(clip: Path, model: Path, **options: Any) -> Summary:
    given = {"to": "segmentation", "model": str(model), "engine": "torch", "factor": 2, **options}
    return vidtrans.upsample(clip, **given)


class Reading:
    """Reads a pipe or a FIFO to its end in a thread."""

    def __init__(self, source: Path | int) -> None:
        self.data = b""
        self._source = source
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with open(self._source, "rb") as file:
            self.data = file.read()

    def whole(self) -> bytes:
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        return self.data


@pytest.fixture
def fifo(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        os.mkfifo(tmp_path / name)
        return tmp_path / name

    return make


@contextmanager
def standard_output() -> Iterator[list[bytes]]:
    """Gets everything that reaches this process's standard output inside the block, as its one item."""
    sys.stdout.flush()
    reading_end, writing_end = os.pipe()
    saved = os.dup(1)
    os.dup2(writing_end, 1)
    os.close(writing_end)
    reader, received = Reading(reading_end), []
    try:
        yield received
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        received.append(reader.whole())


# Plain pictures.


@pytest.mark.parametrize("name", Y4M_PIX_FMTS)
def test_y4m_is_read_by_another_program_bit_for_bit(
    name: str, ffmpeg: Callable[..., bytes], ffprobe: Probe, tmp_path: Path
) -> None:
    pix_fmt = PIXEL_FORMATS[name]
    frames = pictures(3, pix_fmt)
    path = tmp_path / "out.y4m"
    write_all(planes_writer(NewFile(path), pix_fmt), frames)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.y4m"]
    expected = b"".join(plane.tobytes() for frame in frames for plane in frame.planes)
    assert ffmpeg("-i", path, "-f", "rawvideo", "-") == expected
    (video,) = ffprobe(path, "-count_frames")["streams"]
    assert (video["pix_fmt"], video["nb_read_frames"]) == (name, "3")
    assert Fraction(video["r_frame_rate"]) == RATE
    assert (video["color_range"], video["sample_aspect_ratio"]) == ("tv", "4:3")


@pytest.mark.parametrize(("name", "stored"), [("gbrp", "rgb24"), ("yuv420p", "nv12"), ("yuv422p10le", "")])
def test_rawvideo_is_the_planes_and_nothing_else(
    name: str, stored: str, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    pix_fmt = PIXEL_FORMATS[name]
    frames = pictures(2, pix_fmt)
    path = tmp_path / "out.raw"
    write_all(planes_writer(NewFile(path), pix_fmt, stored, y4m=False), frames)
    raw = ("-f", "rawvideo", "-s", "35x27", "-pix_fmt", stored or name, "-i", path)
    expected = b"".join(plane.tobytes() for frame in frames for plane in frame.planes)
    assert ffmpeg(*raw, "-f", "rawvideo", "-pix_fmt", name, "-") == expected


def test_a_file_of_planes_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.y4m"
    path.write_bytes(b"precious")
    pix_fmt = PIXEL_FORMATS["gray"]
    for count in (0, 2):
        with pytest.raises(RuntimeError):
            write_all(planes_writer(NewFile(path), pix_fmt), pictures(count, pix_fmt), RuntimeError())
    with pytest.raises(OutputError, match="no frame"):
        write_all(planes_writer(NewFile(path), pix_fmt), [])
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.y4m"]


# Standard output.


def test_y4m_on_standard_output_is_the_video_and_nothing_else(
    make_clip: Callable[..., Path],
    tiny_model: Path,
    framemd5: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    """Also where a library prints in the middle of it."""
    clip = make_clip(tmp_path / "in.mp4", frames=4, audio=["aac"])
    seen = []

    def progress(done: int, expected: int | None) -> None:
        os.write(1, b"a library's chatter")
        print("and Python's")
        seen.append(done)

    from vidtrans.pipeline import run as run_options

    options = UpsampleOptions(
        clip, "segmentation", factor=2, model=str(tiny_model), engine="torch", output="-", output_to=tmp_path / "to.mkv"
    )
    with standard_output() as received:
        summary = run_options(options, progress=progress)
    (tmp_path / "piped.y4m").write_bytes(received[0])
    assert seen
    assert any("no sound" in note for note in summary.notes)
    assert summary.outputs[0] == STDOUT
    run(clip, tiny_model, codec="ffv1", output=tmp_path / "up.mkv", output_to=tmp_path / "seg.mkv")
    assert framemd5(tmp_path / "piped.y4m") == framemd5(tmp_path / "up.mkv")


def test_the_program_writes_the_same_bytes_to_stdout_and_to_an_open_file(
    make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    """And says everything else on stderr."""
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    words = ["upsample", clip, "--to", "segmentation", "--model", tiny_model, "--engine", "torch", "-m", "2"]
    command = [sys.executable, "-m", "vidtrans", *map(str, words), "-o", "-", "--out-to", "/dev/fd/9"]
    script = '"$@" 9>to.y4m'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command], capture_output=True, cwd=tmp_path, check=True, timeout=60
    )
    size = len(b"FRAME\n") + 64 * 48 * 3 // 2
    for data in (done.stdout, (tmp_path / "to.y4m").read_bytes()):
        header, _, rest = data.partition(b"\n")
        assert header == b"YUV4MPEG2 W64 H48 F48:1 Ip A0:0 C420mpeg2 XCOLORRANGE=LIMITED"
        assert len(rest) == 6 * size
    assert b"3 frames in, 6 out" in done.stderr
    assert b"wrote" not in done.stderr


def test_a_closed_pipe_ends_the_run_quietly(make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=100)
    words = ["upsample", clip, "--to", "segmentation", "--model", tiny_model, "--engine", "torch", "--motion", "none"]
    command = [sys.executable, "-m", "vidtrans", *map(str, words), "-o", "-", "--out-to", "to.mkv"]
    script = '"$@" | head -c 1000 > kept; exit ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *command], capture_output=True, cwd=tmp_path, check=False, timeout=60
    )
    assert done.returncode == PipeClosed.exit_code == 141
    assert (tmp_path / "kept").stat().st_size == 1000
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"vidtrans:") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "kept"]


# FIFOs and open files.


def test_two_fifos_are_read_one_after_the_other(
    make_clip: Callable[..., Path],
    tiny_model: Path,
    fifo: Callable[[str], Path],
    framemd5: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    """A program that opens the second only when the first has given it frames must not wait for ever."""
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    first, second = fifo("up.nut"), fifo("seg.y4m")
    received = {}

    def read() -> None:
        with second.open("rb") as late:
            head = late.read(4096)
            with first.open("rb") as early:
                received["up"] = early.read()
            received["seg"] = head + late.read()

    thread = threading.Thread(target=read)
    thread.start()
    run(clip, tiny_model, codec="ffv1", output=first, output_to=second)
    thread.join(timeout=60)
    for name, data in received.items():
        (tmp_path / f"{name}.got").write_bytes(data)
    run(clip, tiny_model, codec="ffv1", output=tmp_path / "up.mkv", output_to=tmp_path / "seg.mkv")
    for name in ("up", "seg"):
        assert framemd5(tmp_path / f"{name}.got") == framemd5(tmp_path / f"{name}.mkv")


@pytest.mark.parametrize("opened", [False, True])
def test_a_failure_elsewhere_frees_an_output_that_waits_for_its_reader(
    opened: bool,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    fifo: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    from vidtrans.video.writer import VideoWriter

    clip = make_clip(tmp_path / "in.mp4", frames=30, size=(256, 128))
    path = fifo("up.y4m")

    def full(self: VideoWriter, frame: Frame) -> None:
        raise OutputError("disk full")

    monkeypatch.setattr(VideoWriter, "write", full)
    lazy = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if opened else None  # a reader that never reads
    with pytest.raises(OutputError, match="disk full"):
        run(clip, tiny_model, output=path, output_to=tmp_path / "to.mp4", motion="none")
    if lazy is not None:
        os.close(lazy)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "up.y4m"]


def test_what_is_a_pipe() -> None:
    assert output_path("/dev/stdout") == output_path("/dev/fd/1") == STDOUT
    assert output_path("frames/") == Path("frames/%06d.png")
    assert all(is_pipe(Path(name)) for name in ("-", "/dev/fd/7", "/dev/null"))
    assert not any(is_pipe(Path(name)) for name in ("/dev", "out.mp4", "/dev/fd", "/none/out.mp4"))


@pytest.mark.parametrize("name", ["/dev/fd/2", "/dev/stderr", "/dev/fd/99", "/dev/fd/READ"])
def test_what_cannot_take_a_video_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file, pytest.raises(OutputError) as caught:
        Pipe(Path(name.replace("READ", str(file.fileno()))))
    assert "\n" not in str(caught.value)


def test_a_terminal_is_refused() -> None:
    ours, theirs = os.openpty()
    with pytest.raises(OutputError, match="terminal"):
        Pipe(Path(f"/dev/fd/{theirs}"))
    os.close(ours)
    os.close(theirs)


# Both videos in one stream.


@pytest.mark.parametrize(
    ("name", "container"), [("both.mkv", None), ("both.nut", None), ("-", "matroska"), ("-", None)]
)
def test_both_videos_are_two_tracks_on_one_clock(
    name: str,
    container: str | None,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    ffprobe: Probe,
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    wide = {"sample_aspect_ratio": Fraction(4, 3)}
    clip = make_clip(tmp_path / "in.mp4", frames=12, rate=Fraction(15, 2), audio=["aac"], tags=wide)
    path = tmp_path / ("both.got" if name == "-" else name)
    options = {"codec_to": "ffv1", "labels": "index"} if name == "both.mkv" else {}
    options |= {"codec": "ffv1"} if container == "matroska" else {}
    with standard_output() as received:
        output = name if name == "-" else path
        summary = run(clip, tiny_model, mux="both", output=output, out_format=container, **options)
    if name == "-":
        path.write_bytes(received[0])
    else:
        assert not received[0]
        assert summary.outputs == (path, path)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == [name, "in.mp4"]
    facts = ffprobe(path, "-show_packets")
    up, seg, _ = facts["streams"]
    assert [stream["codec_type"] for stream in facts["streams"]] == ["video", "video", "audio"]
    titles = [{key.lower(): value for key, value in stream["tags"].items()}["title"] for stream in (up, seg)]
    assert titles == ["scene", "segmentation"]
    assert [stream["disposition"]["default"] for stream in (up, seg)] == [1, 0]
    assert up["time_base"] == seg["time_base"]
    if "nut" not in facts["format"]["format_name"]:  # which would leave it to the codec
        assert [stream["sample_aspect_ratio"] for stream in (up, seg)] == ["4:3", "4:3"]
    packets = facts["packets"]
    times = [sorted(packet["pts"] for packet in packets if packet["stream_index"] == number) for number in (0, 1)]
    assert times[0] == times[1]
    assert len(times[0]) == 24
    # In order, so that nobody who reads both has to hold much.
    ends = [0.0, 0.0, 0.0]
    for packet in packets:
        ends[packet["stream_index"]] = float(packet["pts_time"])
        assert abs(ends[0] - ends[1]) < 1.0
    audio = [ffmpeg("-i", file, "-map", "0:a", "-c", "copy", "-f", "md5", "-") for file in (clip, path)]
    assert audio[0] == audio[1]
    if "labels" in options:
        assert (seg["codec_name"], seg["pix_fmt"]) == ("ffv1", "gray")
        assert "segmentation: class numbers" in " ".join(summary.notes)


def test_an_aborted_file_of_both_leaves_nothing(
    make_clip: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vidtrans.video.mux_out import Track

    clip = make_clip(tmp_path / "in.mp4", frames=4)
    written, real = [], Track.write

    def write(self: Track, frame: Frame) -> None:
        written.append(frame)
        if len(written) > 9:
            raise OutputError("disk full")
        real(self, frame)

    monkeypatch.setattr(Track, "write", write)
    with pytest.raises(OutputError, match="disk full"):
        run(clip, tiny_model, mux="both", output=tmp_path / "both.mkv")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]
    path = tmp_path / "both.mkv"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        run(clip, tiny_model, mux="both", output=path)
    assert path.read_bytes() == b"precious"
    clip = make_clip(tmp_path / "in.mkv", frames=2)
    with pytest.raises(OutputError, match="input itself"):
        run(clip, tiny_model, mux="both", output=clip, overwrite=True)


def test_nut_on_a_pipe_keeps_every_time_stamp(
    make_clip: Callable[..., Path], tiny_model: Path, ffprobe: Probe, fifo: Callable[[str], Path], tmp_path: Path
) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, options={"bf": "0"}, audio=["aac"])
    path = fifo("up.nut")
    reader = Reading(path)
    run(clip, tiny_model, factor=4, output=path, output_to="/dev/null", out_format_to="matroska", encode={"bf": 0})
    (tmp_path / "got.nut").write_bytes(reader.whole())
    facts = ffprobe(tmp_path / "got.nut", "-show_packets", "-select_streams", "v")
    base = Fraction(facts["streams"][0]["time_base"])
    got = [packet["pts"] * base for packet in facts["packets"]]
    assert [time - got[0] for time in got] == [
        a + (b - a) * Fraction(k, 4) for a, b in pairwise(times) for k in range(4)
    ]
    assert "audio" in [stream["codec_type"] for stream in ffprobe(tmp_path / "got.nut")["streams"]]


# Rates that vary.


def test_what_holds_no_times_refuses_a_rate_that_varies_before_the_start(
    make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path
) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, options={"bf": "0"})
    options = {"output": tmp_path / "up.y4m", "output_to": tmp_path / "to.mp4"}
    with pytest.raises(OutputError, match=r"varies.*--fps"):
        run(clip, tiny_model, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]
    run(clip, tiny_model, **options, factor=None, fps=60)
    header = (tmp_path / "up.y4m").read_bytes().partition(b"\n")[0]
    assert b" F60:1 " in header


def test_a_rate_that_begins_to_vary_later_is_refused_there(tmp_path: Path) -> None:
    pix_fmt = PIXEL_FORMATS["gray"]
    frames = pictures(4, pix_fmt)
    late = Frame(frames[3].planes, frames[3].time + Fraction(3, 4) / RATE, 1 / RATE, pix_fmt, COLOUR)
    with pytest.raises(OutputError, match=r"frame 4 would be 31\.3 ms early"):
        write_all(planes_writer(NewFile(tmp_path / "out.y4m"), pix_fmt), [*frames[:3], late])
    assert list(tmp_path.iterdir()) == []


def test_rounded_clocks_are_no_varying_rate(make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=40, rate=RATE)
    run(
        clip, tiny_model, factor=8, output=tmp_path / "up.y4m", output_to="/dev/null", motion="none", end=Fraction(1, 2)
    )
    assert b" F192000:1001 " in (tmp_path / "up.y4m").read_bytes()[:100]


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ({"output": "-", "output_to": "-"}, UsageError, "--mux both"),
        ({"output": "-", "output_to": "/dev/stdout"}, UsageError, "--mux both"),
        ({"mux": "both", "output_to": "to.mkv"}, UsageError, "--out-to"),
        ({"mux": "both", "output": "both.mp4"}, UsageError, r"\.mkv or \.nut"),
        ({"mux": "both", "output": "-", "out_format": "y4m"}, UsageError, r"\.mkv or \.nut"),
        ({"mux": "all"}, UsageError, "apart, both"),
        ({"output": "-", "out_format": "mp4"}, UsageError, "index"),
        ({"output": "-", "out_format": "matroshka"}, UsageError, "did you mean 'matroska'"),
        ({"output": "up.mp4", "out_format": "nut"}, UsageError, r"\.nut"),
        ({"output": "-", "codec": "libx264"}, OutputError, "--out-format"),
        ({"output": "-", "out_format": "webm", "codec": "libx264"}, OutputError, "webm"),
        ({"output": "-", "pix_fmt": "gbrp"}, OutputError, "yuv444p"),
    ],
)
def test_pipes_that_cannot_be_are_one_sentence(
    options: dict[str, Any],
    kind: type[Exception],
    hint: str,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    with standard_output() as received, pytest.raises(kind, match=hint) as caught:
        run(clip, tiny_model, **options)
    assert "\n" not in str(caught.value)
    assert not received[0]
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]
