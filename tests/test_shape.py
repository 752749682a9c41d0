"""Shape: upright, whole and of a size that encoders take, whatever the input's tags say; checked with FFmpeg's own."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from identity import identity_model

from vidtrans.errors import InputError
from vidtrans.options import UpsampleOptions
from vidtrans.pipeline import Summary, run
from vidtrans.video.colour import planes_to_rgb, rgb_to_planes, to_uint8_rgb
from vidtrans.video.encoder import EncoderOptions
from vidtrans.video.frame import PIXEL_FORMATS, Colour, Frame
from vidtrans.video.reader import VideoReader
from vidtrans.video.shape import Turn

LOSSLESS = EncoderOptions(codec="ffv1")


def through(path: Path, **options: Any) -> Summary:
    told = {"factor": 1, "motion": "none", "engine": "torch", "overwrite": True, "encoder": LOSSLESS, **options}
    return run(UpsampleOptions(path, "there", **told), model=identity_model())


def frames_of(path: Path, **options: Any) -> list[Frame]:
    with VideoReader(path, **options) as reader:
        return list(reader)


def notes_of(path: Path, **options: Any) -> str:
    with VideoReader(path, **options) as reader:
        list(reader)
        return "\n".join(reader.notes)


def raw_luma(ffmpeg: Callable[..., bytes], path: Path, size: tuple[int, int], *filters: str) -> np.ndarray:
    """All frames' luma (N, H, W) as another program shows them; it turns them by itself."""
    raw = ffmpeg("-i", path, *filters, "-f", "rawvideo", "-pix_fmt", "gray", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0])


