"""What an output's name means: a file, images that are counted, or a pipe. Light: options need it before all else."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vidtrans.errors import UsageError, nearest_names

STDOUT = Path("-")
# The streams that vidtrans writes itself: code values and nothing else.
PLANE_FORMATS = ("y4m", "rawvideo")
# FFmpeg's containers that need not be sought while they are written.
STREAM_FORMATS = ("nut", "matroska", "webm", "mpegts")
OUT_FORMATS = (*PLANE_FORMATS, *STREAM_FORMATS)
# Containers that hold two videos with names, and their extensions.
BOTH_FORMATS = {"nut": ".nut", "matroska": ".mkv"}
FORMAT_OF_SUFFIX = {".y4m": "y4m", ".nut": "nut", ".mkv": "matroska", ".webm": "webm", ".ts": "mpegts"}
# Encoder of each kind of image.
IMAGE_CODECS = {".png": "png", ".jpg": "mjpeg", ".jpeg": "mjpeg", ".tif": "tiff", ".tiff": "tiff"}
IMAGE_NUMBER = re.compile(r"%(?:0([1-9]))?d")
_ALIASES = {"yuv4mpegpipe": "y4m", "raw": "rawvideo", "mkv": "matroska", "ts": "mpegts"}
_OF_DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,9})")


def output_path(name: str | Path) -> Path:
    """The output that a user's words name: a folder with a slash behind it is one of PNG images in it."""
    text = os.fspath(name)
    if text.endswith(("/", os.sep)):
        return Path(text, "%06d.png")
    return STDOUT if text == "/dev/stdout" or descriptor(Path(text)) == 1 else Path(text)


def spoken_output(path: Path) -> str:
    """An output's name in messages."""
    return "standard output" if path == STDOUT else str(path)


def descriptor(path: Path) -> int | None:
    """The number of the open file that a name such as `/dev/fd/3` stands for; of `-` it is 1; None: another name."""
    if path == STDOUT:
        return 1
    match = _OF_DESCRIPTOR.fullmatch(str(path))
    return int(match[1]) if match else 2 if str(path) == "/dev/stderr" else None


def is_pipe(path: Path) -> bool:
    """Whether what is written there is gone: standard output, an open file's number, a FIFO, /dev/null."""
    if descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def is_sequence(path: Path) -> bool:
    """Whether it names numbered images, such as `frames/%06d.png`."""
    return path.suffix.lower() in IMAGE_CODECS and IMAGE_NUMBER.search(path.name) is not None


def out_format(name: str | None, option: str) -> str | None:
    """A format by our name of it; `option` is the one to blame.

    Raises:
        UsageError: no such format.
    """
    if name is None:
        return None
    known = _ALIASES.get(name, name)
    if known not in OUT_FORMATS:
        why = " (its index cannot be written into a pipe)" if name in ("mp4", "mov") else ""
        raise UsageError(f"{option} cannot be {name!r}{why}; {nearest_names(name, OUT_FORMATS)}")
    return known
