"""The header of a safetensors file, checked against the file before anything of its tensors is read.

Format: 8 bytes, little-endian, of the header's length; the header, a JSON object of tensor names; their bytes, end to
end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

# Ours have a few kilobytes; parsed JSON takes many times its length.
_LARGEST_HEADER_BYTES = 1 << 22
_BYTES_OF = {"BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "I16": 2, "F32": 4, "I32": 4, "F64": 8, "I64": 8}
_MOST_AXES = 16
# How torch.save's archives and bare pickles begin.
_PICKLES = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_METADATA = "__metadata__"


@dataclass(frozen=True)
class TensorHeader:
    """What the header says.

    Attributes:
        shapes: of every tensor.
        metadata: the file's own words.
        types: of the numbers, such as F16, in the order of the alphabet.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]
    types: tuple[str, ...]


def read_header(path: Path) -> TensorHeader:
    """The checked header: what follows it is as long as the tensors are by their shapes, without gaps or overlaps.

    Raises:
        ValueError: the file is not like that; the message is a part of a sentence.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        actual = path.stat().st_size
        if file.read(2) in _PICKLES:
            raise ValueError("a PyTorch file may run code when it is loaded; only safetensors are taken")
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if actual < 8 or length > actual - 8:
            raise ValueError("it is cut off, or no safetensors file")
        if length > _LARGEST_HEADER_BYTES:
            raise ValueError(f"its header of {length} bytes is longer than {_LARGEST_HEADER_BYTES}")
        header = json.loads(file.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    shapes, spans = {}, []
    for name, entry in header.items():
        shape, span = _checked(name, entry)
        shapes[name] = shape
        spans.append(span)
    end = 0
    for begin, until in sorted(spans):
        if begin != end:
            raise ValueError("its tensors overlap or leave gaps")
        end = until
    if end != actual - 8 - length:
        raise ValueError(f"its tensors take {end} bytes but {actual - 8 - length} are there")
    return TensorHeader(shapes, metadata, tuple(sorted({entry["dtype"] for entry in header.values()})))


def _checked(name: str, entry: Any) -> tuple[tuple[int, ...], tuple[int, int]]:
    """(shape, (begin, end) in bytes) of one tensor."""
    try:
        size, shape, (begin, end) = _BYTES_OF[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"its tensor {name!r} is not described rightly") from error
    if len(shape) > _MOST_AXES or any(type(number) is not int or not 0 <= number < 1 << 62 for number in numbers):
        raise ValueError(f"its tensor {name!r} has sizes that cannot be")
    if prod(shape) * size != end - begin:
        raise ValueError(f"its tensor {name!r} of shape {shape} does not fit into its {end - begin} bytes")
    return tuple(shape), (begin, end)
