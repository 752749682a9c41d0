"""A model's card, made of its file's header alone: what it is, what it was trained on, what was measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from vidtrans.errors import UsageError
from vidtrans.model_library import FORMAT, Found, file_hash, recorded_hash
from vidtrans.tensor_header import read_header

_SPELLINGS = {"iou": "IoU", "db": "dB", "psnr": "PSNR", "l1": "L1", "ssim": "SSIM", "fps": "frames per second"}
_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}


@dataclass(frozen=True)
class Card:
    """What a model's header says, none of it trusted to be more than data.

    Attributes:
        found: which file.
        family: of networks.
        config: the network's shape; its domains are under "domains".
        trained, quality: as saved; empty where nothing was.
        parameters: numbers in it.
        types: of these numbers, in words.
        bytes: of the file.
    """

    found: Found
    family: str
    config: dict[str, Any]
    trained: dict[str, Any]
    quality: dict[str, Any]
    parameters: int
    types: str
    bytes: int

    @property
    def domains(self) -> list[dict[str, Any]]:
        return [row for row in self.config.get("domains", []) if isinstance(row, dict)]

    def to_json(self) -> dict[str, Any]:
        """All of it, with both hashes."""
        return {
            "name": self.found.name,
            "kind": self.found.kind,
            "path": str(self.found.path),
            "bytes": self.bytes,
            "sha256": file_hash(self.found.path),
            "recorded_sha256": recorded_hash(self.found.path),
            "family": self.family,
            "parameters": self.parameters,
            "numbers": self.types,
            "config": self.config,
            "trained": self.trained,
            "quality": self.quality,
        }


def read_card(found: Found) -> Card:
    """The card of a model's file.

    Raises:
        UsageError: it is no model of ours.
    """
    path = found.path
    try:
        header = read_header(path)
        if header.metadata.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        objects = [json.loads(header.metadata.get(key, "{}")) for key in ("config", "trained", "quality")]
        if not all(isinstance(value, dict) for value in objects):
            raise ValueError("its metadata are no JSON objects")
        size = path.stat().st_size
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read as a vidtrans model ({error})") from error
    return Card(
        found,
        header.metadata.get("family", ""),
        config=objects[0],
        trained=objects[1],
        quality=objects[2],
        parameters=sum(prod(shape) for shape in header.shapes.values()),
        types=", ".join(_TYPES.get(name, name) for name in header.types),
        bytes=size,
    )


def card_text(card: Card) -> str:
    """The card as Markdown."""
    width, height = _pair(card.config.get("trained_size"))
    lines = [f"# {card.found.name}", ""]
    if card.found.words:
        lines += [f"Trained on {card.found.words}.", ""]
    lines += [
        f"- file: {card.found.path}",
        f"- SHA-256: {file_hash(card.found.path)}{_compared(card.found.path)}",
        f"- size: {card.bytes / 1e6:.1f} MB, {card.parameters:,} numbers in {card.types}",
        f"- network: {card.family}, {_shape(card.config)}",
        f"- trained at: {width}x{height} pixels",
        "- domains:",
        *(f"  - {domain_in_words(row)}" for row in card.domains),
        "",
        *_training(card.trained),
        *_figures(card.quality),
    ]
    return "\n".join(lines).rstrip()


def domain_in_words(row: dict[str, Any]) -> str:
    """ "winter (photo)" or "segmentation (labels, palette street)"."""
    kind = f"labels, palette {row.get('palette')}" if row.get("kind") == "label" else str(row.get("kind"))
    return f"{row.get('name')} ({kind})"


def figures_table(quality: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The rows of figures among what was measured: (head, rows), both empty where there are none.

    A row is an entry that is itself an object; a list in it that is as long as the entry "classes" has a column for
    each class.
    """
    classes = quality.get("classes")
    classes = [str(name) for name in classes] if isinstance(classes, list) else []
    rows = {name: row for name, row in quality.items() if isinstance(row, dict)}
    columns: list[str] = []
    flat: list[tuple[str, dict[str, Any]]] = []
    for name, row in rows.items():
        cells: dict[str, Any] = {}
        for key, value in row.items():
            if isinstance(value, list) and len(value) == len(classes):
                prefix = "" if key == "iou" else f"{key} "  # what is measured per class almost always
                cells.update((prefix + label, number) for label, number in zip(classes, value, strict=True))
            else:
                cells[key] = value
        flat.append((name, cells))
        columns += [key for key in cells if key not in columns]
    if not flat:
        return [], []
    head = ["", *(_words(column) for column in columns)]
    return head, [[_words(name), *(_number(cells.get(column)) for column in columns)] for name, cells in flat]


def other_figures(quality: dict[str, Any]) -> list[tuple[str, str]]:
    """The single figures among what was measured, (name, figure)."""
    return [
        (_words(name), _number(value))
        for name, value in quality.items()
        if not isinstance(value, dict | list) and value is not None
    ]


def _figures(quality: dict[str, Any]) -> list[str]:
    if not quality:
        return ["Nothing was measured on held-out data, or it was not saved with the model."]
    head, rows = figures_table(quality)
    lines = ["## Held-out figures", ""]
    if rows:
        lines += [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows), ""]
    return [*lines, *(f"- {name}: {figure}" for name, figure in other_figures(quality))]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _training(trained: dict[str, Any]) -> list[str]:
    """What of a run's facts says how the model came about."""
    recipe = trained.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    rows = [row for row in recipe.get("domains", []) if isinstance(row, dict)]
    lines = [f"- data of {row.get('name')}: {row.get('data')}" for row in rows]
    if "step" in trained:
        options = recipe.get("train")
        batch = options.get("batch") if isinstance(options, dict) else None
        lines.append(f"- steps: {trained['step']}" + (f" of {batch} frames per domain" if batch else ""))
    score = trained.get("score")
    if isinstance(score, dict):
        lines.append(f"- chosen as the best by {score.get('name')} on held-back frames: {_number(score.get('value'))}")
    return ["## Training", "", *lines, ""] if lines else []


def _compared(path: Path) -> str:
    recorded = recorded_hash(path)
    if recorded is None:
        return ""
    return ", as recorded" if recorded == file_hash(path) else f", but {recorded} was recorded: the file is damaged"


def _shape(config: dict[str, Any]) -> str:
    rest = {key: value for key, value in config.items() if key not in ("domains", "trained_size")}
    return ", ".join(f"{key} {value}" for key, value in rest.items())


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else ("?", "?")


def _words(name: str) -> str:
    return " ".join(_SPELLINGS.get(word, word) for word in name.split("_"))


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
