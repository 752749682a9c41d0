"""Images as a video: which are taken in which order, code values as another program decodes them, clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidtrans.errors import InputError, UsageError
from vidtrans.video.frame import Frame
from vidtrans.video.input_form import InputForm
from vidtrans.video.source import FrameSource, open_source

NTSC = Fraction(30000, 1001)


def read(path: Path | str, **more: Fraction) -> tuple[FrameSource, list[Frame]]:
    with open_source(path, **more) as source:
        return source, list(source)


def refused(path: Path | str, kind: type[Exception] = InputError) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def code_values(frames: list[Frame]) -> bytes:
    return b"".join(plane.tobytes() for frame in frames for plane in frame.planes)


def grey(path: Path, value: int, size: tuple[int, int] = (5, 3)) -> Path:
    Image.new("L", size, value).save(path)
    return path


def levels(frames: list[Frame]) -> list[int]:
    return [int(frame.planes[0][0, 0]) for frame in frames]


@pytest.mark.parametrize(
    ("extension", "options", "planar"),
    [
        ("png", ("-pix_fmt", "rgb24"), "gbrp"),
        ("png", ("-pix_fmt", "gray"), "gray"),
        ("png", ("-pix_fmt", "pal8"), "gbrp"),
        ("png", ("-pix_fmt", "rgba"), "gbrp"),
        ("jpg", ("-pix_fmt", "yuvj420p"), "yuvj420p"),
        ("jpg", ("-pix_fmt", "yuvj444p"), "yuvj444p"),
        ("tiff", ("-pix_fmt", "rgb24"), "gbrp"),
        ("bmp", ("-pix_fmt", "bgr24"), "gbrp"),
        ("webp", ("-c:v", "libwebp", "-pix_fmt", "yuv420p"), "yuv420p"),
        ("webp", ("-c:v", "libwebp", "-pix_fmt", "bgra", "-lossless", "1"), "gbrp"),
    ],
)
def test_images_are_decoded_as_another_program_does(
    extension: str,
    options: tuple[str, ...],
    planar: str,
    make_clip: Callable[..., Path],
    ffmpeg: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=3, codec="ffv1", pix_fmt="yuv444p", size=(35, 27))
    (tmp_path / "frames").mkdir()
    ffmpeg("-i", clip, *options, tmp_path / "frames" / f"shot_%03d.{extension}")
    pattern = tmp_path / "frames" / f"shot_%03d.{extension}"
    shown = "rgb24" if planar == "gbrp" else planar  # of paletted images ffmpeg's gbrp is off by one, its rgb24 is not
    expected = ffmpeg("-f", "image2", "-i", pattern, "-pix_fmt", shown, "-f", "rawvideo", "-")
    if shown != planar:
        rgb = np.frombuffer(expected, np.uint8).reshape(3, 27, 35, 3)
        expected = rgb[..., [1, 2, 0]].transpose(0, 3, 1, 2).tobytes()
    for name in (tmp_path / "frames", pattern, tmp_path / "frames" / f"shot_*.{extension}"):
        with open_source(name, form=InputForm(rate=NTSC)) as source:
            frames = list(source)
        assert code_values(frames) == expected
        assert [frame.time for frame in frames] == [k / NTSC for k in range(3)]
        assert {frame.duration for frame in frames} == {1 / NTSC}
        info = source.info
        assert (info.width, info.height, info.average_rate, info.frame_count) == (35, 27, NTSC, 3)
        assert (info.duration, info.carry_from) == (3 / NTSC, None)
        assert info.colour.full_range is (planar != "yuv420p")
        assert info.colour.matrix == "bt601"


@pytest.mark.parametrize(
    ("deep", "planar"), [("rgb48be", "gbrp12le"), ("rgba64be", "gbrp12le"), ("gray16be", "gray12le")]
)
def test_of_sixteen_bits_the_upper_twelve_are_kept(
    deep: str, planar: str, make_clip: Callable[..., Path], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """So what another program widened from twelve comes back as it was."""
    clip = make_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", pix_fmt=planar, size=(35, 27))
    ffmpeg("-i", clip, "-pix_fmt", deep, tmp_path / "%d.png")
    wide = {"gbrp12le": "gbrp16le", "gray12le": "gray16le"}[planar]
    expected = ffmpeg("-i", tmp_path / "%d.png", "-pix_fmt", wide, "-f", "rawvideo", "-")
    source, frames = read(tmp_path / "%d.png")
    assert source.info.pix_fmt.name == planar
    assert code_values(frames) == (np.frombuffer(expected, "<u2") >> 4).tobytes()
    assert any(planar in note for note in source.notes)


def test_folders_are_read_in_the_order_of_numbers_without_the_rest(tmp_path: Path) -> None:
    for number in (10, 9, 1, 100, 2):
        grey(tmp_path / f"shot{number}.PNG", number)
    for name in ("notes.txt", "Thumbs.db", ".hidden.png"):
        (tmp_path / name).write_bytes(b"junk")
    (tmp_path / "folder.png").mkdir()
    source, frames = read(tmp_path)
    assert levels(frames) == [1, 2, 9, 10, 100]
    assert [frame.time for frame in frames] == [Fraction(k, 25) for k in range(5)]
    assert sum("left out" in note for note in source.notes) == 1
    assert any("3 names" in note for note in source.notes)
    assert any("25 per second" in note for note in source.notes)
    source, frames = read(str(tmp_path / "shot[0-9].*"))
    assert levels(frames) == [1, 2, 9]


def test_patterns_begin_anywhere_and_have_no_gaps(tmp_path: Path) -> None:
    for number in (998, 999, 1000, 1001):
        grey(tmp_path / f"a_{number:03d}_b.png", number % 256)
        grey(tmp_path / f"{number}.png", 7)
    grey(tmp_path / "a_01_b.png", 0)
    grey(tmp_path / "a_0998_b.png", 0)
    assert levels(read(tmp_path / "a_%03d_b.png")[1]) == [998 % 256, 999 % 256, 1000 % 256, 1001 % 256]
    assert levels(read(tmp_path / "%d.png")[1]) == [7] * 4
    (tmp_path / "a_999_b.png").unlink()
    message = refused(tmp_path / "a_%03d_b.png")
    assert "a_999_b.png: is missing" in message
    assert "no file has such a name" in refused(tmp_path / "c_%03d.png")


def test_a_file_that_is_called_like_a_pattern_is_meant_first(tmp_path: Path) -> None:
    grey(tmp_path / "%d.png", 3)
    grey(tmp_path / "1.png", 4)
    assert levels(read(tmp_path / "%d.png")[1]) == [3]
    grey(tmp_path / "[1].png", 5)
    assert levels(read(tmp_path / "[1].png")[1]) == [5]


def test_the_first_image_of_another_size_is_named_before_the_start(tmp_path: Path) -> None:
    for number in range(6):
        grey(tmp_path / f"{number}.png", 0, (5, 3) if number < 4 else (number, 3 + number))
    with pytest.raises(InputError) as caught:
        open_source(tmp_path)
    for word in ("4.png", "4x7", "5x3"):
        assert word in str(caught.value)


def test_grey_images_among_coloured_ones_lose_nothing(tmp_path: Path) -> None:
    """A first image that a program wrote in grey, because it holds no colour, does not take it from the others."""
    grey(tmp_path / "0.png", 0)
    Image.new("RGB", (5, 3), (200, 100, 50)).save(tmp_path / "1.png")
    grey(tmp_path / "2.png", 77)
    source, frames = read(tmp_path)
    assert source.info.pix_fmt.name == "gbrp"
    assert [[int(plane[0, 0]) for plane in frame.planes] for frame in frames] == [[0, 0, 0], [100, 50, 200], [77] * 3]


def test_images_that_hold_more_than_the_first_are_refused(tmp_path: Path) -> None:
    Image.new("L", (5, 3)).save(tmp_path / "0.png")
    Image.fromarray(np.full((3, 5), 40000, np.uint16)).save(tmp_path / "1.png")
    message = refused(tmp_path)
    assert "1.png" in message
    assert "gray16be" in message


@pytest.mark.parametrize("extension", ["png", "jpg", "tiff", "bmp", "webp"])
def test_a_damaged_image_is_named(extension: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / f"{number}.{extension}")
    assert len(read(tmp_path)[1]) == 3
    path = tmp_path / f"1.{extension}"
    data = path.read_bytes()
    for part in (data[:0], data[:5], data[: len(data) // 2], data[:-40], b"hello" * 99):
        path.write_bytes(part)
        assert f"1.{extension}" in refused(tmp_path)


@pytest.mark.parametrize("extension", ["jpg", "png", "tiff", "webp"])
def test_images_are_set_upright_as_the_camera_was_held(extension: str, tmp_path: Path) -> None:
    """Checked with Pillow's own turning."""
    from PIL import ImageOps

    dots = np.full((16, 24, 3), 40, np.uint8)
    dots[0, 0], dots[0, 23], dots[15, 0] = 250, 170, 90  # told apart after any turn
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"{number}.{extension}"
        Image.fromarray(np.kron(dots, np.ones((8, 8, 1), np.uint8))).save(path, exif=exif, quality=95)
        shown = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("L")).astype(int)
        reader, (frame,) = read(path)
        assert (reader.info.width, reader.info.height) == shown.shape[::-1]
        assert reader.info.display_matrix is None
        luma = frame.planes[0].astype(int)
        if not frame.colour.full_range:
            luma = (luma - 16) * 255 // 219
        assert np.abs(luma - shown)[4::8, 4::8].max() < 8
        assert any("set upright" in note for note in reader.notes) == (number > 1)
    message = refused(tmp_path / f"*.{extension}")
    assert f"2.{extension}" in message
    assert "EXIF" in message


