"""The file behind a name: local, there, whole by its own account, and open."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av

from vidtrans.errors import InputError
from vidtrans.video.container_size import declared_size

_BLOCKS, _BLOCK_BYTES = 64, 64 * 1024
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


def fingerprint(path: Path) -> dict[str, str | int]:
    """What tells one file from another without reading it whole: its size and a digest of blocks all over it."""
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(number * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK_BYTES))
    return {"bytes": size, "sha256_of_blocks": digest.hexdigest()}
