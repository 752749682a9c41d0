"""Inputs that are no plain video files: pipes of every kind, rawvideo, and the names of what is made of them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidtrans
from vidtrans.checkpoint import save_model
from vidtrans.errors import InputError, OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.options import UpsampleOptions
from vidtrans.video import raw
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import InputForm
from vidtrans.video.layout import LAYOUTS
from vidtrans.video.reader import VideoReader
from vidtrans.video.source import FrameSource, open_source
from vidtrans.video.writer import VideoWriter

NTSC = Fraction(30000, 1001)
GREY = InputForm("rawvideo", (4, 2), "gray", Fraction(10))


def read(path: Path | str, **more: Any) -> tuple[FrameSource, list[Frame]]:
    with open_source(path, **more) as source:
        return source, list(source)


def refused(path: Path | str, kind: type[Exception] = InputError, **more: Any) -> str:
    with pytest.raises(kind) as caught:
        read(path, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def code_values(frames: Sequence[Frame]) -> bytes:
    return b"".join(plane.tobytes() for frame in frames for plane in frame.planes)


@contextmanager
def piped(pieces: Sequence[bytes], pause_seconds: float = 0.0, *, open_end: bool = False) -> Iterator[str]:
    """The name of a pipe into which the pieces are written, by a thread that then closes it unless `open_end`."""
    ours, theirs = os.pipe()

    def write() -> None:
        try:
            for piece in pieces:
                time.sleep(pause_seconds)
                left = memoryview(piece)
                while left:
                    left = left[os.write(theirs, left) :]
        except BrokenPipeError:
            pass
        finally:
            if not open_end:
                os.close(theirs)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield f"/dev/fd/{ours}"
    finally:
        os.close(ours)
        thread.join()
        if open_end:
            os.close(theirs)


def grey_y4m(count: int, width: int = 64, height: int = 48) -> list[bytes]:
    """The header, then one piece for every frame."""
    head = f"YUV4MPEG2 W{width} H{height} F24:1 Ip A1:1 Cmono\n".encode()
    return [head, *(b"FRAME\n" + bytes([10 * k % 256]) * (width * height) for k in range(count))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return path


@pytest.fixture
def upsample(model: Path, tmp_path: Path) -> Callable[..., vidtrans.pipeline.Summary]:
    """`upsample(input, **options)` into out.mkv and out.segmentation.mkv."""

    def run(name: Path | str, **options: Any) -> vidtrans.pipeline.Summary:
        outputs = {"output": tmp_path / "out.mkv", "output_to": tmp_path / "to.mkv"}
        fixed = {"to": "segmentation", "model": str(model), "engine": "torch", "factor": 2, "codec": "ffv1"}
        return vidtrans.upsample(name, **{**fixed, **outputs, **options})

    return run


# Pipes.


def test_a_pipe_gives_what_the_file_gives(
    make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=20, rate=NTSC, audio=["aac"], options={"g": "8"})
    for extension in ("mkv", "nut", "ts", "avi", "y4m", "mp4"):
        path = tmp_path / f"other.{extension}"
        codec = {"y4m": (), "avi": ("-c:v", "mpeg4")}.get(extension, ("-c", "copy"))
        ffmpeg("-i", clip, *codec, path)
        file, expected = read(path)
        with piped([path.read_bytes()]) as name:
            source, frames = read(name)
        assert code_values(frames) == code_values(expected)
        assert [(frame.time, frame.duration) for frame in frames] == [(f.time, f.duration) for f in expected]
        assert source.info.carry_from is None
        assert (file.info.carry_from == path) is (extension != "y4m")
        assert any("audio left out" in note for note in source.notes) is (extension != "y4m")
        if extension != "avi":  # which states no length into a pipe
            assert source.info.frame_count in (file.info.frame_count, None)


def test_a_part_of_a_pipe(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=20, rate=20, options={"g": "8"})
    span = Fraction(1, 4), Fraction(3, 4)
    expected = list(VideoReader(clip, *span))
    with piped([clip.read_bytes()]) as name, open_source(name, *span) as source:
        frames = list(source)
    assert code_values(frames) == code_values(expected)
    assert [frame.time for frame in frames] == [frame.time for frame in expected]


@pytest.mark.parametrize("codec", ["png", "mjpeg"])
def test_images_one_after_the_other_through_a_pipe(
    codec: str, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4)
    data = ffmpeg("-i", clip, "-c:v", codec, "-f", "image2pipe", "-")
    with piped([data]) as name:
        source, frames = read(name, form=InputForm(rate=NTSC))
    assert [frame.time for frame in frames] == [k / NTSC for k in range(4)]
    with piped([data]) as name:
        source, _ = read(name)
    assert source.info.average_rate == 25
    assert any("--rate-in" in note for note in source.notes)
    with piped([data[: -len(data) // 8]]) as name:
        assert "cut off or damaged" in refused(name)


def test_exif_in_a_pipe_does_no_harm(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "words"
    Image.new("RGB", (64, 48)).save(tmp_path / "in.jpg", exif=exif)
    with piped([(tmp_path / "in.jpg").read_bytes() * 3]) as name:
        assert len(read(name)[1]) == 3


def test_a_slow_writer_is_waited_for(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=5)
    y4m = b"".join(grey_y4m(5))
    for data in (clip.read_bytes(), y4m):
        step = len(data) // 40 + 1
        with piped([data[k : k + step] for k in range(0, len(data), step)], 0.005) as name:
            assert len(read(name)[1]) == 5


def test_a_pipe_is_never_held_in_memory() -> None:
    pieces = grey_y4m(60, 1000, 1000)
    tracemalloc.start()
    try:
        with piped(pieces) as name, open_source(name) as source:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            assert sum(1 for _ in source) == 60
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 5e6


def test_what_cannot_be_read_from_a_pipe_is_said(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    with piped([]) as name:
        assert "is empty" in refused(name)
    for junk in (bytes(3000), np.random.default_rng(1).bytes(3000), b"hello " * 500):
        with piped([junk]) as name:
            assert "is not a video" in refused(name)
    clip = make_clip(tmp_path / "in.mkv", frames=2)
    with piped([clip.read_bytes()]) as name:
        assert "times of its own" in refused(name, UsageError, form=InputForm(rate=Fraction(25)))
    assert "times of its own" in refused(clip, UsageError, form=InputForm(rate=Fraction(25)))
    assert "is closed" in refused("/dev/fd/987654")
    # Nothing else may be opened from there.
    for text in (f"ffconcat version 1.0\nfile '{clip}'\n", f"#EXTM3U\n#EXTINF:1,\nfile:{clip}\n#EXT-X-ENDLIST\n"):
        with piped([text.encode()]) as name:
            assert "is not a video" in refused(name)


def test_a_fifo_is_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    thread = threading.Thread(target=lambda: fifo.write_bytes(b"".join(grey_y4m(3))))
    thread.start()
    assert len(read(fifo)[1]) == 3
    thread.join()


def test_a_file_that_the_shell_opened_is_a_file(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, audio=["aac"])
    with clip.open("rb") as file:
        source, frames = read(f"/dev/fd/{file.fileno()}")
    assert len(frames) == 3
    assert source.info.carry_from is not None
    (tmp_path / "in.y4m").write_bytes(b"".join(grey_y4m(3)))
    with (tmp_path / "in.y4m").open("rb") as file:
        file.seek(0)
        assert len(read(f"/dev/fd/{file.fileno()}")[1]) == 3


def test_waiting_for_a_writer_can_be_ended() -> None:
    with piped(grey_y4m(2), open_end=True) as name, open_source(name) as source:
        threading.Timer(0.2, source.cancel).start()
        begin = time.monotonic()
        assert len(list(source)) == 2
        assert time.monotonic() - begin < 10


def test_a_run_that_fails_does_not_wait_for_its_writer(
    upsample: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(self: VideoWriter, frame: Frame) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(VideoWriter, "write", write)
    with piped(grey_y4m(30), open_end=True) as name, pytest.raises(OutputError, match="disk is full"):
        upsample(name)
    assert list(tmp_path.iterdir()) == []


# rawvideo.


@pytest.mark.parametrize("name", LAYOUTS)
def test_rawvideo_is_unpacked_as_another_program_does(name: str, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    """Every format at an odd size; planar ones hold the bytes as they are."""
    layout = LAYOUTS[name]
    size = layout.byte_count(35, 27)
    data = np.random.default_rng(2).integers(0, 256, 3 * size, np.uint8)
    if layout.pix_fmt.bits > 8:
        unused = 6 if name.startswith("p0") else 0
        values = data.view("<u2") & (layout.pix_fmt.max_code << unused)
        data = values.view(np.uint8)
    path = tmp_path / "in.raw"
    path.write_bytes(data.tobytes())
    source, frames = read(path, form=InputForm("rawvideo", (35, 27), name, NTSC))
    assert [frame.time for frame in frames] == [k / NTSC for k in range(3)]
    assert (source.info.frame_count, source.info.duration) == (3, 3 / NTSC)
    assert source.info.colour.full_range is (layout.pix_fmt.kind != "yuv" or name.startswith("yuvj"))
    assert any("alpha" in note for note in source.notes) is layout.alpha
    if layout.pix_fmt.name == name or name.startswith("yuvj"):
        assert code_values(frames) == data.tobytes()
    else:
        told = ("-f", "rawvideo", "-s", "35x27", "-pix_fmt", name, "-i", path)
        assert code_values(frames) == ffmpeg(*told, "-pix_fmt", layout.pix_fmt.name, "-f", "rawvideo", "-")


def test_rawvideo_names_mean_what_they_mean_in_ffmpeg(tmp_path: Path) -> None:
    path = tmp_path / "in.raw"
    path.write_bytes(bytes(2 * 6 * 2 * 3 // 2 * 2))
    source, frames = read(path, form=InputForm("rawvideo", (6, 2), "yuv420p10", Fraction(25)))
    assert source.info.source_pix_fmt == "yuv420p10le"
    assert len(frames) == 2


def test_rawvideo_that_ends_inside_a_frame(tmp_path: Path) -> None:
    data = bytes(range(24))
    for length in range(1, 25):
        path = tmp_path / "in.raw"
        path.write_bytes(data[:length])
        for piped_in in (False, True):
            with piped([data[:length]]) as pipe:
                name = pipe if piped_in else path
                if length % 8:
                    message = refused(name, form=GREY)
                    assert (f"frame {length // 8 + 1}" if piped_in else f"{length} bytes") in message
                else:
                    assert code_values(read(name, form=GREY)[1]) == data[:length]


def test_a_part_of_rawvideo() -> None:
    data = bytes(range(80))
    with piped([data]) as name, open_source(name, Fraction(1, 4), Fraction(1, 2), form=GREY) as source:
        frames = list(source)
    assert code_values(frames) == data[24:40]
    assert [frame.time for frame in frames] == [0, Fraction(1, 10)]
    with piped([data]) as name, pytest.raises(UsageError, match="ends at 1 s"):
        open_source(name, Fraction(1), form=GREY)


def test_frames_too_large_for_memory_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(*_: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(raw.np, "empty", empty)
    (tmp_path / "in.raw").write_bytes(bytes(8))
    assert "do not fit into memory" in refused(tmp_path / "in.raw", form=GREY)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"in_format": "rawvideo"}, ["--size-in", "--pix-fmt-in", "--rate-in"]),
        ({"in_format": "rawvideo", "size_in": (4, 2), "rate_in": 25}, ["--pix-fmt-in"]),
        ({"in_format": "matroska"}, ["y4m, rawvideo"]),
        ({"size_in": (4, 2)}, ["--size-in", "--in-format rawvideo"]),
        ({"in_format": "y4m", "pix_fmt_in": "gray"}, ["--pix-fmt-in", "--in-format rawvideo"]),
        ({"in_format": "rawvideo", "size_in": (0, 2), "pix_fmt_in": "gray", "rate_in": 25}, ["0x2"]),
        ({"in_format": "rawvideo", "size_in": (4, 2), "pix_fmt_in": "grey", "rate_in": 25}, ["'gray'"]),
        ({"in_format": "rawvideo", "size_in": (4, 2), "pix_fmt_in": "gray", "rate_in": 0}, ["--rate-in"]),
        ({"rate_in": "fast"}, ["rate_in"]),
        ({"expect_frames": 0}, ["--expect-frames"]),
    ],
)
def test_what_is_said_of_an_input_must_fit(told: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        UpsampleOptions(Path("in.mp4"), "winter", **told)
    assert all(word in str(caught.value) for word in words)


# Names.


def test_outputs_of_unnamed_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "frames")

    def outputs(name: str, **told: Any) -> tuple[str, str]:
        first, second = UpsampleOptions(Path(name), "winter", **told).output_paths
        return str(first), str(second)

    def named(base: str) -> tuple[str, str]:
        return f"{base}.x8.mp4", f"{base}.x8.winter.mp4"

    assert outputs("inner/") == named("inner")
    assert outputs(".") == named("frames")
    assert outputs("..") == named(str(tmp_path))
    assert outputs("inner/%06d.png") == named("inner")
    assert outputs("%06d.png") == named("frames")
    assert outputs("shot_%04d.png") == named("shot")
    assert outputs("inner/shot-%d_b.png") == named("inner/shot")
    assert outputs("inner/*.png") == named("inner")
    assert outputs("shot*.png") == named("shot")
    assert outputs("in.y4m") == named("in")
    assert outputs("-", output=Path("a/b.mkv")) == ("a/b.mkv", "a/b.x8.winter.mp4")
    assert outputs("-", output=Path("-")) == ("-", "stdin.x8.winter.mp4")
    assert outputs("-", output=Path("b.mkv"), output_to=Path("c.mkv")) == ("b.mkv", "c.mkv")
    for name in ("-", "/dev/stdin", "/dev/fd/3", "*/a.png"):
        with pytest.raises(UsageError, match="-o"):
            outputs(name)


# Counted.


@pytest.mark.parametrize("kind", ["file", "y4m", "rawvideo", "images"])
def test_another_number_of_frames_than_expected_is_an_error(
    kind: str, make_clip: Callable[..., Path], upsample: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    told: dict[str, Any] = {}
    path = folder / "in"
    if kind == "file":
        path = make_clip(folder / "in.mkv", frames=3)
    elif kind == "y4m":
        path.write_bytes(b"".join(grey_y4m(3)))
    elif kind == "rawvideo":
        path.write_bytes(bytes(3 * 64 * 48))
        told = {"in_format": "rawvideo", "size_in": (64, 48), "pix_fmt_in": "gray", "rate_in": 24}
    else:
        from PIL import Image

        path = folder
        for number in range(3):
            Image.new("L", (64, 48), 40 * number).save(folder / f"{number}.png")
    for count, words in ((2, "more than the 2 frames"), (4, "1 fewer")):
        with pytest.raises(InputError, match=words):
            upsample(path, expect_frames=count, **told)
        assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert upsample(path, expect_frames=3, **told).frames_in == 3


# The whole tool.


def test_images_become_videos(
    upsample: Callable[..., Any],
    framemd5: Callable[[Path], list[str]],
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
    make_clip: Callable[..., Path],
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1", pix_fmt="bgr0")
    ffmpeg("-i", clip, tmp_path / "%03d.png")
    summary = upsample(tmp_path / "%03d.png", factor=3, rate_in=NTSC, pix_fmt="gbrp")
    assert (summary.frames_in, summary.frames_out) == (3, 9)
    found = framemd5(tmp_path / "out.mkv")
    assert found[::3] == framemd5(clip)
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert [frame.time for frame in reader] == [Fraction(round(k * 1000 / (3 * NTSC)), 1000) for k in range(9)]


def test_int8_needs_footage_that_can_be_read_twice(upsample: Callable[..., Any]) -> None:
    with piped(grey_y4m(5)) as name, pytest.raises(UsageError, match="--precision int8"):
        upsample(name, engine="openvino", precision="int8")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vidtrans", "upsample", *map(str, arguments)]


def test_a_pipeline_of_programs(
    model: Path,
    make_clip: Callable[..., Path],
    ffmpeg: Callable[..., bytes],
    framemd5: Callable[[Path], list[str]],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, rate=NTSC, codec="ffv1", pix_fmt="yuv420p10le")
    options = ("-", "--to", "segmentation", "--model", model, "--engine", "torch", "-m", 2, "-c", "ffv1")
    options += ("-o", tmp_path / "out.nut", "--out-to", tmp_path / "to.nut", "-y")
    writer = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(clip), "-strict", "-1", "-f", "yuv4mpegpipe", "-"]
    with subprocess.Popen(writer, stdout=subprocess.PIPE) as first:
        done = subprocess.run(
            command(*options, "--expect-frames", 4), stdin=first.stdout, capture_output=True, text=True, timeout=120
        )
    assert (done.returncode, done.stdout) == (0, "")
    assert framemd5(tmp_path / "out.nut")[::2] == framemd5(clip)
    with VideoReader(tmp_path / "out.nut") as reader:
        assert [frame.time for frame in reader] == [k / (2 * NTSC) for k in range(8)]


def test_a_pipeline_whose_first_program_dies_leaves_nothing(upsample: Callable[..., Any], tmp_path: Path) -> None:
    data = b"".join(grey_y4m(6))[:-1000]
    with piped([data]) as name, pytest.raises(InputError, match="cut off inside frame 6") as caught:
        upsample(name)
    assert caught.value.exit_code == 3
    assert list(tmp_path.iterdir()) == []
