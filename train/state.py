"""A run's state on disk, in safetensors: nothing that can run code is loaded; resuming is exact bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vidtrans.errors import InputError
from vidtrans.files import write_atomically
from vidtrans.tensor_header import read_header

FORMAT = "vidtrans-run-1"


def save_state(
    path: Path,
    modules: dict[str, nn.Module],
    optimisers: dict[str, torch.optim.Optimizer],
    facts: dict[str, Any],
) -> None:
    """Write modules, optimisers and JSON facts (step, recipe ...) as one file, atomically."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            tensors[f"{name}/{key}"] = tensor
    for name, optimiser in optimisers.items():
        for index, slots in optimiser.state_dict()["state"].items():
            for key, tensor in slots.items():
                tensors[f"{name}/{index}/{key}"] = torch.as_tensor(tensor)
    # Spectral norm's vectors and the like may share storage; safetensors wants every tensor on its own.
    copies = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    write_atomically(path, save(copies, {"format": FORMAT, "facts": json.dumps(facts)}))


def load_state(
    path: Path, modules: dict[str, nn.Module], optimisers: dict[str, torch.optim.Optimizer]
) -> dict[str, Any]:
    """Put back what `save_state` wrote; returns the facts.

    Raises:
        InputError: the file is missing, damaged or of another run's shape.
    """
    try:
        read_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is not the state of a training run")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        for name, module in modules.items():
            module.load_state_dict(_below(name, tensors))
        for name, optimiser in optimisers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(name, tensors).items():
                index, slot = key.split("/")
                state.setdefault(int(index), {})[slot] = tensor
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be resumed from: its networks have another shape than the recipe's; give the recipe and "
            "the --set that the run was started with"
        ) from error
    except (FileNotFoundError, SafetensorError, ValueError) as error:
        raise InputError(f"{path} cannot be resumed from: {str(error).splitlines()[0]}") from error
    return dict(json.loads(metadata["facts"]))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(f"{prefix}/")}
