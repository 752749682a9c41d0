"""What is chosen for outputs, and refused, before anything is read through: encoders, their options, names, labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

import vidtrans
import vidtrans.pipeline
from vidtrans.compose import Composer
from vidtrans.errors import OutputError, UsageError
from vidtrans.nets.contract import Domain
from vidtrans.palettes import STREET
from vidtrans.pipeline import Summary
from vidtrans.planes import best_class
from vidtrans.timeline import Instant, Interval
from vidtrans.video import encoder as encoder_module
from vidtrans.video.encoder import EncoderOptions, choose_pix_fmt, encoder_settings, find_encoder
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.trial import try_encoder
from vidtrans.video.video_stream import StreamShape

Probe = Callable[..., dict[str, Any]]


def run(clip: Path, model: Path, **options: Any) -> Summary:
    given = {"to": "segmentation", "model": str(model), "engine": "torch", "factor": 2, "motion": "none", **options}
    return vidtrans.upsample(clip, **given)


def video(ffprobe: Probe, path: Path) -> dict[str, Any]:
    return next(stream for stream in ffprobe(path)["streams"] if stream["codec_type"] == "video")


def shape(pix_fmt: str = "yuv420p", size: tuple[int, int] = (64, 48)) -> StreamShape:
    colour = Colour("bt601", pix_fmt == "gray", range_tag=2 if pix_fmt == "gray" else 1)
    return StreamShape(*size, Fraction(25), Fraction(1, 25), PIXEL_FORMATS[pix_fmt], colour)


# Encoders and their options.


def test_a_second_output_follows_the_first_where_it_can() -> None:
    first = EncoderOptions("libx265", 20, "slow", "yuv420p10le", 2, {"tune": "grain"})
    assert first.encode == (("tune", "grain"),)
    assert first.changed(codec=None, crf=None, encode=()) is None
    assert first.changed(crf=0) == EncoderOptions("libx265", 0, "slow", "yuv420p10le", 2, {"tune": "grain"})
    assert first.changed(codec="ffv1") == EncoderOptions("ffv1", pix_fmt="yuv420p10le", threads=2)
    assert first.changed(codec="libx265", preset="fast") == EncoderOptions(
        "libx265", 20, "fast", "yuv420p10le", 2, {"tune": "grain"}
    )
    assert EncoderOptions(crf=20).changed(codec="libx264") == EncoderOptions("libx264", 20)


def test_options_of_an_encoder_reach_it_and_take_the_place_of_ours() -> None:
    settings, notes = encoder_settings(EncoderOptions(encode={"b": "5M", "g": 12}), find_encoder("libx264"))
    assert (settings["b"], settings["g"], notes) == ("5M", "12", [])
    assert "crf" not in settings
    assert encoder_settings(EncoderOptions(encode={"tune": "film"}), find_encoder(None))[0]["crf"] == "17"
    options = EncoderOptions("libx265", encode={"x265-params": "keyint=5"})
    assert encoder_settings(options, find_encoder("libx265"))[0]["x265-params"] == "log-level=error:keyint=5"
    _, notes = encoder_settings(EncoderOptions("h264_nvenc", crf=20), find_encoder("h264_nvenc"))
    assert "-e cq=" in notes[0]


@pytest.mark.parametrize(
    ("codec", "key", "near"),
    [("libx264", "tun", "'tune'"), ("libx264", "bitrate", "b"), ("ffv1", "slicecrcs", "'slicecrc'")],
)
def test_an_unknown_option_names_the_nearest(codec: str, key: str, near: str) -> None:
    with pytest.raises(OutputError, match=f"no option '{key}'; the nearest is .*{near}") as caught:
        encoder_settings(EncoderOptions(codec, encode={key: "1"}), find_encoder(codec))
    assert "\n" not in str(caught.value)


def test_facts_of_the_pictures_are_not_options() -> None:
    with pytest.raises(OutputError, match="as the input has it"):
        encoder_settings(EncoderOptions(encode={"colorspace": "bt709"}), find_encoder(None))


def test_every_encoder_is_tried_with_its_size_format_and_options() -> None:
    try_encoder(shape(), EncoderOptions(), "mp4")
    try_encoder(shape(), EncoderOptions("libx265", 20, "fast", encode={"g": 5}), "matroska")
    for given, container, reason in (
        ((shape(), EncoderOptions(preset="hasty")), "mp4", "preset/tune hasty"),
        ((shape(), EncoderOptions(encode={"g": "many"})), "mp4", '"g" option value "many"'),
        ((shape(), EncoderOptions()), "webm", "does not support 'libx264'"),
    ):
        with pytest.raises(OutputError, match=reason) as caught:
            try_encoder(*given, container)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "h264_qsv", "h264_v4l2m2m"])
def test_an_encoder_without_its_device_is_one_sentence_before_anything_is_read(
    codec: str, make_clip: Callable[..., Path], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg here has no {codec}")
    pix_fmt = choose_pix_fmt(EncoderOptions(codec), PIXEL_FORMATS["yuv420p"]).name
    try:
        try_encoder(shape(pix_fmt, (256, 128)), EncoderOptions(codec), "mp4")
    except OutputError:
        pass
    else:
        pytest.skip(f"{codec} works here")
    clip = make_clip(tmp_path / "in.mp4", frames=2, size=(256, 128))
    monkeypatch.setattr(vidtrans.pipeline, "started_engine", None)  # not even the engine is opened
    with pytest.raises(OutputError, match="-c libx264 needs no device") as caught:
        run(clip, tiny_model, codec=codec)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_encoder_of_a_devices_own_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    surface = SimpleNamespace(name="vaapi", components=())
    only = SimpleNamespace(name="h264_vaapi", video_formats=[surface], type="video")
    monkeypatch.setattr(encoder_module, "find_encoder", lambda name: only)
    with pytest.raises(OutputError, match=r"device's memory.*libx264"):
        choose_pix_fmt(EncoderOptions("h264_vaapi"), PIXEL_FORMATS["yuv420p"])


# What plays everywhere.


@pytest.mark.parametrize(
    ("pix_fmt", "size", "profile", "stored"),
    [
        ("yuv420p", (64, 48), "High", "yuv420p"),
        ("yuv444p", (64, 48), "High", "yuv420p"),
        ("bgr0", (64, 48), "High", "yuv420p"),
        ("gray", (64, 48), "High", "yuvj420p"),
        ("yuv422p10le", (64, 48), "High 10", "yuv420p10le"),
        ("yuv444p12le", (64, 48), "High 10", "yuv420p10le"),
        ("yuv420p", (63, 48), "High 4:4:4 Predictive", "yuv444p"),
    ],
)
def test_by_default_videos_play_everywhere(
    pix_fmt: str,
    size: tuple[int, int],
    profile: str,
    stored: str,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    ffprobe: Probe,
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", pix_fmt=pix_fmt, size=size)
    outputs = {"output": tmp_path / "a.mp4", "output_to": tmp_path / "b.mp4"}
    summary = run(clip, tiny_model, factor=1, **outputs)
    for path in outputs.values():
        facts = video(ffprobe, path)
        assert (facts["profile"], facts["pix_fmt"]) == (profile, stored)
        assert top_level_boxes(path)[:2] == ["ftyp", "moov"]
        assert "mdat" in top_level_boxes(path)[2:]
    changed = pix_fmt not in ("gray", stored)
    assert any("is stored as" in note for note in summary.notes) == changed


def top_level_boxes(path: Path) -> list[str]:
    """The kinds of an MP4's top-level boxes in their order (ISO/IEC 14496-12, 4.2)."""
    data, position, kinds = path.read_bytes(), 0, []
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kinds.append(data[position + 4 : position + 8].decode("ascii"))
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        assert size >= 8
        position += size
    assert position == len(data)
    return kinds


