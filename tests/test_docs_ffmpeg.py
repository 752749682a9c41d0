"""The commands of docs/ffmpeg.md, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vidtrans.cli.upsample import command
from vidtrans.palettes import PALETTES

PAGE = (Path(__file__).parents[1] / "docs" / "ffmpeg.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# What must be there afterwards: its frames for each one of the input, and pixel formats.
MADE = {"up.mp4": "yuv420p", "labels.mkv": None, "side.mp4": "yuv420p"}


def reads_pipes() -> bool:
    """Whether there are options for what comes in through a pipe."""
    return any(parameter.name == "in_format" for parameter in command.params)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_documented_commands_run(
    block: str,
    make_clip: Callable[..., Path],
    tiny_model: Path,
    ffmpeg: Callable[..., bytes],
    ffprobe: Callable[..., dict[str, Any]],
    tmp_path: Path,
) -> None:
    if "upsample - " in block and not reads_pipes():
        pytest.skip("vidtrans does not read pipes yet")
    make_clip(tmp_path / "in.mp4", frames=3, audio=["aac"])
    # The model of the tests, which is small, in place of the bundled one.
    script = f"""
        vidtrans() {{ "$PROGRAM" -m vidtrans "$@" --model "$MODEL" --engine torch --motion none; }}
        ffmpeg() {{ command ffmpeg -v error "$@"; }}
        set -e
        {block}"""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PROGRAM": sys.executable, "MODEL": str(tiny_model)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    made = [tmp_path / name for name in MADE if (tmp_path / name).exists()]
    assert made
    for path in made:
        video = next(one for one in ffprobe(path, "-count_frames")["streams"] if one["codec_type"] == "video")
        assert video["nb_read_frames"] == "24"
        assert MADE[path.name] in (None, video["pix_fmt"])
    for name, size in (("labels.gray", 1), ("up.raw", 3)):
        if (tmp_path / name).exists():
            assert (tmp_path / name).stat().st_size == 24 * 64 * 48 * size


def test_the_table_of_classes_is_that_of_the_palettes() -> None:
    for name, palette in PALETTES.items():
        classes = ", ".join(f"{number} {label}" for number, label in enumerate(palette.classes))
        assert f"| `{name}` | {classes} |" in PAGE
