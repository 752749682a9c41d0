"""What is said of colours: read, told by the user, written so that another program reads it, and missed aloud."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from identity import identity_model

from vidtrans.cli import main
from vidtrans.errors import InputError, UsageError
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Summary, run
from vidtrans.video.colour_names import MATRICES, Told
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import MATRIX_OF_TAG, PIXEL_FORMATS, Colour
from vidtrans.video.hdr import Light, Mastering, read_hdr, with_hdr
from vidtrans.video.kept import lost_facts
from vidtrans.video.reader import VideoReader

Run = Callable[..., Any]
GRADED = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
DISPLAY = Mastering(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white=(Fraction(15635, 50000), Fraction(16450, 50000)),
    darkest=Fraction(50, 10000),
    brightest=Fraction(1000),
)
FAST = EncoderOptions(preset="ultrafast")


def clip(ffmpeg: Run, path: Path, *arguments: str, size: str = "64x48", pix_fmt: str = "yuv420p") -> Path:
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s={size}:r=10:d=0.2", "-pix_fmt", pix_fmt, *arguments, path)
    return path


def through(path: Path, **options: Any) -> Summary:
    told = {"factor": 1, "motion": "none", "engine": "torch", "overwrite": True, "encoder": FAST, **options}
    return run(UpsampleOptions(path, "there", **told), model=identity_model())


def colour_of(path: Path, **options: Any) -> Colour:
    with VideoReader(path, **options) as reader:
        return reader.info.colour


def tags_of(ffprobe: Run, path: Path) -> tuple[str | None, ...]:
    (stream,) = ffprobe(path)["streams"]
    return tuple(stream.get(f"color_{name}") for name in ("space", "range", "primaries", "transfer"))


def hdr_of(ffprobe: Run, path: Path) -> dict[str, dict[str, Any]]:
    """Side data of the first frame by type."""
    frames = ffprobe(path, "-show_frames", "-read_intervals", "%+#1")["frames"]
    return {data["side_data_type"]: data for data in frames[0].get("side_data_list", [])}


TAGGED = ("-colorspace", "bt709", "-color_range", "pc", "-color_primaries", "smpte432", "-color_trc", "iec61966-2-1")


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [
        ("out.mp4", "libx264", ()),
        ("out.mkv", "libx264", ()),
        ("out.mov", "libx264", ()),
        ("out.nut", "libx264", ()),
        ("out.mp4", "libx265", ()),
        ("out.mkv", "ffv1", ()),
        ("out.webm", "libvpx-vp9", ()),
        ("out.nut", "ffv1", ("matrix", "range", "primaries", "transfer")),
    ],
)
def test_tags_arrive_or_are_said_to_be_lost(
    name: str, codec: str, lost: tuple[str, ...], ffmpeg: Run, ffprobe: Run, tmp_path: Path
) -> None:
    source = clip(ffmpeg, tmp_path / "in.mkv", "-c:v", "ffv1", *TAGGED)
    encoder = EncoderOptions(codec=codec)
    summary = through(source, encoder=encoder, output=tmp_path / name, output_to=tmp_path / f"to.{name}")
    for path in summary.outputs:
        if not lost:
            assert tags_of(ffprobe, path) == ("bt709", "pc", "smpte432", "iec61966-2-1")
            assert colour_of(path) == colour_of(source)
    said = next((note for note in summary.notes if "does not hold" in note), "")
    assert bool(said) == bool(lost)
    assert all(f"color {fact}" in said for fact in lost)


def test_untagged_is_taken_by_size_and_said_and_stays_untagged(ffmpeg: Run, ffprobe: Run, tmp_path: Path) -> None:
    summary = through(clip(ffmpeg, tmp_path / "in.mp4"))
    (line,) = [note for note in summary.notes if "untagged" in note]
    assert "bt601" in line
    assert "limited" in line
    assert tags_of(ffprobe, summary.outputs[0]) == (None,) * 4
    large = clip(ffmpeg, tmp_path / "large.mp4", "-preset", "ultrafast", size="1280x16")
    with VideoReader(large) as reader:
        assert "bt709" in reader.info.colour.remarks(reader.info.pix_fmt)[0]
    with VideoReader(clip(ffmpeg, tmp_path / "tagged.mkv", "-c:v", "ffv1", *TAGGED)) as reader:
        assert reader.info.colour.remarks(reader.info.pix_fmt) == []


def test_the_user_goes_before_the_tags(ffmpeg: Run, ffprobe: Run, tmp_path: Path) -> None:
    for name, tags in (("untagged.mp4", ()), ("tagged.mkv", ("-c:v", "ffv1", *TAGGED))):
        source = clip(ffmpeg, tmp_path / name, *tags)
        told = {
            "color_matrix": "bt2020nc",
            "color_range": "pc",
            "color_primaries": "bt2020",
            "color_trc": "bt2020-10",
        }
        summary = through(source, **told)
        for path in summary.outputs:
            assert tags_of(ffprobe, path) == ("bt2020nc", "pc", "bt2020", "bt2020-10")
        assert not any("untagged" in note for note in summary.notes)
        one = through(source, color_range="tv")
        assert tags_of(ffprobe, one.outputs[0])[1] in ("tv", None)  # H.264's default is not always spelled out
        assert not colour_of(one.outputs[0]).full_range
        assert not any("does not hold" in note for note in one.notes)


def test_names_are_those_of_ffmpeg(ffmpeg: Run, tmp_path: Path) -> None:
    """A clip that FFmpeg tagged by each name is read as what that name tells."""
    for name in sorted(set(MATRICES) - {"bt601", "bt2020"}):
        path = clip(ffmpeg, tmp_path / f"{name}.mkv", "-c:v", "ffv1", "-colorspace", name)
        plain = Colour("bt601", False).told(Told(matrix=name), PIXEL_FORMATS["yuv420p"])
        read = colour_of(path)
        assert (read.matrix, read.matrix_tag) == (plain.matrix, plain.matrix_tag)
        assert plain.matrix == MATRIX_OF_TAG[plain.matrix_tag]
    rgb = Colour("bt601", True).told(Told("bt709", "tv", "bt2020"), PIXEL_FORMATS["gbrp"])
    assert (rgb.matrix, rgb.full_range, rgb.primaries) == ("bt601", True, 9)


@pytest.mark.parametrize(
    ("option", "value"),
    [("color_matrix", "bt907"), ("color_range", "half"), ("color_primaries", "rec709"), ("color_trc", "srgb")],
)
def test_unknown_names_are_one_sentence(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="known: ") as caught:
        UpsampleOptions(Path("in.mp4"), "there", **{option: value})
    assert f"--{option.replace('_', '-')}" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(
        sys, "argv", ["vidtrans", "upsample", "in.mp4", "--to", "x", f"--{option.replace('_', '-')}", value]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_matrices_that_are_not_handled_are_refused_unless_told(ffmpeg: Run, tmp_path: Path) -> None:
    for name in ("ycgco", "ictcp"):
        path = clip(ffmpeg, tmp_path / f"{name}.mkv", "-c:v", "ffv1", "-colorspace", name)
        with pytest.raises(InputError, match=f"matrix {name} is not handled"):
            colour_of(path)
        assert colour_of(path, told=Told(matrix="bt709")).matrix == "bt709"
    path = clip(ffmpeg, tmp_path / "constant.mkv", "-c:v", "ffv1", "-colorspace", "bt2020c")
    assert any("constant luminance" in line for line in colour_of(path).remarks(PIXEL_FORMATS["yuv420p"]))


@pytest.mark.parametrize("location", ["left", "center", "topleft", "top"])
def test_the_place_of_chroma_is_carried(location: str, ffmpeg: Run, ffprobe: Run, tmp_path: Path) -> None:
    number = ["left", "center", "topleft", "top"].index(location) + 1
    source = tmp_path / "in.mp4"
    clip(ffmpeg, source, "-c:v", "libx264", "-x264-params", f"chromaloc={number - 1}")
    assert colour_of(source).chroma_location == (0 if location == "left" else number)
    others = (("libx265", "a.mkv"), ("ffv1", "b.mkv")) if location == "topleft" else ()
    for codec, name in (("libx264", "a.mp4"), *others):
        outputs = {"output": tmp_path / name, "output_to": tmp_path / f"to.{name}"}
        for path in through(source, encoder=EncoderOptions(codec, preset="ultrafast"), **outputs).outputs:
            assert ffprobe(path)["streams"][0]["chroma_location"] == location
    jpeg = clip(ffmpeg, tmp_path / "jpeg.avi", "-c:v", "mjpeg", pix_fmt="yuvj420p")
    assert colour_of(jpeg).chroma_location == 2
    if location == "left":  # codecs that cannot be asked, and are what their standards say
        for size, encoder, number in (("176x144", "h263", 2), ("720x576", "dvvideo", 3)):
            path = clip(ffmpeg, tmp_path / f"{encoder}.mov", "-s", size, "-c:v", encoder)
            assert colour_of(path).chroma_location == number


def test_grey_images_that_say_rgb_do_not_become_yuv_that_does(ffmpeg: Run, ffprobe: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=64x48", "-frames:v", "1", "-pix_fmt", "gray", path)
    for output in through(path, output=tmp_path / "a.mp4", output_to=tmp_path / "b.mp4").outputs:
        assert ffprobe(output)["streams"][0].get("color_space", "unknown") == "unknown"


@pytest.mark.parametrize("location", [0, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p"])
def test_chroma_sits_where_it_is_said_to(name: str, location: int) -> None:
    """A ramp of chroma survives both ways, and its sample is the ramp's value at its own place."""
    import torch

    from vidtrans.video.colour import planes_to_rgb, rgb_to_planes

    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt709", True, chroma_location=location)
    right, down = [(0, 1), (0, 1), (1, 1), (0, 0), (1, 0), (0, 2), (1, 2)][location]
    for axis in (0, 1):
        ramp = torch.arange(16.0).reshape((16, 1) if axis == 0 else (1, 16)).expand(16, 16) / 100
        rgb = torch.full((1, 3, 16, 16), 0.4)
        rgb[:, 2] += ramp
        full = rgb_to_planes(rgb, PIXEL_FORMATS["yuv444p"], colour)[1][0]
        small = rgb_to_planes(rgb, pix_fmt, colour)[1][0]
        step = full[1, 0] - full[0, 0] if axis == 0 else full[0, 1] - full[0, 0]
        offset = right / 2 if axis == 1 else down / 2 * pix_fmt.chroma_shift_y
        wanted = full[:: 1 << pix_fmt.chroma_shift_y, ::2] + offset * step
        torch.testing.assert_close(small[2:-2, 2:-2], wanted[2:-2, 2:-2], atol=1e-3, rtol=0)
        back = planes_to_rgb(rgb_to_planes(rgb, pix_fmt, colour), pix_fmt, colour)
        torch.testing.assert_close(back[..., 4:12, 4:12], rgb[..., 4:12, 4:12], atol=1e-4, rtol=0)


