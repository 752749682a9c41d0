"""Models on disk: safetensors only, so loading never runs code; what a model is stands in its metadata."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vidtrans.errors import UsageError
from vidtrans.files import write_atomically
from vidtrans.model_library import FORMAT, file_hash, find_model
from vidtrans.nets import make_net
from vidtrans.tensor_header import read_header


@dataclass(frozen=True)
class Model:
    """A net with its papers.

    Attributes:
        net: see nets/contract.py; float32, evaluation mode.
        trained: how it was trained (recipe, steps, data), as saved.
        quality: measured figures, as saved; empty if never measured.
        sha256: of the file, hexadecimal.
        bundled: what a bundled model was trained on, in words; None for a user's own.
    """

    net: Any
    trained: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    bundled: str | None = None


def save_model(
    path: Path,
    net: Any,
    *,
    trained: dict[str, Any] | None = None,
    quality: dict[str, Any] | None = None,
    half: bool = False,
) -> None:
    """Write a net as one safetensors file. half: store float16 (loading gives float32 again)."""
    dtype = torch.float16 if half else torch.float32
    tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in net.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "family": net.family,
        "config": json.dumps(net.config.to_json()),
        "trained": json.dumps(trained or {}),
        "quality": json.dumps(quality or {}),
    }
    write_atomically(path, save(tensors, metadata))


def load_model(name: str | Path) -> Model:
    """The model of that name, path or run folder (see model_library.find_model).

    Raises:
        UsageError: no such model, or the file is not one.
    """
    found = find_model(str(name))
    path = found.path
    try:
        header = read_header(path)
        metadata = header.metadata
        if metadata.get("format") != FORMAT:
            raise UsageError(f"{path} is no vidtrans model of format {FORMAT}; train one with vidtrans train")
        family, config, trained, quality = (
            metadata["family"],
            *(_object(metadata, key) for key in ("config", "trained", "quality")),
        )
        with torch.device("meta"):  # shapes without memory
            expected = {key: tuple(tensor.shape) for key, tensor in make_net(family, config).state_dict().items()}
        if header.shapes != expected:
            raise ValueError("its tensors are not those of the network that it describes")
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        net = make_net(family, config)
        net.load_state_dict(tensors)
        sha256 = file_hash(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} cannot be read as a vidtrans model ({reason})") from error
    net = net.eval().requires_grad_(False)
    return Model(net=net, trained=trained, quality=quality, sha256=sha256, bundled=found.words)


def _object(metadata: dict[str, str], key: str) -> dict[str, Any]:
    """A JSON object of the metadata; only the config must be there."""
    found = json.loads(metadata[key] if key == "config" else metadata.get(key, "{}"))
    if not isinstance(found, dict):
        raise ValueError(f"its {key} is no JSON object")
    return found
