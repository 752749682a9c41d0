"""What kind of input a name means, and what a user says of one that says little of itself. Light: options need it."""

from __future__ import annotations

import glob
import os
import re
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidtrans.errors import UsageError

# The formats that hold nothing but code values; all others are told by what they hold.
IN_FORMATS = ("y4m", "rawvideo")
# A number in the name of an image, as printf writes it.
NUMBER = re.compile(r"%(?:0([1-9]))?d")

_LARGEST = 65535
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")


@dataclass(frozen=True)
class InputForm:
    """What a user says of the input; None: it says so itself, or needs not.

    Attributes:
        format: one of IN_FORMATS; None: told by its first bytes.
        size: (width, height) of the pictures, pixels.
        pix_fmt: of the pictures, FFmpeg's name.
        rate: pictures per second.

    Raises:
        UsageError: the parts do not fit each other.
    """

    format: str | None = None
    size: tuple[int, int] | None = None
    pix_fmt: str | None = None
    rate: Fraction | None = None

    def __post_init__(self) -> None:
        if self.format not in (None, *IN_FORMATS):
            raise UsageError(
                f"--in-format must be one of {', '.join(IN_FORMATS)}, not {self.format!r}; other formats are told by "
                "what they hold, without the option"
            )
        if self.size is not None and not all(1 <= pixels <= _LARGEST for pixels in self.size):
            raise UsageError(f"--size-in must be 1 to {_LARGEST} pixels a side, not {self.size[0]}x{self.size[1]}")
        if self.rate is not None and self.rate <= 0:
            raise UsageError(f"--rate-in must be above 0, such as 25 or 30000/1001, not {self.rate}")
        told = {"--size-in": self.size, "--pix-fmt-in": self.pix_fmt, "--rate-in": self.rate}
        missing = [name for name, value in told.items() if value is None]
        if self.format == "rawvideo" and missing:
            raise UsageError(
                f"rawvideo says nothing of itself, {' and '.join(missing)} must; such as --size-in 1920x1080 "
                "--pix-fmt-in yuv420p --rate-in 30000/1001"
            )
        needless = [name for name in ("--size-in", "--pix-fmt-in") if told[name] is not None]
        if self.format != "rawvideo" and needless:
            raise UsageError(
                f"{' and '.join(needless)} can only be told of --in-format rawvideo; add that, or leave out"
            )


SAYS_ITSELF = InputForm()


def descriptor(path: Path) -> int | None:
    """The number of the open file that an input's name stands for, 0 for `-`; None: it names something else."""
    text = str(path)
    if text in ("-", "/dev/stdin"):
        return 0
    match = _DESCRIPTOR.fullmatch(text)
    return int(match[1]) if match else None


def spoken(path: Path) -> str:
    """An input's name in messages."""
    return "standard input" if descriptor(path) == 0 else str(path)


def reopened(path: Path) -> Path | None:
    """The file behind an input that can be opened and read twice; None: a pipe, which cannot.

    A file that the shell opened, as in `vidtrans upsample - < in.mkv`, can, where it has not been read from yet.
    """
    number = descriptor(path)
    try:
        mode = (path.stat() if number is None else os.fstat(number)).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return None
        if number is None:
            return path
        again = Path(f"/proc/self/fd/{number}")
        fresh = stat.S_ISREG(mode) and os.lseek(number, 0, os.SEEK_CUR) == 0
        return again if fresh and again.exists() else None
    except OSError:  # not there, which whoever opens it says better
        return path if number is None else None


def is_pattern(path: Path) -> bool:
    """Whether it stands for numbered images, such as `frames/%06d.png`."""
    return NUMBER.search(path.name) is not None and not path.exists()


def is_glob(path: Path) -> bool:
    """Whether it stands for every file whose name fits, such as `frames/*.png`."""
    return glob.has_magic(str(path)) and not path.exists()


def default_base(path: Path, output: Path | None = None) -> Path:
    """Where default outputs go, without what is added to their names: beside the input, named after it.

    A folder, and a glob or a pattern without a word of its own, give their folder's name, beside that folder. For an
    input without a name of its own, such as `-`, the first output serves; where that is a pipe, too, "stdin" does.

    Args:
        path: the input.
        output: the first output, where it is told.

    Raises:
        UsageError: there is no name to be had.
    """
    base: Path | None
    if descriptor(path) is not None:
        base = None
    elif path.is_dir():
        base = _named_as_folder(path)
    elif is_pattern(path):
        base = _named_as_images(path, NUMBER.split(path.name)[0])
    elif is_glob(path):
        base = _named_as_images(path, re.split(r"[*?[]", path.name)[0])
    else:
        base = path.with_name(path.stem) if path.stem else path
    if base is not None:
        return base
    if output is None:
        raise UsageError(f"{path}: has no name to make the outputs' names from; give -o")
    return output.with_name(output.stem) if output.name and descriptor(output) is None else Path("stdin")


def _named_as_images(path: Path, stem: str) -> Path | None:
    stem = stem.rstrip("_-. ")
    if glob.has_magic(str(path.parent)):
        return None
    return path.with_name(stem) if stem else _named_as_folder(path.parent)


def _named_as_folder(folder: Path) -> Path | None:
    # `.` and `..` have names, too. Where the images lie in the working folder, so do the outputs: not above it.
    named = folder.resolve() if folder.name in ("", "..") else folder
    if not named.name:
        return None
    return Path(named.name) if folder == Path() else named
