"""Where inputs, colours, limits, segments and outputs meet."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

import vidtrans
from vidtrans.errors import InputError, UsageError
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import run
from vidtrans.video.colour_names import Told
from vidtrans.video.encoder import EncoderOptions, encoder_settings, find_encoder
from vidtrans.video.source import open_source
from vidtrans.video.y4m import Y4mHeader


def y4m(path: Path, size: tuple[int, int] = (48, 36), count: int = 3) -> Path:
    width, height = size
    frame = b"FRAME\n" + bytes([90]) * (width * height * 3 // 2)
    path.write_bytes(Y4mHeader(width, height, rate=None).format() + frame * count)
    return path


def images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (48, 36), (10 * number, 90, 30)).save(folder / f"{number}.png")
    return folder


def test_what_is_told_and_limited_holds_for_every_input(tmp_path: Path) -> None:
    told = Told(matrix="bt2020nc", range="pc")
    with open_source(y4m(tmp_path / "in.y4m"), told=told) as source:
        assert (source.info.colour.matrix, source.info.colour.full_range) == ("bt2020", True)
    for path in (tmp_path / "in.y4m", images(tmp_path / "frames")):
        with pytest.raises(InputError, match="--max-pixels"):
            open_source(path, max_pixels=1000)


def test_user_params_of_x264_join_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.checkHardwareSupport", lambda feature: True)
    settings, _ = encoder_settings(EncoderOptions(encode={"x264-params": "aq-mode=2"}), find_encoder(None))
    assert settings["x264-params"] == "asm=avx2:aq-mode=2"


def test_only_files_into_files_can_be_continued(tmp_path: Path, tiny_model: Path) -> None:
    common: dict[str, Any] = {"to": "segmentation", "model": str(tiny_model), "factor": 2, "engine": "torch"}
    outs: dict[str, Any] = {"output": tmp_path / "a.mp4", "output_to": tmp_path / "b.mp4", "overwrite": True}
    said: list[str] = []

    def continues(**options: Any) -> bool:
        said.clear()
        summary = run(UpsampleOptions(**{**common, **outs, **options}), announce=said.append)
        assert summary.frames_out == 6
        return not any("cannot be continued" in text for text in said)

    assert continues(input=y4m(tmp_path / "in.y4m"))
    assert not continues(input=images(tmp_path / "frames"))
    assert not continues(input=tmp_path / "in.y4m", output_to=tmp_path / "seg" / "%03d.png")
    assert not continues(input=tmp_path / "in.y4m", output=tmp_path / "both.mkv", output_to=None, mux="both")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert len(list((tmp_path / "seg").iterdir())) == 6


def test_a_plan_of_what_is_no_file(tmp_path: Path, tiny_model: Path) -> None:
    common: dict[str, Any] = {"to": "segmentation", "model": str(tiny_model), "factor": 2, "engine": "torch"}
    paths = {"output": "-", "output_to": tmp_path / "seg" / "%03d.png"}
    plan = vidtrans.plan(images(tmp_path / "frames"), **common, **paths)
    assert plan.frames == 6
    assert plan.temporary_bytes == 0
    assert plan.measured is not None
    assert plan.lines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames"]


def test_a_pipe_goes_through_and_is_not_planned(
    tmp_path: Path, tiny_model: Path, make_clip: Callable[..., Path]
) -> None:
    data = make_clip(tmp_path / "in.mkv", frames=3, size=(48, 36)).read_bytes()
    command = [sys.executable, "-m", "vidtrans", "upsample", "-", "--to", "segmentation", "--model", str(tiny_model)]
    command += ["-m", "2", "--engine", "torch", "-o", "-", "--mux", "both", "--out-format", "nut"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=100, check=True)
    with av.open(io.BytesIO(done.stdout)) as container:
        assert [len(list(container.decode(video=0))), len(container.streams.video)] == [6, 2]
    assert b"cannot be continued" in done.stderr
    refused = subprocess.run([*command, "--dry-run"], input=data, capture_output=True, timeout=100)
    assert refused.returncode == UsageError.exit_code
    assert (refused.stdout, len(refused.stderr.splitlines())) == (b"", 1)