def test_what_is_asked_for_keeps_the_inputs_format_and_each_output_has_its_own(
    make_clip: Callable[..., Path], tiny_model: Path, ffprobe: Probe, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", pix_fmt="yuv444p10le")
    options = {"codec": "libx264", "preset": "ultrafast", "codec_to": "ffv1", "pix_fmt_to": "gbrp", "factor": 1}
    up, seg = run(clip, tiny_model, **options, encode={"g": 1}).outputs
    assert (video(ffprobe, up)["codec_name"], video(ffprobe, up)["pix_fmt"]) == ("h264", "yuv444p10le")
    assert (video(ffprobe, seg)["codec_name"], video(ffprobe, seg)["pix_fmt"]) == ("ffv1", "bgr0")
    assert all("K" in packet["flags"] for packet in ffprobe(up, "-show_packets")["packets"])
    webm = run(clip, tiny_model, factor=1, output=tmp_path / "a.webm", output_to=tmp_path / "b.webm").outputs[0]
    assert (video(ffprobe, webm)["codec_name"], video(ffprobe, webm)["pix_fmt"]) == ("vp9", "yuv420p")


# Class numbers.


def test_class_numbers_are_the_highest_scores_through_a_file(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    from vidtrans.video.writer import VideoWriter

    scores = torch.randn(4, len(STREET), 5, 7)
    colour = Colour("bt601", True, range_tag=2)
    composer = Composer(
        Domain("labels", "label", "street"),
        scores=True,
        size=(22, 14),
        pix_fmt=PIXEL_FORMATS["gray"],
        colour=colour,
        is_source=False,
        carry_detail=True,
        index=True,
    )
    planes = (np.zeros((14, 22), np.uint8),)
    left = Frame(planes, Fraction(0), Fraction(1), PIXEL_FORMATS["gray"], colour)
    quarter = Fraction(1, 4)
    interval = Interval(left, None, tuple(Instant(Fraction(0), k * quarter, quarter) for k in range(4)))
    with VideoWriter(
        tmp_path / "out.mkv",
        width=22,
        height=14,
        rate=Fraction(4),
        time_base=quarter,
        pix_fmt=PIXEL_FORMATS["gray"],
        colour=colour,
        encoder=EncoderOptions("ffv1"),
    ) as writer:
        for frame in composer.frames(interval, scores, scores[0], None):
            writer.write(frame)
    raw = ffmpeg("-i", tmp_path / "out.mkv", "-f", "rawvideo", "-")
    numbers = np.frombuffer(raw, np.uint8).reshape(4, 14, 22)
    assert (numbers == best_class(scores, 14, 22).numpy()).all()
    assert len(np.unique(numbers)) > 5


@pytest.mark.parametrize("name", [None, "seg.mp4", "seg.nut", "seg.y4m", "seg/%03d.png", "seg/%d.tif"])
def test_labels_index_is_the_class_of_the_pure_colours(
    name: str | None,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    ffmpeg: Callable[..., bytes],
    ffprobe: Probe,
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, size=(70, 50))
    target = None if name is None else tmp_path / name
    summary = run(clip, tiny_model, labels="index", output_to=target)
    path = summary.outputs[1]
    if name is None:
        assert path == tmp_path / "in.x2.segmentation.mkv"
        assert (video(ffprobe, path)["codec_name"], video(ffprobe, path)["pix_fmt"]) == ("ffv1", "gray")
    assert video(ffprobe, summary.outputs[0])["pix_fmt"] == "yuv420p"
    if path.suffix in (".mkv", ".mp4", ".nut"):
        tags = {key.lower(): value for key, value in ffprobe(path)["format"]["tags"].items()}
        assert json.loads(tags["comment"]) == {"palette": "street", "classes": list(STREET.classes)}
    assert any("0 road, 1 sidewalk" in note for note in summary.notes)
    numbers = np.frombuffer(ffmpeg("-i", path, "-f", "rawvideo", "-"), np.uint8)
    pure = {"codec": "ffv1", "pix_fmt": "gbrp", "output": tmp_path / "a.mkv", "output_to": tmp_path / "b.mkv"}
    run(clip, tiny_model, **pure)
    rgb = np.frombuffer(ffmpeg("-i", tmp_path / "b.mkv", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8).reshape(
        -1, 3
    )
    assert (numbers == STREET.nearest(rgb)).all()
    assert len(np.unique(numbers)) > 1


def test_a_label_video_that_is_read_becomes_class_numbers_too(
    make_clip: Callable[..., Path], tiny_model: Path, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3)
    labels = run(clip, tiny_model, codec="ffv1", pix_fmt="gbrp").outputs[1]
    up = run(labels, tiny_model, to="scene", labels="index", output=tmp_path / "up.mkv").outputs[0]
    numbers = np.frombuffer(ffmpeg("-i", up, "-f", "rawvideo", "-"), np.uint8).reshape(-1, 48 * 64)
    rgb = np.frombuffer(ffmpeg("-i", labels, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), np.uint8)
    assert (numbers[::2] == STREET.nearest(rgb.reshape(-1, 48 * 64, 3))).all()


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ({"codec_to": "libx264"}, OutputError, "same grey pictures.*ffv1"),
        ({"codec_to": "prores_ks"}, OutputError, r"ffv1 in \.mkv"),
        ({"codec_to": "ffv1", "output_to": "seg.webm"}, OutputError, "webm"),
        ({"codec_to": "ffv1", "output_to": "seg.ts"}, OutputError, "same grey pictures"),
        ({"pix_fmt_to": "yuv420p"}, OutputError, "grey"),
        ({"output_to": "seg/%03d.jpg"}, OutputError, "PNG"),
        ({"to": "scene", "from_": "segmentation", "labels": "colour"}, UsageError, "rgb, index"),
    ],
)
def test_what_does_not_keep_class_numbers_is_refused(
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
    with pytest.raises(kind, match=hint) as caught:
        run(clip, tiny_model, **{"labels": "index", **options})
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_another_lossless_encoder_may_hold_class_numbers() -> None:
    for given, container in (
        (EncoderOptions("libx265", 0), "mp4"),
        (EncoderOptions("png"), "mov"),
        (EncoderOptions("rawvideo"), "nut"),
    ):
        try_encoder(shape("gray"), given, container, exact=True)
