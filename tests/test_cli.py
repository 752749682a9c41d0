"""The command line: quick help, clear refusals with their exit codes, and clips that another program reads as asked."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import vidtrans
from vidtrans import cli
from vidtrans.cli.parameters import FRACTION, SIZE

HEAVY = ("torch", "vidtrans.pipeline", "vidtrans.engines", "vidtrans.train.street")  # for the help of any command
NOT_FOR_THE_LIST = (*HEAVY, "av", "numpy", "rich", "vidtrans.video")  # for `vidtrans --help`


class Ran:
    """What one command line did: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`run("render", ...) -> Ran`: the command line in this process, as the program `vidtrans` starts it."""

    def call(*arguments: str | Path) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vidtrans", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60)


# What may be imported, and how fast the help is.


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    heavy = HEAVY if len(arguments) > 1 else NOT_FOR_THE_LIST
    program = (
        "import sys, vidtrans.cli\n"
        f"sys.argv = ['vidtrans', *{arguments!r}]\n"
        "try: vidtrans.cli.main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        f"print('heavy:', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    out = python("-c", program).stdout
    assert "Usage: vidtrans" in out
    assert out.splitlines()[-1] == "heavy: []"


def test_the_module_runs_as_a_program() -> None:
    assert python("-m", "vidtrans", "--version").stdout.split() == ["vidtrans,", "version", vidtrans.__version__]


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there(name: str) -> None:
    module = importlib.import_module(cli.COMMANDS[name][0])
    assert module.__name__ == f"vidtrans.cli.{name}"
    assert isinstance(module.command, click.Command)
    assert module.command.help


def test_upsample_stays_a_function() -> None:
    """Importing a submodule sets an attribute on its package; none may be called upsample."""
    before = vidtrans.upsample
    for module, _ in cli.COMMANDS.values():
        importlib.import_module(module)
    assert inspect.isfunction(vidtrans.upsample)
    assert vidtrans.upsample is before


def test_help_lists_every_command(run: Callable[..., Ran]) -> None:
    ran = run("--help")
    assert ran.code == 0
    for name, (_, line) in cli.COMMANDS.items():
        assert f"{name} " in ran.out
        assert line.split()[0] in ran.out


# Refusals.


@pytest.mark.parametrize(("typed", "meant"), [("upsmaple", "upsample"), ("rendr", "render"), ("Train", "train")])
def test_an_unknown_command_names_the_nearest(run: Callable[..., Ran], typed: str, meant: str) -> None:
    ran = run(typed, "--factor", "8")
    assert ran.code == 2
    assert f"no command {typed!r}; did you mean {meant!r}?" in ran.err
    assert ran.out == ""


REFUSED = {
    "no output": [],
    "size without a height": ["-o", "a.mp4", "--size", "512"],
    "size of nothing": ["-o", "a.mp4", "--size", "0x256"],
    "size the street cannot have": ["-o", "a.mp4", "--size", "8x8"],
    "rate of zero": ["-o", "a.mp4", "--fps", "0"],
    "rate over zero": ["-o", "a.mp4", "--fps", "30/0"],
    "seconds in words": ["-o", "a.mp4", "--seconds", "two"],
    "less than one frame": ["-o", "a.mp4", "--seconds", "1/100", "--fps", "30"],
    "unknown domain": ["-o", "a.mp4", "--domain", "autumn"],
    "negative seed": ["-o", "a.mp4", "--seed", "-1"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_render_refuses_what_does_not_fit(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("render", *arguments)
    assert ran.code == 2
    assert ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert not list(tmp_path.iterdir())


SMALL = ("--seconds", "1", "--fps", "2", "--size", "32x16")


def test_render_does_not_replace_a_file_unasked(run: Callable[..., Ran], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"mine")
    ran = run("render", *SMALL, "-o", path)
    assert ran.code == 5
    assert "exists" in ran.err
    assert path.read_bytes() == b"mine"
    assert run("render", *SMALL, "-o", path, "-y").code == 0
    assert path.read_bytes() != b"mine"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/clip.mp4", "clip.txt", "clip", "."])
def test_render_refuses_an_output_that_cannot_be(run: Callable[..., Ran], tmp_path: Path, name: str) -> None:
    ran = run("render", *SMALL, "-o", tmp_path / name)
    assert ran.code == 5
    assert ran.err.startswith("vidtrans: ")
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


# Clips.


@pytest.mark.parametrize(
    ("seconds", "fps", "size", "count"),
    [
        ("1", "4", "64x32", 4),
        ("2/3", "7.5", "48x32", 5),
        ("1001/10000", "30000/1001", "32x16", 3),
        ("1", "3", "33x17", 3),
    ],
)
def test_a_rendered_clip_is_what_was_asked_for(
    run: Callable[..., Ran],
    ffprobe: Callable[..., dict[str, Any]],
    tmp_path: Path,
    seconds: str,
    fps: str,
    size: str,
    count: int,
) -> None:
    path = tmp_path / "clip.mp4"
    options = ("--seed", "3", "--seconds", seconds, "--fps", fps, "--size", size)
    ran = run("render", *options, "--sound", "-o", path)
    assert (ran.code, ran.out) == (0, "")
    facts = ffprobe(path, "-count_frames")
    video, audio = sorted(facts["streams"], key=lambda stream: stream["codec_type"], reverse=True)
    assert int(video["nb_read_frames"]) == count
    assert Fraction(video["avg_frame_rate"]) == Fraction(fps)
    assert Fraction(video["duration_ts"]) * Fraction(video["time_base"]) == count / Fraction(fps)
    assert f"{video['width']}x{video['height']}" == size
    assert (video["color_range"], video["color_space"]) == ("tv", "smpte170m")
    assert (audio["codec_name"], audio["channels"]) == ("aac", 1)
    assert float(audio["start_time"]) == pytest.approx(0.0, abs=1e-3)
    assert float(audio["duration"]) == pytest.approx(float(count / Fraction(fps)), abs=1e-4)


def test_a_clip_has_no_sound_unless_asked(run: Callable[..., Ran], ffprobe: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    assert run("render", *SMALL, "-o", path).code == 0
    assert [stream["codec_type"] for stream in ffprobe(path)["streams"]] == ["video"]


def test_another_program_sees_the_street_and_its_classes(
    run: Callable[..., Ran], ffmpeg: Callable[..., bytes], tmp_path: Path
) -> None:
    """Frame 1 of both clips is the street at 1 / fps: colours come back through the tags that were written."""
    from vidtrans.palettes import STREET
    from vidtrans.train.street import Street

    truth = Street(5).render(0.5, 96, 48)
    options = ("--seed", "5", "--seconds", "1", "--fps", "2", "--size", "96x48")
    pictures = {}
    for domain in ("scene", "segmentation"):
        path = tmp_path / f"{domain}.mp4"
        assert run("render", *options, "--domain", domain, "-o", path).code == 0
        # Full chroma interpolation and exact rounding: FFmpeg's fast default is off by more than the codec.
        shown = ffmpeg(
            "-i", path, "-vf", "select=eq(n\\,1),scale=flags=bicubic+accurate_rnd+full_chroma_int,format=rgb24",
            "-frames:v", "1", "-f", "rawvideo", "-",
        )  # fmt: skip
        pictures[domain] = np.frombuffer(shown, np.uint8).reshape(48, 96, 3)
    error = pictures["scene"].astype(np.float64) - truth.rgb.numpy()
    assert np.abs(error.mean((0, 1))).max() < 0.5
    assert np.sqrt((error**2).mean()) < 6.0
    assert (STREET.nearest(pictures["segmentation"]) == truth.labels.numpy()).mean() > 0.90  # 4:2:0 on thin things


def test_the_sound_is_that_of_the_seed() -> None:
    from vidtrans.train.clip import SOUND_RATE, street_sound

    whole = np.concatenate(list(street_sound(3, 2 * SOUND_RATE + 5)))
    assert whole.shape == (2 * SOUND_RATE + 5,)
    assert 0.001 < np.sqrt((whole**2).mean()) < 0.1
    assert np.abs(whole).max() < 0.5
    np.testing.assert_array_equal(whole, np.concatenate(list(street_sound(3, 2 * SOUND_RATE + 5))))
    assert np.abs(whole - np.concatenate(list(street_sound(4, 2 * SOUND_RATE + 5)))).max() > 0.01
    # No click where one block of a second follows another.
    steps = np.abs(np.diff(whole))
    assert steps[SOUND_RATE - 1] <= steps.max() * 0.9


# Kinds of values.


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("8", Fraction(8)),
        ("7.5", Fraction(15, 2)),
        ("30000/1001", Fraction(30000, 1001)),
        (".5", Fraction(1, 2)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_fractions_are_exact(text: str, number: Fraction) -> None:
    assert FRACTION.convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "0", "0/1", "1/0", "-1", "1e9", "1e999999999", "nan", "inf", "8x", "1/2/3"])
def test_what_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a positive number"):
        FRACTION.convert(text, None, None)


def test_sizes_are_width_then_height() -> None:
    assert SIZE.convert("512x256", None, None) == (512, 256)
    assert SIZE.convert("1X1", None, None) == (1, 1)


@pytest.mark.parametrize("text", ["", "512", "x", "512x", "0x1", "1x0", "-1x1", "512 256", "1.5x2", "1x2x3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        SIZE.convert(text, None, None)
