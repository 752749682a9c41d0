"""Nothing lost: a run that is killed anywhere and started again makes the same packets as one that is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import vidtrans
import vidtrans.pipeline
from vidtrans.checkpoint import save_model
from vidtrans.errors import OutputError
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.timeline import Interval, in_segments, pair
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.seam import SegmentReport
from vidtrans.video.segments import MANIFEST, SegmentStore, store_folder
from vidtrans.video.writer import VideoWriter

SEGMENT_FRAMES = 4
DOMAINS = (Domain("scene"), Domain("segmentation", "label", "street"))

# A command line whose segments are short, and which kills itself the n-th time that a function of segments.py begins.
CHILD = """
import os, signal, sys
import vidtrans.pipeline as pipeline
from vidtrans.video import segments
from vidtrans.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born deaf to it
pipeline.SEGMENT_FRAMES = int(sys.argv[1])
method, left, kind = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if method != "never":
    original = getattr(segments.SegmentStore, method)

    def counted(self, *arguments):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), kind)
        return original(self, *arguments)

    setattr(segments.SegmentStore, method, counted)
sys.argv = ["vidtrans", *sys.argv[5:]]
main()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save_model(path, JWDM(JWDMConfig(DOMAINS, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return path


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", SEGMENT_FRAMES)


def start(
    folder: Path, clip: Path, trained: Path, *more: str, method: str = "never", nth: int = 0, kind: int = signal.SIGKILL
) -> subprocess.CompletedProcess[str]:
    """`vidtrans upsample clip` into a folder, killed when `method` of the store begins for the n-th time."""
    child = [sys.executable, "-c", CHILD, str(SEGMENT_FRAMES), method, str(nth), str(int(kind))]
    outputs = ["-o", str(folder / "a.mp4"), "--out-to", str(folder / "b.mp4")]
    told = ["--to", "segmentation", "--model", str(trained), "--engine", "torch", "--factor", "2", *outputs, *more]
    return subprocess.run(
        [*child, "upsample", str(clip), *told], capture_output=True, text=True, check=False, timeout=120
    )


def packets(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every packet of every file in a folder; Matroska's own random numbers are not in them."""
    found = {}
    for path in sorted(folder.iterdir()):
        with av.open(str(path)) as container:
            found[path.name] = [
                (packet.stream_index, packet.pts, packet.dts, packet.duration, packet.is_keyframe, bytes(packet))
                for packet in container.demux()
                if packet.size
            ]
    return found


def upsample(clip: Path, folder: Path, trained: Path, extension: str = "mp4", **options: Any) -> vidtrans.Summary:
    folder.mkdir(exist_ok=True)
    names = {"output": folder / f"a.{extension}", "output_to": folder / f"b.{extension}"}
    told = {"to": "segmentation", "model": str(trained), "engine": "torch", "factor": 2, **names, **options}
    return vidtrans.upsample(clip, **told)


def stopped(
    monkeypatch: pytest.MonkeyPatch, nth: int, clip: Path, folder: Path, trained: Path, *more: Any, **options: Any
) -> None:
    """The same, stopped by an error when the n-th segment of either output would be finished."""
    original, left = SegmentStore.finish, [nth]

    def finish(self: SegmentStore, frames: int, end: Fraction, report: SegmentReport) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        original(self, frames, end, report)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "finish", finish)
        with pytest.raises(OutputError, match="No space left"):
            upsample(clip, folder, trained, *more, **options)


@pytest.mark.parametrize(
    ("method", "nth"), [("append", 30), ("finish", 4), ("finish", 6), ("packets", 2), ("remove", 1), ("remove", 2)]
)
def test_a_killed_run_continues_to_the_same_bytes(
    method: str, nth: int, model: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=14, rate=Fraction(24000, 1001), audio=["aac"])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert start(whole, clip, model).returncode == 0
    assert start(cut, clip, model, method=method, nth=nth).returncode == -signal.SIGKILL
    finals = [path for path in cut.iterdir() if not path.name.startswith(".")]
    again = start(cut, clip, model, *(["-y"] if finals else []))
    assert again.returncode == 0, again.stderr
    assert packets(cut) == packets(whole)


def test_ctrl_c_keeps_what_is_finished_and_says_so(model: Path, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=14)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert start(whole, clip, model).returncode == 0
    done = start(cut, clip, model, method="finish", nth=4, kind=signal.SIGINT)
    assert done.returncode == 130
    assert "continue" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in cut.iterdir()) == [".a.mp4.unfinished", ".b.mp4.unfinished"]
    assert start(cut, clip, model).returncode == 0
    assert packets(cut) == packets(whole)


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        ("mkv", {"codec": "ffv1"}),
        ("mp4", {"codec": "libx265", "preset": "ultrafast"}),
        ("webm", {"codec": "libvpx-vp9", "factor": Fraction(5, 2)}),
        ("mp4", {"factor": None, "fps": Fraction(60000, 1001)}),
        ("mov", {"motion": "none", "tail": "drop", "start": Fraction(1, 10)}),
    ],
    ids=str,
)
def test_a_continued_run_equals_a_whole_one(
    extension: str,
    options: dict[str, Any],
    model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    times = [Fraction(n, 24) for n in (0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 15, 16, 18, 19, 20)]
    clip = make_clip(tmp_path / "in.mov", times=times)
    whole = upsample(clip, tmp_path / "whole", model, extension, **options)
    stopped(monkeypatch, 5, clip, tmp_path / "cut", model, extension, **options)
    summary = upsample(clip, tmp_path / "cut", model, extension, **options)
    assert summary.frames_out == whole.frames_out
    assert 0 < summary.frames_continued < summary.frames_out
    assert packets(tmp_path / "cut") == packets(tmp_path / "whole")


def test_what_differs_is_not_continued(
    model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=14)
    cut = tmp_path / "cut"
    stopped(monkeypatch, 5, clip, cut, model)
    for change in ({"factor": 3}, {"crf": 30}, {"motion": "none"}):
        with pytest.raises(OutputError, match="stopped after 2 segments"):
            upsample(clip, cut, model, **change)
    assert upsample(clip, cut, model, crf=30, overwrite=True).frames_continued == 0
    assert sorted(path.name for path in cut.iterdir()) == ["a.mp4", "b.mp4"]


def test_another_input_of_the_same_name_is_not_continued(
    model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=14)
    stopped(monkeypatch, 5, clip, tmp_path / "cut", model)
    make_clip(tmp_path / "in.mp4", frames=14, rate=25)
    with pytest.raises(OutputError, match="another input"):
        upsample(clip, tmp_path / "cut", model)


def test_a_damaged_segment_is_made_again(
    model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=14)
    upsample(clip, tmp_path / "whole", model)
    stopped(monkeypatch, 7, clip, tmp_path / "cut", model)
    segment = store_folder(tmp_path / "cut" / "b.mp4") / "000001.packets"
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    # Both outputs are cut at the same frame: the other's whole segments after it are made again as well.
    assert upsample(clip, tmp_path / "cut", model).frames_continued == SEGMENT_FRAMES * 2
    assert packets(tmp_path / "cut") == packets(tmp_path / "whole")


def test_a_run_without_a_finished_segment_leaves_nothing(
    model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped(monkeypatch, 1, make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "cut", model)
    assert list((tmp_path / "cut").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="files are locked by fcntl")
def test_two_runs_never_write_one_output(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    first = SegmentStore(path, {"a": 1}, threads=1, overwrite=False)
    with pytest.raises(OutputError, match="another run"):
        SegmentStore(path, {"a": 1}, threads=1, overwrite=True)
    assert (first.folder / MANIFEST).exists()
    first.close()
    assert not first.folder.exists()


def test_a_manifest_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    store_folder(path).mkdir()
    for text in ("", "{", "[]", '{"format": 1}'):
        (store_folder(path) / MANIFEST).write_text(text)
        store = SegmentStore(path, {}, threads=2, overwrite=False)
        assert (store.segments, store.threads) == ([], 2)
        store.close()
        store_folder(path).mkdir()


def test_segments_are_closed_and_join_without_a_seam(
    ffprobe: Callable[..., dict[str, Any]], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Each begins with a whole picture; times run on, also where the lengths of frames change at the seam."""
    pix_fmt = PIXEL_FORMATS["yuv420p"]
    lengths = [Fraction(1, 100)] * 12 + [Fraction(1, 4)] * 12 + [Fraction(1, 30)] * 12
    path = tmp_path / "out.mp4"
    with VideoWriter(
        path,
        width=64,
        height=48,
        rate=Fraction(25),
        time_base=Fraction(1, 90000),
        pix_fmt=pix_fmt,
        colour=Colour("bt601", False),
        encoder=EncoderOptions(),
    ) as writer:
        time = Fraction(0)
        for index, length in enumerate(lengths):
            planes = tuple(np.full(shape, 40 + index, dtype=np.uint8) for shape in pix_fmt.plane_shapes(64, 48))
            writer.write(Frame(planes, time, length, pix_fmt, Colour("bt601", False)))
            time += length
            if index % 12 == 11:
                writer.end_segment()
    frames = ffprobe(path, "-show_frames")["frames"]
    assert [frame["key_frame"] for frame in frames][::12] == [1, 1, 1]
    begins = [sum(lengths[:index], Fraction(0)) for index in range(len(lengths))]
    assert [Fraction(frame["pts"], 90000) for frame in frames] == begins
    steps = [packet["dts"] for packet in ffprobe(path, "-show_packets")["packets"]]
    assert steps == sorted(set(steps))
    assert ffmpeg("-xerror", "-i", path, "-f", "null", "-") == b""


def test_intervals_are_marked_and_skipped_by_input_frames() -> None:
    pix_fmt = PIXEL_FORMATS["gray"]
    planes = (np.zeros((2, 2), dtype=np.uint8),)
    frames = [Frame(planes, Fraction(n), Fraction(1), pix_fmt, Colour("bt601", True)) for n in range(10)]
    plain = list(pair(frames, 3))

    def ends(intervals: list[Interval]) -> list[int]:
        return [interval.index for interval in intervals if interval.ends_segment]

    marked = list(in_segments(plain, 4))
    assert [interval.instants for interval in marked] == [interval.instants for interval in plain]
    assert ends(marked) == [3, 7, 9]
    for skip in range(5):
        rest = list(in_segments(plain, 4, 4 * skip - 1))
        assert rest == [interval for interval in marked if interval.index >= 4 * skip]
