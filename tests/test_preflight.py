"""Before the first frame: what a run will do is known, and what cannot work is refused."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import vidtrans
from vidtrans.checkpoint import save_model
from vidtrans.cli import main
from vidtrans.disk import check_space, disk_needs
from vidtrans.dry_run import frame_spans
from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.remarks import Warn
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS
from vidtrans.video.reader import VideoReader
from vidtrans.video.size import estimate_size

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    domains = (Domain("scene"), Domain("segmentation", "label", "street"))
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return str(path)


def options(model: str, **others: Any) -> dict[str, Any]:
    return {"to": "segmentation", "model": model, "engine": "torch", "preset": "ultrafast", **others}


RUNS: dict[str, dict[str, Any]] = {
    "factor 8": {},
    "factor 5/2, dropped tail": {"factor": Fraction(5, 2), "tail": "drop"},
    "60 per second of an excerpt": {"fps": 60, "start": Fraction(1, 10), "end": Fraction(3, 10)},
    "slow motion": {"factor": 3, "slowmo": True},
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_a_plan_writes_nothing_and_counts_as_the_run(
    tmp_path: Path, model: str, make_clip: Callable[..., Path], changes: dict[str, Any]
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=10, audio=["aac"])
    before = clip.stat().st_mtime_ns
    plan = vidtrans.plan(clip, **options(model, **changes))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    assert clip.stat().st_mtime_ns == before
    summary = vidtrans.upsample(clip, **options(model, **changes))
    assert plan.work is not None
    assert (plan.frames, plan.work.frames_in) == (summary.frames_out, summary.frames_in)
    assert tuple(output.path for output in plan.outputs) == summary.outputs
    assert plan.measured is not None
    assert plan.measured.seconds > 0
    assert plan.work.encodings <= plan.work.frames_in
    assert plan.work.decodings <= 2 * (plan.work.frames_out + plan.work.frames_in)
    assert [stream.becomes for stream in plan.outputs[0].streams] == [None if changes.get("slowmo") else "aac"]
    sizes = sum(path.stat().st_size for path in summary.outputs)
    assert sizes / 4 < plan.output_bytes < 4 * sizes


def test_work_is_what_the_network_does(tmp_path: Path, model: str, make_clip: Callable[..., Path]) -> None:
    """Five keyframes, each decoded once in both domains, and three in-betweens in every of four gaps."""
    clip = make_clip(tmp_path / "in.mp4", frames=5)
    work = vidtrans.plan(clip, **options(model, factor=4, size=(32, 16))).work
    assert work is not None
    assert (work.frames_in, work.frames_out, work.encodings, work.decodings) == (5, 20, 5, 2 * (5 + 12))
    assert work.counted
    assert work.megapixels == pytest.approx(34 * 32 * 16 / 1e6)


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_spans_are_those_of_the_decoded_frames(tmp_path: Path, make_clip: Callable[..., Path], extension: str) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15, 21, 22)]
    clip = make_clip(tmp_path / f"in.{extension}", times=times)
    for span in ((Fraction(0), None), (Fraction(4, 90), Fraction(13, 90))):
        with VideoReader(clip, *span) as reader:
            expected = [(frame.time, frame.duration) for frame in reader]
            assert frame_spans(clip, reader.info) == expected


def test_stamps_and_formats_are_stated(tmp_path: Path, model: str, make_clip: Callable[..., Path]) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4, rate=Fraction(24000, 1001))
    plan = vidtrans.plan(clip, **options(model, output=tmp_path / "a.mkv", output_to=tmp_path / "b.mp4"))
    rounded, exact = plan.outputs
    assert (rounded.container, rounded.exact, rounded.tick) == ("matroska", False, Fraction(1, 1000))
    assert (exact.container, exact.exact, exact.pix_fmt) == ("mp4", True, "yuv420p")
    assert exact.rate == 8 * Fraction(24000, 1001)
    text = "\n".join(plan.lines())
    for words in ("rounded to 1/1000 s", "time stamps exact", "64 frames to encode", "temporary space"):
        assert words in text


REFUSED: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "no folder": (OutputError, {"output": Path("none/out.mp4")}),
    "no container": (OutputError, {"output": Path("out.xyz")}),
    "no encoder": (OutputError, {"codec": "libx264x"}),
    "no such format": (OutputError, {"codec": "libx264", "pix_fmt": "gbrp"}),
    "codec and container": (OutputError, {"output": Path("out.webm"), "codec": "libx264"}),
    "the input itself": (OutputError, {"output": Path("in.mp4"), "overwrite": True}),
    "too many frames for the clock": (OutputError, {"fps": 2000, "output": Path("out.mkv")}),
    "no domain": (UsageError, {"to": "winter"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_at_once(
    tmp_path: Path, model: str, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4", frames=2)
    error, changes = REFUSED[case]
    for call in (vidtrans.plan, vidtrans.upsample):
        with pytest.raises(error) as caught:
            call("in.mp4", **options(model, **changes))
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_disk_that_is_clearly_too_small(
    tmp_path: Path, model: str, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=10, size=(256, 192))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000, 999, 1))
    for call in (vidtrans.plan, vidtrans.upsample):
        with pytest.raises(OutputError, match="1 bytes free") as caught:
            call(clip, **options(model))
        assert caught.value.exit_code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000, 0, 20_000))
    assert any("may not suffice" in note for note in vidtrans.plan(clip, **options(model)).notes)


@dataclass(frozen=True)
class Bytes:
    """Stands for an output."""

    path: Path
    least_bytes: int
    likely_bytes: int
    temporary_bytes: int
    on_disk: bool = True


def test_several_runs_take_their_outputs_and_the_temporary_space_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1000, 900, 100))
    first = [Bytes(tmp_path / "a", 10, 30, 30), Bytes(tmp_path / "pipe", 99, 99, 99, on_disk=False)]
    runs = [first, [Bytes(tmp_path / "b", 10, 20, 50)], [Bytes(tmp_path / "new" / "%d.png", 5, 10, 10)]]
    (need,) = disk_needs(runs)
    assert (need.free, need.least, need.likely, need.peak) == (100, 25, 60, 100)
    assert check_space([need]) == []
    assert all(isinstance(line, Warn) for line in check_space([replace(need, peak=101)], "all"))
    with pytest.raises(OutputError, match="all take 101 bytes at the very least"):
        check_space([replace(need, least=101)], "all")


def test_sizes_grow_with_what_is_asked_for() -> None:
    pix_fmt, size = PIXEL_FORMATS["yuv420p"], (640, 360)
    raw = estimate_size(EncoderOptions("rawvideo"), pix_fmt, size, 10)
    assert raw.least == raw.likely == 640 * 360 * 3 // 2 * 10
    lossless = estimate_size(EncoderOptions("ffv1"), pix_fmt, size, 10)
    fine, usual = (estimate_size(EncoderOptions(crf=crf), pix_fmt, size, 10) for crf in (11, None))
    assert raw.likely > lossless.likely > fine.likely > usual.likely > usual.least > 0
    assert fine.likely == pytest.approx(2 * usual.likely, rel=0.01)


def test_dry_run_of_the_command_line(
    tmp_path: Path,
    model: str,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, audio=["aac"])
    arguments = ["vidtrans", "upsample", str(clip), "--to", "segmentation", "--model", model, "--dry-run"]
    monkeypatch.setattr("sys.argv", [*arguments, "--engine", "torch"])
    main()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "48 frames to encode" in shown.err
    assert "audio stream 1 (aac): copied" in shown.err
    monkeypatch.setattr("sys.argv", [*arguments, "-o", str(tmp_path / "none" / "out.mp4")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 5
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
