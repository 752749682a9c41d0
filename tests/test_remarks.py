"""What is a warning and what is not, and that a warning is fatal where that is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import vidtrans
from vidtrans.cli import main
from vidtrans.errors import StrictError
from vidtrans.remarks import Remarks, Warn
from vidtrans.video.encoder import EncoderOptions, encoder_settings, find_encoder, format_remarks
from vidtrans.video.frame import PIXEL_FORMATS

WIDE = {"sample_aspect_ratio": Fraction(4, 3)}


def upsample(clip: Path, model: Path, **options: Any) -> vidtrans.Summary:
    told = {"model": str(model), "engine": "torch", "factor": 2, "motion": "none", **options}
    return vidtrans.upsample(clip, "segmentation", **told)


def test_lines_are_told_once_as_they_come_until_one_must_not_be() -> None:
    said: list[str] = []
    remarks, growing = Remarks(said.append), ["a", Warn("b")]
    remarks.follow(growing)
    growing += ["c", "a"]
    remarks.look()
    assert said == remarks.notes == ["a", "b", "c"]
    assert remarks.warnings == ["b"]
    strict = Remarks(said.append, strict=True)
    strict.follow(["x"])
    with pytest.raises(StrictError, match="--strict: b"):
        strict.follow(growing)
    assert said[-1] == "b"


@pytest.mark.parametrize(
    ("made", "options", "warning", "notes"),
    [
        # An image sequence of an input of varying rate, with sound.
        ({"audio": ["aac"]}, {"output": "o/%03d.png"}, "images hold no sound", ()),
        ({"times": [0, 1, 2, 5, 6]}, {"output": "o/%03d.png", "output_to": "t.mp4"}, "the frame rate varies", ()),
        # y4m.
        ({"audio": ["aac"]}, {"output": "o.y4m"}, "y4m holds no sound", ()),
        ({"tags": {"colorspace": 1}}, {"output": "o.y4m"}, "does not say that its colours are bt709", ()),
        # Encoders.
        ({}, {"codec": "ffv1", "preset": "fast", "output": "o.mkv"}, "has no presets", ("counts time",)),
        ({"pix_fmt": "yuv444p"}, {"output": "o.mp4"}, "is stored as yuv420p", ()),
        ({"size": (63, 48), "pix_fmt": "yuv444p"}, {"output": "o.mp4", "pix_fmt": "yuv420p"}, "takes even sizes", ()),
        (
            {"tags": {"sample_aspect_ratio": Fraction(4, 3)}},
            {"output": "o.nut", "codec": "ffv1"},
            "shape of pixels",
            (),
        ),
        # Asked for, or the usual way.
        ({"audio": ["aac"]}, {"output": "o.mp4", "slowmo": True}, None, ("audio is left out",)),
        ({}, {"output": "o.mp4", "labels": "index"}, None, ("class numbers", "untagged")),
        ({}, {"output": "o.rgb", "out_format": "rawvideo"}, None, ("read it with",)),
    ],
    ids=str,
)
def test_what_is_a_warning(
    made: dict[str, Any],
    options: dict[str, Any],
    warning: str | None,
    notes: tuple[str, ...],
    make_clip: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "times" in made:
        made = {"times": [Fraction(number, 24) for number in made["times"]]}
    codec = {"codec": "ffv1"} if "tags" not in made and "audio" not in made else {}
    clip = make_clip(tmp_path / "in.mkv", **{"frames": 4, **codec, **made})
    summary = upsample(clip, tiny_model, **options)
    assert [line for line in summary.warnings if warning and warning in line] or warning is None
    assert len(summary.warnings) <= (0 if warning is None else 2), summary.warnings
    for note in notes:
        assert [line for line in summary.notes if note in line and not isinstance(line, Warn)], summary.notes
    told = summary.to_json()
    assert told["warnings"] == summary.warnings
    assert not set(told["warnings"]) & set(told["notes"])
    if warning is not None:
        with pytest.raises(StrictError, match=warning):
            upsample(clip, tiny_model, **options, strict=True, overwrite=True)


def test_an_encoder_that_does_not_follow_is_warned_of() -> None:
    _, notes = encoder_settings(EncoderOptions("ffv1", crf=20), find_encoder("ffv1"))
    assert [type(note) for note in notes] == [Warn]
    source = PIXEL_FORMATS["yuv444p12le"]
    assert [type(note) for note in format_remarks(EncoderOptions(), source, PIXEL_FORMATS["yuv444p10le"])] == [Warn]


def test_both_videos_in_one_file_tell_what_it_does_not_hold(
    make_clip: Callable[..., Path], tiny_model: Path, ffprobe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2, tags=WIDE)
    path = tmp_path / "both.mkv"
    summary = upsample(clip, tiny_model, output=path, mux="both", codec="ffv1")
    assert [stream["sample_aspect_ratio"] for stream in ffprobe(path)["streams"]] == ["4:3", "4:3"]
    assert summary.warnings == []
    tagged = make_clip(tmp_path / "tagged.mp4", frames=2, tags={"color_primaries": 9, "color_trc": 16, "colorspace": 9})
    lost = upsample(tagged, tiny_model, output=tmp_path / "both.nut", mux="both", codec="ffv1")
    assert [line for line in lost.warnings if "ffv1 in .nut does not hold" in line and "color primaries" in line]


def test_stderr_is_what_was_asked_for(
    make_clip: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1")
    told = ["--to", "segmentation", "--model", str(tiny_model), "--engine", "torch", "-m", "2", "-y", "-c", "ffv1"]

    def err(*more: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["vidtrans", "upsample", str(clip), *told, "--preset", "fast", *more])
        main()
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.splitlines()

    assert any(line.startswith("warning: encoder ffv1") for line in err())
    (warning,) = err("--progress", "none", "--log-level", "warning")
    assert warning.startswith("warning: encoder ffv1 has no presets")
    assert err("--progress", "none", "--log-level", "error") == []
    events = [json.loads(line) for line in err("--progress", "json", "--log-level", "warning")]
    assert [event["event"] for event in events] == ["warning", "result"]
    assert events[1]["frames_out"] == 6
    assert events[1]["engine"]["name"] == "torch"


@pytest.mark.parametrize(
    ("file", "code", "why"),
    [
        ("-", 2, "standard output"),
        ("in.x8.segmentation.mkv", 2, "one of the outputs"),
        ("no/facts.json", 5, "no folder"),
    ],
)
def test_a_summary_that_cannot_be_written_is_refused_first(
    file: str,
    code: int,
    why: str,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mkv", frames=2)
    told = ["upsample", "in.mkv", "--to", "segmentation", "--model", str(tiny_model), "--summary", file]
    monkeypatch.setattr(sys, "argv", ["vidtrans", *told])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