def hdr_clip(ffmpeg: Run, path: Path) -> Path:
    params = f"log-level=error:master-display={GRADED}:max-cll=1000,400:chromaloc=2"
    tags = ("-colorspace", "bt2020nc", "-color_range", "tv", "-color_primaries", "bt2020", "-color_trc", "smpte2084")
    return clip(
        ffmpeg, path, "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", params, *tags, pix_fmt="yuv420p10le"
    )


@pytest.mark.parametrize(("codec", "name"), [("libx265", "out.mp4"), ("libx265", "out.mkv"), ("libx264", "out.mp4")])
def test_static_hdr_facts_are_carried(codec: str, name: str, ffmpeg: Run, ffprobe: Run, tmp_path: Path) -> None:
    source = hdr_clip(ffmpeg, tmp_path / "in.mp4")
    before = colour_of(source)
    assert (before.mastering, before.light, before.chroma_location) == (DISPLAY, Light(1000, 400), 3)
    outputs = {"output": tmp_path / name, "output_to": tmp_path / f"to.{name}"}
    summary = through(source, encoder=EncoderOptions(codec=codec, preset="ultrafast"), **outputs)
    up, translation = summary.outputs
    assert colour_of(up) == before
    assert tags_of(ffprobe, up) == ("bt2020nc", "tv", "bt2020", "smpte2084")
    assert ffprobe(up)["streams"][0]["pix_fmt"] == "yuv420p10le"
    if codec == "libx265":  # Debian's FFmpeg does not yet read them from H.264
        facts = hdr_of(ffprobe, up)
        assert facts["Mastering display metadata"]["max_luminance"] == "10000000/10000"
        assert facts["Mastering display metadata"]["green_x"] == "13250/50000"
        assert facts["Content light level metadata"]["max_content"] == 1000
    # What a network makes is SDR.
    assert tags_of(ffprobe, translation) == ("bt709", "tv", "bt709", "bt709")
    assert colour_of(translation).mastering is None
    assert any("HDR (PQ)" in note for note in summary.notes)
    assert not any("does not hold" in note for note in summary.notes)