def with_matrix(source: Path, target: Path, degrees: int, *, mirrored: bool = False) -> Path:
    """The same packets with a display matrix."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        stream.set_display_rotation(degrees, hflip=mirrored)
        for packet in reading.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                writing.mux(packet)
    return target


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Callable[..., bytes]) -> Path:
    path = tmp_path_factory.mktemp("stored") / "stored.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=0.3", "-vf", "setsar=4/3"),
        *("-pix_fmt", "yuv420p", "-c:v", "libx264", path),
    )
    return path


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("degrees", "mirrored"), [(90, False), (180, False), (270, False), (0, True), (90, True)])
def test_turned_clips_come_out_upright(
    degrees: int,
    mirrored: bool,
    extension: str,
    stored: Path,
    ffmpeg: Callable[..., bytes],
    ffprobe: Callable[..., Any],
    tmp_path: Path,
) -> None:
    clip = with_matrix(stored, tmp_path / f"in.{extension}", degrees, mirrored=mirrored)
    sideways = degrees in (90, 270)
    size = (48, 64) if sideways else (64, 48)
    frames = frames_of(clip)
    if extension != "mkv":  # Debian's FFmpeg does not yet read a matrix from Matroska
        seen = raw_luma(ffmpeg, clip, size, "-vf", "extractplanes=y")
        assert all((frame.planes[0] == luma).all() for frame, luma in zip(frames, seen, strict=True))
    assert "upright (" in notes_of(clip)
    if extension != "mov" or mirrored:
        return
    for path in through(clip, encoder=EncoderOptions(preset="ultrafast")).outputs:
        (stream,) = ffprobe(path)["streams"]
        assert (stream["width"], stream["height"]) == size
        assert stream["sample_aspect_ratio"] == ("3:4" if sideways else "4:3")
        assert "side_data_list" not in stream


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p", "yuv444p10le", "gbrp", "gray"])
@pytest.mark.parametrize("location", [0, 2, 3])
def test_turning_a_picture_turns_its_colours(name: str, location: int, size: tuple[int, int]) -> None:
    """All eight ways: as if its RGB had been turned. Chroma that is smaller than luma keeps its tagged place."""
    import torch

    pix_fmt, colour = PIXEL_FORMATS[name], Colour("bt709", False, chroma_location=location)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, size[1]), torch.linspace(0, 1, size[0]), indexing="ij")
    rgb = torch.stack((0.2 + 0.6 * rows, 0.3 + 0.4 * columns, 0.7 - 0.4 * rows))[None]
    planes = tuple(p[0].round().numpy().astype(pix_fmt.dtype) for p in rgb_to_planes(rgb, pix_fmt, colour))
    upright = to_uint8_rgb(Frame(planes, Fraction(0), Fraction(1), pix_fmt, colour)).astype(int)
    for number in range(1, 8):
        turn = Turn(bool(number & 4), bool(number & 2), bool(number & 1))
        wanted = upright.transpose(1, 0, 2) if turn.transposed else upright
        wanted = wanted[:: -1 if turn.flipped_y else 1, :: -1 if turn.flipped_x else 1]
        turned = turn.apply(planes, pix_fmt, colour)
        made = turn.pix_fmt(pix_fmt)
        assert tuple(plane.shape for plane in turned) == made.plane_shapes(*turn.size(*size))
        got = planes_to_rgb([torch.from_numpy(plane) for plane in turned], made, colour)[0] * 255
        difference = np.abs(got.movedim(0, -1).numpy() - wanted)
        # At the borders samples are repeated, and two roundings meet.
        assert difference[3:-3, 3:-3].max() <= 3.0
        if pix_fmt.kind != "yuv" or pix_fmt.chroma_shift_x == 0:
            assert difference.max() <= 0.51


@pytest.mark.parametrize(
    ("codec", "extension", "ratio"),
    [
        *(("libx264", name, Fraction(4, 3)) for name in ("mp4", "mov", "mkv", "nut", "avi")),
        *(("ffv1", name, Fraction(4, 3)) for name in ("mp4", "mkv", "nut", "avi")),
        ("ffv1", "mkv", Fraction(9, 10)),
        ("ffv1", "mkv", Fraction(65521, 65519)),
    ],
)
def test_the_shape_of_pixels_is_kept_or_the_loss_is_said(
    ratio: Fraction,
    codec: str,
    extension: str,
    stored: Path,
    ffmpeg: Callable[..., bytes],
    ffprobe: Any,
    tmp_path: Path,
) -> None:
    ffmpeg("-i", stored, "-vf", f"setsar={ratio}", "-c:v", "libx264", "-preset", "ultrafast", tmp_path / "in.mp4")
    outputs = {"output": tmp_path / f"a.{extension}", "output_to": tmp_path / f"b.{extension}"}
    summary = through(tmp_path / "in.mp4", encoder=EncoderOptions(codec=codec), **outputs)
    is_lost = codec == "ffv1" and extension in ("nut", "avi")
    for path in outputs.values():
        (stream,) = ffprobe(path)["streams"]
        declared = stream.get("sample_aspect_ratio", "0:1").split(":")
        nearly = pytest.approx(float(ratio), abs=1e-4 if ratio.numerator > 1000 else 0)
        assert (int(declared[0]) / int(declared[1]) == nearly) == (not is_lost)
        with VideoReader(path) as reader:
            assert (reader.info.sample_aspect_ratio is None) == is_lost
            assert len(list(reader)) == 3 or extension == "avi"  # which has no times for B-frames
    assert any("shape of pixels" in note for note in summary.notes) == is_lost


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1", "libvpx-vp9"])
@pytest.mark.parametrize("size", [(63, 47), (64, 47)])
def test_odd_sizes(
    size: tuple[int, int], codec: str, ffmpeg: Callable[..., bytes], ffprobe: Callable[..., Any], tmp_path: Path
) -> None:
    """H.264 and H.265 in 4:2:0 have none: nothing is cut off, the border is repeated; others keep the size."""
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s=128x96:r=10:d=0.2,crop={size[0]}:{size[1]}:32:24:exact=1"),
        *("-pix_fmt", "yuv420p", "-c:v", "ffv1", tmp_path / "in.mkv"),
    )
    summary = through(tmp_path / "in.mkv", encoder=EncoderOptions(codec=codec, crf=None if codec == "ffv1" else 0))
    grows = codec in ("libx264", "libx265")
    expected = (size[0] + size[0] % 2, size[1] + size[1] % 2) if grows else size
    assert any("is written as" in note for note in summary.notes) == grows
    before = frames_of(tmp_path / "in.mkv")
    for path in summary.outputs:
        (stream,) = ffprobe(path)["streams"]
        assert (stream["width"], stream["height"]) == expected
    for frame, source in zip(frames_of(summary.outputs[0]), before, strict=True):
        if codec != "libvpx-vp9":
            assert all(
                (kept[: plane.shape[0], : plane.shape[1]] == plane).all()
                for kept, plane in zip(frame.planes, source.planes, strict=True)
            )
        assert (frame.planes[0][:, -1] == frame.planes[0][:, size[0] - 1]).all()
        assert (frame.planes[0][-1] == frame.planes[0][size[1] - 1]).all()
    if codec == "libx264":
        whole = frames_of(through(tmp_path / "in.mkv", encoder=EncoderOptions(pix_fmt="yuv444p")).outputs[0])
        assert (whole[0].width, whole[0].height) == size


@pytest.mark.parametrize(("pix_fmt", "codec"), [("yuva420p", "ffv1"), ("rgba", "png")])
def test_alpha_is_left_out_and_said(pix_fmt: str, codec: str, ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc2=s=64x48:r=10:d=0.2,format={pix_fmt},colorchannelmixer=aa=0.5"),
        *("-pix_fmt", pix_fmt, "-c:v", codec, tmp_path / "in.mkv"),
    )
    assert "alpha" in notes_of(tmp_path / "in.mkv")
    frame = frames_of(tmp_path / "in.mkv")[0]
    plain = "yuv420p" if pix_fmt == "yuva420p" else "gbrp"
    planes = ffmpeg(
        *("-i", tmp_path / "in.mkv", "-frames:v", "1", "-vf", "extractplanes=" + ("y" if plain != "gbrp" else "g")),
        *("-f", "rawvideo", "-"),
    )
    assert frame.planes[0].tobytes() == planes  # as under the transparency, not mixed with black or white


@pytest.mark.parametrize(
    ("name", "first", "codec"),
    [("in.mp4", "tff", "libx264"), ("in.mpg", "bff", "mpeg2video"), ("in.mkv", "tff", "ffv1")],
)
def test_interlaced_pictures_are_made_whole(
    name: str, first: str, codec: str, ffmpeg: Callable[..., bytes], ffprobe: Callable[..., Any], tmp_path: Path
) -> None:
    """One for each, at its time, as bwdif of another program makes them."""
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=50:d=0.4", "-vf", f"tinterlace=interleave_top,setfield={first}"),
        *("-c:v", codec, "-flags", "+ildct+ilme", "-pix_fmt", "yuv420p", "-q:v", "2", tmp_path / name),
    )
    clip = tmp_path / name
    frames, woven = frames_of(clip), frames_of(clip, deinterlace=False)
    assert [(f.time, f.duration) for f in frames] == [(f.time, f.duration) for f in woven]
    assert len(frames) == 10
    seen = raw_luma(ffmpeg, clip, (64, 48), "-vf", "bwdif=mode=send_frame:deint=interlaced,extractplanes=y")
    # Its versions differ in the first picture, which has none before it.
    assert all((frame.planes[0] == luma).all() for frame, luma in list(zip(frames, seen, strict=True))[1:])
    seen = raw_luma(ffmpeg, clip, (64, 48), "-vf", "extractplanes=y")
    assert all((frame.planes[0] == luma).all() for frame, luma in zip(woven, seen, strict=True))
    assert "bwdif" in notes_of(clip)
    assert "woven" in notes_of(clip, deinterlace=False)
    # An excerpt is that part of the whole.
    start = frames[4].time - frames[0].time
    for part, frame in zip(frames_of(clip, start=start), frames[4:], strict=True):
        assert all((a == b).all() for a, b in zip(part.planes, frame.planes, strict=True))
    summary = through(clip, output=tmp_path / "a.mkv", output_to=tmp_path / "b.mkv", deinterlace="off")
    assert all((a.planes[0] == b.planes[0]).all() for a, b in zip(frames_of(summary.outputs[0]), woven, strict=True))
    (stream,) = ffprobe(through(clip, output=tmp_path / "a.mp4", output_to=tmp_path / "b.mp4").outputs[0])["streams"]
    assert stream.get("field_order", "progressive") in ("progressive", "unknown")


def test_progressive_pictures_stay_as_they_are_beside_interlaced_ones(
    ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    for number, flags in ((0, ()), (1, ("-flags", "+ildct+ilme"))):
        weave = ("-vf", "tinterlace=interleave_top,setfield=tff") if flags else ()
        ffmpeg(
            *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=20:d=0.4", *weave, *flags, "-c:v", "mpeg2video", "-q:v", "2"),
            *("-pix_fmt", "yuv420p", "-r", "20" if not flags else "10", tmp_path / f"{number}.m2v"),
        )
    both = tmp_path / "both.m2v"
    both.write_bytes((tmp_path / "0.m2v").read_bytes() + (tmp_path / "1.m2v").read_bytes())
    frames, woven = frames_of(both), frames_of(both, deinterlace=False)
    assert len(frames) == len(woven) == 12
    same = [bool((frame.planes[0] == source.planes[0]).all()) for frame, source in zip(frames, woven, strict=True)]
    assert same == sorted(same, reverse=True)
    assert same[:7] + same[-3:] == [True] * 7 + [False] * 3


def test_a_size_that_changes_is_named_with_its_frame(ffmpeg: Callable[..., bytes], tmp_path: Path) -> None:
    for number, size in enumerate(("64x48", "96x64")):
        ffmpeg(
            *("-f", "lavfi", "-i", f"testsrc2=s={size}:r=10:d=0.5", "-c:v", "mpeg2video", "-bf", "0", "-q:v", "2"),
            *("-r", "25", "-pix_fmt", "yuv420p", tmp_path / f"{number}.m2v"),
        )
    both = tmp_path / "both.m2v"
    both.write_bytes((tmp_path / "0.m2v").read_bytes() + (tmp_path / "1.m2v").read_bytes())
    with pytest.raises(InputError, match=r"from 64x48 to 96x64 after \d+ frames") as caught:
        frames_of(both)
    assert "\n" not in str(caught.value)