def test_images_with_a_bit_more_than_needed_are_read(tmp_path: Path) -> None:
    """Other programs' ways: progressive, with a comment, restart marks, a name that lies, bytes behind the end."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x010E] = "words"
    picture.save(tmp_path / "0.jpg", quality=90)
    picture.save(tmp_path / "1.jpg", progressive=True, optimize=True, exif=exif, comment=b"words")
    picture.save(tmp_path / "2.jpg", restart_marker_blocks=3, icc_profile=bytes(300))
    picture.save(tmp_path / "3.jpg", quality=30, subsampling="4:2:0")
    (tmp_path / "4.jpg").write_bytes((tmp_path / "0.jpg").read_bytes() + b"behind the end" * 9)
    assert len(read(tmp_path)[1]) == 5
    folder = tmp_path / "png"
    folder.mkdir()
    picture.save(folder / "0.png", dpi=(72, 72), icc_profile=bytes(300))
    picture.save(folder / "1.png", format="bmp")
    (folder / "2.png").write_bytes((folder / "0.png").read_bytes() + b"behind the end" * 9)
    frames = read(folder)[1]
    assert code_values(frames[:1]) == code_values(frames[1:2]) == code_values(frames[2:])


def test_what_holds_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "nothing in it" in refused(tmp_path / "empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").touch()
    assert "is that of an image" in refused(tmp_path / "text")
    assert "no file has such a name" in refused(tmp_path / "none*.png")
    assert "cannot be listed" in refused(tmp_path / "none" / "%d.png")
    for name in ("1.png", "2.jpg", "3.jpeg"):
        grey(tmp_path / name, 1)
    message = refused(tmp_path)
    assert ".jpeg and .jpg and .png" in message
    assert f"'{tmp_path}/*.jpeg'" in message


def test_a_part_of_the_images(tmp_path: Path) -> None:
    for number in range(10):
        grey(tmp_path / f"{number}.png", number)
    form = InputForm(rate=Fraction(10))
    with open_source(tmp_path, Fraction(1, 4), Fraction(1, 2), form=form) as source:
        frames = list(source)
    assert levels(frames) == [3, 4]
    assert [frame.time for frame in frames] == [0, Fraction(1, 10)]
    assert (source.info.frame_count, source.info.duration) == (2, Fraction(1, 5))
    with pytest.raises(UsageError, match="ends at 1 s"):
        open_source(tmp_path, Fraction(1), form=form)
    with pytest.raises(UsageError, match="--in-format"):
        open_source(tmp_path, form=InputForm("y4m"))
