"""A recipe as TOML, every key with its value: what `vidtrans train --print-recipe` prints, and what it reads again."""

from __future__ import annotations

import json
from typing import Any

from vidtrans.train.recipe import FOLLOWS, Recipe


def recipe_text(recipe: Recipe) -> str:
    """TOML that `load_recipe` reads as the same recipe. Keys that are off (None) are left out."""
    net = recipe.net_config().to_json()
    table = {**recipe.to_json(), "net": {key: value for key, value in net.items() if key not in FOLLOWS}}
    domains = table.pop("domains")
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for row in domains:
        lines += ["", "[[domains]]", *_rows(row)]
    for name, section in table.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *_rows(section)]
    return "\n".join(lines) + "\n"


def _rows(section: dict[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in section.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    # JSON's strings, numbers and booleans are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
