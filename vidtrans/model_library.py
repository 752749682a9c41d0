"""Models by name: the bundled ones and those in the user's own folder. Needs no torch, so that listing them is quick.

Beside a model NAME.safetensors may stand NAME.safetensors.sha256, its recorded hash, which `sha256sum -c` reads too.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from vidtrans.errors import InputError, OutputError, UsageError, nearest_names
from vidtrans.files import write_atomically

FORMAT = "vidtrans-1"  # of a model's metadata
SUFFIX = ".safetensors"
RUN_MODEL = f"model{SUFFIX}"  # the newest model in the folder of a training run
BUNDLED_FOLDER = Path(__file__).parent / "models"

# name -> (file in vidtrans/models, what it was trained on)
BUNDLED: dict[str, tuple[str, str]] = {
    "street": ("street.safetensors", "a rendered summer street and its segmentation (vidtrans render)"),
    "seasons": ("seasons.safetensors", "a rendered street in spring, summer, fall and winter (vidtrans render)"),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # never a path, never hidden


@dataclass(frozen=True)
class Found:
    """Where a model is.

    Attributes:
        name: as --model takes it.
        path: its file.
        kind: "bundled", "own" (in the user's folder), "run" (of a training run) or "file".
        words: what a bundled model was trained on; None for others.
    """

    name: str
    path: Path
    kind: str
    words: str | None = None


def models_folder() -> Path:
    """The user's own models: $VIDTRANS_MODELS, else vidtrans/models where the platform keeps a user's data.

    That is $XDG_DATA_HOME or ~/.local/share, on macOS ~/Library/Application Support, on Windows %LOCALAPPDATA%. The
    folder need not exist.
    """
    if own := os.environ.get("VIDTRANS_MODELS"):
        return Path(own)
    if sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        data = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        shared = os.environ.get("XDG_DATA_HOME", "")
        # The XDG specification says to ignore relative paths.
        data = Path(shared) if os.path.isabs(shared) else Path.home() / ".local" / "share"
    return data / "vidtrans" / "models"


def named_models() -> list[Found]:
    """All models that have a name: the bundled ones, then the user's own by name."""
    bundled = [Found(name, BUNDLED_FOLDER / file, "bundled", words) for name, (file, words) in BUNDLED.items()]
    folder = models_folder()
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and _NAME.fullmatch(path.stem))
    except OSError:
        files = []
    return bundled + [Found(path.stem, path, "own") for path in files if path.stem not in BUNDLED]


def find_model(name: str) -> Found:
    """The model of that name, path or run folder. A name goes before a file that is called the same.

    Raises:
        UsageError: there is none.
    """
    named = {found.name: found for found in named_models()}
    if name in named:
        return named[name]
    path = Path(name)
    if path.is_dir():
        if (path / RUN_MODEL).is_file():
            return Found(name, path / RUN_MODEL, "run")
        raise UsageError(f"{name} holds no {RUN_MODEL}: it is no run folder, or its run has not saved yet")
    if path.is_file():
        return Found(name, path, "file")
    raise UsageError(
        f"no model {name!r}: neither a name that vidtrans models list shows, nor a file, nor a run folder; "
        f"{nearest_names(name, tuple(named))}"
    )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def recorded_hash(path: Path) -> str | None:
    """The SHA-256 that was recorded beside the file; None: none was.

    Raises:
        InputError: what is there is no such record.
    """
    record = _record_of(path)
    try:
        text = record.read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{record} cannot be read: {error}") from error
    return checked_hash(text.split(maxsplit=1)[0] if text.strip() else "", str(record))


def record_hash(path: Path) -> str:
    """Write the file's SHA-256 down beside it; returns it."""
    sha256 = file_hash(path)
    write_atomically(_record_of(path), f"{sha256}  {path.name}\n".encode("ascii"))
    return sha256


def checked_hash(text: str, what: str) -> str:
    """A SHA-256 in small letters.

    Raises:
        InputError: it is none; `what` says where it stands.
    """
    text = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise InputError(f"{what} has no SHA-256, which is 64 hexadecimal digits")
    return text


def place_for(name: str, *, replace: bool = False) -> Path:
    """Where the user's own model of that name goes.

    Raises:
        UsageError: a name that no model of one's own can have.
        OutputError: it is there already, and may not be replaced.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a model's name: use letters, digits, -, _ and ., a letter or digit first")
    if name in BUNDLED:
        raise UsageError(f"{name!r} is the name of a bundled model; give another with --name")
    path = models_folder() / f"{name}{SUFFIX}"
    if path.exists() and not replace:
        raise OutputError(f"there is a model {name!r} already, {path}; add -y to replace it, or give another --name")
    return path


def copy_in(source: Path, name: str, expected: str, *, replace: bool = False) -> Path:
    """Copy a model's file into the user's folder and record its hash; returns where it is now.

    expected: SHA-256 of what was checked: the copy has it, or there is no copy.

    Raises:
        UsageError, OutputError: see `place_for`; the folder cannot be written.
        InputError: the source has changed meanwhile.
    """
    path = place_for(name, replace=replace)
    try:
        data = source.read_bytes()
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise InputError(f"{source} has changed while it was being added; add it again")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
        record_hash(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