def test_svt_av1_is_told_in_its_own_notation() -> None:
    settings = with_hdr({"preset": "8"}, "libsvtav1", DISPLAY, Light(1000, 400))
    assert settings == {
        "preset": "8",
        "svtav1-params": "mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005)"
        ":content-light=1000,400",
    }
    own = {"x265-params": "log-level=error:max-cll=1,1"}
    assert with_hdr(own, "libx265", None, Light(1000, 400)) == own
    assert with_hdr(own, "libx265", DISPLAY, None)["x265-params"] == f"{own['x265-params']}:master-display={GRADED}"
    assert with_hdr(own, "ffv1", DISPLAY, None) is own


def test_what_an_encoder_cannot_carry_is_said(ffmpeg: Run, tmp_path: Path) -> None:
    source = hdr_clip(ffmpeg, tmp_path / "in.mp4")
    colour, pix_fmt = colour_of(source), PIXEL_FORMATS["yuv420p10le"]
    lost = lost_facts(".mkv", EncoderOptions(codec="ffv1"), pix_fmt, colour)
    assert lost == ["mastering display", "content light level"]
    assert lost_facts(".xyz", EncoderOptions(codec="ffv1"), pix_fmt, colour) == []
    assert lost_facts(".mkv", EncoderOptions(codec="ffv1"), pix_fmt, Colour("bt601", False)) == []


