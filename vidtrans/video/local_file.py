"""The file behind a name: local, there, whole by its own account, and open."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av

from vidtrans.errors import InputError, UsageError
from vidtrans.video.byte_stream import ByteStream
from vidtrans.video.container_size import declared_size

_NO_TIMESTAMPS = 0x80  # FFmpeg's AVFMT_NOTIMESTAMPS
WHOLE_PART = "copy or download it again, or use only its whole part, re-encoded with: ffmpeg -i INPUT REPAIRED.mp4"


def local_path(path: str | Path) -> Path:
    """The path of a local file; `file://` names are understood.

    Raises:
        InputError: an address of another kind; nothing is fetched.
    """
    text = str(path)
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return Path(text)
    if not text.lower().startswith("file://"):
        raise InputError(f"{text}: only local files are read; download it first")
    return Path(unquote(urlsplit(text).path))


def check_whole(path: Path) -> bool:
    """Refuses what cannot be a whole video file. Returns whether the file states its size (and is as long as that).

    Raises:
        InputError: no such file, a folder, unreadable, empty or shorter than it says.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a video file in it")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        actual, declared = path.stat().st_size, declared_size(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if actual == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if declared is not None and declared > actual:
        missing = declared - actual
        raise InputError(f"{path}: is cut off, {missing} of its {declared} bytes are missing; {WHOLE_PART}")
    return declared is not None


def open_piped_container(stream: ByteStream, rate: Fraction | None = None) -> av.container.InputContainer:
    """The container that comes through a pipe, opened by FFmpeg, which may open nothing else from there.

    rate: of pictures one after the other, which have no times; of anything else it must be None.

    Raises:
        InputError: FFmpeg finds no media in it that can be read without going back.
        UsageError: a rate for what has times of its own.
    """
    options = {"protocol_whitelist": "none"} | ({} if rate is None else {"framerate": str(rate)})
    try:
        container = av.open(stream, "r", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{stream.name}: is not a video that can be read from a pipe ({error.strerror}); with ffmpeg write it as "
            "-f nut or -f yuv4mpegpipe, or say --in-format rawvideo, or name a file"
        ) from error
    if rate is not None and not is_untimed(container):
        container.close()
        raise times_of_its_own(stream.name)
    return container


def is_untimed(container: av.container.InputContainer) -> bool:
    """Whether it is nothing but pictures, as ffmpeg's -f image2pipe and -f h264 write them."""
    return bool(container.format.flags & _NO_TIMESTAMPS) or container.format.name.endswith("_pipe")


def times_of_its_own(name: str) -> UsageError:
    """The error for a rate told of what needs none."""
    return UsageError(f"{name}: has times of its own, --rate-in is for images, rawvideo and y4m; leave it out")


def open_container(path: Path) -> av.container.InputContainer:
    """The file opened by FFmpeg, which may follow no address from there, not even one in a playlist.

    Raises:
        InputError: FFmpeg finds no media in it.
    """
    try:
        # With its protocol spelled out no name is taken for an address.
        return av.open(f"file:{path.absolute()}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(
            f"{path}: is not a video, or its index is damaged or missing ({error.strerror}); does it play elsewhere?"
        ) from error
