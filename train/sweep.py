"""The end of a sweep: its runs side by side, as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidtrans.checkpoint import load_model
from vidtrans.files import write_atomically
from vidtrans.train.journal import read_log

TABLE, FIGURES = "sweep.md", "sweep.json"
LAST_SHARE = 0.1  # of the log, over which losses are averaged


def summarise(folder: Path, labels: Sequence[str]) -> str:
    """Write sweep.md and sweep.json into a sweep's folder, of its finished runs folder/LABEL; returns the table.

    A run's figures are the means of its losses over the last tenth of its log, and whatever was measured of its model.

    Raises:
        UsageError: a run has no model.
    """
    rows = {label: {**_losses(folder / label), **_measured(folder / label)} for label in labels}
    write_atomically(folder / FIGURES, json.dumps(rows, indent=1).encode())
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    lines = [["run", *columns], ["---"] * (len(columns) + 1)]
    lines += [[label, *(f"{row[key]:.4g}" if key in row else "" for key in columns)] for label, row in rows.items()]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    write_atomically(folder / TABLE, text.encode())
    return text


def _losses(folder: Path) -> dict[str, float]:
    log = [row for row in read_log(folder) if "data_wait" in row]
    last = log[-max(1, round(LAST_SHARE * len(log))) :]
    rates = ("step", "steps_per_second", "frames_per_second", "data_wait")
    keys = dict.fromkeys(key for row in last for key in row if key not in rates)
    return {key: _mean([row[key] for row in last if key in row]) for key in keys}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _measured(folder: Path) -> dict[str, float]:
    """The numbers of a model's `quality`, a table's rows as "row figure"."""
    found: dict[str, float] = {}
    quality: dict[str, Any] = load_model(folder).quality
    for name, value in quality.items():
        for key, number in value.items() if isinstance(value, dict) else (("", value),):
            if isinstance(number, int | float):
                found[f"{name} {key}".strip()] = float(number)
    return found
