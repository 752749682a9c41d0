"""`vidtrans data check`: what it finds is what is there, and it names what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from vidtrans.cli import cli
from vidtrans.errors import InputError, OutputError, UsageError
from vidtrans.palettes import CITYSCAPES_VOID, STREET, Palette
from vidtrans.train.data.check import check_source


def saved(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def grey(path: Path, shade: int, size: tuple[int, int] = (30, 20)) -> Path:
    return saved(path, np.full((size[1], size[0], 3), shade, dtype=np.uint8))


def check(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, ["data", "check", *map(str, arguments)], standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, InputError | OutputError | UsageError):
        raise result.exception
    return result


def test_pictures_are_counted_and_broken_ones_named(tmp_path: Path) -> None:
    for number in range(5):
        grey(tmp_path / f"a/{number}.png", 40 * number)
    grey(tmp_path / "a/9.png", 0, size=(60, 40))  # a number is missing: a sequence of its own, of its own size
    grey(tmp_path / "a/10.png", 0)  # but this one belongs to it
    broken = tmp_path / "a" / "2.png"
    broken.write_bytes(broken.read_bytes()[:50])
    (found,) = check_source(str(tmp_path))
    assert (found.footage.layout, len(found.footage), found.frames) == ("images", 7, 6)
    assert [len(shot) for shot in found.footage.sequences] == [5, 2]
    assert found.sizes == {(30, 20): 5, (60, 40): 1}
    assert [path.name for path, _ in found.problems] == ["2.png", "10.png"]
    assert "30x20" in found.problems[1][1]
    assert len(found.tiles) == 6
    report = check(tmp_path)
    assert report.exception is None
    assert "7 frames in 2 sequences of 2 to 5" in report.output
    assert f"WRONG {broken}: cannot be read" in report.output
    assert "2 files with something wrong" in report.output
    strict = check(tmp_path, "--strict")
    assert isinstance(strict.exception, InputError)
    assert "WRONG" in strict.output
    broken.unlink()
    (tmp_path / "a" / "10.png").unlink()
    fine = check(tmp_path, "--strict")
    assert fine.exception is None
    assert "no files with something wrong" in fine.output


def test_label_classes_are_counted_to_the_pixel(tmp_path: Path) -> None:
    classes = np.repeat(np.arange(10), 3)[None].repeat(20, 0)
    saved(tmp_path / "1.png", STREET.colour(classes))
    saved(tmp_path / "2.png", np.zeros((20, 30), dtype=np.uint8))  # class numbers: all road
    odd = STREET.colour(classes)
    odd[:2, :3] = (1, 2, 3)
    saved(tmp_path / "3.png", odd)
    saved(tmp_path / "4.png", np.full((20, 30), 77, dtype=np.uint8))
    saved(tmp_path / "5.png", np.full((20, 30), 255, dtype=np.uint8))  # no class anywhere is not wrong
    (found,) = check_source(str(tmp_path), STREET)
    assert found.pixels.tolist() == [60 + 600 + 54, *[60 * 2] * 9]
    assert found.unclassed == {(0, 0, 0): 1200}
    assert [path.name for path, _ in found.problems] == ["3.png", "4.png"]
    assert "(1, 2, 3)" in found.problems[0][1]
    assert "1.00%" in found.problems[0][1]
    assert "77" in found.problems[1][1]
    own = tmp_path / "own.json"
    own.write_text('{"a": [1, 2, 3], "b": [9, 9, 9]}')
    report = check(tmp_path, "--palette", own).output
    assert "labels, palette own" in report
    assert "such as" in report


def test_a_data_set_is_recognised_and_checked_in_all_its_parts(tmp_path: Path) -> None:
    for part, city in (("train", "aachen"), ("val", "lindau")):
        stem = f"{city}_000000_000019"
        grey(tmp_path / f"leftImg8bit/{part}/{city}/{stem}_leftImg8bit.png", 90)
        values = np.asarray([[(0, 0, 142), (81, 0, 81), (0, 0, 0)]], dtype=np.uint8)  # car, ground, unlabelled
        saved(tmp_path / f"gtFine/{part}/{city}/{stem}_gtFine_color.png", values)
    pictures, labels = check_source(str(tmp_path))
    assert (len(pictures.footage), len(labels.footage)) == (2, 2)
    assert labels.palette is CITYSCAPES_VOID
    assert labels.pixels[CITYSCAPES_VOID.index("car")] == labels.pixels[CITYSCAPES_VOID.index("void")] == 2
    assert labels.unclassed == {(81, 0, 81): 2}  # the data set's own colour for what is not evaluated: not wrong
    assert not labels.problems
    assert len(check_source(f"cityscapes:{tmp_path}?part=val")[0].footage) == 1
    assert [one.palette for one in check_source(f"cityscapes:{tmp_path}?labels=color")] == [CITYSCAPES_VOID]


def test_videos_are_read_to_their_ends(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    whole = make_clip(tmp_path / "a.mkv", frames=20, options={"g": "5"})
    (tmp_path / "b.mp4").write_bytes(b"not a video")
    (found,) = check_source(str(tmp_path))
    assert (found.frames, len(found.footage), found.sizes) == (20, 20, {(64, 48): 20})
    assert [path.name for path, _ in found.problems] == ["b.mp4"]
    assert len(found.tiles) == 20
    listed = tmp_path / "list.txt"
    listed.write_text(
        f'# {{"format": "vidtrans-frames-1", "layout": "videos", "numbers": "palette", "root": "."}}\n'
        f"{whole.name}#18:23\n"
    )
    (found,) = check_source(f"list:{listed}")
    assert (found.frames, len(found.footage)) == (2, 5)
    ((_, text),) = found.problems  # once for a file
    assert "frame 20 cannot be decoded; 3 frames" in text


def test_the_contact_sheet_shows_frames_of_everything(tmp_path: Path) -> None:
    for number in range(100):
        grey(tmp_path / f"many/{number}.png", number)
    saved(tmp_path / "labels/1.png", np.asarray([[0, 1]], dtype=np.uint8).repeat(2, 0))
    own = Palette("own", ("a", "b"), ((250, 0, 0), (0, 0, 250)))
    (found,) = check_source(str(tmp_path / "many"))
    assert len(found.tiles) == 48
    shades = [tile.getpixel((5, 5))[0] for tile in found.tiles]
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0, 97)
    (labels,) = check_source(str(tmp_path / "labels"), own)
    assert {colour for _, colour in labels.tiles[0].getcolors()} == set(own.colours)
    sheet = tmp_path / "sheet.png"
    assert check(tmp_path / "many", tmp_path / "labels", "-o", sheet).exception is None
    with Image.open(sheet) as image:
        assert image.size[0] == 8 * 160
        assert image.convert("RGB").getpixel((5, image.size[1] - 5)) == (0, 0, 0)
    assert isinstance(check(tmp_path / "labels", "-o", sheet).exception, OutputError)
    assert check(tmp_path / "labels", "-o", sheet, "-y").exception is None
    assert isinstance(check(tmp_path / "labels", "-o", tmp_path / "no" / "sheet.png").exception, OutputError)


def test_nothing_to_check_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images"):
        check_source(str(tmp_path))
    with pytest.raises(UsageError, match="rendered"):
        check_source("street:scene")
    with pytest.raises(UsageError, match="neither a folder"):
        check_source(str(tmp_path / "no"))
    assert isinstance(check(tmp_path, "--palette", "cityscape").exception, UsageError)


def test_training_does_not_need_av_or_decord() -> None:
    code = (
        "import sys; sys.modules['av'] = sys.modules['decord'] = None\n"
        "import vidtrans.train.loop, vidtrans.train.evaluate, vidtrans.train.data.check, vidtrans.engines\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
