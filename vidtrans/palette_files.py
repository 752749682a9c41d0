"""Palettes of the user's own: JSON, CSV and GIMP palette files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from vidtrans.errors import InputError, UsageError, nearest_names
from vidtrans.palettes import PALETTES, Palette

# Heads of columns of a CSV file, in lower case -> what stands below.
_COLUMNS = {
    **dict.fromkeys(("name", "class", "classname", "class_name", "label"), "name"),
    **dict.fromkeys(("red", "r"), "red"),
    **dict.fromkeys(("green", "g"), "green"),
    **dict.fromkeys(("blue", "b"), "blue"),
    **dict.fromkeys(("id", "number", "index"), "number"),
}


def palette_from(value: Any) -> str | Palette | None:
    """What a recipe or an option says of a palette: a bundled name stays one, a file or a table becomes a palette.

    Raises:
        UsageError: neither a bundled name nor a file, or a table that is no palette.
        InputError: a file that is no palette.
    """
    if value is None or isinstance(value, Palette) or (isinstance(value, str) and value in PALETTES):
        return value
    if isinstance(value, dict):
        try:
            return Palette.from_json(value)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"a palette in the recipe needs name, classes and colours ({error})") from error
    path = Path(str(value))
    if not path.is_file():
        raise UsageError(
            f"no palette {str(value)!r}, neither bundled nor a file; {nearest_names(str(value), [*PALETTES])}"
        )
    return load_palette(path)


def load_palette(path: Path) -> Palette:
    """The palette in a file; class numbers count its rows from 0. It is named after the file.

    - JSON: {"road": [128, 64, 128], ...}, or the same below "classes", or [{"name": ..., "color": [...]}, ...].
    - CSV (commas, semicolons or tabs): a head with name, red, green, blue (or r, g, b), and perhaps id.
    - GIMP (.gpl): lines "128 64 128 road".

    Raises:
        InputError: it cannot be read, or is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        kind = path.suffix.lower()
        reader = _json if kind == ".json" else _gimp if text.startswith("GIMP Palette") else _csv
        rows = reader(text)
        names = [name for name, _ in rows]
        colours = [colour for _, colour in rows]
        for colour in colours:
            if colours.count(colour) > 1:
                shared = " and ".join(name for name, one in rows if one == colour)
                raise ValueError(f"{shared} have the same colour {colour}")
        return Palette(path.stem, tuple(names), tuple(colours))
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not a palette of JSON, CSV or GIMP form: {reason}") from error


Rows = list[tuple[str, tuple[int, int, int]]]


def _json(text: str) -> Rows:
    found = json.loads(text)
    if isinstance(found, dict):
        found = found.get("classes", found)
    pairs = (
        found.items()
        if isinstance(found, dict)
        else [(row["name"], row.get("color", row.get("colour", row.get("rgb")))) for row in found]
    )
    return [(str(name), _colour(*colour)) for name, colour in pairs]


def _csv(text: str) -> Rows:
    first, _, _ = text.partition("\n")
    delimiter = max(",;\t", key=first.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=delimiter) if line]
    heads = [_COLUMNS.get(head.lower(), "") for head in lines[0]] if lines else []
    for needed in ("name", "red", "green", "blue"):
        if needed not in heads:
            raise ValueError(f"its first line has no column {needed!r}")
    rows: Rows = []
    for number, line in enumerate(lines[1:]):
        row = dict(zip(heads, line, strict=True))
        if int(row.get("number", number)) != number:
            raise ValueError(f"class numbers must count 0, 1, 2 ... in order, but {row['name']} has {row['number']}")
        rows.append((row["name"], _colour(*(int(row[key]) for key in ("red", "green", "blue")))))
    return rows


def _gimp(text: str) -> Rows:
    rows: Rows = []
    for line in text.splitlines()[1:]:
        parts = line.split(maxsplit=3)
        if parts and parts[0].isdecimal():
            name = parts[3].strip() if len(parts) > 3 else f"class {len(rows)}"
            rows.append((name, _colour(*map(int, parts[:3]))))
    return rows


def _colour(red: int, green: int, blue: int) -> tuple[int, int, int]:
    return red, green, blue