def test_mastering_that_is_incomplete_is_none() -> None:
    numbers = np.array([1, 1] * 10 + [1, 0], np.int32)
    assert Mastering.read(numbers.tobytes()) is None
    numbers[21] = 1
    assert Mastering.read(numbers.tobytes()) is not None
    numbers[1] = 0
    assert Mastering.read(numbers.tobytes()) is None


def test_what_changes_from_frame_to_frame_is_named() -> None:
    def item(name: str, data: bytes = b"") -> Any:
        class Item(bytes):
            type = SimpleNamespace(name=name)

        return Item(data)

    light = item("CONTENT_LIGHT_LEVEL", np.array([7, 5], np.uint32).tobytes())
    dolby = [item("DOVI_RPU_BUFFER"), item("DOVI_METADATA")]
    assert read_hdr([*dolby, item("DYNAMIC_HDR_PLUS"), item("SEI_UNREGISTERED"), light]) == (
        None,
        Light(7, 5),
        ["Dolby Vision metadata", "HDR10+ metadata"],
    )


def test_tags_that_change_in_mid_stream_are_said(ffmpeg: Run, tmp_path: Path) -> None:
    source = clip(ffmpeg, tmp_path / "in.mkv", "-c:v", "ffv1", *TAGGED)
    with VideoReader(source) as reader:
        pictures = list(reader._pictures)
        last = av.VideoFrame(64, 48, "yuv420p")
        last.pts, last.colorspace = pictures[-1].picture.pts, 9
        reader._pictures = iter([pictures[0], type(pictures[0])(last, pictures[-1].time, Fraction(1, 10))])
        assert len(list(reader)) == 2
    assert any("tags change after 1 frames" in note for note in reader.notes)
