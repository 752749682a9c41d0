"""Colours through the whole tool: with a network that changes nothing, what comes out is what went in."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from identity import identity_model

from vidtrans.engines import open_engine, unusable
from vidtrans.nets.contract import Domain
from vidtrans.nets.jwdm import JWDM, JWDMConfig
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Summary, run
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import Frame
from vidtrans.video.reader import VideoReader

SIZE = (64, 48)
TAGS = {"bt601": ("smpte170m",) * 3, "bt709": ("bt709",) * 3, "bt2020": ("bt2020nc", "bt2020", "bt2020-10")}


def smooth_clip(
    ffmpeg: Callable[..., bytes],
    path: Path,
    pix_fmt: str = "yuv420p",
    matrix: str = "bt709",
    span: str = "tv",
    *,
    still: bool = False,
) -> Path:
    """Three frames of waves in luma and chroma that chroma samples can follow and RGB can hold, tagged, lossless."""
    unit, time = (4 if "10" in pix_fmt else 1), "0" if still else "N"
    luma = f"{unit}*(125+22*sin(X/7+{time})*cos(Y/5))"
    chroma = [f"{unit}*(128+20*sin((X{sign}Y)/SW/14+{time}/2))" for sign in "+-"]
    colorspace, primaries, transfer = TAGS[matrix]
    ffmpeg(
        *("-f", "lavfi", "-i", f"nullsrc=s={SIZE[0]}x{SIZE[1]}:r=10:d=0.3"),
        *("-vf", f"format={pix_fmt},geq=lum='{luma}':cb='{chroma[0]}':cr='{chroma[1]}'"),
        *("-colorspace", colorspace, "-color_primaries", primaries, "-color_trc", transfer, "-color_range", span),
        *("-c:v", "ffv1", "-frames:v", "3", path),
    )
    return path


def through(path: Path, **options: Any) -> Summary:
    """Factor 2 with the raw decoding, into lossless files."""
    told = {"factor": 2, "detail": "none", "motion": "none", "size": SIZE, "engine": "torch", "overwrite": True}
    encoder = EncoderOptions(codec="ffv1")
    return run(UpsampleOptions(path, "there", **{**told, "encoder": encoder, **options}), model=identity_model())


def frames_of(path: Path) -> list[Frame]:
    with VideoReader(path) as reader:
        return list(reader)


def psnr(got: np.ndarray, wanted: np.ndarray, peak: int) -> float:
    error = np.square(got.astype(float) - wanted.astype(float)).mean()
    return float(10 * np.log10(peak**2 / max(error, 1e-12)))


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"])
@pytest.mark.parametrize("span", ["tv", "pc"])
@pytest.mark.parametrize("matrix", sorted(TAGS))
def test_an_identity_changes_no_colour(
    matrix: str, span: str, pix_fmt: str, ffmpeg: Callable[..., bytes], ffprobe: Callable[..., Any], tmp_path: Path
) -> None:
    clip = smooth_clip(ffmpeg, tmp_path / "in.mkv", pix_fmt, matrix, span)
    before = frames_of(clip)
    summary = through(clip)
    source, translation = (frames_of(path) for path in summary.outputs)
    peak = before[0].pix_fmt.max_code
    worst = 1000.0
    for number, frame in enumerate(before):
        for plane in range(3):
            # All of the translation is decoded, of the source only what lies between its keyframes.
            worst = min(worst, psnr(translation[2 * number].planes[plane], frame.planes[plane], peak))
            if number + 1 < len(before):
                middle = (frame.planes[plane].astype(float) + before[number + 1].planes[plane]) / 2
                worst = min(worst, psnr(source[2 * number + 1].planes[plane], middle, peak))
                assert (source[2 * number].planes[plane] == frame.planes[plane]).all()
    assert worst >= 45
    for path in summary.outputs:
        (stream,) = ffprobe(path)["streams"]
        tags = (stream["color_space"], stream["color_primaries"], stream["color_transfer"])
        assert tags == TAGS[matrix]
        assert (stream["color_range"], stream["pix_fmt"]) == (span, pix_fmt)


@pytest.mark.parametrize("detail", ["keyframes", "none"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_a_still_clip_does_not_flicker(pix_fmt: str, detail: str, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    summary = through(smooth_clip(ffmpeg, tmp_path / "in.mkv", pix_fmt, still=True), detail=detail)
    for path in summary.outputs:
        means = np.array([[plane.mean() for plane in frame.planes] for frame in frames_of(path)])
        assert np.ptp(means, axis=0).max() <= 0.1
    if detail == "keyframes":
        assert len({b"".join(plane.tobytes() for plane in f.planes) for f in frames_of(summary.outputs[0])}) == 1


def test_every_code_value_of_flat_ten_bit_grey_survives_the_network(
    ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Bands of one code value each: rounded to 8 bits on the way in they would merge."""
    ffmpeg(
        *("-f", "lavfi", "-i", "nullsrc=s=64x48:r=10:d=0.2"),
        *("-vf", "format=yuv444p10le,geq=lum='400+X':cb=512:cr=512", "-c:v", "ffv1", tmp_path / "in.mkv"),
    )
    before = frames_of(tmp_path / "in.mkv")[0]
    for frame in frames_of(through(tmp_path / "in.mkv").outputs[1]):
        assert all((a == b).all() for a, b in zip(frame.planes, before.planes, strict=True))


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_engines_take_sixteen_bits(name: str) -> None:
    if reason := unusable(name, "cpu"):
        pytest.skip(reason)
    torch.manual_seed(0)
    net = JWDM(JWDMConfig((Domain("a"), Domain("b")), 4, 6, 1, trained_size=(48, 36)))
    engine = open_engine(name, net, "a", ["b"], (48, 36), device="cpu", precision="fp32")
    eight = torch.randint(0, 256, (2, 36, 48, 3), dtype=torch.uint8)
    sixteen = torch.from_numpy(eight.numpy().astype(np.uint16) * 257)
    for one, other in zip(engine.encode(eight), engine.encode(sixteen), strict=True):
        for domain in engine.domains:
            torch.testing.assert_close(one.decoded[domain], other.decoded[domain], atol=1e-4, rtol=1e-4)


def test_grey_becomes_colour_with_the_same_luma(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.2", "-pix_fmt", "gray", "-c:v", "ffv1", tmp_path / "in.mkv")
    before = frames_of(tmp_path / "in.mkv")
    summary = through(tmp_path / "in.mkv", detail="keyframes", encoder=EncoderOptions(crf=0))
    after = frames_of(summary.outputs[0])
    assert after[0].pix_fmt.name == "yuv420p"
    for frame, same in zip(before, after[::2], strict=True):
        assert (frame.planes[0] == same.planes[0]).all()
        assert (same.planes[1] == 128).all()
    kept = through(tmp_path / "in.mkv", encoder=EncoderOptions(codec="ffv1", pix_fmt="gray"))
    assert frames_of(kept.outputs[0])[0].pix_fmt.name == "gray"


def test_depth_that_an_encoder_lacks_is_said(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.2", "-pix_fmt", "yuv420p12le"),
        *("-c:v", "ffv1", tmp_path / "in.mkv"),
    )
    for codec, name in (("libx264", "yuv420p10le"), ("libx265", "yuv420p12le")):
        summary = through(tmp_path / "in.mkv", encoder=EncoderOptions(codec=codec, preset="ultrafast"))
        assert {frames_of(path)[0].pix_fmt.name for path in summary.outputs} == {name}
        assert any("yuv420p10le" in note for note in summary.notes) == (codec == "libx264")
    assert frames_of(tmp_path / "in.mkv")[0].duration == Fraction(1, 10)
