"""Lists of frames as text: what a run trained on and what it held back, readable by people and by any program.

    # {"format": "vidtrans-frames-1", "layout": "videos", "numbers": "palette", "root": "/data/drives"}
    monday/a.mp4#0:120

    still_7.png
    still_8.png

The first line says where the files are and what class numbers in them mean. Then one image a line, or a range of a
video's frames, the end not included; an empty line ends a sequence.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from vidtrans.errors import InputError
from vidtrans.files import write_atomically
from vidtrans.train.data.footage import VIDEO_SUFFIXES, Footage, Images, Shot, Stretch

FORMAT = "vidtrans-frames-1"

_STRETCH = re.compile(rf"(.+(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))}))#([0-9]+):([0-9]+)", re.IGNORECASE)


def write_list(path: Path, footage: Footage) -> None:
    """Write a list, atomically.

    Raises:
        InputError: a file's name holds a line break.
    """
    files = footage.files()
    root = Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path.cwd()
    head = {"format": FORMAT, "layout": footage.layout, "numbers": footage.numbers, "root": str(root)}

    def named(file: Path) -> str:
        name = str(file.absolute().relative_to(root))
        if "\n" in name:
            raise InputError(f"{file} has a line break in its name and cannot be listed; rename it")
        return name

    def lines(shot: Shot) -> str:
        if isinstance(shot, Stretch):
            return f"{named(shot.path)}#{shot.first}:{shot.end}\n"
        return "".join(f"{named(file)}\n" for file in shot.paths)

    text = f"# {json.dumps(head)}\n" + "\n".join(map(lines, footage.sequences))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(errors="surrogateescape"))


def read_list(path: Path) -> Footage:
    """The footage of a list. A relative root counts from the list's own folder.

    Raises:
        InputError: it cannot be read or is no list. Whether the files are there is not looked at.
    """
    try:
        head_line, _, body = path.read_bytes().decode(errors="surrogateescape").partition("\n")
        head = json.loads(head_line.removeprefix("#"))
        if head["format"] != FORMAT:
            raise ValueError(f"its format is {head['format']!r}")
        root = path.parent / head["root"]
        shots = [_shot(block, root) for block in re.split(r"\n{2,}", body.strip("\n")) if block]
        return Footage(str(head["layout"]), tuple(shots), str(head["numbers"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a list of frames ({error}); vidtrans train writes such lists") from error


def _shot(block: str, root: Path) -> Shot:
    names = block.split("\n")
    match = _STRETCH.fullmatch(names[0])
    if match is None:
        return Images(tuple(root / name for name in names))
    if len(names) > 1 or int(match[2]) >= int(match[3]):
        raise ValueError(f"{names[0]} is not a sequence of its own, or empty")
    return Stretch(root / match[1], int(match[2]), int(match[3]))
