"""Numbered images: bit for bit, in step, and nothing of anybody's replaced unasked."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vidtrans
from vidtrans.errors import OutputError
from vidtrans.pipeline import Summary
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.pipe_out import Steady
from vidtrans.video.sequence_out import ImageWriter


def run(clip: Path, model: Path, **options: Any) -> Summary:
    given = {"to": "segmentation", "model": str(model), "engine": "torch", "factor": 2, "motion": "none", **options}
    return vidtrans.upsample(clip, **given)


def images(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def image_writer(path: Path, name: str = "gbrp", codec: str = "png", *, overwrite: bool = False) -> ImageWriter:
    return ImageWriter(
        path,
        width=35,
        height=27,
        pix_fmt=PIXEL_FORMATS[name],
        encoder=EncoderOptions(codec),
        steady=Steady(Fraction(25), Fraction(1, 50)),
        overwrite=overwrite,
    )


def pictures(count: int, name: str = "gbrp") -> list[Frame]:
    draw = np.random.default_rng(7)
    pix_fmt = PIXEL_FORMATS[name]
    shapes = pix_fmt.plane_shapes(35, 27)
    frames = []
    for index in range(count):
        planes = tuple(draw.integers(0, pix_fmt.max_code + 1, shape).astype(pix_fmt.dtype) for shape in shapes)
        frames.append(Frame(planes, Fraction(index, 25), Fraction(1, 25), pix_fmt, Colour("bt601", True)))
    return frames


def write_all(writer: ImageWriter, frames: list[Frame], then: Exception | None = None) -> None:
    """Writes images and then, before they are all stored, raises."""
    with writer:
        for frame in frames:
            writer.write(frame)
        if then is not None:
            raise then


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(
    ("name", "stored"), [("gbrp", "gbrp"), ("gbrp12le", "gbrp16le"), ("gbrp10le", "gbrp16le"), ("gray", "gray")]
)
def test_images_hold_every_code_value(
    suffix: str, name: str, stored: str, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Those above 8 bits scaled to 16, the largest value to the largest."""
    frames = pictures(12, name)
    path = tmp_path / f"%03d.{suffix}"
    write_all(image_writer(path, name, {"png": "png", "tif": "tiff"}[suffix]), frames)
    assert images(tmp_path) == [f"{number:03d}.{suffix}" for number in range(1, 13)]
    raw = ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", stored, "-")
    got = np.frombuffer(raw, np.uint16 if "16" in stored else np.uint8)
    expected = np.concatenate([plane.ravel() for frame in frames for plane in frame.planes])
    bits = PIXEL_FORMATS[name].bits
    if bits == 8:
        assert (got == expected).all()
    else:
        assert (got >> (16 - bits) == expected).all()
        assert got[expected == (1 << bits) - 1].tolist() == [65535] * int((expected == (1 << bits) - 1).sum())


def test_jpeg_looks_like_the_video(
    make_clip: Callable[..., Path], tiny_model: Path, ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Of BT.709 in the limited range, which no JPEG says of itself: its matrix and range are other ones."""
    tags = {"colorspace": 1, "color_primaries": 1, "color_trc": 1, "color_range": 1}
    clip = make_clip(tmp_path / "in.mp4", frames=2, tags=tags, options={"crf": "5"}, pix_fmt="yuv444p")
    run(clip, tiny_model, factor=1, output=tmp_path / "j/%d.jpg", output_to=f"{tmp_path}/p/")
    assert images(tmp_path / "j") == ["1.jpg", "2.jpg"]
    assert images(tmp_path / "p") == ["000001.png", "000002.png"]
    exact = "scale=flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24"
    jpeg, source = (
        np.frombuffer(ffmpeg("-i", path, "-vf", exact, "-f", "rawvideo", "-"), np.uint8).astype(float)
        for path in (tmp_path / "j/%d.jpg", clip)
    )
    assert np.abs(jpeg.mean() - source.mean()) < 1
    assert np.sqrt(((jpeg - source) ** 2).mean()) < 4


def test_existing_images_are_replaced_only_when_asked_and_then_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "frames" / "%03d.png"
    for count in (5, 3):
        writer = image_writer(path, overwrite=count == 3)
        write_all(writer, pictures(count))
        assert images(path.parent) == [f"{number:03d}.png" for number in range(1, count + 1)]
        with pytest.raises(OutputError, match=r"001\.png exists"):
            image_writer(path)
    assert any("2 images of a longer sequence" in note for note in writer.notes)
    (path.parent / "1234.txt").touch()
    (path.parent / "12.png").touch()  # of another sequence
    write_all(image_writer(path, overwrite=True), pictures(1))
    assert images(path.parent) == ["001.png", "12.png", "1234.txt"]


def test_a_run_that_fails_keeps_whole_images_and_no_empty_folder(tmp_path: Path) -> None:
    path = tmp_path / "frames" / "%03d.png"
    with pytest.raises(RuntimeError):
        write_all(image_writer(path), [], RuntimeError())
    assert not path.parent.exists()
    with pytest.raises(RuntimeError):
        write_all(image_writer(path), pictures(30), RuntimeError())
    kept = images(path.parent)
    assert kept
    assert kept == [f"{number:03d}.png" for number in range(1, len(kept) + 1)]


def test_uneven_times_are_said(make_clip: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    times = [Fraction(k, 90) for k in (0, 3, 4, 10, 12, 15)]
    clip = make_clip(tmp_path / "in.mp4", times=times, audio=["aac"], options={"bf": "0"})
    summary = run(clip, tiny_model, factor=1, output=f"{tmp_path}/up/", output_to="/dev/null", out_format_to="nut")
    assert len(images(tmp_path / "up")) == 5
    assert sum("no times" in note for note in summary.notes) == 1
    assert sum("no sound" in note for note in summary.notes) == 1


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"output": "out.png"}, r"out\.%06d\.png"),
        ({"output": "no/such/%d.png"}, "no folder"),
        ({"output": "a%d-%d.png"}, "one number"),
        ({"output": "a/%d.png", "codec": "libx264"}, "images of png"),
        ({"output": "a/%d.jpg", "pix_fmt": "gbrp"}, "yuv444p"),
        ({"output": "a/%d.png", "encode": {"dpy": 1}}, "'dpm'"),
    ],
)
def test_images_that_cannot_be_are_one_sentence(
    options: dict[str, Any],
    hint: str,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=2)
    with pytest.raises(OutputError, match=hint) as caught:
        run(clip, tiny_model, **options)
    assert "\n" not in str(caught.value)
    assert images(tmp_path) == ["in.mp4"]
