"""Several inputs and several target domains in one run: every video is what a run of its own would have made."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import vidtrans
import vidtrans.pipeline
from vidtrans.checkpoint import save_model
from vidtrans.cli import main
from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.options import UpsampleOptions
from vidtrans.runs import SomeFailedError, parsed_batch
from vidtrans.targets import gathered, target_names
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.reader import VideoReader
from vidtrans.video.segments import SegmentStore

TARGETS = ("segmentation", "winter", "night")
MORE = {"motion": "none", "engine": "torch", "factor": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a street in four domains."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    domains = (Domain("summer"), Domain("segmentation", "label", "street"), Domain("winter"), Domain("night"))
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head="palette", trained_size=(48, 36))))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", frames=6, audio=["aac"])


def upsample(clip: Any, model: Path, to: Any, **options: Any) -> Any:
    return vidtrans.upsample(clip, to, **{"model": str(model), "from_": "summer", **MORE, **options})


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `vidtrans upsample` with these."""
    monkeypatch.setattr(sys, "argv", ["vidtrans", "upsample", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def told(model: Path) -> list[object]:
    return ["--from", "summer", "--model", model, "--engine", "torch", "--motion", "none", "-m", "2"]


# Several targets.


def test_every_target_is_as_if_it_were_alone_and_the_input_is_read_once(
    clip: Path,
    model: Path,
    framemd5: Callable[[Path], list[str]],
    ffprobe: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    passes = []
    original = VideoReader._all_frames
    monkeypatch.setattr(VideoReader, "_all_frames", lambda self: passes.append(1) or original(self))
    together = upsample(clip, model, "segmentation,winter", out_dir=tmp_path, codec_to={"winter": "ffv1"}, crf=30)
    assert len(passes) == 1
    assert [path.name for path in together.outputs] == ["in.x2.mp4", "in.x2.segmentation.mp4", "in.x2.winter.mp4"]
    assert together.domains == ("summer", "segmentation", "winter")
    codecs = [ffprobe(path)["streams"][0]["codec_name"] for path in together.outputs]
    assert codecs == ["h264", "h264", "ffv1"]
    assert all(ffprobe(path)["streams"][1]["codec_name"] == "aac" for path in together.outputs)
    for number, name in ((1, "segmentation"), (2, "winter")):
        (tmp_path / name).mkdir()
        alone = upsample(clip, model, name, out_dir=tmp_path / name, codec_to={"winter": "ffv1"}.get(name), crf=30)
        assert framemd5(together.outputs[number]) == framemd5(alone.outputs[1])
        assert framemd5(together.outputs[0]) == framemd5(alone.outputs[0])


def test_all_videos_fit_into_one_file_each_with_its_name(
    clip: Path, model: Path, ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "all.mkv"
    said: list[str] = []
    options = UpsampleOptions(clip, TARGETS, "summer", model=str(model), mux="both", output=path, **MORE)
    summary = vidtrans.pipeline.run(options, announce=said.append)
    assert set(summary.outputs) == {path}
    streams = ffprobe(path, "-count_packets")["streams"]
    assert [one["tags"]["title"] for one in streams[:4]] == ["summer", *TARGETS]
    assert [one["nb_read_packets"] for one in streams[:4]] == ["12"] * 4
    assert [one["disposition"]["default"] for one in streams[:4]] == [1, 0, 0, 0]
    assert [line for line in said if "cannot be continued" in line and "--mux both" in line]


def test_a_stopped_run_of_several_targets_continues_all_of_them(
    clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch, framemd5: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    monkeypatch.setattr(vidtrans.pipeline, "SEGMENT_FRAMES", 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = upsample(clip, model, TARGETS, out_dir=whole)
    original, left = SegmentStore.finish, [9]

    def finish(self: SegmentStore, *facts: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        original(self, *facts)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "finish", finish)
        with pytest.raises(OutputError, match="No space left"):
            upsample(clip, model, TARGETS, out_dir=cut)
    assert len(list(cut.iterdir())) == 4
    with pytest.raises(OutputError, match="another input, model or options"):
        upsample(clip, model, "winter", out_dir=cut)
    summary = upsample(clip, model, TARGETS, out_dir=cut)
    assert summary.frames_continued in (4, 8)
    for one, other in zip(expected.outputs, summary.outputs, strict=True):
        assert framemd5(one) == framemd5(other)


def test_what_is_said_of_targets() -> None:
    assert target_names(["a,b", "c"]) == target_names("a, b,c") == ("a", "b", "c")
    assert gathered(["x", "b=y", "b=z", "d=e"], ("a", "b")) == {"a": "d=e", "b": "z"}
    for wrong in ("", "a,,b", "a,a", []):
        with pytest.raises(UsageError, match="--to"):
            target_names(wrong)
    first = EncoderOptions("libx265", 20)
    options = UpsampleOptions(Path("in.mov"), "a,b,c", output_to={"b": "B.mkv"}, encoder_to={"c": first})
    assert [str(path) for path in options.output_paths] == ["in.x8.mov", "in.x8.a.mov", "B.mkv", "in.x8.c.mov"]
    assert (options.encoder_of("a"), options.encoder_of("c")) == (None, first)
    (run,) = parsed_batch(["in.mov"], "a,b", {"crf": 20, "crf_to": {"b": 0}, "encode_to": {"a": {"tune": "film"}}})
    assert run.encoder_of("a") == EncoderOptions(crf=20, encode={"tune": "film"})
    assert run.encoder_of("b") == EncoderOptions(crf=0)


@pytest.mark.parametrize(
    ("to", "options", "why"),
    [
        ("winter,night", {"output_to": "one.mp4"}, "--out-to winter=one.mp4"),
        ("winter,night", {"output_to": {"winter": "a.mp4", "night": "a.mp4"}}, "two outputs would be a.mp4"),
        ("winter,night", {"output_to": {"winter": "-"}, "output": "-"}, "only one video"),
        ("winter,night", {"codec_to": {"summer": "ffv1"}}, "--to does not name"),
        ("winter,night", {"output_to": {"winter": "a.mkv"}, "mux": "both"}, "leave --out-to"),
        ("winter,summer", {}, "both summer"),
        ("winter,summer,night,segmentation", {"from_": None}, "all domains"),
        ("winter,spring", {}, "no domain 'spring'"),
        ("winter", {"from_": None}, "several domains to come from"),
        ("winter,night", {"labels": "index"}, "none is a label domain"),
    ],
)
def test_targets_that_do_not_fit_are_one_sentence(
    to: str, options: dict[str, Any], why: str, clip: Path, model: Path
) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        upsample(clip, model, to, **options)
    assert "\n" not in str(caught.value)


# Several inputs.


def test_one_bad_file_does_not_stop_the_others(
    clip: Path,
    model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    bad, last = tmp_path / "bad.mp4", make_clip(tmp_path / "last.mkv", frames=3)
    bad.write_bytes(b"no video")
    out = tmp_path / "out"
    out.mkdir()
    facts = tmp_path / "facts.json"
    arguments = [clip, bad, last, "--to", "winter", *told(model), "--out-dir", out, "--summary", facts]
    assert command(monkeypatch, *arguments, "--progress", "json") == 3
    assert sorted(path.name for path in out.iterdir()) == [
        *("in.x2.mp4", "in.x2.winter.mp4", "last.x2.mkv", "last.x2.winter.mkv")
    ]
    summary = json.loads(facts.read_text())
    assert summary["exit_code"] == 3
    assert [one["status"] for one in summary["inputs"]] == ["done", "failed", "done"]
    assert "bad.mp4" in summary["inputs"][1]["error"]
    assert [one["frames_out"] for one in summary["inputs"]] == [12, 0, 6]
    assert summary["inputs"][2]["outputs"][1] == {"domain": "winter", "path": str(out / "last.x2.winter.mkv")}
    captured = capsys.readouterr()
    assert captured.out == ""
    events = [json.loads(line) for line in captured.err.splitlines() if line.startswith("{")]
    assert [event["input"] for event in events if event["event"] == "result"] == [str(clip), str(last)]
    assert [event["event"] for event in events].count("error") == 1
    # From Python.
    with pytest.raises(SomeFailedError, match="1 of 2 inputs failed") as caught:
        upsample([bad, last], model, "winter", out_dir=out, overwrite=True)
    assert [outcome.status for outcome in caught.value.batch.outcomes] == ["failed", "done"]
    assert caught.value.exit_code == 3


def test_inputs_that_do_not_fit_together_are_refused_before_the_first(
    clip: Path, model: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    other = make_clip(tmp_path / "in.mp4", frames=2)
    for inputs, options, why in (
        ([clip, other], {"out_dir": tmp_path}, r"would both give .*in\.x2\.mp4"),
        ([clip, other], {"output": tmp_path / "a.mp4"}, "-o names one output.*--out-dir"),
        ([clip, other], {"output_to": tmp_path / "a.mp4"}, "--out-to names one output"),
        ([], {}, "no input"),
    ):
        with pytest.raises(UsageError, match=why):
            upsample(inputs, model, "winter", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_dry_run_lists_every_output_of_every_input(
    clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.mp4"
    arguments = ["--to", "winter", "--to", "night", *told(model), "--out-dir", tmp_path, "--dry-run"]
    assert command(monkeypatch, missing, clip, *arguments) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0].split("/")[-1] for line in lines if line.startswith("output")] == [
        *("in.x2.mp4", "in.x2.winter.mp4", "in.x2.night.mp4")
    ]
    assert any("none.mp4" in line and "cannot be done" in line for line in lines)
    assert list(tmp_path.iterdir()) == []
    (plan,) = vidtrans.plan([clip], "winter,night", model=str(model), from_="summer", out_dir=tmp_path, **MORE)
    assert [output.path.name for output in plan.outputs] == ["in.x2.mp4", "in.x2.winter.mp4", "in.x2.night.mp4"]
    assert plan.work is not None
    assert plan.work.decodings == 3 * (plan.work.encodings + Fraction(5))  # five gaps have one in-between each


def test_a_dry_run_of_several_inputs_tells_whether_all_of_them_fit(
    clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.mp4"
    shutil.copy(clip, other)
    arguments = [clip, other, "--to", "winter", *told(model), "--out-dir", tmp_path, "--dry-run"]
    assert command(monkeypatch, *arguments, tmp_path / "none.mp4") == 3
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("all 2 inputs: 12 input frames, 48 frames to encode, 12 network") for line in lines)
    assert sum(line.startswith("all 2 inputs, ") for line in lines) == 2  # disk and time
    assert "all 2 inputs: without 1 that cannot be done" in lines
    (plan,) = vidtrans.plan([clip], "winter", model=str(model), from_="summer", out_dir=tmp_path, **MORE)
    free = sum(output.least_bytes for output in plan.outputs) * 3 // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert command(monkeypatch, *arguments) == 5  # either alone has room
    assert "outputs of all 2 inputs take" in capsys.readouterr().err


def test_ctrl_c_ends_all_and_the_summary_says_which(
    clip: Path,
    model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    other = make_clip(tmp_path / "other.mp4", frames=2)
    facts = tmp_path / "facts.json"

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vidtrans.pipeline, "composers_of", interrupt)
    assert command(monkeypatch, clip, other, "--to", "winter", *told(model), "--summary", facts) == 130
    summary = json.loads(facts.read_text())
    assert (summary["exit_code"], [one["status"] for one in summary["inputs"]]) == (130, ["interrupted", "not started"])
    assert "Traceback" not in capsys.readouterr().err
