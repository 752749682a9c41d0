"""The main job on real files, checked by another program."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vidtrans
import vidtrans.checkpoint
from vidtrans.checkpoint import save_model
from vidtrans.cli import main
from vidtrans.errors import InputError, OutputError, UsageError, VidtransError
from vidtrans.model_library import BUNDLED
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.options import UpsampleOptions
from vidtrans.palettes import STREET
from vidtrans.pipeline import Summary

Probe = Callable[..., dict[str, Any]]
DOMAINS = (Domain("scene"), Domain("segmentation", "label", "street"))


@pytest.fixture(scope="module", params=["palette"])
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "m.safetensors", request.param)


def make_model(path: Path, head: str = "palette", domains: tuple[Domain, ...] = DOMAINS) -> Path:
    torch.manual_seed(0)
    save_model(path, JWDM(JWDMConfig(domains, 4, 6, 1, label_head=head, trained_size=(48, 36))))
    return path


def run(clip: Path, trained: Path, **options: Any) -> Summary:
    return vidtrans.upsample(clip, **{"to": "segmentation", "model": str(trained), "engine": "torch", **options})


def video_facts(ffprobe: Probe, path: Path) -> dict[str, Any]:
    probed = ffprobe(path, "-select_streams", "v:0", "-count_frames", "-show_entries", "frame=pts")
    stream = next(stream for stream in probed["streams"] if stream["codec_type"] == "video")
    base = Fraction(stream["time_base"])
    return {
        "count": int(stream["nb_read_frames"]),
        "rate": Fraction(stream["avg_frame_rate"]),
        "times": [int(frame["pts"]) * base for frame in probed["frames"]],
        "duration": Fraction(int(stream["duration_ts"])) * base if "duration_ts" in stream else None,
        "size": (stream["width"], stream["height"]),
    }


def audio_hash(ffmpeg: Callable[..., bytes], path: Path) -> str:
    return ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-").decode()


@pytest.mark.parametrize("rate", [Fraction(15, 2), Fraction(24000, 1001), Fraction(25)])
def test_two_videos_in_step_exact_in_count_time_and_sound(
    tmp_path: Path,
    model: Path,
    make_clip: Callable[..., Path],
    ffprobe: Probe,
    ffmpeg: Callable[..., bytes],
    rate: Fraction,
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=5, rate=rate, audio=["aac"])
    summary = run(clip, model)
    assert summary.outputs == (tmp_path / "in.x8.mp4", tmp_path / "in.x8.segmentation.mp4")
    assert (summary.frames_in, summary.frames_out) == (5, 40)
    for path in summary.outputs:
        facts = video_facts(ffprobe, path)
        assert facts["count"] == 40
        assert facts["rate"] == 8 * rate
        assert facts["times"] == [Fraction(k) / (8 * rate) for k in range(40)]
        assert facts["duration"] == 5 / rate
        assert facts["size"] == (64, 48)
        assert audio_hash(ffmpeg, path) == audio_hash(ffmpeg, clip)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "in.x8.mp4", "in.x8.segmentation.mp4"]


@pytest.mark.parametrize(("pix_fmt", "codec"), [("yuv420p", "ffv1"), ("yuv444p10le", "ffv1"), ("yuv420p", "libx264")])
def test_keyframes_come_back_bit_for_bit(
    tmp_path: Path,
    model: Path,
    make_clip: Callable[..., Path],
    framemd5: Callable[..., list[str]],
    pix_fmt: str,
    codec: str,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, codec="ffv1", pix_fmt=pix_fmt)
    run(clip, model, codec=codec, crf=0, factor=3)
    before, after = framemd5(clip), framemd5(tmp_path / "in.x3.mkv")
    assert after[::3] == before
    assert after[-3:] == [before[-1]] * 3  # held
    assert len(set(after)) > len(before)


def test_variable_rate_keeps_its_time_stamps(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], ffprobe: Probe
) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, options={"bf": "0"})
    run(clip, model, factor=4)
    expected = [a + (b - a) * Fraction(k, 4) for a, b in pairwise(times) for k in range(4)]
    for name in ("in.x4.mp4", "in.x4.segmentation.mp4"):
        facts = video_facts(ffprobe, tmp_path / name)
        assert facts["times"] == expected
        assert facts["duration"] == times[-1]


def test_factor_one_translates_only_and_one_frame_is_enough(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], ffprobe: Probe
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    assert run(clip, model, factor=1).frames_out == 3
    single = make_clip(tmp_path / "one.mp4", frames=1)
    assert run(single, model).frames_out == 8
    facts = video_facts(ffprobe, tmp_path / "one.x8.mp4")
    assert (facts["count"], facts["duration"]) == (8, Fraction(1, 24))


def decode_rgb(ffmpeg: Callable[..., bytes], path: Path, size: tuple[int, int]) -> np.ndarray:
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


@pytest.mark.parametrize("head", ["palette", "tanh"])
def test_labels_are_pure_in_a_lossless_file(
    tmp_path: Path, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], head: str
) -> None:
    model = make_model(tmp_path / "m.safetensors", head)
    clip = make_clip(tmp_path / "in.mkv", frames=3, size=(70, 50))
    run(clip, model, factor=2, codec="ffv1", pix_fmt="gbrp")
    colours = decode_rgb(ffmpeg, tmp_path / "in.x2.segmentation.mkv", (70, 50)).reshape(-1, 3)
    found = {tuple(colour) for colour in np.unique(colours, axis=0).tolist()}
    assert found <= set(STREET.colours)
    assert len(found) > 1


def test_lossless_444_keeps_every_class(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes]
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3)
    run(clip, model, factor=2, codec="ffv1", pix_fmt="gbrp", output_to=tmp_path / "pure.mkv", output=tmp_path / "a.mkv")
    run(clip, model, factor=2, crf=0, pix_fmt="yuv444p", output_to=tmp_path / "h.mp4", output=tmp_path / "b.mp4")
    pure, h264 = (STREET.nearest(decode_rgb(ffmpeg, tmp_path / name, (64, 48))) for name in ("pure.mkv", "h.mp4"))
    assert (pure == h264).all()


def test_the_other_direction_makes_a_photo_and_keeps_labels_pure(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], framemd5: Any
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3)
    run(clip, model, factor=2, codec="ffv1", pix_fmt="gbrp")
    labels = tmp_path / "in.x2.segmentation.mkv"
    summary = run(labels, model, to="scene", from_="segmentation", factor=2, codec="ffv1")
    up = decode_rgb(ffmpeg, summary.outputs[0], (64, 48))
    assert {tuple(colour) for colour in np.unique(up.reshape(-1, 3), axis=0).tolist()} <= set(STREET.colours)
    assert framemd5(summary.outputs[0])[::2] == framemd5(labels)
    scene = decode_rgb(ffmpeg, summary.outputs[1], (64, 48))
    assert len(np.unique(scene.reshape(-1, 3), axis=0)) > 100
    assert run(labels, model, to="scene", overwrite=True, factor=2).frames_in == 6  # --from inferred


def test_the_python_function_survives_the_command_lines_imports(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path]
) -> None:
    import vidtrans.cli.upsample
    import vidtrans.pipeline

    clip = make_clip(tmp_path / "in.mp4", frames=2)
    for overwrite in (False, True):
        assert callable(vidtrans.upsample)
        vidtrans.upsample(str(clip), "segmentation", factor=2, model=str(model), overwrite=overwrite)


# Bad input: one sentence, its own kind of exit code, nothing under the final names, nothing lost


def nothing_was_made(folder: Path, known: set[str]) -> bool:
    return {path.name for path in folder.iterdir()} <= known


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, "no such file"), (b"", "is empty"), (b"neither video nor anything else " * 50, "is not a video")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, model: Path, content: bytes | None, error: str) -> None:
    path = tmp_path / "in.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=error):
        run(path, model)
    assert nothing_was_made(tmp_path, {"in.mp4"})


def test_a_video_cut_off_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip(tmp_path / "whole.mkv", frames=60, options={"g": "10"})
    data = clip.read_bytes()
    (tmp_path / "in.mkv").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="cut off"):
        run(tmp_path / "in.mkv", model, factor=2)
    assert nothing_was_made(tmp_path, {"in.mkv", "whole.mkv"})


def test_existing_files_are_not_overwritten_without_y(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path]
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    second = tmp_path / "in.x8.segmentation.mp4"
    second.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        run(clip, model)
    assert second.read_bytes() == b"precious"
    assert nothing_was_made(tmp_path, {"in.mp4", second.name})
    run(clip, model, overwrite=True)
    assert second.stat().st_size > 100


def test_a_failing_encoder_leaves_no_partial_file(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6)
    from vidtrans.video.writer import VideoWriter

    written, real = [], VideoWriter.write

    def write(self: VideoWriter, frame: Any) -> None:
        written.append(frame)
        if len(written) > 9:
            raise OutputError("disk full")
        real(self, frame)

    monkeypatch.setattr(VideoWriter, "write", write)
    with pytest.raises(OutputError, match="disk full"):
        run(clip, model)
    assert nothing_was_made(tmp_path, {"in.mp4"})


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ({"to": "segmentatoin"}, UsageError, "segmentation"),
        ({"from_": "winter"}, UsageError, "scene"),
        ({"from_": "segmentation"}, UsageError, "both segmentation"),
        ({"factor": 0}, UsageError, "at least 1"),
        ({"factor": 0.5}, UsageError, "at least 1"),
        ({"detail": "all"}, UsageError, "keyframes"),
        ({"motion": "fast"}, UsageError, "flow"),
        ({"size": (0, 5)}, UsageError, "1x1"),
        ({"engine": "torhc"}, UsageError, "torch"),
        ({"model": "stret"}, UsageError, "street"),
        ({"faktor": 2}, UsageError, "factor"),
        ({"codec": "libx265q"}, OutputError, "libx26"),
        ({"pix_fmt": "yuv999"}, OutputError, "yuv"),
        ({"output": "no/such/folder/a.mp4"}, OutputError, "no folder"),
        ({"output": "a.xyz"}, OutputError, "container"),
        ({"output": "same.mp4", "output_to": "same.mp4"}, UsageError, "another name"),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path,
    model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    kind: type[VidtransError],
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    with pytest.raises(kind, match=hint) as caught:
        run(clip, model, **options)
    assert "\n" not in str(caught.value)
    assert nothing_was_made(tmp_path, {"in.mp4"})


def command_line(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["vidtrans", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_line_end_to_end(
    tmp_path: Path,
    model: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(BUNDLED, "street", (str(model), "a rendered summer street"))
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    assert command_line(monkeypatch, "upsample", clip, "--factor", "2", "--to", "segmentation", "--size", "52x36") == 0
    out, err = capsys.readouterr()
    assert out == ""  # stdout is for video
    assert "other footage needs vidtrans train" in err
    assert "2 frames in, 4 out" in err
    assert "bottleneck" in err
    assert (tmp_path / "in.x2.mp4").exists()
    for arguments, code in (
        (("upsample", tmp_path / "none.mp4", "--to", "segmentation"), 3),
        (("upsample", clip, "--to", "segmentation", "--factor", "2"), 5),
        (("upsample", clip, "--to", "sky"), 2),
        (("upsample", clip), 2),
        (("upsample", clip, "--to", "segmentation", "--device", "cuda:99", "--factor", "3"), 4),
    ):
        assert command_line(monkeypatch, *arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err


def test_what_shows_only_while_reading_is_said_at_the_end_and_once(
    model: Path,
    tmp_path: Path,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from vidtrans.video.reader import VideoReader

    clip = make_clip(tmp_path / "in.mp4", frames=2)
    real = VideoReader.__iter__

    def frames(self: VideoReader) -> Any:
        self.notes.append("known at once")
        yield from real(self)
        self.notes.append("a frame was left out")

    monkeypatch.setattr(VideoReader, "__iter__", frames)
    assert command_line(monkeypatch, "upsample", clip, "--to", "segmentation", "--model", model, "--factor", "2") == 0
    err = capsys.readouterr().err
    assert err.count("a frame was left out") == 1
    assert err.count("known at once") == 1


def test_paper_means_no_motion_and_no_detail(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, framemd5: Any
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1")
    lossless = ("--to", "segmentation", "--model", model, "--factor", "3", "-c", "ffv1", "-y")
    hashes = []
    for options in (("--paper",), ("--motion", "none", "--detail", "none"), ()):
        assert command_line(monkeypatch, "upsample", clip, *lossless, *options) == 0
        hashes.append(framemd5(tmp_path / "in.x3.mkv"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_interrupted_runs_say_so_and_leave_nothing(
    tmp_path: Path, model: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=4)
    import vidtrans.pipeline

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vidtrans.pipeline.Composer, "frames", interrupt)
    assert command_line(monkeypatch, "upsample", clip, "--to", "segmentation", "--model", model) == 130
    assert nothing_was_made(tmp_path, {"in.mp4"})


def test_the_bundled_models_match_the_table() -> None:
    for name, (file, _) in BUNDLED.items():
        path = Path(vidtrans.checkpoint.__file__).parent / "models" / file
        assert path.stat().st_size < 24e6
        loaded = vidtrans.checkpoint.load_model(name)
        assert loaded.bundled
        assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        tables = {"street": {"keyframes", "in_betweens", "picture_blind"}, "seasons": {"written", "decoded"}}
        assert tables[name] <= loaded.quality.keys()


def test_outputs_stand_beside_the_input_by_default() -> None:
    assert UpsampleOptions(Path("a/b.webm"), "winter", factor=4).output_paths == (
        Path("a/b.x4.mp4"),
        Path("a/b.x4.winter.mp4"),
    )
